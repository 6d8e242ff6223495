//! What the tests share: the real binaries, a home of its own for each test, clients, a terminal.

pub mod driver;
pub mod filled;
pub mod home;
pub mod protocol;
mod pythons;
pub mod terminal;
pub mod worker;

pub use home::{Daemon, Home, binaries, eventually};
pub use protocol::JsonClient;
pub use pythons::{Python, pythons};
