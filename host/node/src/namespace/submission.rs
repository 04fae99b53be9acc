//! Signature checks beside block making: a fixed number of threads, a fixed number of transactions waiting for them.

use std::sync::Arc;

use cvp_core::chain::{self, Invalid, Request, Transaction};
use tokio::sync::{Semaphore, oneshot};

use super::SubmitError;

/// Transactions waiting for a verifier thread, at most, per thread: at about 100 us a check this is 25 ms of work.
const WAITING_PER_THREAD: usize = 256;

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
            slots: Arc::new(Semaphore::new(count * WAITING_PER_THREAD)),
        })
    }

    /// Checks the signature of `request` on one of the threads.
    ///
    /// # Errors
    /// Busy when too many wait; the code of the check that failed otherwise.
    pub async fn verify(&self, request: Request, node_version: &'static str) -> Result<Transaction, SubmitError> {
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
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
