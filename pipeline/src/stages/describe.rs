//! What does the crate file tell about itself?
//!
//! Its beginning is read while the bytes are at hand anyway, on the CPU pool. What cannot be read never keeps a crate
//! file out: that it cannot be read is what is known of it then.

use crate::cpu::Cpu;
use crate::facts::{self, Extent};
use crate::failure::Failure;
use crate::flow::Stage;
use crate::item::{Described, Verified};

/// Adds the facts from a crate file.
#[derive(Clone, Debug)]
pub struct Describe {
    /// Where they are read; none if they are not.
    cpu: Option<Cpu>,
}

impl Describe {
    /// Reads the facts on this pool.
    pub fn on(cpu: Cpu) -> Self {
        Describe { cpu: Some(cpu) }
    }

    /// Reads no facts.
    pub fn nothing() -> Self {
        Describe { cpu: None }
    }
}

impl Stage for Describe {
    type In = Verified;
    type Out = Described;
    const NAME: &'static str = "describe";

    async fn run(&self, verified: Verified) -> Result<Described, Failure> {
        let Verified { release, bytes, attempt } = verified;
        let Some(cpu) = &self.cpu else { return Ok(Described { release, bytes, facts: None, attempt }) };
        let read = move || {
            let facts = facts::read(bytes.reader(), bytes.length(), Extent::Head);
            (bytes, facts)
        };
        let (bytes, facts) = cpu.run(read).await;
        Ok(Described { release, bytes, facts: Some(facts), attempt })
    }
}
