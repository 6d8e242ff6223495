//! The daemon: decides, remembers, runs, and tells.
//!
//! A library with a thin program, so that tests can drive the engine and the
//! store without processes.

pub mod engine;
pub mod store;
