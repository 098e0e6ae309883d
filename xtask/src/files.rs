//! Lists and reads the repository's files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::step;

/// Returns every file of the repository below `folder` with a name that ends with `suffix`, in
/// order.
pub(crate) fn files(folder: &Path, suffix: &str) -> Result<Vec<PathBuf>, String> {
    const NOT_OURS: [&str; 4] = ["target", "node_modules", ".git", "__pycache__"];
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !NOT_OURS.contains(&name.as_str()) && !path.is_symlink() {
                found.extend(files(&path, suffix)?);
            }
        } else if name.ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Formats a path relative to the repository's root.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(step::root()).unwrap_or(path).display().to_string()
}
