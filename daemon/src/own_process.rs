//! The daemon as a process: its session, descriptors, limits and directories.

use std::fs::{DirBuilder, Permissions};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit, setsid,
};

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

/// The first argument of this program where it is started to become a shell command.
pub const BECOME: &str = "--become-command";

/// Becomes a shell command: `ibidd --become-command <parent> <umask> <program> <argument>...`. The
/// command dies with its parent, writes with the caller's mask and gets the usual limit of open files.
pub fn become_command(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    let mut number = || arguments.next().and_then(|text| text.to_str()?.parse::<u32>().ok());
    let (parent, umask) = (number(), number());
    // Where the system refuses, the command still runs.
    let _refused = set_parent_process_death_signal(Some(Signal::KILL));
    let is_parent = |pid: Pid| u32::try_from(pid.as_raw_nonzero().get()).ok() == parent;
    if !getppid().is_some_and(is_parent) {
        return std::process::ExitCode::FAILURE;
    }
    if let Some(umask) = umask {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
    }
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current > USUAL_FILES) {
        let _refused = setrlimit(Resource::Nofile, Rlimit { current: Some(USUAL_FILES), maximum: limit.maximum });
    }
    let Some(program) = arguments.next() else { return std::process::ExitCode::FAILURE };
    let error = std::process::Command::new(&program).args(arguments).exec();
    // As a shell says it, in the place where the command's own errors go.
    let what = match error.kind() {
        std::io::ErrorKind::NotFound => "command not found".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    eprintln!("ibid: {}: {what}", program.display());
    std::process::ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
}

/// The limit of open files that programs expect, which the daemon raises for itself only.
const USUAL_FILES: u64 = 1024;

/// The socket that systemd hands over, if it does.
#[must_use]
pub fn handed_socket() -> Option<OwnedFd> {
    let descriptor = sd_notify::listen_fds().ok()?.next()?;
    Some(own(descriptor))
}

#[expect(unsafe_code, reason = "a descriptor that another program opened has to be taken as a number")]
fn own(descriptor: i32) -> OwnedFd {
    // SAFETY: the variables say that it was opened for this process, and nothing else takes it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
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
