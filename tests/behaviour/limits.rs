//! What the system gives runs out: descriptors, processes, memory, a disk that can be written.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use ibid_tests::{Home, binaries, eventually};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

const MODULE: &str = r#"
import os, signal
from ibid import task, workflow

@workflow
def go(n=1):
    return n

@workflow
def killed():
    os.kill(os.getpid(), signal.SIGKILL)

@task(retries=2)
def once_killed():
    if not os.path.exists("killed"):
        open("killed", "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"

@workflow
def survives():
    return once_killed()
"#;

/// Changes how much of something a process may have, and returns how much it might before.
fn limit(pid: u32, resource: Resource, to: Option<u64>) -> Rlimit {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // The upper bound stays what this process has: only few may raise it.
    let maximum = getrlimit(resource).maximum;
    prlimit(pid, resource, Rlimit { current: to, maximum }).unwrap()
}

/// How many descriptors a process has open.
fn descriptors(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

#[test]
fn when_descriptors_run_out_the_daemon_says_so_and_serves_again_when_there_are_some() {
    let home = Home::new();
    let daemon = home.daemon();
    home.register("work", MODULE);
    assert_eq!(home.ok(&["run", "work/go", "1"]), "1");
    limit(daemon.pid(), Resource::Nofile, Some(descriptors(daemon.pid()) + 20));
    let crowd: Vec<_> = (0..60).map_while(|_| UnixStream::connect(home.socket()).ok()).collect();
    eventually("it says that it can take no more", Duration::from_secs(10), || {
        let log = std::fs::read_to_string(home.path().join("daemon.log")).unwrap_or_default();
        log.contains("Too many open files").then_some(())
    });
    drop(crowd);
    eventually("it serves again", Duration::from_secs(10), || home.ibid(&["runs"]).status.success().then_some(()));
    let log = std::fs::read_to_string(home.path().join("daemon.log")).unwrap();
    assert!(log.matches("Too many open files").count() < 20, "it says so over and over: {log}");
    assert_eq!(home.ok(&["run", "work/go", "2"]), "2");
    // Too few for a worker's pipes, though enough for a client.
    limit(daemon.pid(), Resource::Nofile, Some(descriptors(daemon.pid()) + 2));
    let failed = home.ibid(&["run", "work/go", "3"]);
    let told = format!("{}{}", String::from_utf8_lossy(&failed.stdout), String::from_utf8_lossy(&failed.stderr));
    assert!(failed.status.success() || told.contains("open files"), "{told}");
    limit(daemon.pid(), Resource::Nofile, Some(4096));
    assert_eq!(home.ok(&["run", "work/go", "4"]), "4");
}

#[test]
fn a_worker_that_is_killed_for_memory_fails_only_its_own_execution_and_can_be_tried_again() {
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("work", MODULE);
    let told = home.fails(1, &["run", "work/killed"]);
    assert!(told.contains("SIGKILL") && told.contains("memory"), "{told}");
    assert_eq!(home.ok(&["run", "work/survives"]), "\"done\"");
    assert_eq!(home.ok(&["run", "work/go", "5"]), "5");
}

/// A daemon and clients that belong to another user, as root is bound by few limits.
struct Other<'a> {
    home: &'a Home,
    daemon: Child,
}

/// A number that no real user has.
const USER: u32 = 61_234;

fn as_other(home: &Home, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={USER}"), "--clear-groups"]).arg(binaries().join(program));
    command.current_dir(home.path()).env("IBID_DATA_DIR", home.data()).env("IBID_SOCKET", home.socket());
    command.env("HOME", home.path()).env_remove("XDG_RUNTIME_DIR").env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
    command
}

impl<'a> Other<'a> {
    fn start(home: &'a Home) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        std::os::unix::fs::chown(home.path(), Some(USER), None).ok()?;
        let reachable = as_other(home, "ibid").arg("--version").output().ok()?;
        if !reachable.status.success() {
            return None;
        }
        let log = std::fs::File::create(home.path().join("daemon.log")).ok()?;
        let mut daemon = as_other(home, "ibidd").stderr(log).spawn().ok()?;
        eventually("it serves", Duration::from_secs(10), || {
            let ended = daemon.try_wait().ok().flatten().is_some();
            (ended || UnixStream::connect(home.socket()).is_ok()).then_some(())
        });
        Some(Self { home, daemon })
    }

    /// Only the same user may set the limit of a process, and only its lower bound.
    fn limit_processes(&self, to: u32) {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={USER}"), "--clear-groups", "prlimit"]);
        command.args(["--pid", &self.daemon.id().to_string(), &format!("--nproc={to}:")]);
        assert!(command.status().unwrap().success());
    }

    fn ibid(&self, arguments: &[&str]) -> Output {
        as_other(self.home, "ibid").arg("--no-start").args(arguments).output().unwrap()
    }
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.daemon.kill();
        let _gone = self.daemon.wait();
    }
}

#[test]
fn when_no_process_can_be_started_the_execution_says_so_and_the_daemon_goes_on() {
    let home = Home::new();
    home.write("work.py", MODULE);
    let Some(other) = Other::start(&home) else {
        eprintln!("skipped: only root can be somebody else, and that one must be able to read the programs");
        return;
    };
    let registered = other.ibid(&["register", "work"]);
    if !registered.status.success() {
        eprintln!("skipped: no Python for others: {}", String::from_utf8_lossy(&registered.stderr));
        return;
    }
    assert!(other.ibid(&["run", "work/go", "1"]).status.success());
    // Processes and threads of this user, all that there are; the client may still be started.
    other.limit_processes(1);
    let failed = other.ibid(&["exec", "--", "true"]);
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && told.contains("Resource temporarily unavailable"), "{told}");
    assert!(other.ibid(&["runs"]).status.success());
    other.limit_processes(4096);
    assert!(other.ibid(&["exec", "--", "true"]).status.success());
    assert!(other.ibid(&["run", "work/go", "2"]).status.success());
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named_with_what_to_do() {
    let home = Home::new();
    drop(home.daemon());
    let readable = std::fs::Permissions::from_mode(0o500);
    std::fs::set_permissions(home.data(), readable).unwrap();
    // Root may write whatever the mode says, so the file system itself forbids it.
    let data = home.data().display().to_string();
    let script = format!("mount --bind '{data}' '{data}' && mount -o remount,bind,ro '{data}' && exec \"$0\" \"$@\"");
    let ended = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(binaries().join("ibidd"))
        .args(["--data-dir", &data, "--socket", &home.socket().display().to_string()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    if told.contains("unshare") || told.contains("mount:") {
        eprintln!("skipped: nothing can be mounted here: {told}");
        return;
    }
    assert!(!ended.status.success());
    assert!(told.contains(&data) && told.contains("Read-only file system"), "{told}");
    std::fs::set_permissions(home.data(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let _daemon = home.daemon();
    home.register("work", MODULE);
    assert_eq!(home.ok(&["run", "work/go", "6"]), "6");
}
