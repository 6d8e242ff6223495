//! The socket: only this user's programs get in.

use std::fs::Permissions;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::StreamCommon as _;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use interprocess::os::unix::local_socket::ListenerOptionsExt as _;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {}: {source}", .path.display())]
pub struct BindError {
    /// The socket.
    pub path: PathBuf,
    /// What the system said.
    pub source: std::io::Error,
}

/// A bound socket.
pub struct Socket {
    listener: Listener,
}

impl Socket {
    /// Binds the socket. The caller holds the store's lock, so a file left there by a daemon that
    /// was killed belongs to nobody; one on which another daemon answers is left alone.
    ///
    /// # Errors
    /// Where the path cannot be bound or is in use.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError { path: path.to_owned(), source };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            let text = "another daemon, with another data directory, answers there; choose another --socket";
            return Err(failed(std::io::Error::new(std::io::ErrorKind::AddrInUse, text)));
        }
        let listener = ListenerOptions::new()
            .name(path.to_fs_name::<GenericFilePath>().map_err(failed)?)
            .mode(0o600)
            .try_overwrite(true)
            .create_tokio()
            .map_err(failed)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener })
    }

    /// Takes a socket that was bound before this program started (socket activation).
    ///
    /// # Errors
    /// Where it is no listening socket.
    pub fn inherited(descriptor: OwnedFd) -> Result<Self, BindError> {
        let listener = interprocess::os::unix::uds_local_socket::tokio::Listener::try_from(descriptor);
        let listener = listener.map_err(|error| BindError {
            path: PathBuf::from("the socket handed over"),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(Self { listener: Listener::UdSocket(listener) })
    }

    /// The next connection of this user; others are closed at once.
    ///
    /// # Errors
    /// Where the system cannot accept any more for now.
    pub async fn accept(&self) -> std::io::Result<Stream> {
        loop {
            let stream = self.listener.accept().await?;
            let own = rustix::process::geteuid().as_raw();
            match stream.peer_creds()?.euid() {
                Some(peer) if peer == own => return Ok(stream),
                peer => eprintln!("ibidd: refused a connection of user {peer:?}: this daemon serves user {own} only"),
            }
        }
    }
}
