//! A log as a plain stream on the terminal's own screen, where it can be scrolled, selected and copied.

use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ibid::model::ExecutionId;

/// The log of an execution, followed by the command that does that, until this is dropped.
pub struct Stream {
    child: Child,
}

impl Stream {
    /// Opens it. Keys still come one by one, so lines end with a return, too.
    pub fn open(execution: ExecutionId, data: &Path) -> std::io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--no-start", "logs", "--follow", &execution.to_string()]);
        command.env("IBID_DATA_DIR", data);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let Some(out) = child.stdout.take() else { return Ok(Self { child }) };
        write!(stdout(), "log of {execution}; any key goes back\r\n")?;
        std::thread::spawn(move || {
            let mut lines = BufReader::new(out).lines();
            // When the screen comes back the command is ended, and with it this.
            while let Some(Ok(line)) = lines.next() {
                if write!(stdout(), "{line}\r\n").is_err() {
                    return;
                }
            }
            let _gone = write!(stdout(), "(end of the log of {execution}; any key goes back)\r\n");
            let _gone = stdout().flush();
        });
        Ok(Self { child })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
