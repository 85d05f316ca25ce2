//! What does the crate file tell about itself?
//!
//! The stage has its place in the flow so that facts can be drawn from bytes that are at hand anyway. It draws none.

use crate::failure::Failure;
use crate::flow::Stage;
use crate::item::{Described, Facts, Verified};

/// Adds the facts from a crate file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Describe;

impl Stage for Describe {
    type In = Verified;
    type Out = Described;
    const NAME: &'static str = "describe";

    async fn run(&self, verified: Verified) -> Result<Described, Failure> {
        let Verified { release, bytes, attempt } = verified;
        Ok(Described { release, bytes, facts: Facts::NotExtracted, attempt })
    }
}
