//! Starting, watching and killing processes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ibid::model::Launch;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open, waitpid};
use tokio::io::unix::AsyncFd;

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start {program}: {source}{hint}")]
pub struct SpawnError {
    program: String,
    source: std::io::Error,
    hint: &'static str,
}

/// How a process ended, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With a code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// It was not this program's child.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "its process exited with code {code}"),
            Self::Signal(9) => {
                write!(f, "its process was killed by signal 9 (SIGKILL; the system does that when memory runs out)")
            }
            Self::Signal(11) => write!(f, "its process was killed by signal 11 (SIGSEGV, a segmentation fault)"),
            Self::Signal(6) => write!(f, "its process was killed by signal 6 (SIGABRT)"),
            Self::Signal(signal) => write!(f, "its process was killed by signal {signal}"),
            Self::Unknown => write!(f, "its process is gone"),
        }
    }
}

/// Variables that belong to the daemon's own start and are nobody else's business.
const NOT_INHERITED: [&str; 5] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"];

/// Starts a process that hosts a repository: a Python with a module, or a program of its own.
///
/// # Errors
/// Where it cannot be started.
pub fn start_host(
    launch: &Launch,
    package: &Path,
    log: File,
    own: &[(&str, String)],
) -> Result<std::process::Child, SpawnError> {
    let failed = |source: std::io::Error| SpawnError {
        program: launch.program.clone(),
        hint: if source.kind() == std::io::ErrorKind::NotFound {
            " (the program or the directory is not there any more; register it again)"
        } else {
            ""
        },
        source,
    };
    let errors = log.try_clone().map_err(failed)?;
    let mut command = Command::new(&launch.program);
    command
        .current_dir(&launch.directory)
        .env_clear()
        .envs(launch.variables.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command.envs(own.iter().map(|(key, value)| (*key, value)));
    if launch.is_own_program() {
        return command.spawn().map_err(failed);
    }
    let below = launch.variables.iter().find(|(key, _)| key == "PYTHONPATH").map(|(_, value)| value.as_str());
    let mut path = format!("{}:{}", launch.directory, package.display());
    if let Some(below) = below.filter(|below| !below.is_empty()) {
        path.push(':');
        path.push_str(below);
    }
    command.args(["-m", "ibid", "worker"]).env("PYTHONPATH", path).env("PYTHONUNBUFFERED", "1");
    command.spawn().map_err(failed)
}

/// Waits until a process has ended. It need not be a child.
pub async fn wait_for_exit(pid: u32) -> Exit {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Exit::Unknown };
    if let Ok(fd) = pidfd_open(pid, PidfdFlags::NONBLOCK)
        && let Some(watched) = watch(fd)
    {
        let ended: std::io::Result<tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>> = watched.readable().await;
        drop(ended);
    } else {
        // No descriptor is left to watch with: look from time to time.
        while rustix::process::test_kill_process(pid).is_ok() {
            if let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG) {
                return exit_of(status);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // Only children, and orphans that were left to this process, can be reaped.
    match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(Some((_, status))) => exit_of(status),
        _ => Exit::Unknown,
    }
}

#[expect(unsafe_code, reason = "the only way to watch a descriptor that the runtime has no type for")]
fn watch(fd: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the returned value, which closes it only after it has
    // been taken off the runtime's list, and nobody else has it.
    unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }.ok()
}

fn exit_of(status: WaitStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (_, Some(signal)) => Exit::Signal(signal),
        _ => Exit::Unknown,
    }
}

/// Kills a worker and everything that it started and did not put elsewhere.
pub fn kill_group(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already, which is what is wanted.
        let _gone = kill_process_group(pid, Signal::KILL);
        let _gone = rustix::process::kill_process(pid, Signal::KILL);
    }
}
