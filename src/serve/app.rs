//! What requests are answered from.

use std::sync::Arc;

use super::address::PublicUrl;
use super::tokens::Tokens;
use super::view::Views;
use crate::cli::DownloadBy;

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
}
