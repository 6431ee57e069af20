//! Waiting for a time of the system clock, which people and time services set. Called where something expires.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits until the system clock shows `time`, or a later time because it was set.
///
/// # Errors
/// When the process has no file descriptor left.
pub async fn until(time: SystemTime) -> io::Result<()> {
    // Zero would mean never.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().max(Duration::from_nanos(1));
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_REALTIME, flags)?;
    let at = Expiration::OneShot(TimeSpec::from_duration(since));
    timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    #[expect(deprecated, reason = "its successor is unsafe; an owned descriptor is what both ask for")]
    let timer = AsyncFd::with_interest(OwnedFd::from(timer), Interest::READABLE)?;
    timer.readable().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_time_that_is_over_is_not_waited_for_and_another_is() {
        until(UNIX_EPOCH).await.unwrap();
        let soon = SystemTime::now() + Duration::from_millis(50);
        until(soon).await.unwrap();
        assert!(SystemTime::now() >= soon);
    }
}
