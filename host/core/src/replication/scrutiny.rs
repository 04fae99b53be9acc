//! The check of what a strategy advises: a call is taken whole or not at all.
//!
//! Pure: it looks and changes nothing. What is refused here counts as a fault of the instance, as a trap does. To pause is no fault, and an
//! unknown action is none either: a strategy may be newer than its host.

use crate::strategy::scrutiny::{gauge, size, text};
use crate::types::Height;
use crate::types::strategy::chain_sync::{Action as Advice, Fetch};
use crate::types::strategy::{self, Fault, Role};

/// What holds of a stream when advice on it is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground {
    /// The end the strategy works for.
    pub role: Role,
    /// The durable height that the call's view told.
    pub told: Height,
    /// The height after the last that is appended.
    pub next: Height,
    /// The widest window a strategy may ask for.
    pub window_bytes_max: u64,
    /// Height of the snapshot that the provider offers now. What was asked about may have had an earlier one: the tip moves on.
    pub offered: Option<Height>,
}

impl Ground {
    /// Everything one call answered.
    ///
    /// # Errors
    /// The first action that cannot be, with what would be allowed.
    pub fn check(&self, actions: &[Advice]) -> Result<(), Fault> {
        if actions.len() > strategy::ACTIONS_MAX {
            let text = format!("{} actions, at most {} a call", actions.len(), strategy::ACTIONS_MAX);
            return Err(Fault::new("too-many-actions", text));
        }
        actions.iter().try_for_each(|action| self.check_one(action))
    }

    fn check_one(&self, action: &Advice) -> Result<(), Fault> {
        match action {
            Advice::Fetch(fetch) => {
                self.only(Role::Receiver, "fetch")?;
                self.fetch(fetch)
            }
            Advice::Window(bytes) => {
                self.only(Role::Receiver, "window")?;
                self.window(*bytes)
            }
            Advice::Pause(reason) => {
                self.only(Role::Receiver, "pause")?;
                text("pause", reason)
            }
            Advice::Bootstrap(height) => {
                self.only(Role::Receiver, "bootstrap")?;
                if self.offered.is_some_and(|offered| *height <= offered) && *height >= self.next {
                    return Ok(());
                }
                Err(Fault::new("no-snapshot", format!("no snapshot at {height} is offered")))
            }
            Advice::VerifyEvery(records) => {
                self.only(Role::Receiver, "verify-every")?;
                depth(*records)
            }
            Advice::Throttle(_) => self.only(Role::Provider, "throttle"),
            Advice::Refuse(reason) => text("refuse", reason),
            Advice::Store(bytes) => size("store-too-long", bytes, strategy::STORE_BYTES_MAX),
            Advice::Send(bytes) => size("message-too-long", bytes, strategy::SEND_BYTES_MAX),
            Advice::Log(_, line) => text("log", line),
            Advice::Metric(name, _) => gauge(name),
            Advice::Other(..) => Ok(()),
        }
    }

    fn only(&self, wanted: Role, what: &str) -> Result<(), Fault> {
        if self.role == wanted {
            return Ok(());
        }
        Err(Fault::new("wrong-role", format!("{what} is the {}'s", wanted.as_str())))
    }

    /// The view may be older than the log by now: everything from what it told to what is appended means "go on".
    fn fetch(&self, fetch: &Fetch) -> Result<(), Fault> {
        if fetch.first <= self.told || fetch.first > self.next {
            let text = format!("from {}; {} to {} allowed", fetch.first, self.told + 1, self.next);
            return Err(Fault::new("fetch-out-of-range", text));
        }
        if fetch.last < fetch.first || fetch.bytes_in_flight == 0 {
            let text = format!("last {} and {} bytes in flight", fetch.last, fetch.bytes_in_flight);
            return Err(Fault::new("fetch-out-of-range", text));
        }
        Ok(())
    }

    fn window(&self, bytes: u64) -> Result<(), Fault> {
        if bytes == 0 || bytes > self.window_bytes_max {
            let text = format!("{bytes}; 1 to {} allowed", self.window_bytes_max);
            return Err(Fault::new("window-out-of-range", text));
        }
        Ok(())
    }
}

fn depth(records: u64) -> Result<(), Fault> {
    if records == 0 {
        return Err(Fault::new("bad-depth", "verify every 0 records"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::strategy::Level;

    const GROUND: Ground = Ground {
        role: Role::Receiver,
        told: 10,
        next: 15,
        window_bytes_max: 1000,
        offered: Some(40),
    };

    fn fetch(first: Height, last: Height, bytes_in_flight: u64) -> Advice {
        Advice::Fetch(Fetch {
            first,
            last,
            bytes_in_flight,
        })
    }

    fn refused(ground: &Ground, action: Advice) -> String {
        ground.check(&[action]).map_err(|fault| fault.code).unwrap_err()
    }

    #[test]
    fn what_a_receiver_may_say_is_taken() {
        let said = [
            fetch(11, u64::MAX, u64::MAX),
            fetch(15, 15, 1),
            Advice::Window(1000),
            Advice::Bootstrap(40),
            Advice::Pause("later".into()),
            Advice::VerifyEvery(1),
            Advice::Refuse("never".into()),
            Advice::Store(vec![0; strategy::STORE_BYTES_MAX]),
            Advice::Send(vec![0; strategy::SEND_BYTES_MAX]),
            Advice::Log(Level::Info, "line".into()),
            Advice::Metric("window_bytes".into(), -1),
            Advice::Other("of-a-later-release".into(), Vec::new()),
        ];
        assert_eq!(GROUND.check(&said), Ok(()));
    }

    #[test]
    fn each_kind_of_nonsense_is_refused_by_its_name() {
        let long = || "x".repeat(strategy::TEXT_BYTES_MAX + 1);
        for (code, action) in [
            ("fetch-out-of-range", fetch(10, 20, 1)),
            ("fetch-out-of-range", fetch(16, 20, 1)),
            ("fetch-out-of-range", fetch(u64::MAX, 0, 1)),
            ("fetch-out-of-range", fetch(12, 11, 1)),
            ("fetch-out-of-range", fetch(12, 20, 0)),
            ("window-out-of-range", Advice::Window(0)),
            ("window-out-of-range", Advice::Window(1001)),
            ("no-snapshot", Advice::Bootstrap(7)),
            ("bad-depth", Advice::VerifyEvery(0)),
            ("wrong-role", Advice::Throttle(1)),
            ("text-too-long", Advice::Pause(long())),
            ("text-too-long", Advice::Refuse(long())),
            ("text-too-long", Advice::Log(Level::Info, long())),
            ("store-too-long", Advice::Store(vec![0; strategy::STORE_BYTES_MAX + 1])),
            ("message-too-long", Advice::Send(vec![0; strategy::SEND_BYTES_MAX + 1])),
            ("bad-name", Advice::Metric("Window".into(), 1)),
        ] {
            assert_eq!(refused(&GROUND, action.clone()), code, "{action:?}");
        }
        let many = vec![Advice::Window(1); strategy::ACTIONS_MAX + 1];
        assert_eq!(GROUND.check(&many).unwrap_err().code, "too-many-actions");
    }

    #[test]
    fn a_provider_neither_fetches_nor_pauses() {
        let ground = Ground {
            role: Role::Provider,
            ..GROUND
        };
        for action in [
            fetch(11, 20, 1),
            Advice::Window(1),
            Advice::Pause(String::new()),
            Advice::Bootstrap(1),
            Advice::VerifyEvery(1),
        ] {
            assert_eq!(refused(&ground, action), "wrong-role");
        }
        assert_eq!(ground.check(&[Advice::Throttle(0)]), Ok(()));
    }
}
