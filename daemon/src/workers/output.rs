//! What executors write to their standard output and error, through FIFOs.
//!
//! A FIFO rather than a socket, because programs open `/dev/stdout` by name;
//! a FIFO rather than a pipe, because executors are forked by their template,
//! which no descriptor of the daemon's can reach.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::net::unix::pipe::{OpenOptions, Receiver};
use tokio::task::AbortHandle;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out = 0,
    /// Standard error.
    Err = 1,
}

/// The reading end of one FIFO.
#[derive(Debug)]
pub struct Output {
    receiver: Receiver,
    path: PathBuf,
}

/// The tasks that read a worker's outputs; they end when this is dropped.
#[derive(Debug)]
pub struct Readers([AbortHandle; 2]);

impl Readers {
    /// Holds the tasks.
    #[must_use]
    pub const fn new(tasks: [AbortHandle; 2]) -> Self {
        Self(tasks)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// Makes a FIFO and opens it for reading. It is removed by [`Output::forget_name`] or on drop.
///
/// # Errors
/// Where the file system does not allow it.
pub fn open(path: &Path) -> std::io::Result<Output> {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    // Opened for both ways there is never an end of file while writers come and go.
    let receiver = OpenOptions::new().read_write(true).open_receiver(path)?;
    Ok(Output { receiver, path: path.to_owned() })
}

impl Output {
    /// Waits until there is something to read.
    ///
    /// # Errors
    /// Where the system says so.
    pub async fn readable(&self) -> std::io::Result<()> {
        self.receiver.readable().await
    }

    /// Reads what is there after [`Output::readable`]; `None` where that is all.
    #[must_use]
    pub fn try_read(&self, buffer: &mut [u8]) -> Option<usize> {
        self.receiver.try_read(buffer).ok().filter(|read| *read > 0)
    }

    /// Reads what is there at this moment, also where nobody was told yet that there is something.
    #[must_use]
    pub fn read_now(&self, buffer: &mut [u8]) -> Option<usize> {
        rustix::io::read(&self.receiver, buffer).ok().filter(|read| *read > 0)
    }

    /// Both ends are open: the name is needed no more.
    pub fn forget_name(&self) {
        // It may have been removed already.
        let _gone = std::fs::remove_file(&self.path);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.forget_name();
    }
}
