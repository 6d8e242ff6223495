//! ibid from outside: the real binaries, a real socket, a real Python, a real terminal.

mod bad_input;
mod commands;
mod crash;
mod fibonacci;
mod lifecycle;
mod python;
mod source_page;
mod terminal;
