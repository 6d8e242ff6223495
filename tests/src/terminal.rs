//! A real pseudo-terminal with a screen parser at its other end.

use std::io::{Read, Write};
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use crate::home::{Home, binaries, eventually};

/// The terminal client in a terminal.
pub struct Terminal {
    parser: Arc<Mutex<vt100::Parser>>,
    written: Arc<Mutex<Vec<u8>>>,
    /// Ends when the program has closed its side.
    reader: std::thread::JoinHandle<()>,
    input: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
}

/// What stands at the end of a frame.
const MARK: &[u8] = b"\x1b]7777;frame\x07";

fn at_least_one(number: u16) -> NonZero<u16> {
    NonZero::new(number).unwrap_or(NonZero::<u16>::MIN)
}

impl Terminal {
    /// Opens `ibid` with arguments in a terminal of a size.
    ///
    /// # Panics
    /// Where the system gives no pseudo-terminal.
    #[must_use]
    pub fn open(home: &Home, columns: u16, rows: u16, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap_or_else(|error| panic!("no terminal: {error}"));
        let mut command = CommandBuilder::new(binaries().join("ibid"));
        command.args(arguments);
        command.cwd(home.path());
        command.env("IBID_DATA_DIR", home.data());
        command.env("IBID_SOCKET", home.socket());
        command.env("MARKS", home.path().join("marks"));
        command.env("TERM", "xterm-256color");
        command.env("LANG", "C.UTF-8");
        command.env_remove("XDG_RUNTIME_DIR");
        command.env_remove("NO_COLOR");
        for (name, value) in variables {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap_or_else(|error| panic!("ibid does not start: {error}"));
        drop(pair.slave);
        let mut output = pair.master.try_clone_reader().unwrap_or_else(|error| panic!("{error}"));
        let input = pair.master.take_writer().unwrap_or_else(|error| panic!("{error}"));
        let parser = Arc::new(Mutex::new(vt100::Parser::new(at_least_one(rows), at_least_one(columns), 0)));
        let screen = parser.clone();
        let written: Arc<Mutex<Vec<u8>>> = Arc::default();
        let all = written.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(read) = output.read(&mut buffer) {
                if read == 0 {
                    return;
                }
                all.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
                screen.lock().unwrap_or_else(PoisonError::into_inner).process(&buffer[..read]);
            }
        });
        Self { parser, written, reader, input, child, master: pair.master }
    }

    /// What the screen shows, line by line.
    #[must_use]
    pub fn screen(&self) -> String {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Whether the program has sent a text to the terminal, escape sequences and all.
    #[must_use]
    pub fn has_sent(&self, text: &str) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// How many bytes it has sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many frames it has sent; only where it was started with `IBID_FRAME_MARKS`.
    #[must_use]
    pub fn frames(&self) -> usize {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.windows(MARK.len()).filter(|part| *part == MARK).count()
    }

    /// Forgets what it has sent so far; the screen stays.
    pub fn forget_sent(&self) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Presses keys and says how long it takes until the screen is as it should be. `None` where it is not
    /// within ten seconds.
    pub fn timed(&mut self, keys: &str, mut fits: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let begun = std::time::Instant::now();
        self.press(keys);
        while begun.elapsed() < Duration::from_secs(10) {
            if fits(self) {
                return Some(begun.elapsed());
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        None
    }

    /// Gives it another size.
    ///
    /// # Panics
    /// Where the system does not.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        // Nothing that is drawn for the new size may be read at the old one.
        let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        parser.screen_mut().set_size(at_least_one(rows), at_least_one(columns));
        self.master.resize(size).unwrap_or_else(|error| panic!("{error}"));
    }

    /// The screen with its colours and emphasis, as the terminal would be sent it.
    #[must_use]
    pub fn formatted(&self) -> String {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner).screen().contents_formatted()
    }

    /// Whether the program is on the alternate screen.
    #[must_use]
    pub fn on_alternate_screen(&self) -> bool {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner).screen().alternate_screen()
    }

    /// Types keys.
    ///
    /// # Panics
    /// Where the program is gone.
    pub fn press(&mut self, keys: &str) {
        let typed = self.input.write_all(keys.as_bytes()).and_then(|()| self.input.flush());
        assert!(typed.is_ok(), "the program is gone:\n{}", self.screen());
    }

    /// Waits until the screen shows something.
    ///
    /// # Panics
    /// Where it never does, with what it shows instead.
    #[track_caller]
    pub fn wait_for(&self, what: &str) -> String {
        self.wait_until(what, |screen| screen.contains(what))
    }

    /// Waits until the screen is as it should be.
    ///
    /// # Panics
    /// Where it never is, with what it shows instead.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut fits: impl FnMut(&str) -> bool) -> String {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let screen = self.screen();
            if fits(&screen) {
                return screen;
            }
            assert!(std::time::Instant::now() < deadline, "the screen never shows {what}:\n{screen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the program has ended, and returns its exit code.
    pub fn ended(&mut self) -> u32 {
        let child = &mut self.child;
        let code = eventually("the program ends", Duration::from_secs(10), || child.try_wait().ok().flatten());
        // What it wrote last may still be on its way.
        eventually("its last words are read", Duration::from_secs(10), || self.reader.is_finished().then_some(()));
        code.exit_code()
    }

    /// The terminal's name, e.g. `/dev/pts/3`.
    #[must_use]
    pub fn name(&self) -> String {
        self.master.tty_name().map(|name| name.display().to_string()).unwrap_or_default()
    }

    /// The program's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap_or(0)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
