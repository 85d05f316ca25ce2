//! Bundles: what crosses the gap.
//!
//! A bundle leads from one generation of a mirror, or from nothing, to another. It is a set of *volumes*, each a ustar archive with
//! its table of contents first, and a *manifest* that names the bundle and seals the volumes; a signature over the manifest's exact
//! bytes seals all. `docs/format.md` has each to the byte.
//!
//! - [`Plan`] says what a bundle has to carry, from the origin's ledger.
//! - [`Staging`] keeps what was compressed until it is known how volumes are split, and writes them.
//! - [`VolumeReader`] reads a volume once, from its beginning to its end, and believes nothing that its table does not promise;
//!   [`Pieces`] reads some of it.
//! - [`ParityPlan`] writes volumes of parity; [`Mending`] makes a volume again that is lost or scratched.
//! - [`Receipt`] is what a receiver says it serves and lacks.
//! - [`Inbox`] keeps what is known of bundles whose generation is not served yet.

mod contents;
mod inbox;
mod manifest;
mod parity;
mod plan;
mod receipt;
mod staging;
mod volume;

pub use contents::{Carried, ContentsError, Document, Line, Lines, Piece};
pub use inbox::{Inbox, InboxError, Rebuilding};
pub use manifest::{BundleId, Importer, Manifest, ManifestError, SECTIONS, Section, Sum, Totals, VolumeSummary};
pub use parity::{Losses, Mending, Open, Parity, ParityError, ParityPlan, ParityVolume, Reach, Shelf, Which};
pub use plan::{Change, Held, New, Plan, PlanError};
pub use receipt::{Receipt, ReceiptError};
pub use staging::{Cut, Staging, StagingError};
pub use volume::{Pieces, VolumeError, VolumeReader};
