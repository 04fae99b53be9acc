//! Injected crashes for tests: `CVP_TEST_CRASH_AT=<point>` aborts the process at one moment of a promotion or of a strong change. Said
//! loudly: no operator sets it by accident without being told.

/// Where to crash.
#[derive(Clone, Debug, Default)]
pub struct CrashPoint(Option<String>);

impl CrashPoint {
    /// From the environment.
    pub fn from_environment() -> CrashPoint {
        let point = std::env::var("CVP_TEST_CRASH_AT")
            .ok()
            .filter(|point| !point.is_empty());
        if let Some(point) = &point {
            tracing::warn!(%point, "CVP_TEST_CRASH_AT is set: this node will abort there");
        }
        CrashPoint(point)
    }

    /// Aborts if this is the point.
    pub fn at(&self, point: &str) {
        if self.0.as_deref() == Some(point) {
            tracing::error!(point, "abort on request of CVP_TEST_CRASH_AT");
            std::process::abort();
        }
    }
}
