//! Waiting on named conditions with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Looks at `condition` until it answers a value or `deadline` has passed; then fails naming `what` and the last thing `condition`
/// said it saw.
pub fn until<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Result<Result<T, String>>) -> Result<T> {
    let began = Instant::now();
    loop {
        let seen = match condition()? {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if began.elapsed() > deadline {
            bail!("waited {deadline:?} for: {what}; last seen: {seen}");
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}
