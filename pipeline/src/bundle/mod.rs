//! Bundles: from what a mirror holds to what crosses the gap, and back.
//!
//! - [`Packing`] is for who sends: what changed between two generations goes into the staging of a bundle, crate files recompressed.
//! - [`Unpacking`] is for who receives: it reads a volume, compares each object with the signed promise, and gives it to a
//!   [`Receiver`]. [`Taking`] stores it in a mirror. [`texts_in`] and [`facts_in`] are for who looks at single pieces.
//! - [`Memory`] bounds both.
//! - [`judge`] says whether a bundle may be applied; [`switch`] makes the mirror serve what it leads to.

mod judge;
mod memory;
mod pack;
mod switch;
mod take;
mod unpack;

pub use judge::{Refusal, Verdict, judge};
pub use memory::{Memory, TooLittleMemory};
pub use pack::{PackError, Packing, Recompression, Staged};
pub use switch::{SwitchError, switch};
pub use take::Taking;
pub use unpack::{Damage, LONGEST_TEXTS, Receiver, TakeError, Taken, Unpacking, facts_in, texts_in};
