//! `ibidd`: opens the store, listens, and joins the four parts.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use ibid::paths::{Paths, ProcessEnvironment, config_file};
use ibid::protocol::StoreChecked;
use ibid_daemon::config::{Config, Size};
use ibid_daemon::owner::{Owner, Settings};
use ibid_daemon::server::{self, Gone, Load, Presence, Socket};
use ibid_daemon::store::{Store, StoreError};
use ibid_daemon::{config, own_process, workers};
use sd_notify::NotifyState;

/// The ibid daemon: schedules workflows and tasks, runs them, and remembers every result.
///
/// Runs in the foreground and logs to standard error. The `ibid` command starts one by itself where
/// none answers. What the options say can also stand in $XDG_CONFIG_HOME/ibid/config.toml, with `_` for
/// `-`; an option goes before it.
#[derive(Parser)]
#[command(name = "ibidd", version)]
struct Flags {
    /// Where everything is kept [default: $IBID_DATA_DIR, $XDG_DATA_HOME/ibid or ~/.local/share/ibid]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen [default: $IBID_SOCKET, $XDG_RUNTIME_DIR/ibid.sock or ibid.sock in the data directory]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Stop worker processes that have been idle for this many seconds [default: 60]
    #[arg(long, value_name = "SECONDS")]
    worker_idle: Option<f64>,
    /// How many worker processes one repository may have, waiting ones included [default: 1000]
    #[arg(long, value_name = "N")]
    processes: Option<usize>,
    /// How much of an execution's log is kept, the newest, e.g. 16MiB [default: 4MiB]
    #[arg(long, value_name = "SIZE")]
    log_limit: Option<Size>,
    /// Go on with what is left of a store that has lost something; what leads nowhere is taken out of it
    #[arg(long)]
    accept_loss: bool,
    /// Look through the whole store, say as one line of JSON what was found, and end (see: ibid doctor --verify)
    #[arg(long, conflicts_with = "accept_loss")]
    verify: bool,
    /// Leave the caller's session and descriptors (as `ibid` starts it)
    #[arg(long, hide = true)]
    background: bool,
}

fn main() -> ExitCode {
    let begun = Instant::now();
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == own_process::BECOME) {
        return own_process::become_command(arguments);
    }
    let flags = Flags::parse();
    if flags.background {
        own_process::leave_session();
    }
    match run(&flags, begun) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended { message, code }) => {
            eprintln!("ibidd: {message}");
            ExitCode::from(code)
        }
    }
}

/// Why the daemon ended.
struct Ended {
    message: String,
    code: u8,
}

/// It may work the next time.
impl From<String> for Ended {
    fn from(message: String) -> Self {
        Self { message, code: 1 }
    }
}

/// It fails again until somebody mends what the message says: the service is not started again by itself.
fn for_good(message: String) -> Ended {
    Ended { message, code: 78 }
}

fn run(flags: &Flags, begun: Instant) -> Result<(), Ended> {
    let handed = own_process::handed_socket();
    if flags.verify {
        return Ok(verify(&find_paths(flags)?.data)?);
    }
    let prepared = prepare(flags);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let local = tokio::task::LocalSet::new();
    let (settings, store, package) = match prepared {
        Ok(prepared) => prepared,
        Err(ended) => {
            tell_systemd(&[NotifyState::Status(&ended.message)]);
            if let Some(Ok(socket)) = handed.map(|handed| runtime.block_on(async { Socket::inherited(handed) })) {
                local.block_on(&runtime, server::refuse(socket, &ended.message));
            }
            return Err(ended);
        }
    };
    let outcome = local.block_on(&runtime, serve(settings, store.clone(), package, handed, begun));
    drop(local);
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome?;
    Ok(store.sync().map_err(|error| error.to_string())?)
}

fn find_paths(flags: &Flags) -> Result<Paths, Ended> {
    let mut paths = match (&flags.data_dir, &flags.socket) {
        (Some(data), Some(socket)) => Paths { data: data.clone(), socket: socket.clone() },
        _ => Paths::find(&ProcessEnvironment).map_err(for_good)?,
    };
    if let Some(data) = &flags.data_dir {
        paths.data.clone_from(data);
    }
    match (&flags.socket, &flags.data_dir) {
        (Some(socket), _) => paths.socket.clone_from(socket),
        // A data directory of one's own has a socket of its own, unless the environment names one.
        (None, Some(data)) if std::env::var_os("IBID_SOCKET").is_none() => paths.socket = data.join("ibid.sock"),
        _ => {}
    }
    Paths { data: absolute(&paths.data)?, socket: absolute(&paths.socket)? }.checked().map_err(for_good)
}

/// Reads the settings and opens the store.
fn prepare(flags: &Flags) -> Result<(Settings, Store, PathBuf), Ended> {
    let config = match config_file(&ProcessEnvironment) {
        Some(path) => config::read(&path).map_err(for_good)?,
        None => Config::default(),
    };
    let paths = find_paths(flags)?;
    own_process::private_directory(&paths.data)
        .and_then(|()| own_process::private_directory(&paths.data.join("spool")))
        .map_err(|error| format!("cannot use the data directory {}: {error}", paths.data.display()))?;
    own_process::prepare();
    // The store's lock makes this the only daemon of the directory; only then is the socket ours.
    let opened = if flags.accept_loss { Store::open_remains(&paths.data) } else { Store::open(&paths.data) };
    let store = opened.map_err(|error| match &error {
        StoreError::Disk { .. } | StoreError::Directory { .. } | StoreError::Locked(_) => error.to_string().into(),
        _ => for_good(error.to_string()),
    })?;
    own_process::empty_directory(&paths.data.join("spool"));
    let package = workers::install_package(&paths.data)
        .map_err(|error| format!("cannot write the Python package below {}: {error}", paths.data.display()))?;
    let seconds = |given: Option<f64>| {
        given.and_then(|given| Duration::try_from_secs_f64(given).ok()).unwrap_or(Duration::from_secs(60))
    };
    let log_limit = flags.log_limit.or(config.log_limit).map_or(workers::LOG_LIMIT_BYTES, |Size(bytes)| bytes);
    let settings = Settings {
        data: paths.data.clone(),
        socket: paths.socket,
        worker_idle: seconds(flags.worker_idle.or(config.worker_idle)),
        processes: flags.processes.or(config.processes).unwrap_or(1000).max(1),
        log_limit,
        drain: seconds(config.drain),
    };
    Ok((settings, store, package))
}

/// Looks through a store that no daemon has open.
fn verify(data: &std::path::Path) -> Result<(), String> {
    let (store, lost) = Store::open_as_it_is(data).map_err(|error| error.to_string())?;
    let report = StoreChecked { lost, ..store.view().verify().report };
    let line = serde_json::to_string(&report).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{line}").map_err(|error| format!("the report could not be written: {error}"))
}

async fn serve(
    settings: Settings,
    store: Store,
    package: PathBuf,
    handed: Option<OwnedFd>,
    begun: Instant,
) -> Result<(), String> {
    let (data, socket_path, drain) = (settings.data.clone(), settings.socket.clone(), settings.drain);
    let owner = Owner::start(settings, store, package, begun).map_err(|error| error.to_string())?;
    if let Some(directory) = socket_path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    }
    let is_own = handed.is_none();
    let socket = match handed {
        Some(handed) => Socket::inherited(handed),
        None => Socket::bind(&socket_path),
    };
    let mut socket = socket.map_err(|error| error.to_string())?;
    // It serves without, where the system watches nothing more for this user.
    let watch = || {
        let watched = Presence::watch(&data, is_own.then_some(socket_path.as_path()));
        watched.inspect_err(|error| eprintln!("ibidd: cannot watch {}: {error}", data.display())).ok()
    };
    let mut presence = watch();
    owner.serving();
    tell_systemd(&[NotifyState::Ready, NotifyState::Status("serving")]);
    let watched = sd_notify::watchdog_enabled().map(|limit| tokio::task::spawn_local(feed_watchdog(limit / 3)));
    eprintln!("ibidd: serving on {} (pid {})", socket_path.display(), std::process::id());
    let mut terminate = signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut interrupt = signal(tokio::signal::unix::SignalKind::interrupt())?;
    let tending = tokio::task::spawn_local({
        let owner = owner.clone();
        async move { owner.tend().await }
    });
    let (mut signals, mut full) = (0, false);
    let load = Rc::new(Load::default());
    let ended = loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok(stream) => {
                    full = false;
                    let handler: Rc<Owner> = owner.clone();
                    tokio::task::spawn_local(server::serve(stream, handler, load.clone()));
                }
                Err(error) => {
                    // Said once, not ten times a second.
                    if !std::mem::replace(&mut full, true) {
                        eprintln!("ibidd: cannot take a connection: {error}; trying again until it can");
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            gone = lost(&mut presence) => match gone {
                Gone::Data => return Err(format!("{} was moved or removed; nothing more can be kept", data.display())),
                Gone::Socket => {
                    // The old one must be gone before: it takes its file with it.
                    drop(socket);
                    socket = Socket::bind(&socket_path).map_err(|error| error.to_string())?;
                    presence = watch();
                    eprintln!("ibidd: {} was removed; serving on a new one", socket_path.display());
                }
            },
            _ = terminate.recv() => {
                signals += 1;
                let patience = u32::try_from((drain + Duration::from_secs(30)).as_micros()).unwrap_or(u32::MAX);
                tell_systemd(&[
                    NotifyState::Stopping,
                    NotifyState::ExtendTimeoutUsec(patience),
                    NotifyState::Status("letting running work end"),
                ]);
                owner.stop_on_signal(signals > 1);
            }
            _ = interrupt.recv() => { signals += 1; owner.stop_on_signal(signals > 1); }
            ended = owner.stopped() => break ended,
        }
    };
    tending.abort();
    tell_systemd(&[NotifyState::Stopping]);
    if let Some(watched) = watched {
        watched.abort();
    }
    ended.map_err(|error: StoreError| {
        format!("the store failed, so the daemon stops; what was acknowledged is kept: {error}")
    })
}

/// Waits until the socket or the data directory is gone, where they are watched.
async fn lost(presence: &mut Option<Presence>) -> Gone {
    match presence {
        Some(presence) => presence.lost().await,
        None => std::future::pending().await,
    }
}

/// Tells the service manager, where one has started this.
fn tell_systemd(states: &[NotifyState<'_>]) {
    // Where none listens nobody misses it.
    let _nobody = sd_notify::notify(states);
}

/// As long as this thread, which decides everything, still takes its turn.
async fn feed_watchdog(every: Duration) {
    loop {
        tell_systemd(&[NotifyState::Watchdog]);
        tokio::time::sleep(every).await;
    }
}

fn signal(kind: tokio::signal::unix::SignalKind) -> Result<tokio::signal::unix::Signal, String> {
    tokio::signal::unix::signal(kind).map_err(|error| format!("cannot handle signals: {error}"))
}

fn absolute(path: &std::path::Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{} has no absolute form: {error}", path.display()))
}
