//! How crateferry speaks to the network: politely, within limits, and only to hosts it was told of.
//!
//! - [`NetworkConfig`] holds every number of the network; [`Network`] makes the HTTP clients from it.
//! - [`Hosts`] decides which hosts and addresses may be asked at all: an index, a redirect or a name server may
//!   not send the mirror into the operator's own network.
//! - [`Retry`] and [`Pause`] decide when to ask again; [`Gate`] how many requests run at once; [`Budget`] how
//!   many bytes of bodies lie in memory.
//!
//! Nothing here knows what is fetched or where it goes.

mod budget;
mod client;
mod config;
mod gate;
mod hosts;
mod pause;
mod retry;

pub use budget::{Budget, Share};
pub use client::{Answerer, Lane, Lanes, Network, NetworkError};
pub use config::{Concurrency, MAX_CONNECTIONS, MAX_STREAMS, NetworkConfig};
pub use gate::{Gate, Pass};
pub use hosts::{Forbidden, Hosts};
pub use pause::Pause;
pub use retry::{Retry, RetryPolicy, is_transient, retry_after};
