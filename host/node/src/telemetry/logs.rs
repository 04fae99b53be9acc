//! Log lines: to stderr, and to files under `logs/`, each through a bounded queue that drops lines rather than block a block maker: a
//! full disk or a pipe that nobody reads costs lines, no more.

use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use super::filter::{self, Filter, LogLevels};
use super::rolling::{RollAt, RollingFile};

/// Lines waiting for a writer, at most; about 2 MiB. Beyond it lines are dropped.
const QUEUED_LINES_MAX: usize = 16_384;

/// Where log lines go and which.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Which pass.
    pub levels: LogLevels,
    /// Directory of the files (`log.log_dir`) and when a new one begins; None: no files (`log.dump_file = false`).
    pub files: Option<(PathBuf, RollAt)>,
}

/// Which lines pass and when a file is full, changed while the node runs; clone it freely.
#[derive(Debug, Clone)]
pub struct LogControl {
    filter: Filter,
    at: Option<Arc<ArcSwap<RollAt>>>,
}

impl LogControl {
    /// Other levels from now on.
    pub fn set_levels(&self, levels: LogLevels) {
        self.filter.set(levels);
    }

    /// Files are begun by other measures from now on; without files it means nothing.
    pub fn set_rolling(&self, at: RollAt) {
        if let Some(known) = &self.at {
            known.store(Arc::new(at));
        }
    }
}

/// Writes out what waits when dropped, a second at most; lives as long as the process logs.
#[must_use]
pub struct LogGuard {
    _stderr: WorkerGuard,
    _file: Option<WorkerGuard>,
}

/// Logging that could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The directory or the file cannot be written.
    #[error("cannot write log files under {directory}: {source}")]
    Directory {
        /// As configured.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Logging was set up before in this process.
    #[error("logging is already set up")]
    Twice,
}

/// Sets up logging for the whole process.
///
/// # Errors
/// The log directory cannot be written, or logging was set up before.
pub fn start_logs(options: &LogOptions) -> Result<(LogGuard, LogControl), LogsError> {
    let (file_layer, guard, at) = match &options.files {
        None => (None, None, None),
        Some((directory, at)) => {
            let at = Arc::new(ArcSwap::from_pointee(*at));
            let file = RollingFile::open(directory, Arc::clone(&at)).map_err(|source| LogsError::Directory {
                directory: directory.clone(),
                source,
            })?;
            let (writer, guard) = queue("cvp-log", file);
            let layer = tracing_subscriber::fmt::layer()
                .event_format(PlatformLine)
                .with_ansi(false)
                .with_writer(writer);
            (Some(layer), Some(guard), Some(at))
        }
    };
    let (stderr, stderr_guard) = queue("cvp-stderr", std::io::stderr());
    let filter = Filter::new(options.levels.clone());
    let lines = tracing_subscriber::registry()
        .with(filter.clone())
        .with(
            tracing_subscriber::fmt::layer()
                .event_format(PlatformLine)
                .with_ansi(false)
                .with_writer(stderr),
        )
        .with(file_layer);
    tracing::subscriber::set_global_default(lines).map_err(|_| LogsError::Twice)?;
    take_libraries_lines().map_err(|_| LogsError::Twice)?;
    let guard = LogGuard {
        _stderr: stderr_guard,
        _file: guard,
    };
    Ok((guard, LogControl { filter, at }))
}

/// Lines of libraries that write by `log`: all have one target, so no module can ask for more of them than that something is wrong.
fn take_libraries_lines() -> Result<(), tracing_log::log::SetLoggerError> {
    tracing_log::LogTracer::builder()
        .with_max_level(tracing_log::log::LevelFilter::Warn)
        // Warns of each directory that is removed together with the watched one above it.
        .ignore_crate("notify")
        .init()
}

/// A thread of its own that writes lines to `to`, and the queue before it.
fn queue(thread: &str, to: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES_MAX)
        .lossy(true)
        .thread_name(thread)
        .finish(to)
}

/// One line: `2006-01-02T15:04:05.000 NOTICE cvp::module message field=value`.
struct PlatformLine;

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]");

impl<S, N> FormatEvent<S, N> for PlatformLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = OffsetDateTime::now_utc().to_offset(UtcOffset::UTC);
        let stamp = now.format(&TIME).map_err(|_| fmt::Error)?;
        let metadata = event.metadata();
        write!(
            writer,
            "{stamp} {} {} ",
            filter::word(metadata.level()),
            metadata.target()
        )?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        pub fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_time_platform_level_module_and_fields() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(PlatformLine)
            .with_ansi(false)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || tracing::info!(height = 7, "made block"));
        let text = sink.text();
        let expected = format!(" NOTICE {} made block height=7\n", module_path!());
        assert!(text.contains(&expected), "{text}");
        assert_eq!(text.as_bytes()[10], b'T');
    }
}
