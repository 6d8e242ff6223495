//! A data directory, a socket and a daemon for one test; nothing is left behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ibid::blocking::Client;
use serde_json::Value;
use tempfile::TempDir;

/// Where `ibid`, `ibidd` and the Rust tasks of the tests are, built from what is here now.
pub fn binaries() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let own = std::env::current_exe().unwrap_or_default();
        // target/PROFILE/deps/test-binary, or target/PROFILE/binary
        let deps = own.parent().unwrap_or(Path::new("."));
        let profile = if deps.ends_with("deps") { deps.parent().unwrap_or(deps) } else { deps };
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--quiet", "-p", "ibid-daemon", "-p", "ibid-tui", "-p", "ibid-tests", "-p", "ibid"]);
        build.args(["--bin", "ibidd", "--bin", "ibid", "--bin", "rust-tasks", "--example", "prices"]);
        build.current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        match build.status() {
            Ok(status) if status.success() => {}
            other => panic!("the binaries cannot be built: {other:?}"),
        }
        profile.to_owned()
    })
}

/// Polls until a condition holds, for at most `patience`.
///
/// # Panics
/// Where it never does.
pub fn eventually<T>(what: &str, patience: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "this never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A test's own place: a data directory, a directory of modules, and a file where tasks leave marks.
pub struct Home {
    directory: TempDir,
}

/// A daemon that is killed when this is dropped.
pub struct Daemon {
    child: Child,
}

/// The module that tasks use to leave marks.
const MARKS: &str = r#"
import os

def mark(text):
    with open(os.environ["MARKS"], "a") as file:
        file.write(f"{text}\n")
"#;

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty one.
    ///
    /// # Panics
    /// Where the system gives no temporary directory.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("ibid").tempdir();
        let home = Self { directory: directory.unwrap_or_else(|error| panic!("no temporary directory: {error}")) };
        home.write("marks.py", MARKS);
        home
    }

    /// The directory of modules.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path().join("s")
    }

    /// Writes a file.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// The marks that tasks have left, in order.
    #[must_use]
    pub fn marks(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join("marks")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn prepare(&self, program: &str) -> Command {
        let mut command = Command::new(binaries().join(program));
        command
            .current_dir(self.path())
            .env("IBID_DATA_DIR", self.data())
            .env("IBID_SOCKET", self.socket())
            .env("MARKS", self.path().join("marks"))
            .env("LANG", "C.UTF-8")
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("IBID_EXECUTION")
            .env_remove("NO_COLOR");
        command
    }

    /// Starts a daemon and waits until it answers.
    #[must_use]
    pub fn daemon(&self) -> Daemon {
        self.daemon_with(&[])
    }

    /// Starts a daemon with further flags.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn daemon_with(&self, flags: &[&str]) -> Daemon {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path().join("daemon.log"));
        let log = log.unwrap_or_else(|error| panic!("no log: {error}"));
        let child = self.prepare("ibidd").args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut daemon = Daemon { child: child.unwrap_or_else(|error| panic!("ibidd does not start: {error}")) };
        eventually("the daemon answers", Duration::from_secs(30), || {
            if let Ok(Some(status)) = daemon.child.try_wait() {
                let log = std::fs::read_to_string(self.path().join("daemon.log")).unwrap_or_default();
                panic!("ibidd ended ({status}): {log}");
            }
            Client::connect(&self.socket()).ok()
        });
        daemon
    }

    /// A daemon, not started yet.
    #[must_use]
    pub fn daemon_command(&self) -> Command {
        self.prepare("ibidd")
    }

    /// An `ibid` command, not run yet; it starts no daemon.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.prepare("ibid");
        command.arg("--no-start").args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs an `ibid` command.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[must_use]
    pub fn ibid(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap_or_else(|error| panic!("ibid does not start: {error}"))
    }

    /// Runs an `ibid` command that must succeed, and returns what it printed, trimmed.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.ibid(arguments);
        assert!(
            output.status.success(),
            "ibid {arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs an `ibid` command that must fail with an exit code, and returns what it said.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.ibid(arguments);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(output.status.code(), Some(code), "ibid {arguments:?}: {said}");
        said
    }

    /// Runs an `ibid` command with `--json` and reads what it printed.
    ///
    /// # Panics
    /// Where it fails or prints something else.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let printed = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {printed}"))
    }

    /// Writes a module and registers it.
    #[track_caller]
    pub fn register(&self, module: &str, text: &str) {
        self.write(&format!("{module}.py"), text);
        self.ok(&["register", module]);
    }

    /// Why a step did what it did: the kind.
    #[track_caller]
    pub fn why(&self, id: &str) -> String {
        self.json(&["why", id])["kind"].as_str().unwrap_or_default().to_owned()
    }
}

impl Daemon {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without warning and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// Where the process is not there.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let sent = pid.map(|pid| rustix::process::kill_process(pid, signal));
        assert!(matches!(sent, Some(Ok(()))), "the daemon is gone");
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// Where it does not within 20 s.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        eventually("the daemon ends", Duration::from_secs(20), || self.child.try_wait().ok().flatten())
    }

    fn end(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
