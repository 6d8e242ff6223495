//! The daemon: decides, remembers, runs, and tells.
//!
//! A library with a thin program, so that tests can drive the engine and the
//! store without processes. [`engine`] decides, [`store`] remembers,
//! [`workers`] does, [`server`] hears and tells; [`owner`] joins them.

pub mod config;
pub mod engine;
pub mod own_process;
pub mod owner;
pub mod server;
pub mod store;
pub mod workers;
