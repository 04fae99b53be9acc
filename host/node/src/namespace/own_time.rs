//! What a thread did with a span of time: whether it waited for something, or ran, or waited for a processor alone.
//!
//! By the clock alone a thread that was taken off its processor looks like one that waited for a lock. The system's scheduler tells them
//! apart.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Longest text of three numbers.
const TEXT_BYTES: usize = 64;

/// The scheduler's account of the thread that opened it.
pub(super) struct OwnTime(Option<File>);

/// How far an account was: time on a processor, time in the queue for one, turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Account {
    ran: Duration,
    queued: Duration,
    turns: u64,
}

/// A span that has begun.
pub(super) struct Begun {
    at: Instant,
    account: Option<Account>,
}

impl OwnTime {
    /// Of the thread that calls. Where the system keeps no such account, time that passed counts as waited.
    pub(super) fn open() -> OwnTime {
        OwnTime(File::open("/proc/thread-self/schedstat").ok())
    }

    /// A span begins.
    pub(super) fn begin(&self) -> Begun {
        Begun {
            account: self.account(),
            at: Instant::now(),
        }
    }

    /// How long the thread has waited since `begun` for something that is no processor, if that may be more than `least`; else 0.
    pub(super) fn waited(&self, begun: &Begun, least: Duration) -> Duration {
        let passed = begun.at.elapsed();
        if passed <= least {
            return Duration::ZERO;
        }
        match (begun.account, self.account()) {
            (Some(before), Some(after)) => waited(passed, before, after),
            _ => passed,
        }
    }

    fn account(&self) -> Option<Account> {
        let mut text = [0; TEXT_BYTES];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        parse(std::str::from_utf8(text.get(..length)?).ok()?)
    }
}

fn parse(text: &str) -> Option<Account> {
    let mut numbers = text.split_whitespace().map(|number| number.parse::<u64>().ok());
    Some(Account {
        ran: Duration::from_nanos(numbers.next()??),
        queued: Duration::from_nanos(numbers.next()??),
        turns: numbers.next()??,
    })
}

fn waited(passed: Duration, before: Account, after: Account) -> Duration {
    // Whoever waits gives the processor back, and gets another turn.
    if after.turns == before.turns {
        return Duration::ZERO;
    }
    let ran = after.ran.saturating_sub(before.ran);
    passed
        .saturating_sub(ran)
        .saturating_sub(after.queued.saturating_sub(before.queued))
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_millis(200);
    const LEAST: Duration = Duration::from_millis(10);

    #[test]
    fn a_thread_that_waits_for_another_has_waited() {
        let (lock, held) = (parking_lot::Mutex::new(()), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _guard = lock.lock();
                held.wait();
                std::thread::park_timeout(LONG);
            });
            held.wait();
            let time = OwnTime::open();
            let begun = time.begin();
            drop(lock.lock());
            let waited = time.waited(&begun, LEAST);
            assert!(waited > LONG / 2, "{waited:?}");
        });
    }

    #[test]
    fn a_thread_that_was_kept_from_its_processor_has_not() {
        let ended = AtomicBool::new(false);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..8 * processors {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let time = OwnTime::open();
            let begun = time.begin();
            // Its own work takes a while, and much longer because of the others.
            for number in 0..40_000_000_u64 {
                black_box(number);
            }
            let (waited, passed) = (time.waited(&begun, LEAST), begun.at.elapsed());
            ended.store(true, Ordering::Relaxed);
            assert!(passed > LEAST && waited <= passed / 4, "{waited:?} of {passed:?}");
        });
    }

    #[test]
    fn an_account_is_read_and_compared() {
        let before = parse("1000000 2000000 7\n").unwrap();
        assert_eq!(before.turns, 7);
        assert_eq!(parse("1 2"), None);
        let after = parse("3000000 6000000 8\n").unwrap();
        assert_eq!(
            waited(Duration::from_millis(50), before, after),
            Duration::from_millis(44)
        );
        let same_turn = Account { turns: 7, ..after };
        assert_eq!(waited(Duration::from_millis(50), before, same_turn), Duration::ZERO);
    }
}
