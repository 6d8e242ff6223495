//! What the terminal client shows and does, without a terminal: a model, what changes it, and what it
//! asks of the daemon.

pub mod actions;
pub mod arguments;
mod changing;
mod copy;
pub mod form;
pub mod graph;
mod hearing;
pub mod keymap;
pub mod listings;
pub mod model;
mod moving;
mod opening;
mod overlays;
pub mod palette;
pub mod remembered;
pub mod sensors;
pub mod steps;
mod update;
pub mod window;
