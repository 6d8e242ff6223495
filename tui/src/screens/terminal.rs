//! The terminal: taken over, and given back on every way out.

use std::cell::RefCell;
use std::io::{Write, stdout};
use std::rc::Rc;
use std::sync::Once;

use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableMouseCapture};
use crossterm::terminal::{
    Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::draw;
use crate::app::model::Model;

/// Set by tests and benches: a mark is written after each frame, so that they know when it is whole.
const MARKS: &str = "IBID_FRAME_MARKS";

/// Holds the terminal in raw mode and on the other screen for as long as it lives.
pub struct Guard {
    terminal: Terminal<CrosstermBackend<Frame>>,
    frame: Frame,
    marked: bool,
    mouse: bool,
}

impl Guard {
    pub fn enter() -> std::io::Result<Self> {
        give_back_on_panic();
        enter()?;
        let frame = Frame::default();
        let terminal = Terminal::new(CrosstermBackend::new(frame.clone()))?;
        Ok(Self { terminal, frame, marked: std::env::var_os(MARKS).is_some(), mouse: false })
    }

    pub fn size(&self) -> std::io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    pub fn draw(&mut self, model: &Model) -> std::io::Result<()> {
        if self.mouse != model.mouse {
            self.mouse = model.mouse;
            if self.mouse { execute!(stdout(), EnableMouseCapture)? } else { execute!(stdout(), DisableMouseCapture)? }
        }
        self.terminal.draw(|frame| draw::draw(frame, model))?;
        self.write_frame()
    }

    /// Writes a frame at once. One that changes more than one row is bracketed as a synchronised update; for
    /// a single row that would cost more than it spares.
    fn write_frame(&self) -> std::io::Result<()> {
        let frame = std::mem::take(&mut *self.frame.0.borrow_mut());
        if frame.is_empty() && !self.marked {
            return Ok(());
        }
        let mut whole = Vec::with_capacity(frame.len() + 32);
        let many = changes_rows(&frame);
        if many {
            whole.extend_from_slice(b"\x1b[?2026h");
        }
        whole.extend_from_slice(&frame);
        if many {
            whole.extend_from_slice(b"\x1b[?2026l");
        }
        if self.marked {
            whole.extend_from_slice(b"\x1b]7777;frame\x07");
        }
        let mut out = stdout().lock();
        out.write_all(&whole)?;
        out.flush()
    }

    /// Puts a text into the terminal's clipboard, also over a remote connection (OSC 52).
    pub fn copy(&mut self, text: &str) -> std::io::Result<()> {
        execute!(stdout(), CopyToClipboard::to_clipboard_from(text))
    }

    /// Gives the terminal back, stops, and takes it again when continued.
    pub fn suspend(&mut self) -> std::io::Result<()> {
        leave();
        let own = rustix::process::getpid();
        // Refused only where stopping is not possible; then the screen comes back at once.
        let _refused = rustix::process::kill_process(own, rustix::process::Signal::TSTP);
        enter()?;
        self.paint_anew()
    }

    /// What is on the screen is not known any more: the next frame paints all of it.
    fn paint_anew(&mut self) -> std::io::Result<()> {
        self.mouse = false;
        execute!(stdout(), Clear(ClearType::All))?;
        // Clearing through the old one would ask the terminal where its cursor is, and wait for the answer.
        self.terminal = Terminal::new(CrosstermBackend::new(self.frame.clone()))?;
        Ok(())
    }

    /// Leaves the other screen for a stream of lines; keys still come one by one.
    pub fn begin_stream(&mut self) -> std::io::Result<()> {
        execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, cursor::Show)
    }

    pub fn end_stream(&mut self) -> std::io::Result<()> {
        execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
        self.paint_anew()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> std::io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, cursor::Hide)
}

fn leave() {
    // Each of these is worth trying, whatever became of the others: the terminal may be gone.
    let _gone = execute!(
        stdout(),
        EndSynchronizedUpdate,
        DisableMouseCapture,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        cursor::Show
    );
    let _gone = disable_raw_mode();
    let _gone = stdout().flush();
}

/// A panic on any thread ends the program, with the terminal as it was and the message readable.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            print(panic);
            std::process::exit(101);
        }));
    });
}

/// What a frame comes to, until it is written at once.
#[derive(Clone, Default)]
struct Frame(Rc<RefCell<Vec<u8>>>);

impl Write for Frame {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether the cursor is put into more than two rows: one for what changed, one to stand in at the end.
fn changes_rows(frame: &[u8]) -> bool {
    let mut rows = std::collections::BTreeSet::new();
    for (at, _) in frame.windows(2).enumerate().filter(|(_, pair)| *pair == b"\x1b[") {
        let digits: Vec<u8> = frame[at + 2..].iter().copied().take_while(u8::is_ascii_digit).collect();
        let after = frame.get(at + 2 + digits.len());
        if !digits.is_empty() && after == Some(&b';') {
            let rest = &frame[at + 3 + digits.len()..];
            let end = rest.iter().position(|byte| !byte.is_ascii_digit()).and_then(|end| rest.get(end));
            if end == Some(&b'H') {
                rows.insert(digits);
            }
        }
    }
    rows.len() > 2
}

#[cfg(test)]
mod tests {
    use super::changes_rows;

    #[test]
    fn a_frame_of_one_row_is_not_bracketed() {
        assert!(!changes_rows(b"\x1b[5;10Habc\x1b[5;20Hd\x1b[7;1H"));
        assert!(changes_rows(b"\x1b[5;10Habc\x1b[6;20Hd\x1b[7;1H"));
        assert!(!changes_rows(b"\x1b[38;5;1m\x1b[38;5;2m\x1b[38;5;3m"));
        assert!(!changes_rows(b""));
    }
}
