//! The terminal: taken over, and given back on every way out.

use std::io::{Stdout, Write as _, stdout};
use std::sync::Once;

use crossterm::clipboard::CopyToClipboard;
use crossterm::event::DisableBracketedPaste;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::draw;
use crate::app::model::Model;

/// Holds the terminal in raw mode and on the other screen for as long as it lives.
pub struct Guard {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Guard {
    pub fn enter() -> std::io::Result<Self> {
        give_back_on_panic();
        enter()?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(stdout()))? })
    }

    pub fn size(&self) -> std::io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    pub fn draw(&mut self, model: &Model) -> std::io::Result<()> {
        self.terminal.draw(|frame| draw::draw(frame, model))?;
        Ok(())
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
        self.terminal.clear()
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
    let _gone = execute!(stdout(), DisableBracketedPaste, LeaveAlternateScreen, cursor::Show);
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
