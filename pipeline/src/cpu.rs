//! The CPU pool as an argument: work that computes goes here, so that the threads of the network never wait for it.

use std::sync::Arc;

use futures::channel::oneshot;
use rayon::ThreadPool;

/// A pool of threads that compute.
#[derive(Clone, Debug)]
pub struct Cpu {
    pool: Arc<ThreadPool>,
}

impl Cpu {
    /// A pool of `threads` threads; 0 is one for each core.
    pub fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder.thread_name(|number| format!("cpu-{number}")).build()?;
        Ok(Cpu { pool: Arc::new(pool) })
    }

    /// Computes something on the pool. What `work` runs in parallel runs there too.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        self.pool.spawn(move || drop(done.send(work())));
        result.await.expect("the pool runs all that it is given")
    }
}
