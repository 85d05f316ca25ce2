//! What requests are answered from.

use std::sync::Arc;

use super::address::PublicUrl;
use super::advisories::Shelf;
use super::tokens::Tokens;
use super::view::Views;
use super::wishes::WishBook;
use crate::cli::DownloadBy;
use crate::downloads::Downloads;

/// What the server answers from.
pub struct App {
    /// The mirror.
    pub views: Views,
    /// Under which URL clients know the server.
    pub public_url: PublicUrl,
    /// How `config.json` names crate files.
    pub download_by: DownloadBy,
    /// Who may use it, if not everybody.
    pub tokens: Option<Arc<Tokens>>,
    /// The advisory database, as it is fetched.
    pub advisories: Shelf,
    /// Who takes which crate file, if that is to be known.
    pub downloads: Option<Downloads>,
    /// What was asked for in vain, if that is to be noted.
    pub wishes: Option<WishBook>,
}
