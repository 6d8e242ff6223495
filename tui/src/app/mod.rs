//! What the screens and commands know: state and how it changes, without a terminal.

pub mod actions;
pub mod arguments;
mod copy;
pub mod listings;
pub mod model;
pub mod palette;
pub mod sensors;
pub mod tree;
pub mod update;
