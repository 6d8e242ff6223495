//! `exec`: a command through the daemon, as if it were run directly.
//!
//! What the command writes is read from its recording, a file that grows, so
//! that any number of followers get every byte without passing the daemon.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use ibid::blocking::{
    Client, ClientError, CommandEnd, CommandStream, Listener, PublishedResult, Recorded, RecordingReader, Taken,
    connect_or_start, read_command,
};
use ibid::model::{BLOB_MIN_BYTES, BlobReference, Id, Json, State, Stdin, StepId, Word};
use ibid::protocol::{
    BlobPut, Exec, ExecSignal, ExecSignalled, ExecStarted, GetResult, Outcome as Ending, Outgoing, Reply, Request,
};
use rustix::fs::inotify;
use signal_hook::consts::{SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM};

use super::start::{reconnect, token};
use crate::app::arguments;
use crate::cli;
use crate::context::{Context, Failure};

/// Exit code for what is ibid's own failure and not the command's.
pub const OWN_FAILURE: u8 = 125;

/// How long a lost daemon is looked for.
const RECONNECT_FOR: Duration = Duration::from_secs(2);

/// How often a recording is looked at where the system cannot say that it grew.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs a command; what is wrong with ibid itself ends with 125.
pub fn exec(context: &Context, command: &cli::Exec) -> Result<ExitCode, Failure> {
    run(context, command).map_err(|failure| Failure { code: OWN_FAILURE, ..failure })
}

fn run(context: &Context, command: &cli::Exec) -> Result<ExitCode, Failure> {
    let mut request = request(context, command)?;
    if let Some(published) = published(context, &request) {
        let end = show(&published.value, [0, 0])?;
        // Of the variables only those that the key is made of are of interest to anybody.
        request.variables.retain(|(name, _)| command.env.iter().any(|wanted| wanted.as_bytes() == name.0));
        let taken = Taken { at: crate::output::now(), source: published.source, exec: request };
        // Where the directory has gone, only the record of this is missing.
        let _gone = taken.note(&context.paths.data.join("spool"));
        return Ok(leave(end));
    }
    request.variables = variables();
    let mut client = connect(context)?;
    hand_over_stdin(context, &mut client, &mut request)?;
    // A daemon that goes away before it answers may have started it: the token finds it again.
    let deadline = Instant::now() + RECONNECT_FOR;
    let started = loop {
        match client.call(request.clone()) {
            Err(error) if error.is_absence() && Instant::now() < deadline => client = reconnect(context)?,
            started => break started?,
        }
    };
    if let Some(ending) = &started.outcome {
        return Ok(leave(tell(ending, [0, 0])?));
    }
    follow(context, client, &started)
}

/// Connects without a word: not a byte of its own is added to what the command writes.
fn connect(context: &Context) -> Result<Client, ClientError> {
    if context.no_start {
        return Client::connect(&context.paths.socket);
    }
    Ok(connect_or_start(&context.paths)?.client)
}

/// The answer that the daemon has laid down, if it has.
fn published(context: &Context, request: &Exec) -> Option<PublishedResult> {
    let spool = context.paths.data.join("spool");
    let place = PublishedResult::place(&spool, request).filter(|_| !Taken::too_many(&spool))?;
    PublishedResult::read(&place, request.cache?, crate::output::now())
}

fn variables() -> Vec<(Word, Word)> {
    std::env::vars_os().map(|(name, value)| (Word::from(name.as_os_str()), Word::from(value.as_os_str()))).collect()
}

fn request(context: &Context, command: &cli::Exec) -> Result<Exec, Failure> {
    let directory =
        std::env::current_dir().map_err(|error| Failure::usage(format!("there is no current directory: {error}")))?;
    let cache = arguments::use_cache(command.cache.as_deref())?;
    if cache.is_none() && (command.key.is_some() || !command.input.is_empty() || command.cache_failures) {
        return Err(Failure::usage("--key, --input and --cache-failures have a meaning only together with --cache"));
    }
    let (stdin, stdin_value) = match (command.no_stdin, &cache) {
        (true, _) => (Stdin::Empty, None),
        (false, Some(_)) => keep_stdin()?,
        (false, None) => (pass_stdin(context), None),
    };
    Ok(Exec {
        scope: context.scope.clone(),
        create: !context.scope_named,
        command: command.command.iter().map(|word| Word::from(word.as_os_str())).collect(),
        directory: Word::from(directory.as_os_str()),
        variables: if command.env.is_empty() { Vec::new() } else { variables() },
        umask: umask(),
        stdin,
        stdin_value,
        cache,
        cache_failures: command.cache_failures,
        key: command.key.clone(),
        namespace: command.namespace.clone(),
        inputs: command.input.clone(),
        key_variables: command.env.clone(),
        token: Some(token()),
        caller: context.caller,
    })
}

/// This process's mask, which can only be read by setting another for a moment; nothing else runs yet.
fn umask() -> u32 {
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    mask.as_raw_mode()
}

/// What kind of thing standard input is, if it gives anything.
fn stdin_kind() -> Option<std::fs::FileType> {
    let kind = std::fs::metadata("/proc/self/fd/0").ok()?.file_type();
    // A terminal belongs to whoever sits there, and the command runs elsewhere; of other devices
    // (`/dev/null`) there is nothing to read either.
    (kind.is_file() || kind.is_fifo() || kind.is_socket()).then_some(kind)
}

/// Standard input for a command that is cached: its content, which is part of the key.
fn keep_stdin() -> Result<(Stdin, Option<Json>), Failure> {
    let failed = |error: std::io::Error| Failure::usage(format!("standard input cannot be read: {error}"));
    if stdin_kind().is_none() {
        return Ok((Stdin::Empty, None));
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).map_err(failed)?;
    if bytes.is_empty() {
        return Ok((Stdin::Empty, None));
    }
    let no_form = |error: serde_json::Error| Failure::usage(format!("standard input cannot be handed over: {error}"));
    // Long input goes as bytes whatever it holds: so it can be read again piece by piece.
    let value = if bytes.len() as u64 >= BLOB_MIN_BYTES {
        let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
        Json::parse(format!("{{\"$type\":\"bytes\",\"base64\":\"{base64}\"}}"))
    } else {
        Json::from_serialize(&Word(bytes))
    };
    Ok((Stdin::Argument, Some(value.map_err(no_form)?)))
}

/// A long text goes to the daemon as a file.
fn hand_over_stdin(context: &Context, client: &mut Client, request: &mut Exec) -> Result<(), Failure> {
    let Some(value) = request.stdin_value.as_ref().filter(|value| value.as_str().len() as u64 >= BLOB_MIN_BYTES) else {
        return Ok(());
    };
    let failed = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("standard input cannot be handed over to the daemon: {error}"))
    };
    let name = format!("value-stdin-{}", std::process::id());
    std::fs::write(context.paths.data.join("spool").join(&name), value.as_str()).map_err(|error| failed(&error))?;
    let blob = client.call(BlobPut { name })?;
    let named = BlobReference::new(blob.hash, blob.size, blob.path);
    request.stdin_value = Some(Json::from_serialize(&named).map_err(|error| failed(&error))?);
    Ok(())
}

/// Standard input for a command that is not cached: read by the command itself, as far as it likes.
fn pass_stdin(context: &Context) -> Stdin {
    let Some(kind) = stdin_kind() else { return Stdin::Empty };
    if kind.is_socket() {
        return pump(context)
            .map_or(Stdin::Empty, |path| Stdin::File { path: Word::from(path.as_os_str()), offset: 0 });
    }
    let own = format!("/proc/{}/fd/0", std::process::id());
    let offset = if kind.is_file() { position() } else { 0 };
    Stdin::File { path: Word::from(own.as_str()), offset }
}

/// How far standard input, a file, has been read by whoever has it open, too.
fn position() -> u64 {
    rustix::fs::tell(rustix::stdio::stdin()).unwrap_or(0)
}

/// A socket cannot be opened a second time: its bytes go through a FIFO.
fn pump(context: &Context) -> Option<PathBuf> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let path = context.paths.data.join("spool").join(format!("stdin-{}", token()));
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).ok()?;
    let fifo = path.clone();
    std::thread::spawn(move || {
        let opened = File::options().write(true).open(&fifo);
        // Once it is open on both sides nobody needs the name.
        let _gone = std::fs::remove_file(&fifo);
        if let Ok(mut opened) = opened {
            // A command that reads no further has had enough.
            let _enough = std::io::copy(&mut std::io::stdin().lock(), &mut opened);
        }
    });
    Some(path)
}

/// Something that happened while a command runs.
enum News {
    Daemon(Box<Result<Outgoing, ClientError>>),
    Grew,
    Signal(i32),
}

/// How to leave.
#[derive(Clone, Copy)]
enum Leave {
    Code(u8),
    /// As a process that the signal has ended, so that the shell's loops end, too.
    Signal(i32),
}

fn leave(leave: Leave) -> ExitCode {
    match leave {
        Leave::Code(code) => ExitCode::from(code),
        Leave::Signal(signal) => {
            // Where the system refuses, the code says the same.
            let _refused = signal_hook::low_level::emulate_default_handler(signal);
            ExitCode::from(CommandEnd::Signal(signal).code())
        }
    }
}

/// Waits for a command, showing what it writes.
fn follow(context: &Context, client: Client, started: &ExecStarted) -> Result<ExitCode, Failure> {
    let (sender, listener) = client.split();
    let (send, news) = mpsc::channel();
    watch_signals(&send);
    let mut shown = Shown::open(started.recording.as_deref(), &send);
    listen(listener, send);
    let wait = Request::Result(GetResult { id: Id::Step(started.step), wait: true, caller: context.caller });
    let mut lost = sender.send(1, wait).is_err();
    let mut received = None;
    let ending = loop {
        if lost {
            break ask_again(context, started.step)?;
        }
        shown.advance()?;
        let heard = match shown.look_every {
            None => news.recv().ok(),
            Some(every) => match news.recv_timeout(every) {
                Ok(heard) => Some(heard),
                Err(mpsc::RecvTimeoutError::Timeout) => continue,
                Err(mpsc::RecvTimeoutError::Disconnected) => None,
            },
        };
        let message = match heard {
            None => return Err(ClientError::Lost("nothing more can be heard".to_owned()).into()),
            Some(News::Grew) => continue,
            Some(News::Signal(signal)) => {
                if received == Some(signal) {
                    return Ok(leave(Leave::Signal(signal)));
                }
                received = Some(signal);
                lost = sender.send(2, Request::ExecSignal(ExecSignal { step: started.step, signal })).is_err();
                continue;
            }
            Some(News::Daemon(message)) => *message,
        };
        match message {
            Ok(Outgoing::Reply(1, reply)) => match reply {
                Ok(Reply::Result(ending)) => break ending,
                Ok(_) => return Err(ClientError::Lost("the daemon answered something else".to_owned()).into()),
                Err(refused) => return Err(ClientError::Refused(refused).into()),
            },
            Ok(Outgoing::Reply(2, reply)) => {
                let alone = matches!(reply, Ok(Reply::ExecSignal(ExecSignalled { delivered: true })));
                if let Some(signal) = received.filter(|_| !alone) {
                    // Others wait for it: it goes on without this one.
                    return Ok(leave(Leave::Signal(signal)));
                }
            }
            Ok(_) => {}
            Err(_) => lost = true,
        }
    };
    shown.advance()?;
    let end = match shown.end {
        Some(CommandEnd::Signal(signal)) if received == Some(signal) => Leave::Signal(signal),
        Some(end) => Leave::Code(end.code()),
        None => match (tell(&ending, shown.written), received) {
            (Err(_), Some(signal)) => Leave::Signal(signal),
            (told, _) => told?,
        },
    };
    Ok(leave(end))
}

/// The daemon went away: asks the next one what became of the command.
fn ask_again(context: &Context, step: StepId) -> Result<Ending, Failure> {
    let deadline = Instant::now() + RECONNECT_FOR;
    loop {
        // One that is about to end may still let somebody in.
        let asked = Client::connect(&context.paths.socket)
            .and_then(|mut client| client.call(GetResult { id: Id::Step(step), wait: true, caller: None }));
        match asked {
            Ok(ending) => return Ok(ending),
            Err(error @ ClientError::Refused(_)) => return Err(error.into()),
            Err(error) if error.is_absence() && Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            Err(_) => {
                let message = "the daemon ended while the command ran, and the command with it; run it again";
                return Err(ClientError::Lost(message.to_owned()).into());
            }
        }
    }
}

/// Shows a finished command from a place in each stream on, and says how it ended.
fn tell(ending: &Ending, written: [u64; 2]) -> Result<Leave, Failure> {
    if let (Some(value), State::Succeeded) = (&ending.value, ending.state) {
        return show(value, written);
    }
    let error = ending.error.as_ref();
    let ended = error.and_then(|error| error.original.as_ref()?.read::<CommandEnd>().ok());
    match (ended, error) {
        (Some(end), _) => Ok(Leave::Code(end.code())),
        (None, Some(error)) => {
            let by = ending.execution.map_or_else(String::new, |execution| format!(" ({execution})"));
            let message = format!("the command did not run to its end: {}{by}", error.message);
            Err(Failure { code: OWN_FAILURE, kind: error.kind.clone(), message })
        }
        (None, None) => {
            let message = format!("the command was {}", ending.state.name());
            Err(Failure { code: OWN_FAILURE, kind: ending.state.name().to_owned(), message })
        }
    }
}

/// Shows what a command wrote.
fn show(value: &Json, mut skip: [u64; 2]) -> Result<Leave, Failure> {
    let mut end = None;
    let read = read_command(value, |recorded| match recorded {
        Recorded::Piece(stream, bytes) => {
            let left = &mut skip[stream as usize];
            let from = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
            *left -= from as u64;
            put(stream, &bytes[from..])
        }
        Recorded::End(ended) => {
            end = Some(ended);
            Ok(())
        }
    });
    match (read, end) {
        (Ok(()), Some(end)) => Ok(Leave::Code(end.code())),
        (Err(error), _) if error.kind() == ErrorKind::BrokenPipe => Ok(Leave::Signal(SIGPIPE)),
        (Err(error), _) => Err(unreadable(&error)),
        (Ok(()), None) => Err(Failure::usage("the result has no end: it was not made by 'ibid exec'")),
    }
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::usage(format!("what the command wrote cannot be shown: {error}"))
}

/// Writes bytes as they are, at once.
fn put(stream: CommandStream, bytes: &[u8]) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = match stream {
            CommandStream::Stdout => rustix::io::write(rustix::stdio::stdout(), rest),
            CommandStream::Stderr => rustix::io::write(rustix::stdio::stderr(), rest),
        };
        match written {
            Ok(written) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What has been shown of a recording.
struct Shown {
    file: Option<File>,
    reader: RecordingReader,
    written: [u64; 2],
    end: Option<CommandEnd>,
    /// Where growth is not told.
    look_every: Option<Duration>,
}

impl Shown {
    fn open(path: Option<&str>, news: &mpsc::Sender<News>) -> Self {
        let file = path.and_then(|path| File::open(path).ok());
        let watched = path.filter(|_| file.is_some()).is_none_or(|path| watch_growth(Path::new(path), news.clone()));
        Self {
            file,
            reader: RecordingReader::default(),
            written: [0, 0],
            end: None,
            look_every: (!watched).then_some(LOOK_EVERY),
        }
    }

    /// Shows what is new.
    fn advance(&mut self) -> Result<(), Failure> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let (written, end) = (&mut self.written, &mut self.end);
        let read = self.reader.read(file, |recorded| {
            match recorded {
                Recorded::Piece(stream, bytes) => {
                    put(stream, &bytes)?;
                    written[stream as usize] += bytes.len() as u64;
                }
                Recorded::End(ended) => *end = Some(ended),
            }
            Ok(())
        });
        match read {
            Ok(()) => Ok(()),
            // Nobody reads any more. As the command's own end of the pipe would, this ends; the daemon
            // sees it go and stops the command unless somebody else wants it.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(i32::from(pipe_closed())),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

fn pipe_closed() -> u8 {
    leave(Leave::Signal(SIGPIPE));
    CommandEnd::Signal(SIGPIPE).code()
}

/// Tells each growth of a file; says whether the system can.
fn watch_growth(path: &Path, news: mpsc::Sender<News>) -> bool {
    use inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};
    let watch = || -> rustix::io::Result<rustix::fd::OwnedFd> {
        let watcher = inotify::init(CreateFlags::CLOEXEC)?;
        inotify::add_watch(&watcher, path, WatchFlags::MODIFY)?;
        Ok(watcher)
    };
    let Ok(watcher) = watch() else { return false };
    std::thread::spawn(move || {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&watcher, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::IGNORED) || news.send(News::Grew).is_err() {
                return;
            }
        }
    });
    true
}

/// Tells each signal that this process does not ignore.
fn watch_signals(news: &mpsc::Sender<News>) {
    let ignored = ignored_signals();
    let wanted = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let Ok(mut signals) = signal_hook::iterator::Signals::new(wanted) else { return };
    let news = news.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if news.send(News::Signal(signal)).is_err() {
                return;
            }
        }
    });
}

/// The signals that whoever started this has it ignore (`nohup`), one bit each.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn listen(mut listener: Listener, news: mpsc::Sender<News>) {
    std::thread::spawn(move || {
        loop {
            let message = listener.receive();
            let lost = message.is_err();
            if news.send(News::Daemon(Box::new(message))).is_err() || lost {
                return;
            }
        }
    });
}
