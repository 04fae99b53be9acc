//! Signature checks beside block making: a fixed number of threads, a bounded amount of transactions waiting for them.

use std::pin::Pin;
use std::sync::Arc;

use cvp_core::chain::{self, Invalid, Request, Transaction};
use cvp_core::types::{Hostname, Namespace};
use tokio::sync::{Semaphore, oneshot};

use super::SubmitError;

/// What may wait for the verifier threads, KiB of requests: bounds the memory, and is far more than one batch of the largest size, so
/// that a client alone is never told "busy".
const WAITING_KIB_MAX: usize = 64 << 10;
/// What one request counts beside its texts, KiB.
const REQUEST_KIB: usize = 1;

/// The verifier threads, shared by all namespaces. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    threads: Arc<rayon::ThreadPool>,
    slots: Arc<Semaphore>,
}

impl Verifier {
    /// Starts `threads` threads (at least one).
    ///
    /// # Errors
    /// The system gave no thread.
    pub fn start(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let count = threads.max(1);
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|index| format!("cvp-verify-{index}"))
            .build()?;
        Ok(Self {
            threads: Arc::new(threads),
            slots: Arc::new(Semaphore::new(WAITING_KIB_MAX)),
        })
    }

    /// Checks the signature of `request` on one of the threads.
    ///
    /// # Errors
    /// Busy when too many wait; the code of the check that failed otherwise.
    pub async fn verify(&self, request: Request, node_version: &'static str) -> Result<Transaction, SubmitError> {
        let slot = Arc::clone(&self.slots)
            .try_acquire_many_owned(weight(&request))
            .map_err(|_| SubmitError::busy())?;
        let (answer, answered) = oneshot::channel::<Result<Transaction, Invalid>>();
        self.threads.spawn(move || {
            // A panic in here drops `answer`; the submitter sees that as an internal fault and the thread lives on.
            let checked = std::panic::catch_unwind(|| chain::verify(&request, node_version));
            if let Ok(checked) = checked {
                let _ = answer.send(checked);
            }
            drop(slot);
        });
        match answered.await {
            Ok(checked) => checked.map_err(|invalid| SubmitError {
                code: invalid.code,
                message: invalid.message,
            }),
            Err(_) => Err(SubmitError {
                code: -32000,
                message: "the signature check failed on this node".to_owned(),
            }),
        }
    }
}

/// The way of a transaction to the node that makes the blocks, while this one follows it.
pub trait Onward: Send + Sync {
    /// The node that makes the blocks, if it is heard now.
    fn reaches(&self, namespace: &Namespace) -> Option<Hostname>;

    /// Passes a transaction on that was checked here, as the client sent it; answers its hash.
    ///
    /// # Errors
    /// What that node says; -32024 when nobody answers.
    fn pass_on<'a>(
        &'a self,
        namespace: &'a Namespace,
        transaction: &'a serde_json::Value,
    ) -> Pin<Box<dyn Future<Output = Result<[u8; 32], SubmitError>> + Send + 'a>>;
}

/// Permits that a request takes while it waits. One larger than everything that may wait takes all there is, and so gets its turn.
fn weight(request: &Request) -> u32 {
    let bytes = request.payload.len() + request.extra.len() + request.signature.len();
    u32::try_from((REQUEST_KIB + bytes / 1024).min(WAITING_KIB_MAX)).unwrap_or(u32::MAX)
}
