//! What the ibid daemon and its clients both speak.
//!
//! [`model`] holds the words, [`protocol`] the messages, [`client`] the way to
//! the daemon, and [`paths`] where things lie.

pub mod client;
pub mod model;
pub mod paths;
pub mod protocol;
