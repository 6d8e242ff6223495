//! What the screens and commands know: state and how it changes, without a terminal.

pub mod arguments;
pub mod tree;
