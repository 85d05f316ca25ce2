//! A mirror as a web server: a registry for cargo, pages for people.
//!
//! Everything is answered from a [`View`](view::View) of the catalog and from packs; nothing here writes to what the mirror holds. What
//! was asked for in vain is noted in a file of its own, if that is wanted: see [`WishBook`].

mod address;
mod advisories;
mod ambiguity;
mod answer;
mod app;
mod body;
mod conditional;
mod connection;
mod files;
mod limits;
mod meter;
mod pages;
mod registry;
mod releases;
mod search;
mod sidecar;
mod site;
mod tls;
mod together;
mod tokens;
mod view;
mod watchman;
mod wishes;

pub use address::PublicUrl;
pub use advisories::Shelf as AdvisoryShelf;
pub use app::App;
pub use connection::Listener;
#[cfg(test)]
pub use limits::PageLimits;
pub use limits::ServeLimits;
pub use meter::{Meter, Route, RouteMeter, STATUS_CLASSES};
pub use tls::Certificates;
pub use tokens::{TokenFile, Tokens};
pub use view::Views;
pub use wishes::WishBook;
