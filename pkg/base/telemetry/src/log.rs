//! The log: text for people and journald, JSON for collectors; both on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// What other people's crates may say unless the filter names them.
const QUIET: &str = "nlink=error";

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `2026-11-01T10:00:00.000000Z  INFO node ready name=n1`
    #[default]
    Text,
    /// Text without the time, which journald adds itself.
    Journald,
    /// One JSON object a line.
    Json,
}

/// Starts the log of the process. `filter` is `info`, `debug`, or per crate as in `info,edgek_node_kubelet=debug`.
///
/// # Errors
/// The text names the part of `filter` that is wrong.
pub fn init(format: Format, filter: &str) -> Result<(), String> {
    // The netlink library warns of answers that its callers expect, such as that a device is already gone.
    let directives = format!("{QUIET},{filter}");
    let filter = EnvFilter::try_new(directives).map_err(|error| format!("log level {filter:?}: {error}"))?;
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let done = match format {
        Format::Text => builder.with_ansi(false).with_timer(Time).try_init(),
        Format::Journald => builder.with_ansi(false).without_time().try_init(),
        Format::Json => builder.json().flatten_event(true).with_timer(Time).try_init(),
    };
    done.map_err(|error| error.to_string())
}

struct Time;

impl FormatTime for Time {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        SystemTime.format_time(writer)
    }
}
