//! Shell commands: started, read and waited for on a thread each.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ibid::model::{Json, Word};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::sync::mpsc;

use super::recording::{Form, Recorded, Recording};
use super::{Exit, Inputs, Stream, kill_group};
use crate::own_process;
use crate::store::Blobs;

/// How long a command that is to end may take to do so before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How the text of a bytes value begins and ends.
const BYTES_BEGIN: &[u8] = br#"{"$type":"bytes","base64":""#;
const BYTES_END: &[u8] = br#""}"#;

/// A command to run.
#[derive(Debug)]
pub struct CommandOrder {
    /// The program and its arguments; never empty.
    pub words: Vec<Word>,
    /// Where.
    pub directory: Word,
    /// All environment variables.
    pub variables: Vec<(Word, Word)>,
    /// The mask of permissions for new files; `None` for the daemon's own.
    pub umask: Option<u32>,
    /// What it reads.
    pub input: Input,
    /// What its value is made of.
    pub form: Form,
    /// Where the recording grows: a file in the spool directory.
    pub recording: PathBuf,
    /// An end with another code than 0 is a result like any other.
    pub keep_failures: bool,
    /// Files whose content is part of the key, and what that was.
    pub inputs: Option<(Vec<String>, Json)>,
}

/// What a command reads.
#[derive(Debug)]
pub enum Input {
    /// Nothing.
    Empty,
    /// A file from a place on, bytes.
    File(Word, u64),
    /// A value: a string, or bytes.
    Value(Json),
    /// The same in a file.
    ValueFile(PathBuf),
}

/// What becomes of a command.
#[derive(Debug)]
pub enum CommandEvent {
    /// It runs in this process.
    Started(u32),
    /// It wrote something.
    Output(Stream, Vec<u8>),
    /// It has ended, and nothing follows.
    Ended(CommandEnded),
    /// It could not be started.
    Failed(String),
}

/// How a command ended.
#[derive(Debug)]
pub struct CommandEnded {
    /// Its exit.
    pub exit: Exit,
    /// What it wrote; an error says why that could not be kept.
    pub recorded: Result<Recorded, String>,
    /// Its inputs have changed since its key was made, so that its result belongs to no key.
    pub inputs_changed: bool,
}

/// Starts a command on a thread of its own, which lives as long as the command: the system kills the
/// command when that thread ends, and so when the daemon does.
///
/// # Errors
/// Where there are no more threads.
pub fn start_command(
    order: CommandOrder,
    blobs: Blobs,
    inputs: Inputs,
    events: mpsc::Sender<CommandEvent>,
) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("command".to_owned()).stack_size(256 * 1024);
    thread.spawn(move || {
        let last = match run(&order, &blobs, &inputs, &events) {
            Ok(ended) => CommandEvent::Ended(ended),
            Err(message) => CommandEvent::Failed(message),
        };
        // The owner is gone only when the process ends.
        let _ended = events.blocking_send(last);
    })?;
    Ok(())
}

/// Asks a command's processes to end, and kills them where they do not.
pub fn end_command(pid: u32) {
    signal_command(pid, Signal::TERM);
    tokio::task::spawn_local(async move {
        tokio::time::sleep(GRACE).await;
        kill_group(pid);
    });
}

/// Sends a signal to a command's processes.
pub fn signal_command(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // They may be gone already.
        let _gone = kill_process_group(pid, signal);
    }
}

fn run(
    order: &CommandOrder,
    blobs: &Blobs,
    inputs: &Inputs,
    events: &mpsc::Sender<CommandEvent>,
) -> Result<CommandEnded, String> {
    let unkept = |error: &dyn std::fmt::Display| format!("what it writes cannot be kept: {error}");
    let mut recording = Recording::begin(&order.recording, order.form).map_err(|error| unkept(&error))?;
    let stdin = open_input(order).map_err(|error| format!("its standard input cannot be opened: {error}"))?;
    let mut child = spawn(order, stdin)?;
    // The owner is gone only when the process ends.
    let _ended = events.blocking_send(CommandEvent::Started(child.id()));
    let read = follow(&mut child, |stream, bytes| {
        recording.output(stream, bytes)?;
        let _ended = events.blocking_send(CommandEvent::Output(stream, bytes.to_vec()));
        Ok(())
    });
    if read.is_err() {
        kill_group(child.id());
    }
    let exit = match child.wait() {
        Ok(status) => status.code().map_or_else(|| status.signal().map_or(Exit::Unknown, Exit::Signal), Exit::Code),
        Err(_) => Exit::Unknown,
    };
    let is_result = matches!(exit, Exit::Code(code) if code == 0 || order.keep_failures);
    let recorded = match read {
        Ok(()) => recording.finish(exit, is_result, blobs).map_err(|error| unkept(&error)),
        Err(error) => Err(unkept(&error)),
    };
    let inputs_changed = order.inputs.as_ref().filter(|_| is_result).is_some_and(|(patterns, before)| {
        inputs.digest(std::path::Path::new(order.directory.as_os()), patterns).as_ref() != Ok(before)
    });
    Ok(CommandEnded { exit, recorded, inputs_changed })
}

fn spawn(order: &CommandOrder, stdin: Stdio) -> Result<Child, String> {
    // This very program sets the process up and becomes the command: what is set between fork and exec
    // could only be set by code that must not allocate.
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("ibidd")
        .arg(own_process::BECOME)
        .arg(std::process::id().to_string())
        .arg(order.umask.map_or_else(String::new, |umask| umask.to_string()))
        .args(order.words.iter().map(Word::as_os))
        .current_dir(order.directory.as_os())
        .env_clear()
        .envs(order.variables.iter().map(|(name, value)| (name.as_os(), value.as_os())))
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("the directory {} is not there any more", order.directory.text()),
        _ => format!("it could not be started in {}: {error}", order.directory.text()),
    })
}

fn open_input(order: &CommandOrder) -> std::io::Result<Stdio> {
    match &order.input {
        Input::Empty => Ok(Stdio::null()),
        Input::File(path, offset) => {
            // A pipe that nobody writes to any more must not be waited for.
            let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
            let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path.as_os())?;
            let flags = rustix::fs::fcntl_getfl(&file)?;
            rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
            if *offset > 0 {
                file.seek(SeekFrom::Start(*offset))?;
            }
            Ok(file.into())
        }
        Input::Value(json) => hand_in(order, &mut bytes_of(json)?.as_slice()),
        Input::ValueFile(path) => {
            let mut file = BufReader::new(File::open(path)?);
            if file.fill_buf()?.starts_with(BYTES_BEGIN) {
                // As the client hands over long input; it need not fit into memory.
                file.consume(BYTES_BEGIN.len());
                let length =
                    std::fs::metadata(path)?.len().saturating_sub((BYTES_BEGIN.len() + BYTES_END.len()) as u64);
                let mut text = file.take(length);
                let engine = &base64::engine::general_purpose::STANDARD;
                return hand_in(order, &mut base64::read::DecoderReader::new(&mut text, engine));
            }
            let text = std::fs::read_to_string(path)?;
            hand_in(order, &mut bytes_of(&Json::parse(text).map_err(std::io::Error::other)?)?.as_slice())
        }
    }
}

/// The bytes that a string or bytes value stands for.
fn bytes_of(json: &Json) -> std::io::Result<Vec<u8>> {
    json.read::<Word>().map(|word| word.0).map_err(std::io::Error::other)
}

/// Bytes as a file without a name.
fn hand_in(order: &CommandOrder, bytes: &mut impl std::io::Read) -> std::io::Result<Stdio> {
    let path = order.recording.with_extension("stdin");
    let mut file: File = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    std::io::copy(bytes, &mut file)?;
    file.rewind()?;
    Ok(file.into())
}

/// Reads both streams until the command has ended, and what it has written by then. What it started and
/// left behind may hold them open longer: nobody reads that.
fn follow(child: &mut Child, mut output: impl FnMut(Stream, &[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else { return Ok(()) };
    for descriptor in [stdout.as_fd(), stderr.as_fd()] {
        let flags = rustix::fs::fcntl_getfl(descriptor)?;
        rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?;
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let ending = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut open = [true, true];
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut watched = Vec::with_capacity(3);
        if open[0] {
            watched.push(PollFd::new(&stdout, PollFlags::IN));
        }
        if open[1] {
            watched.push(PollFd::new(&stderr, PollFlags::IN));
        }
        let mut ended = false;
        if let Some(ending) = &ending {
            watched.push(PollFd::new(ending, PollFlags::IN));
        } else if !open[0] && !open[1] {
            return Ok(());
        }
        match poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if ending.is_some() {
            ended = watched.last().is_some_and(|last| !last.revents().is_empty());
        }
        drop(watched);
        // After the end everything that is there; before it one buffer of each, so that their order is kept.
        loop {
            let mut any = false;
            for (index, stream) in [Stream::Out, Stream::Err].into_iter().enumerate() {
                if !open[index] {
                    continue;
                }
                let read = match stream {
                    Stream::Out => stdout.read(&mut buffer),
                    Stream::Err => stderr.read(&mut buffer),
                };
                match read {
                    Ok(0) => open[index] = false,
                    Ok(read) => {
                        any = true;
                        output(stream, &buffer[..read])?;
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    Err(error) => return Err(error),
                }
            }
            if !ended || !any {
                break;
            }
        }
        if ended {
            return Ok(());
        }
    }
}
