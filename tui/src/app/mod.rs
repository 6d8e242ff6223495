//! What the screens and commands know: state and how it changes, without a terminal.

pub mod actions;
pub mod arguments;
mod copy;
mod hearing;
pub mod listings;
pub mod model;
mod moving;
pub mod palette;
pub mod sensors;
pub mod tree;
pub mod update;
