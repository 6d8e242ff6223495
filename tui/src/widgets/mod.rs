//! Parts of screens.
