//! `run`, `submit`, `result`, and `run --explain`.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use ibid::blocking::{Client, ClientError, Listener, Sender};
use ibid::model::{BlobReference, Id, Json, State, StepId};
use ibid::protocol::{
    Cancel, EventBody, Explain, GetResult, Notice, Outcome as Ending, Outgoing, Reply, Request, RunView, StepView,
    Submit, Submitted, Subscribe, Topic, length_in_words,
};

use crate::app::{arguments, steps};
use crate::cli::Start;
use crate::context::{Context, FAILED, Failure, Outcome};
use crate::output::{self, clean, clean_lines};
use crate::widgets::bars;

/// How long a waiting command tries to reach a daemon that went away, before it starts one itself.
const RECONNECT_FOR: Duration = Duration::from_secs(2);

fn request(context: &Context, start: &Start) -> Result<Submit, Failure> {
    Ok(Submit {
        scope: context.scope.clone(),
        target: start.target.clone(),
        arguments: start.arguments.iter().map(|text| arguments::value(text)).collect(),
        named: start.named.iter().map(|text| arguments::named(text)).collect::<Result<_, _>>()?,
        use_cache: arguments::use_cache(start.use_cache.as_deref())?,
        cache_key: start.cache_key.clone(),
        idempotency_key: start.idempotency_key.clone(),
        token: Some(token()),
        caller: context.caller,
    })
}

/// Names this submission, so that sending it again after a lost connection never starts it twice.
pub(super) fn token() -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("{}-{now}", std::process::id())
}

/// Submits, over a new connection where one is lost on the way.
fn submit_surely(context: &Context, submit: &Submit) -> Result<(Client, Submitted), Failure> {
    let mut client = context.connect()?;
    let deadline = Instant::now() + RECONNECT_FOR;
    loop {
        match client.call(submit.clone()) {
            Ok(submitted) => return Ok((client, submitted)),
            Err(error) if error.is_absence() && Instant::now() < deadline => client = reconnect(context)?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits a little for the daemon to come back, then starts one.
pub(super) fn reconnect(context: &Context) -> Result<Client, Failure> {
    let deadline = Instant::now() + RECONNECT_FOR;
    let mut wait = Duration::from_millis(20);
    while Instant::now() < deadline {
        match Client::connect(&context.paths.socket) {
            Ok(client) => return Ok(client),
            Err(error) if error.is_absence() => std::thread::sleep(wait),
            Err(error) => return Err(error.into()),
        }
        wait = (wait * 2).min(Duration::from_millis(500));
    }
    Ok(context.connect()?)
}

pub fn submit(context: &Context, start: &Start) -> Outcome {
    let (_, submitted) = submit_surely(context, &request(context, start)?)?;
    if context.json {
        return output::json(&submitted);
    }
    output::print(&format!("{}\n", submitted.run))?;
    Ok(ExitCode::SUCCESS)
}

pub fn run(context: &Context, start: &Start) -> Outcome {
    let (client, submitted) = submit_surely(context, &request(context, start)?)?;
    let ending = follow(context, client, &submitted)?;
    tell(context, &ending, false)
}

pub fn result(context: &Context, id: &str, raw: bool) -> Outcome {
    let ending = wait_for(context, arguments::id(id)?, None)?;
    tell(context, &ending, raw)
}

/// Waits for the outcome of something, over as many daemons as it takes.
pub fn wait_for(context: &Context, id: Id, client: Option<Client>) -> Result<Ending, Failure> {
    let mut client = match client {
        Some(client) => client,
        None => context.connect()?,
    };
    loop {
        match client.call(GetResult { id, wait: true, caller: context.caller }) {
            Ok(ending) => return Ok(ending),
            Err(error) if error.is_absence() => client = reconnect(context)?,
            Err(error) => return Err(error.into()),
        }
    }
}

pub fn exit_code(ending: &Ending) -> ExitCode {
    if ending.state == State::Succeeded { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// Prints a result on standard output, an error on standard error.
fn tell(context: &Context, ending: &Ending, raw: bool) -> Outcome {
    if ending.state != State::Succeeded {
        let error = ending.error.clone().unwrap_or_else(|| ibid::model::Failure::new("Error", ending.state.name()));
        if context.json {
            output::json(ending)?;
        } else {
            let mut text = format!("{}: {}", error.kind, error.message);
            if let Some(traceback) = error.traceback.as_deref().filter(|text| !text.is_empty()) {
                text = traceback.trim_end().to_owned();
            }
            let by =
                ending.execution.map_or_else(String::new, |execution| format!(" ({execution}; ibid show {execution})"));
            // Where standard error is gone, the exit code still tells.
            let _gone = writeln!(std::io::stderr(), "{}\nibid: {}{by}", clean_lines(&text), ending.state.name());
        }
        return Ok(ExitCode::from(FAILED));
    }
    let value = ending.value.clone().unwrap_or_else(Json::null);
    if let Some(blob) = BlobReference::read(&value)
        && !raw
        && blob.size > READ_WHOLE_MAX
    {
        return copy_file(&blob);
    }
    let text = resolve_references(context, &whole(&value)?)?;
    if raw {
        return print_raw(&text);
    }
    output::print(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Files up to this size are read to look for references in them; larger ones have none.
const READ_WHOLE_MAX: u64 = ibid::protocol::MESSAGE_MAX_BYTES as u64;

/// The text of a value, also of one that is a file.
fn whole(value: &Json) -> Result<String, Failure> {
    match BlobReference::read(value) {
        Some(blob) => std::fs::read_to_string(&blob.path).map_err(|error| unreadable(&blob, &error)),
        None => Ok(value.as_str().to_owned()),
    }
}

fn copy_file(blob: &BlobReference) -> Outcome {
    let mut file = std::fs::File::open(&blob.path).map_err(|error| unreadable(blob, &error))?;
    let mut out = std::io::stdout().lock();
    match std::io::copy(&mut file, &mut out).and_then(|_| out.write_all(b"\n")) {
        // Whoever reads has heard enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(unreadable(blob, &error)),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

fn unreadable(blob: &BlobReference, error: &std::io::Error) -> Failure {
    let message = format!("the value is in {}, which cannot be printed: {error}", blob.path);
    Failure { code: FAILED, kind: "output".to_owned(), message }
}

/// A result that is or holds references to other calls is printed with their results in place.
fn resolve_references(context: &Context, text: &str) -> Result<String, Failure> {
    // A text with such a member inside of a string would have its quotes escaped.
    const START: &str = "{\"$type\":\"execution\",\"id\":\"";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        out.push_str(&rest[..at]);
        let after = &rest[at + START.len()..];
        let Some((id, tail)) = after.split_once("\"}") else { break };
        let ending = wait_for(context, arguments::id(id)?, None)?;
        match ending.value {
            Some(value) => out.push_str(&resolve_references(context, &whole(&value)?)?),
            None => {
                let message = format!("the result refers to {id}, which has {}", ending.state.name());
                return Err(Failure { code: FAILED, kind: "reference".to_owned(), message });
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

fn print_raw(text: &str) -> Outcome {
    if let Ok(string) = serde_json::from_str::<String>(text) {
        output::print(&string)?;
        return Ok(ExitCode::SUCCESS);
    }
    let parsed: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let bytes = parsed
        .as_ref()
        .filter(|value| value["$type"] == "bytes")
        .and_then(|value| base64::engine::general_purpose::STANDARD.decode(value["base64"].as_str()?).ok());
    match bytes {
        Some(bytes) => std::io::stdout().write_all(&bytes).map_err(|error| Failure {
            code: FAILED,
            kind: "output".to_owned(),
            message: error.to_string(),
        })?,
        None => output::print(&format!("{text}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}

pub fn explain(context: &Context, start: &Start) -> Outcome {
    let explained = context.ask(Explain { start: request(context, start)? })?;
    if context.json {
        return output::json(&explained);
    }
    let mut text = String::new();
    for (index, call) in explained.calls.iter().enumerate() {
        let indent = if index == 0 { "" } else { "  " };
        text.push_str(&format!("{indent}{}\n", clean(&call.sentence)));
        if index > 0 {
            text.push_str(&format!("    {} {}\n", clean(&call.target), clean(&call.arguments)));
        }
    }
    text.push_str(&match explained.like {
        Some(run) => {
            format!("The calls are those of {run}, the last finished run with these arguments. Nothing was started.\n")
        }
        None => {
            "No finished run has these arguments, so what it would call is not known. Nothing was started.\n".to_owned()
        }
    });
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for a run that was just started, shows how it goes, and cancels it on ctrl-c.
fn follow(context: &Context, client: Client, submitted: &Submitted) -> Result<Ending, Failure> {
    let interrupted = interruptions();
    let mut progress = Progress::new(submitted.step);
    let mut client = Some(client);
    loop {
        let connection = match client.take() {
            Some(client) => client,
            None => reconnect(context)?,
        };
        match watch(context, connection, submitted, &mut progress, &interrupted) {
            Ok(ending) => {
                progress.end();
                return Ok(ending);
            }
            Err(error) if error.is_absence() => progress.note("the daemon went away; waiting for it"),
            Err(error) => {
                progress.end();
                return Err(error.into());
            }
        }
    }
}

/// One connection's part of the wait.
fn watch(
    context: &Context,
    client: Client,
    submitted: &Submitted,
    progress: &mut Progress,
    interrupted: &mpsc::Receiver<()>,
) -> Result<Ending, ClientError> {
    let (sender, listener) = client.split();
    let id = Id::Step(submitted.step);
    sender.send(1, Request::Result(GetResult { id, wait: true, caller: context.caller }))?;
    // Steps are of interest only where their progress can be shown in place.
    let topic = if progress.terminal {
        Topic::Run { run: submitted.run }
    } else {
        Topic::Runs { scope: Some(context.scope.clone()), limit: Some(1) }
    };
    sender.send(2, Request::Subscribe(Subscribe { topic }))?;
    let incoming = receive_on_thread(listener);
    let mut cancelled = false;
    loop {
        if interrupted.try_recv().is_ok() {
            if cancelled {
                std::process::exit(130);
            }
            cancelled = true;
            progress.note("cancelling; ctrl-c again leaves at once");
            cancel(&sender, id)?;
        }
        match incoming.recv_timeout(Duration::from_millis(100)) {
            Ok(Ok(Outgoing::Reply(1, reply))) => match reply? {
                Reply::Result(ending) => return Ok(ending),
                _ => return Err(ClientError::Lost("the daemon answered something else".to_owned())),
            },
            Ok(Ok(Outgoing::Notice(Notice::Event(event)))) => match event.body {
                EventBody::Runs(runs) => progress.show(runs.iter().find(|run| run.id == submitted.run), &[]),
                EventBody::Run { run, steps } => progress.show(Some(&run), &steps),
                _ => {}
            },
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(mpsc::RecvTimeoutError::Timeout) => progress.tick(),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(ClientError::Lost("it was closed".to_owned())),
        }
    }
}

fn cancel(sender: &Sender, id: Id) -> Result<(), ClientError> {
    sender.send(3, Request::Cancel(Cancel { id, force: false }))
}

fn receive_on_thread(mut listener: Listener) -> mpsc::Receiver<Result<Outgoing, ClientError>> {
    let (send, received) = mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let message = listener.receive();
            let lost = message.is_err();
            if send.send(message).is_err() || lost {
                return;
            }
        }
    });
    received
}

/// Each ctrl-c, as a message.
fn interruptions() -> mpsc::Receiver<()> {
    let (send, received) = mpsc::channel();
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async { while tokio::signal::ctrl_c().await.is_ok() && send.send(()).is_ok() {} });
    });
    received
}

/// Columns of the terminal, 80 where it does not say.
fn terminal_width() -> usize {
    crossterm::terminal::size().map_or(80, |(width, _)| usize::from(width.max(20)))
}

/// How a run goes, on standard error: in place on a terminal, else as lines.
struct Progress {
    step: StepId,
    begun: Instant,
    terminal: bool,
    shown: Option<String>,
    last: Option<RunView>,
    /// What running steps say of themselves: a bar, and words.
    steps: BTreeMap<StepId, (Option<f64>, String)>,
}

impl Progress {
    fn new(step: StepId) -> Self {
        let mut progress = Self {
            step,
            begun: Instant::now(),
            terminal: std::io::stderr().is_terminal(),
            shown: None,
            last: None,
            steps: BTreeMap::new(),
        };
        if !progress.terminal {
            progress.line(&format!("{} started", step.run));
        }
        progress
    }

    fn line(&mut self, text: &str) {
        // Where standard error is gone, progress is of no use to anyone.
        let _gone = writeln!(std::io::stderr(), "{text}");
    }

    fn show(&mut self, run: Option<&RunView>, steps: &[StepView]) {
        for step in steps {
            match steps::progress(step).filter(|_| step.state == State::Running) {
                Some(words) => self.steps.insert(step.id, (steps::part_done(step), words)),
                None => self.steps.remove(&step.id),
            };
        }
        if let Some(run) = run {
            self.last = Some(run.clone());
        }
        self.tick();
    }

    fn tick(&mut self) {
        if !self.terminal {
            return;
        }
        let passed = length_in_words(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(0) / 100 * 100);
        let counts = self.last.as_ref().map(output::counts_in_words).unwrap_or_default();
        let mut text = format!("{} {passed}  {counts}", self.step.run);
        // One line: what began first and is still at it.
        if let Some((step, (part, words))) = self.steps.first_key_value() {
            let bar = part.map_or_else(String::new, |part| format!("{} ", bars::part(part, 16, false)));
            text.push_str(&format!("  {step} {bar}{words}"));
        }
        let width = terminal_width().saturating_sub(1);
        let text = steps::shorten(&text, width);
        if self.shown.as_ref() != Some(&text) {
            // Where standard error is gone, progress is of no use to anyone.
            let _gone = write!(std::io::stderr(), "\r\u{1b}[2K{text}");
            self.shown = Some(text);
        }
    }

    fn note(&mut self, text: &str) {
        if self.terminal && self.shown.take().is_some() {
            self.line("");
        }
        self.line(&format!("ibid: {text}"));
    }

    fn end(&mut self) {
        if self.terminal {
            if self.shown.take().is_some() {
                // Leaves a clean line for the result.
                let _gone = write!(std::io::stderr(), "\r\u{1b}[2K");
            }
            return;
        }
        let passed = length_in_words(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(0));
        self.line(&format!("{} ended after {passed}", self.step.run));
    }
}
