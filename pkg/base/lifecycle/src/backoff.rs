//! Exponential back-off with jitter, for whoever retries something outside the process.

use std::time::Duration;

/// Doubling delays from `first` up to `max`, each shortened by up to a quarter so that many nodes do not retry
/// in step.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    seed: u64,
}

impl Backoff {
    /// A back-off whose first delay is about `first` and whose delays never exceed `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        // The address-space layout and the clock differ between processes; nothing here needs real randomness.
        let clock =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos());
        Self { first, max, next: first, seed: (clock as u64) | 1 }
    }

    /// The delay to wait before the next attempt; doubles the one after it.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (self.next * 2).min(self.max);
        // xorshift64
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let quarter = delay / 4;
        delay - quarter.mul_f64((self.seed % 1000) as f64 / 1000.0)
    }

    /// Waits for [`Self::next_delay`].
    pub async fn wait(&mut self) {
        let delay = self.next_delay();
        crate::sleep(delay).await;
    }

    /// Starts over from the first delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(4));
        for full in [1, 2, 4, 4] {
            let full = Duration::from_secs(full);
            let delay = backoff.next_delay();
            assert!(delay <= full && delay >= full * 3 / 4, "{delay:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_secs(1));
    }
}
