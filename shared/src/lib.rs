//! What the ibid daemon and its clients both speak.

pub mod model;
