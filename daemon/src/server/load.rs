//! How much all connections together may keep in memory.

use std::cell::Cell;
use std::rc::Rc;

/// Over all connections: unfinished messages of clients, and answers that they have not read yet, bytes.
pub const LOAD_MAX_BYTES: usize = 256 * 1024 * 1024;

/// What one connection may always have, however much the others do, bytes.
const SMALL: usize = 64 * 1024;

/// What all connections have in memory.
#[derive(Debug, Default)]
pub struct Load {
    bytes: Cell<usize>,
}

/// The part of it that one of them has in one direction.
#[derive(Debug)]
pub struct Share {
    load: Rc<Load>,
    bytes: Cell<usize>,
}

impl Share {
    /// None yet.
    #[must_use]
    pub const fn new(load: Rc<Load>) -> Self {
        Self { load, bytes: Cell::new(0) }
    }

    /// Notes how much it has now. Says whether it may: where all have too much, only small ones may.
    #[must_use]
    pub fn set(&self, bytes: usize) -> bool {
        let all = self.load.bytes.get() - self.bytes.replace(bytes) + bytes;
        self.load.bytes.set(all);
        bytes <= SMALL || all <= LOAD_MAX_BYTES
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.load.bytes.set(self.load.bytes.get() - self.bytes.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_over_the_bound_of_all_is_refused_and_small_ones_are_not() {
        let load = Rc::new(Load::default());
        let [large, other, small] = [(); 3].map(|()| Share::new(load.clone()));
        assert!(large.set(LOAD_MAX_BYTES - SMALL));
        assert!(!other.set(2 * SMALL));
        assert!(small.set(SMALL));
        drop(large);
        assert!(other.set(3 * SMALL));
        drop((other, small));
        assert_eq!(load.bytes.get(), 0);
    }
}
