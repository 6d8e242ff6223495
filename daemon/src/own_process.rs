//! The daemon as a process: its session, descriptors, limits and directories.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, setsid};

/// Leaves the session of whoever started this, and closes what was inherited beyond the standard
/// streams: a shell that waits for the end of a pipe must not wait for the daemon.
pub fn leave_session() {
    // Refused only to a group's leader, which then keeps its group.
    let _kept = setsid();
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one that the listing itself was read through is closed by now.
        if std::fs::read_link(format!("/proc/self/fd/{descriptor}")).is_ok() {
            close(descriptor);
        }
    }
}

#[expect(
    unsafe_code,
    reason = "no safe way closes a descriptor that this program did not open; at this \
    point it has opened none, so nothing owns it"
)]
fn close(descriptor: i32) {
    // SAFETY: called first in `main`, before anything was opened; see the reason above.
    unsafe { rustix::io::close(descriptor) };
}

/// Raises the limit of open files.
pub fn prepare() {
    let limit = getrlimit(Resource::Nofile);
    if let Some(hard) = limit.maximum {
        let wanted = hard.min(65_536);
        if limit.current.is_some_and(|current| current < wanted) {
            // Where the system refuses, the old limit stands.
            let _refused = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
        }
    }
}

/// Makes a directory that only this user can enter, or checks that one is.
///
/// # Errors
/// Where it cannot be made or belongs to somebody else.
pub fn private_directory(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
}

/// Removes what an earlier daemon left in a directory of temporary files.
pub fn empty_directory(path: &Path) {
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        // What cannot be removed is in nobody's way: names are never used twice by one daemon.
        let _left = std::fs::remove_file(entry.path());
    }
}
