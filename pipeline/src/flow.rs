//! Source, stages, flow: the only place that spawns tasks or makes channels.

use crate::failure::Failure;

/// One step of the flow. Its fields are all that it may touch; running it again with the same item is safe.
pub trait Stage: Send + Sync + 'static {
    /// What comes in.
    type In: Send + 'static;
    /// What goes on to the next stage.
    type Out: Send + 'static;
    /// Passes an item on, or out.
    fn run(&self, item: Self::In) -> impl Future<Output = Result<Self::Out, Failure>> + Send;
}
