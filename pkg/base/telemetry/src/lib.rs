//! Logs and metrics. All crates except `edgek-api` may use this crate; `cmd/edgek` sets the log up.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod log;
pub mod metrics;

use std::error::Error;
use std::fmt::{self, Display};

/// Shows an error with all its sources, `outer: middle: inner`; the one way errors are put into the log.
///
/// No error of edgek repeats its source in its own text, so nothing is said twice.
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}
