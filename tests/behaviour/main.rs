//! ibid from outside: the real binaries, a real socket, a real Python, a real terminal.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod commands;
mod crash;
mod fibonacci;
mod lifecycle;
mod python;
mod source_page;
mod terminal;
