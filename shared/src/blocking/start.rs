//! Starting the daemon when none answers.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Client, ClientError};
use crate::paths::Paths;
use crate::protocol::Hello;

/// How long a starting daemon may take until it answers.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came of connecting.
pub struct Start {
    /// The connection.
    pub client: Client,
    /// The process that was started for it, if none had answered.
    pub started: Option<u32>,
}

/// Connects, and starts the daemon if none answers.
///
/// # Errors
/// Where it does not start or cannot be talked to.
pub fn connect_or_start(paths: &Paths) -> Result<Start, ClientError> {
    match Client::connect(&paths.socket) {
        Ok(client) => Ok(Start { client, started: None }),
        Err(ClientError::NoDaemon(_)) => start_daemon(paths),
        Err(error) => Err(error),
    }
}

/// The daemon's program: beside this one, else on the path.
#[must_use]
pub fn daemon_program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("ibidd")));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("ibidd"))
}

/// Starts the daemon in a session of its own and waits until it answers. Where two are started at
/// once one of them gives way, and both callers are connected to the other.
///
/// # Errors
/// Where it does not answer in time, with the end of its log.
pub fn start_daemon(paths: &Paths) -> Result<Start, ClientError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| ClientError::Start(format!("{what}: {error}"));
    std::fs::create_dir_all(&paths.data)
        .map_err(|error| failed(&format!("cannot make the data directory {}", paths.data.display()), &error))?;
    let log_path = paths.data.join("daemon.log");
    let open = || OpenOptions::new().create(true).append(true).open(&log_path);
    let log = open().map_err(|error| failed(&format!("cannot write {}", log_path.display()), &error))?;
    let log_start = log.metadata().map_or(0, |metadata| metadata.len());
    let errors = log.try_clone().map_err(|error| failed("cannot write the log twice", &error))?;
    let program = daemon_program();
    let mut child = Command::new(&program)
        .arg("--background")
        .arg("--data-dir")
        .arg(&paths.data)
        .arg("--socket")
        .arg(&paths.socket)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(&format!("cannot start the daemon '{}'", program.display()), &error))?;
    let pid = child.id();
    let begun = Instant::now();
    let mut ended = None;
    loop {
        match Client::connect(&paths.socket) {
            Ok(mut client) => {
                // Of several that were started at once one serves; the others give way.
                let name = concat!("ibid ", env!("CARGO_PKG_VERSION")).to_owned();
                let serving = client.call(Hello { client: name })?.pid;
                return Ok(Start { client, started: (serving == pid).then_some(pid) });
            }
            Err(ClientError::NoDaemon(_)) => {}
            Err(error) => return Err(error),
        }
        if ended.is_none() {
            ended = child.try_wait().ok().flatten().map(|status| (status, Instant::now()));
        }
        // The one that lost the race has ended; the one that won may still be opening its store.
        let gave_up = ended.as_ref().is_some_and(|(_, at)| at.elapsed() > Duration::from_secs(2));
        if gave_up || begun.elapsed() > PATIENCE {
            let told = log_end(&log_path, log_start);
            let how = ended.map_or_else(
                || format!("has not answered for {} s", PATIENCE.as_secs()),
                |(s, _)| format!("ended ({s})"),
            );
            return Err(ClientError::Start(format!(
                "the daemon was started but {how}; {} says:\n{told}",
                log_path.display()
            )));
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// What was written to the log since a position, its last 2000 bytes.
fn log_end(path: &Path, from: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(length.saturating_sub(2000))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|error| format!("(it cannot be read: {error})"))
}
