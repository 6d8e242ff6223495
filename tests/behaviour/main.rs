//! ibid from outside: the real binaries, a real socket, a real Python, a real terminal.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_input;
mod clock;
mod commands;
mod compile;
mod crash;
mod damage;
mod environments;
mod exec;
mod faults;
mod fibonacci;
mod hostile;
mod large_values;
mod lifecycle;
mod limits;
mod logs;
mod options;
mod protocol_text;
mod pruning;
mod python;
mod reasons;
mod rust_caching;
mod rust_tasks;
mod screens;
mod sensors;
mod service;
mod shell_tasks;
mod source_page;
mod stubs;
mod terminal;
mod upgrades;
