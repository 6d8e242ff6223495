//! Parts of screens.

pub mod bars;
pub mod frame;
pub mod style;
