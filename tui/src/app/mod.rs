//! What the screens and commands know: state and how it changes, without a terminal.

pub mod actions;
pub mod arguments;
pub mod model;
pub mod sensors;
pub mod tree;
pub mod update;
