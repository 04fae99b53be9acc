//! Injected crashes for tests: `CVP_TEST_CRASH_AT=<point>` aborts the process at one moment of a promotion or of a strong change,
//! `CVP_TEST_PAUSE_AT=<point>` lets it wait there for half a second. Said loudly: no operator sets it by accident without being told.

use std::time::Duration;

/// So long is a pause.
const PAUSE: Duration = Duration::from_millis(500);

/// Where to crash, and where to wait.
#[derive(Clone, Debug, Default)]
pub struct CrashPoint {
    crash: Option<String>,
    pause: Option<String>,
}

impl CrashPoint {
    /// From the environment.
    pub fn from_environment() -> CrashPoint {
        let named = |variable: &str| std::env::var(variable).ok().filter(|point| !point.is_empty());
        let (crash, pause) = (named("CVP_TEST_CRASH_AT"), named("CVP_TEST_PAUSE_AT"));
        if let Some(point) = &crash {
            tracing::warn!(%point, "CVP_TEST_CRASH_AT is set: this node will abort there");
        }
        if let Some(point) = &pause {
            tracing::warn!(%point, "CVP_TEST_PAUSE_AT is set: this node will wait there");
        }
        CrashPoint { crash, pause }
    }

    /// Aborts or waits if this is the point.
    pub fn at(&self, point: &str) {
        if self.pause.as_deref() == Some(point) {
            // The test is about what happens meanwhile.
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(PAUSE);
        }
        if self.crash.as_deref() == Some(point) {
            tracing::error!(point, "abort on request of CVP_TEST_CRASH_AT");
            std::process::abort();
        }
    }
}
