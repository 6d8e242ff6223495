//! `doctor`: looks at everything that can be wrong, and says how to mend it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use ibid::blocking::{Client, ClientError, daemon_program};
use ibid::paths::Paths;
use ibid::protocol::{GetStats, Hello, StoreChecked, VerifyStore, size_in_words};
use serde::Serialize;

use super::register::find_interpreter;
use crate::context::{Context, FAILED, Outcome};
use crate::output::{self, clean, clean_lines};

/// Less free space than this is worth a word, bytes.
const SPACE_MIN: u64 = 1024 * 1024 * 1024;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The oldest Python that runs tasks.
const PYTHON_MIN: (u32, u32) = (3, 10);

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Good,
    /// Works, but is worth knowing.
    Note,
    Bad,
}

/// One check.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    /// What was found.
    found: String,
    /// What to do about it.
    mend: Option<String>,
}

impl Check {
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, found: found.into(), mend: None }
    }

    fn note(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Note, found: found.into(), mend: Some(mend.into()) }
    }

    fn bad(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Bad, found: found.into(), mend: Some(mend.into()) }
    }
}

pub fn doctor(context: &Context, verify: bool) -> Outcome {
    let mut checks = vec![data_directory(context), free_space(context), program(), socket(context)];
    checks.extend(daemon(context));
    checks.push(interpreter());
    checks.push(service());
    if verify {
        checks.push(verified(context));
    }
    let bad = checks.iter().any(|check| check.verdict == Verdict::Bad);
    if context.json {
        output::json(&serde_json::json!({"healthy": !bad, "checks": checks}))?;
    } else {
        output::print(&text(&checks))?;
    }
    Ok(if bad { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = match check.verdict {
            Verdict::Good => "ok  ",
            Verdict::Note => "note",
            Verdict::Bad => "BAD ",
        };
        text.push_str(&format!("{mark}  {:<12}{}\n", check.name, clean(&check.found)));
        for line in check.mend.iter().flat_map(|mend| mend.lines()) {
            text.push_str(&format!("      {:<12}→ {}\n", "", clean_lines(line)));
        }
    }
    text
}

fn data_directory(context: &Context) -> Check {
    const NAME: &str = "data";
    let path = &context.paths.data;
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::note(NAME, format!("{shown} does not exist yet"), "the daemon makes it when it starts");
        }
        Err(error) => return Check::bad(NAME, format!("{shown}: {error}"), "choose another with IBID_DATA_DIR"),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if !metadata.is_dir() {
        return Check::bad(NAME, format!("{shown} is no directory"), "choose another with IBID_DATA_DIR");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let mend = format!("choose another with IBID_DATA_DIR, or make it yours: chown -R $USER {shown}");
        return Check::bad(NAME, format!("{shown} belongs to user {}", metadata.uid()), mend);
    }
    if mode & 0o077 != 0 {
        let found = format!("{shown} can be entered by others (mode {mode:03o})");
        return Check::bad(NAME, found, format!("chmod 700 {shown}"));
    }
    match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
        Ok(()) => Check::good(NAME, shown.to_string()),
        Err(error) => Check::bad(NAME, format!("{shown} cannot be written: {error}"), "look at its file system: mount"),
    }
}

fn free_space(context: &Context) -> Check {
    const NAME: &str = "space";
    let existing = context.paths.data.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Ok(figures) => {
            let free = figures.f_bavail * figures.f_frsize;
            let found = format!("{} free", size_in_words(free));
            if free >= SPACE_MIN {
                Check::good(NAME, found)
            } else {
                Check::note(NAME, found, "'ibid cache prune' and 'ibid runs prune' give space back")
            }
        }
        Err(error) => Check::note(NAME, format!("not known: {error}"), "df says more"),
    }
}

fn program() -> Check {
    const NAME: &str = "program";
    let program = daemon_program();
    match Command::new(&program).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout).trim().replace("ibidd ", "");
            let own = env!("CARGO_PKG_VERSION");
            if version == own {
                Check::good(NAME, format!("ibid and ibidd {own} ({})", program.display()))
            } else {
                let found = format!("ibid is {own} and {} is {version}", program.display());
                Check::bad(NAME, found, "install both from one release")
            }
        }
        Ok(output) => {
            Check::bad(NAME, format!("{} ends with {}", program.display(), output.status), "install it again")
        }
        Err(error) => {
            Check::bad(NAME, format!("{}: {error}", program.display()), "install ibidd beside ibid or on the path")
        }
    }
}

fn socket(context: &Context) -> Check {
    const NAME: &str = "socket";
    let path = &context.paths.socket;
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::good(NAME, format!("{shown} (not there yet)"))
        }
        Err(error) => Check::bad(NAME, format!("{shown}: {error}"), "choose another with IBID_SOCKET"),
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if !std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) {
                let mend = "move it away, or choose another place with IBID_SOCKET";
                return Check::bad(NAME, format!("{shown} is no socket"), mend);
            }
            if mode & 0o077 != 0 {
                let found = format!("{shown} can be opened by others (mode {mode:03o})");
                return Check::bad(NAME, found, format!("chmod 600 {shown}"));
            }
            Check::good(NAME, shown.to_string())
        }
    }
}

/// A daemon that is there answers at once, or does not at all.
fn daemon(context: &Context) -> Vec<Check> {
    let (send, checked) = std::sync::mpsc::channel();
    let paths = context.paths.clone();
    std::thread::spawn(move || {
        // It may come too late.
        let _late = send.send(ask_daemon(&paths));
    });
    checked.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let found = format!("it takes connections but has not answered for {} s", PATIENCE.as_secs());
        vec![Check::bad(
            "daemon",
            found,
            "look at its process: 'ibid daemon restart', or kill it; nothing that was acknowledged is lost",
        )]
    })
}

fn ask_daemon(paths: &Paths) -> Vec<Check> {
    const NAME: &str = "daemon";
    let mut client = match Client::connect(&paths.socket) {
        Ok(client) => client,
        Err(ClientError::NoDaemon(_)) => {
            return vec![Check::note(
                NAME,
                "none is running",
                "it starts with the next command, or: ibid daemon start",
            )];
        }
        Err(error) => {
            return vec![Check::bad(NAME, error.to_string(), "see the permissions above, or: ibid daemon restart")];
        }
    };
    let hello = concat!("ibid ", env!("CARGO_PKG_VERSION")).to_owned();
    let welcome = match client.call(Hello { client: hello }) {
        Ok(welcome) => welcome,
        Err(error @ ClientError::Version { .. }) => {
            return vec![Check::bad(NAME, error.to_string(), "ibid daemon restart")];
        }
        Err(error) => return vec![Check::bad(NAME, error.to_string(), "look into daemon.log in the data directory")],
    };
    let mut checks = vec![if Path::new(&welcome.data_dir) == paths.data {
        Check::good(NAME, format!("{} answers (pid {})", welcome.version, welcome.pid))
    } else {
        let found = format!("the one that answers keeps its data in {}", welcome.data_dir);
        Check::note(NAME, found, "IBID_DATA_DIR and IBID_SOCKET belong together")
    }];
    checks.push(match client.call(GetStats {}) {
        Ok(stats) => Check::good(
            "store",
            format!(
                "{} runs, {} on disk, opened in {} ms",
                stats.runs,
                size_in_words(stats.disk_bytes),
                stats.start_took
            ),
        ),
        Err(error) => Check::bad("store", error.to_string(), "look into daemon.log in the data directory"),
    });
    checks
}

/// The whole store, looked through by the daemon, or by its program where none runs.
fn verified(context: &Context) -> Check {
    const NAME: &str = "verified";
    let checked = match Client::connect(&context.paths.socket) {
        Ok(mut client) => client.call(VerifyStore {}).map_err(|error| error.to_string()),
        Err(_) => verified_alone(&context.paths),
    };
    let checked = match checked {
        Ok(checked) => checked,
        Err(error) => return Check::bad(NAME, error, "put back a copy of the data directory, or move it away"),
    };
    let looked = format!(
        "{} records, {} references and {} values looked at",
        checked.records, checked.references, checked.values
    );
    if checked.damaged == 0 && checked.lost.is_none() {
        return Check::good(NAME, format!("{looked}: all is there"));
    }
    let mut problems = String::new();
    if let Some(lost) = &checked.lost {
        problems.push_str(&format!("lost: {lost}\n"));
    }
    for finding in &checked.findings {
        problems.push_str(&format!("{}: {}: {}\n", finding.place, finding.what, finding.problem));
    }
    let untold = checked.damaged.saturating_sub(checked.findings.len() as u64);
    if untold > 0 {
        problems.push_str(&format!("and {untold} more\n"));
    }
    problems.push_str(if checked.unreadable {
        "put back a copy of the data directory, or move it away"
    } else {
        "put back a copy of the data directory; or stop the daemon and go on with the rest: ibidd --accept-loss"
    });
    Check::bad(NAME, format!("{looked}: {} problems", checked.damaged + u64::from(checked.lost.is_some())), problems)
}

fn verified_alone(paths: &Paths) -> Result<StoreChecked, String> {
    if !paths.data.join("store").exists() {
        return Ok(StoreChecked::default());
    }
    let mut command = Command::new(daemon_program());
    let output = command.arg("--verify").arg("--data-dir").arg(&paths.data).output();
    let output = output.map_err(|error| format!("{} cannot be run: {error}", daemon_program().display()))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the report does not read: {error}"))
}

fn interpreter() -> Check {
    const NAME: &str = "python";
    let here = std::env::current_dir().unwrap_or_default();
    let Ok(found) = find_interpreter(None, &here) else {
        let mend = "install Python 3.10 or newer, or name one: ibid register --python PATH";
        return Check::note(NAME, "no interpreter was found; shell tasks and exec need none", mend);
    };
    let print = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    let version = Command::new(&found).args(["-c", print]).output();
    let version = version.ok().filter(|output| output.status.success());
    let Some(version) = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()) else {
        let mend = "name another: ibid register --python PATH";
        return Check::bad(NAME, format!("{} does not run", found.display()), mend);
    };
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let pair = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let told = format!("{version} ({})", found.display());
    if pair >= PYTHON_MIN {
        Check::good(NAME, told)
    } else {
        Check::bad(NAME, told, "tasks need Python 3.10 or newer: ibid register --python PATH")
    }
}

fn service() -> Check {
    const NAME: &str = "service";
    let installed = super::service::unit_directory().is_ok_and(|units| units.join("ibidd.service").exists());
    if installed {
        Check::good(NAME, "the systemd user service is installed")
    } else {
        Check::good(NAME, "not installed: the daemon is started when needed (ibid service install keeps it running)")
    }
}
