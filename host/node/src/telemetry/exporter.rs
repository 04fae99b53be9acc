//! The Prometheus page on `metrics.port`.

use std::net::SocketAddr;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder};
use tracing::warn;

use super::{counters, pair};

/// The page could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// Registry or address did not work.
    #[error("cannot serve metrics on {address}: {source}")]
    Build {
        /// `metrics.port` on the address asked for.
        address: SocketAddr,
        /// What the exporter said.
        source: BuildError,
    },
}

/// Installs the registry and serves it over HTTP at `address` until the runtime ends. Call within a tokio runtime.
///
/// # Errors
/// The address is taken or a registry is installed already. It costs the page only: callers log it and go on.
pub fn serve_metrics(address: SocketAddr) -> Result<(), ExporterError> {
    let failed = |source| ExporterError::Build { address, source };
    let (recorder, page) = PrometheusBuilder::new()
        .with_http_listener(address)
        .build()
        .map_err(failed)?;
    metrics::set_global_recorder(recorder).map_err(|error| failed(BuildError::FailedToSetGlobalRecorder(error)))?;
    counters::describe();
    pair::describe();
    tokio::spawn(async move {
        if let Err(error) = page.await {
            warn!(%address, ?error, "metrics are not served");
        }
    });
    Ok(())
}
