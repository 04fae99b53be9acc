//! The platform's six log levels and how they map onto tracing's five.

use std::str::FromStr;

use tracing::level_filters::LevelFilter;

/// A log level as `log.log_level` and `log.module.*` spell it (any case).
///
/// NOTICE, the platform's default, is our `info!`: what an operator wants to see. INFO is our `debug!`, DEBUG our `trace!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Debug,
    /// What helps to follow a session or a block.
    Info,
    /// What an operator wants to see; the default.
    Notice,
    /// What may need attention.
    Warning,
    /// What failed.
    Error,
    /// As ERROR: tracing has no level above it.
    Critical,
}

/// A word that is none of the six levels.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log level {0:?} is none of DEBUG, INFO, NOTICE, WARNING, ERROR, CRITICAL")]
pub struct UnknownLevel(pub String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        Ok(match word.to_ascii_uppercase().as_str() {
            "DEBUG" => Level::Debug,
            "INFO" => Level::Info,
            "NOTICE" => Level::Notice,
            "WARNING" | "WARN" => Level::Warning,
            "ERROR" => Level::Error,
            "CRITICAL" => Level::Critical,
            _ => return Err(UnknownLevel(word.chars().take(40).collect())),
        })
    }
}

impl Level {
    /// The filter that lets this level and everything above it pass.
    pub fn filter(self) -> LevelFilter {
        match self {
            Level::Debug => LevelFilter::TRACE,
            Level::Info => LevelFilter::DEBUG,
            Level::Notice => LevelFilter::INFO,
            Level::Warning => LevelFilter::WARN,
            Level::Error | Level::Critical => LevelFilter::ERROR,
        }
    }

    /// The word a line of tracing's `level` is printed with.
    pub fn word(level: &tracing::Level) -> &'static str {
        match *level {
            tracing::Level::TRACE => "DEBUG",
            tracing::Level::DEBUG => "INFO",
            tracing::Level::INFO => "NOTICE",
            tracing::Level::WARN => "WARNING",
            tracing::Level::ERROR => "ERROR",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_case_and_unknown_ones_named() {
        assert_eq!("notice".parse::<Level>().unwrap(), Level::Notice);
        assert_eq!("CRITICAL".parse::<Level>().unwrap().filter(), LevelFilter::ERROR);
        assert!("loud".parse::<Level>().unwrap_err().to_string().contains("\"loud\""));
    }

    #[test]
    fn the_default_level_lets_info_pass_and_debug_not() {
        let filter = Level::Notice.filter();
        assert!(tracing::Level::INFO <= filter && tracing::Level::DEBUG > filter);
    }
}
