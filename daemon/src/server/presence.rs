//! Notices when the socket's file or the data directory is taken away.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

/// What is not where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Nobody can connect any more; another socket can be bound there.
    Socket,
    /// Nothing more can be kept.
    Data,
}

/// A watch over both. It costs nothing while nothing happens to them.
pub struct Presence {
    /// Not a pipe, but read like one.
    events: Receiver,
    data: Place,
    /// `None` where somebody else cares for it.
    socket: Option<Place>,
}

/// A path, and what was there.
struct Place {
    path: PathBuf,
    inode: (u64, u64),
}

impl Place {
    fn new(path: &Path) -> std::io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode(path)? })
    }

    fn is_there(&self) -> bool {
        inode(&self.path).is_ok_and(|inode| inode == self.inode)
    }
}

fn inode(path: &Path) -> std::io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Presence {
    /// Begins to watch.
    ///
    /// # Errors
    /// Where the system does not let them be watched, or they are gone already.
    pub fn watch(data: &Path, socket: Option<&Path>) -> std::io::Result<Self> {
        let events = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        // The name of an open file that is removed changes its attributes.
        let changes = WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::DONT_FOLLOW;
        for path in [Some(data), socket].into_iter().flatten() {
            add_watch(&events, path, changes)?;
        }
        let places = (Place::new(data)?, socket.map(Place::new).transpose()?);
        Ok(Self { events: Receiver::from_file_unchecked(File::from(events))?, data: places.0, socket: places.1 })
    }

    /// Waits until one of them is gone.
    pub async fn lost(&mut self) -> Gone {
        let mut buffer = [0; 4096];
        loop {
            if !self.data.is_there() {
                return Gone::Data;
            }
            if self.socket.as_ref().is_some_and(|socket| !socket.is_there()) {
                return Gone::Socket;
            }
            // What happened is looked for above; the events only say when to look.
            if self.events.read(&mut buffer).await.is_err() {
                // Nothing more is noticed.
                return std::future::pending().await;
            }
        }
    }
}
