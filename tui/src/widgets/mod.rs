//! Parts of screens.

pub mod ansi;
pub mod bars;
pub mod frame;
pub mod style;
