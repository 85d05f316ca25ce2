//! A folder that bundles are laid into: what is finished is applied and moved on.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use crateferry_store::OpenError;
use tokio_util::sync::CancellationToken;

use super::apply::{Summary, apply_finished};
use super::folder::MANIFEST;
use crate::report::Exit;

/// Where bundles go that were applied, or taken in as far as they can be.
const DONE: &str = "done";

/// Where bundles go that were not, each with the reason beside it.
const FAILED: &str = "failed";

/// Applies what is finished, in order of names. A bundle that is still being copied stays for the next time.
pub fn take_all(mirror: &Path, folder: &Path, stop: &CancellationToken) -> anyhow::Result<()> {
    for bundle in bundles(folder).with_context(|| format!("cannot look into {}", folder.display()))? {
        if stop.is_cancelled() {
            break;
        }
        let name = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match apply_finished(mirror, &bundle, stop) {
            Ok(None) => {}
            Ok(Some(summary)) if matches!(summary.exit(), Exit::Complete | Exit::Holes) && !stop.is_cancelled() => {
                tracing::info!(bundle = name, "{}", one_line(&summary));
                settle(folder, &bundle, DONE, None)?;
            }
            Ok(Some(_)) if stop.is_cancelled() => {}
            Ok(Some(summary)) => {
                tracing::error!(bundle = name, "{}", one_line(&summary));
                settle(folder, &bundle, FAILED, Some(&summary.to_string()))?;
            }
            // Another process is writing: the next time.
            Err(error) if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(OpenError::Locked { .. }))) => {
            }
            Err(error) => {
                tracing::error!(bundle = name, "{error:#}");
                settle(folder, &bundle, FAILED, Some(&format!("{error:#}\n")))?;
            }
        }
    }
    Ok(())
}

fn one_line(summary: &Summary) -> String {
    let text = summary.to_string();
    let lines = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("; ")
}

/// The folders in it that have a manifest.
fn bundles(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut bundles = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_ours = path.file_name().is_some_and(|name| name == DONE || name == FAILED);
        if !is_ours && path.join(MANIFEST).is_file() {
            bundles.push(path);
        }
    }
    bundles.sort();
    Ok(bundles)
}

/// Moves a bundle on, to a name that nothing has yet.
fn settle(folder: &Path, bundle: &Path, to: &str, reason: Option<&str>) -> anyhow::Result<()> {
    let to = folder.join(to);
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    let name = bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = (1..).map(|number| if number == 1 { name.clone() } else { format!("{name}-{number}") });
    let free = names.map(|name| to.join(name)).find(|path| path.symlink_metadata().is_err());
    let Some(free) = free else { return Ok(()) };
    if let Some(reason) = reason {
        let mut path = free.clone().into_os_string();
        path.push(".reason.txt");
        fs::write(&path, reason).with_context(|| format!("cannot write {}", Path::new(&path).display()))?;
    }
    fs::rename(bundle, &free).with_context(|| format!("cannot move {} to {}", bundle.display(), free.display()))
}
