//! ibidd
fn main() {}
