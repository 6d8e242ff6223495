//! The screens, and the loop that draws them.

mod draw;
mod listing;
mod log;
mod overlay;
pub mod plain;
mod run;
mod runs;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod snapshots;
mod stream;
mod terminal;

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender as Channel, channel};
use std::time::{Duration, Instant};

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, MouseButton, MouseEventKind};
use ibid::blocking::{Client, ClientError, Sender};
use ibid::model::RunId;
use ibid::paths::Paths;
use ibid::protocol::Outgoing;

use crate::app::model::{Link, Model};
use crate::app::remembered::Remembered;
use crate::context::{Context, FAILED, Failure, Outcome};
use crate::output;
use crate::settings::Settings;
use crate::widgets::style::Colours;

/// Data alone is drawn at most this often; keys are drawn at once.
const DATA_INTERVAL: Duration = Duration::from_millis(50);

/// What the loop waits for.
enum Message {
    Input(Event),
    Connected(Sender),
    Incoming(Box<Outgoing>),
    Lost(String),
    Wrong(String),
    Leave,
    InputEnded,
}

/// Opens the screens, on a run if one is named.
pub fn run(context: &Context, run: Option<RunId>) -> Outcome {
    let failed = |error: std::io::Error| Failure {
        code: FAILED,
        kind: "terminal".to_owned(),
        message: format!("cannot use the terminal: {error}"),
    };
    let settings = Settings::read()?;
    let mut terminal = terminal::Guard::enter().map_err(failed)?;
    let size = terminal.size().map_err(failed)?;
    let mut model = Model::new(size, output::now());
    let colourless = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    model.colour = if colourless { Colours::None } else { settings.colours };
    model.ascii = settings.ascii.unwrap_or_else(|| !is_utf8());
    model.mouse = settings.mouse;
    model.keymap = settings.keymap;
    model.remembered = Remembered::read(&context.paths.data);
    model.data.clone_from(&context.paths.data);
    model.scope = context.scope.clone();
    let (send, messages) = channel();
    spawn_input(send.clone());
    spawn_signals(send.clone());
    spawn_connection(context, send);
    match run {
        Some(run) => model.open_run(run, None),
        None => {
            // Only what was named for this start counts more than what was shown last.
            if context.scope_named {
                model.remembered.shown = Some(context.scope.clone());
            }
            model.restore();
        }
    }
    let outcome = main_loop(&mut terminal, &mut model, &messages);
    drop(terminal);
    model.remember();
    // It is a convenience: where it cannot be kept the next start begins at the beginning.
    let _lost = model.remembered.write(&context.paths.data);
    outcome.map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// Whether the locale says that the terminal shows more than ASCII.
fn is_utf8() -> bool {
    let set = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    // Where nothing is said, UTF-8 is what terminals do today.
    locale.is_none_or(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8") || !matches!(locale.as_str(), "c" | "posix")
    }) && std::env::var("TERM").as_deref() != Ok("linux-ascii")
}

fn main_loop(terminal: &mut terminal::Guard, model: &mut Model, messages: &Receiver<Message>) -> std::io::Result<()> {
    let mut sender: Option<Sender> = None;
    terminal.draw(model)?;
    let mut drawn = Instant::now();
    let mut dirty = false;
    let mut stream: Option<stream::Stream> = None;
    loop {
        let wait = if dirty { DATA_INTERVAL.saturating_sub(drawn.elapsed()) } else { clock_interval(model) };
        let mut at_once = false;
        match messages.recv_timeout(wait) {
            Ok(message) => {
                let mut next = Some(message);
                // Everything that is there already shares one frame.
                while let Some(message) = next {
                    at_once |= matches!(message, Message::Input(_) | Message::Connected(_) | Message::Lost(_));
                    match (&stream, &message) {
                        // While a log streams by, a key brings the screen back.
                        (Some(_), Message::Input(Event::Key(key))) => {
                            if key.kind == KeyEventKind::Press {
                                stream = None;
                                terminal.end_stream()?;
                            }
                        }
                        _ => take(model, &mut sender, message),
                    }
                    next = messages.try_recv().ok();
                }
                dirty = true;
            }
            Err(RecvTimeoutError::Timeout) => dirty = true,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        at_once |= std::mem::take(&mut model.urgent);
        model.clock = output::now();
        if !matches!(model.link, Link::Lost(..)) {
            model.now = model.clock;
        }
        send_all(model, &mut sender);
        if model.quit {
            return Ok(());
        }
        if let Some(text) = model.clipboard.take() {
            terminal.copy(&text)?;
        }
        if std::mem::take(&mut model.suspend) {
            terminal.suspend()?;
            at_once = true;
        }
        if let Some(execution) = model.stream.take() {
            terminal.begin_stream()?;
            stream = Some(stream::Stream::open(execution, &model.data)?);
        }
        if stream.is_some() {
            continue;
        }
        if dirty && (at_once || drawn.elapsed() >= DATA_INTERVAL) {
            // The event that says so may still be on its way.
            let size = terminal.size()?;
            if size != model.size {
                model.resized(size);
            }
            terminal.draw(model)?;
            drawn = Instant::now();
            dirty = false;
        }
    }
}

/// Clocks tick once a second while something runs or the daemon is away; else nothing wakes.
fn clock_interval(model: &Model) -> Duration {
    let running = model.stats.as_ref().is_some_and(|stats| stats.running + stats.queued + stats.linked > 0);
    if running || model.link != Link::Connected { Duration::from_secs(1) } else { Duration::from_secs(3600) }
}

fn take(model: &mut Model, sender: &mut Option<Sender>, message: Message) {
    match message {
        Message::Input(Event::Key(key)) if key.kind == KeyEventKind::Press => {
            if let Some(name) = name(key.code, key.modifiers) {
                // A key right after esc arrives as that key with alt.
                if key.modifiers.contains(KeyModifiers::ALT) {
                    model.press("esc");
                }
                model.press(&name);
            }
        }
        Message::Input(Event::Resize(width, height)) => {
            model.resized((width, height));
        }
        Message::Input(Event::Mouse(mouse)) => match mouse.kind {
            MouseEventKind::ScrollDown => model.scrolled(true),
            MouseEventKind::ScrollUp => model.scrolled(false),
            MouseEventKind::Down(MouseButton::Left) => model.clicked(mouse.row),
            _ => {}
        },
        Message::Input(_) => {}
        Message::Connected(connection) => {
            *sender = Some(connection);
            model.connected();
        }
        Message::Incoming(message) => model.hear(*message),
        Message::Lost(why) => {
            *sender = None;
            model.disconnected(why);
        }
        Message::Wrong(why) => model.link = Link::Wrong(why),
        Message::Leave | Message::InputEnded => model.quit = true,
    }
}

fn send_all(model: &mut Model, sender: &mut Option<Sender>) {
    for (number, request) in std::mem::take(&mut model.outgoing) {
        // A connection that breaks here is reported by the side that reads from it.
        if let Some(sender) = sender
            && let Err(error) = sender.send(number, request)
        {
            model.status = error.to_string();
        }
    }
}

/// A key as the registry of actions writes it.
fn name(code: KeyCode, modifiers: KeyModifiers) -> Option<String> {
    let name = match code {
        KeyCode::Char(' ') => "space".to_owned(),
        KeyCode::Char(c) if modifiers.contains(KeyModifiers::CONTROL) => format!("^{}", c.to_ascii_lowercase()),
        KeyCode::Char(c) => c.to_string(),
        KeyCode::Enter => "enter".to_owned(),
        KeyCode::Esc => "esc".to_owned(),
        KeyCode::Tab => "tab".to_owned(),
        KeyCode::BackTab => "backtab".to_owned(),
        KeyCode::Delete => "delete".to_owned(),
        KeyCode::Backspace => "backspace".to_owned(),
        KeyCode::Up => "up".to_owned(),
        KeyCode::Down => "down".to_owned(),
        KeyCode::Left => "left".to_owned(),
        KeyCode::Right => "right".to_owned(),
        KeyCode::Home => "home".to_owned(),
        KeyCode::End => "end".to_owned(),
        KeyCode::PageUp => "pgup".to_owned(),
        KeyCode::PageDown => "pgdn".to_owned(),
        _ => return None,
    };
    Some(name)
}

fn spawn_input(send: Channel<Message>) {
    std::thread::spawn(move || {
        while let Ok(event) = crossterm::event::read() {
            if send.send(Message::Input(event)).is_err() {
                return;
            }
        }
        // The terminal is gone: whether anyone still listens makes no difference.
        let _gone = send.send(Message::InputEnded);
    });
}

fn spawn_signals(send: Channel<Message>) {
    std::thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut terminate), Ok(mut hangup), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::hangup()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
            // The loop may have ended by itself.
            let _gone = send.send(Message::Leave);
        });
    });
}

/// Connects, listens, and connects again when that ends, for ever. The daemon is started only the
/// first time: later its absence may be wanted.
fn spawn_connection(context: &Context, send: Channel<Message>) {
    let paths = context.paths.clone();
    let no_start = context.no_start;
    std::thread::spawn(move || {
        let mut first = true;
        let mut wait = Duration::from_millis(50);
        loop {
            match connect(&paths, first && !no_start) {
                Ok(client) => {
                    wait = Duration::from_millis(50);
                    let (sender, mut listener) = client.split();
                    if send.send(Message::Connected(sender)).is_err() {
                        return;
                    }
                    let why = loop {
                        match listener.receive() {
                            Ok(message) => {
                                if send.send(Message::Incoming(Box::new(message))).is_err() {
                                    return;
                                }
                            }
                            Err(error) => break error.to_string(),
                        }
                    };
                    if send.send(Message::Lost(why)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let text = error.to_string();
                    let message = if error.is_absence() && !matches!(error, ClientError::Start(_)) {
                        Message::Lost(text)
                    } else {
                        Message::Wrong(text)
                    };
                    if send.send(message).is_err() {
                        return;
                    }
                }
            }
            first = false;
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    });
}

fn connect(paths: &Paths, may_start: bool) -> Result<Client, ClientError> {
    if may_start {
        ibid::blocking::connect_or_start(paths).map(|start| start.client)
    } else {
        Client::connect(&paths.socket)
    }
}
