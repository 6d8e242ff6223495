//! A log as a plain stream on the terminal's own screen, where it can be scrolled, selected and copied.

use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use ibid::model::ExecutionId;

/// The log of an execution, followed by the command that does that, until this is dropped.
pub struct Stream {
    child: Child,
    ended: Arc<AtomicBool>,
    printing: Option<JoinHandle<()>>,
}

impl Stream {
    /// Opens it. Keys still come one by one, so lines end with a return, too.
    pub fn open(execution: ExecutionId, data: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--no-start", "logs", "--follow", &execution.to_string()]);
        command.env("IBID_DATA_DIR", data);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let ended = Arc::new(AtomicBool::new(false));
        let Some(out) = child.stdout.take() else { return Ok(Self { child, ended, printing: None }) };
        write!(stdout(), "log of {execution}; any key goes back\r\n")?;
        let stop = ended.clone();
        let printing = std::thread::spawn(move || {
            let mut lines = BufReader::new(out).lines();
            while let Some(Ok(line)) = lines.next() {
                if stop.load(Ordering::Acquire) || write!(stdout(), "{line}\r\n").is_err() {
                    return;
                }
            }
            if stop.load(Ordering::Acquire) {
                return;
            }
            let _gone = write!(stdout(), "(end of the log of {execution}; any key goes back)\r\n");
            let _gone = stdout().flush();
        });
        Ok(Self { child, ended, printing: Some(printing) })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // It may have ended already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        // Nothing more is printed once the screens are back.
        let _panicked = self.printing.take().map(JoinHandle::join);
    }
}
