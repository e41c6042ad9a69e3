//! Log lines on standard error, one each: with the time for people, with a priority for journald.
//! Only the control thread and the start log; the realtime threads hand over notes.

use std::fmt;
use std::os::fd::AsFd as _;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::moment;

/// Environment variable that chooses what is logged, as `debug` or `xbeat=trace`.
pub const FILTER: &str = "XBEAT_LOG";

/// Starts logging. A second call changes nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new("info"));
    let line = Line { journal: to_journal() };
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .event_format(line)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Whether standard error is the journal's socket, by systemd's rule: `JOURNAL_STREAM` is its device and inode.
fn to_journal() -> bool {
    let Ok(expected) = std::env::var("JOURNAL_STREAM") else { return false };
    let found = nix::sys::stat::fstat(std::io::stderr().as_fd());
    found.is_ok_and(|stat| format!("{}:{}", stat.st_dev, stat.st_ino) == expected)
}

struct Line {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            write!(out, "<{}>", priority(level))?;
        } else {
            write!(out, "{} {level:<5} ", moment::utc_now())?;
        }
        if let Some(scope) = context.event_scope() {
            for span in scope.from_root() {
                let extensions = span.extensions();
                let fields = extensions.get::<FormattedFields<N>>().map_or("", |fields| fields.as_str());
                write!(out, "{}{{{fields}}}: ", span.name())?;
            }
        }
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// syslog(3)'s number.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
