//! The Python interpreters of this machine.

use std::path::PathBuf;
use std::process::Command;

/// An interpreter.
#[derive(Debug, Clone)]
pub struct Python {
    /// e.g. `3.12`
    pub version: String,
    /// Where it is.
    pub path: PathBuf,
}

/// One for each version from 3.10 on that can be had here, oldest first.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn pythons() -> Vec<Python> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".pyenv/versions"));
    let mut found = Vec::new();
    for minor in 10..=14 {
        let name = format!("python3.{minor}");
        let runs = |file: &PathBuf| {
            let version = Command::new(file).arg("--version").output();
            version.is_ok_and(|version| version.status.success())
        };
        let on_path = std::env::split_paths(&path).map(|directory| directory.join(&name)).find(runs);
        let installed = versions.as_ref().and_then(|versions| {
            let below = std::fs::read_dir(versions).ok()?.flatten();
            below.map(|entry| entry.path().join("bin").join(&name)).find(|file| file.is_file())
        });
        found.extend(on_path.or(installed).map(|path| Python { version: format!("3.{minor}"), path }));
    }
    assert!(!found.is_empty(), "no Python 3.10 to 3.14 was found");
    found
}
