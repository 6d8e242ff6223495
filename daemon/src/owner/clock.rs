//! The time of day, and whether somebody has set it.

use std::time::{SystemTime, UNIX_EPOCH};

use ibid::model::Timestamp;

/// Apart by more than this within one reading, the clock was set, milliseconds.
const SET_BY_MIN: i64 = 1000;

/// The clock: milliseconds since 1970, UTC.
#[must_use]
pub fn now() -> Timestamp {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::try_from(passed.as_millis()).unwrap_or(Timestamp::MAX)
}

/// Milliseconds since the machine was started, its sleep included; nobody can set them.
fn since_boot() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// Compares the time of day with the time since boot.
pub(super) struct Clock {
    day: Timestamp,
    boot: i64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { day: now(), boot: since_boot() }
    }

    /// The time of day, and by how much it was set since the last reading.
    pub(super) fn read(&mut self) -> (Timestamp, Option<i64>) {
        let (day, boot) = (now(), since_boot());
        let by = set_by((self.day, self.boot), (day, boot));
        (self.day, self.boot) = (day, boot);
        (day, by)
    }
}

fn set_by(before: (Timestamp, i64), after: (Timestamp, i64)) -> Option<i64> {
    let by = (after.0 - before.0) - (after.1 - before.1);
    (by.abs() > SET_BY_MIN).then_some(by)
}

#[cfg(test)]
mod tests {
    use super::set_by;

    #[test]
    fn time_that_passes_or_is_slept_through_is_not_a_clock_that_was_set() {
        assert_eq!(set_by((1_000, 50), (8_000_000, 7_999_050)), None);
        assert_eq!(set_by((1_000_000, 50), (1_000_500, 100)), None);
    }

    #[test]
    fn a_clock_set_back_or_forward_is_noticed_with_by_how_much() {
        assert_eq!(set_by((10_000_000, 50), (6_400_100, 150)), Some(-3_600_000));
        assert_eq!(set_by((10_000_000, 50), (13_600_100, 150)), Some(3_600_000));
    }
}
