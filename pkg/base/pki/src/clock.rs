//! The time that certificates are made with: the system clock, but never before this release was made.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 of 2026-11-01, when this release line began: no correct clock shows less.
const FLOOR: u64 = 1_793_491_200;

/// The earliest time that can be true.
pub fn floor() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(FLOOR)
}

/// The system time, or [`floor`] when the clock is behind it (a board that has not learnt the time yet).
pub fn now() -> SystemTime {
    plausible(SystemTime::now())
}

fn plausible(shown: SystemTime) -> SystemTime {
    shown.max(floor())
}

/// Whether the system clock shows a time that cannot be true.
pub fn is_wrong() -> bool {
    SystemTime::now() < floor()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_1970_is_not_believed_and_a_later_one_is() {
        assert_eq!(plausible(UNIX_EPOCH), floor());
        let later = floor() + Duration::from_secs(1);
        assert_eq!(plausible(later), later);
    }
}
