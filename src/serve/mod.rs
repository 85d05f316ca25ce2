//! A mirror as a web server: a registry for cargo, pages for people.
//!
//! Everything is answered from a [`View`](view::View) of the catalog and from packs; nothing here writes to the mirror.

mod address;
mod ambiguity;
mod answer;
mod app;
mod body;
mod conditional;
mod connection;
mod limits;
mod meter;
mod pages;
mod registry;
mod releases;
mod search;
mod sidecar;
mod tls;
mod together;
mod tokens;
mod view;
mod watchman;

use std::sync::Arc;

use axum::{Router, middleware};

pub use address::PublicUrl;
pub use app::App;
pub use connection::Listener;
pub use limits::ServeLimits;
pub use meter::{Meter, Route, RouteMeter, STATUS_CLASSES};
pub use tls::Certificates;
pub use tokens::{TokenFile, Tokens};
pub use view::Views;

/// All that is served to cargo and to people.
pub fn router(app: Arc<App>) -> Router {
    let routes = registry::routes().merge(sidecar::routes()).merge(pages::routes());
    let routes = match &app.tokens {
        Some(tokens) => routes.layer(middleware::from_fn_with_state(tokens.clone(), tokens::require)),
        None => routes,
    };
    routes.with_state(app)
}
