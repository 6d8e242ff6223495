//! The way to the daemon: connect, call, listen, and start it if none answers.

mod connection;
mod published;
mod recording;
mod start;

pub use connection::{Client, Listener, Sender};
pub use published::{PUBLISHED_MAX_BYTES, Place, PublishedResult, Taken, clear_published};
pub use recording::{CommandEnd, CommandStream, Recorded, RecordingReader, read_command};
pub use start::{Start, connect_or_start, daemon_program, start_daemon};

use std::path::PathBuf;

use crate::protocol::Refused;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error("no daemon answers at {}: start one with 'ibid daemon start'", .0.display())]
    NoDaemon(PathBuf),
    /// The socket is there but cannot be used.
    #[error("cannot connect to {}: {source}", .path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The daemon could not be started.
    #[error("{0}")]
    Start(String),
    /// The other side speaks another version.
    #[error(
        "the daemon speaks protocol version {daemon} and this program {own}: {}",
        if daemon < own { "restart the daemon with 'ibid daemon restart'" } else { "upgrade this program" }
    )]
    Version {
        /// The daemon's.
        daemon: u16,
        /// This program's.
        own: u16,
    },
    /// The connection ended in the middle.
    #[error("the connection to the daemon was lost: {0}")]
    Lost(String),
    /// The daemon refused.
    #[error("{0}")]
    Refused(#[from] Refused),
}

impl ClientError {
    /// Whether trying again later can help: nobody answers, or the connection broke.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NoDaemon(_) | Self::Connect { .. } | Self::Lost(_))
    }
}
