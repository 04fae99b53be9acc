//! How a broker is reached, as status and strategies see it.

use std::collections::{BTreeMap, BTreeSet};

use cvp_core::mq::Left;

/// Names that one line of a status gives.
const NAMES_SHOWN: usize = 8;

/// How the broker is reached now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BrokerState {
    /// There is a connection, and the exchange stands.
    pub connected: bool,
    /// Why not, without credentials.
    pub problem: Option<String>,
    /// Why it takes no messages for now, in its words: the connection is good all the same.
    pub blocked: Option<String>,
    /// Queues that stand at the broker, by number of registration.
    pub declared: BTreeSet<u64>,
    /// Queues that are not delivered there, with the reason.
    pub refused: BTreeMap<String, String>,
    /// What stays at a place where this node was before, and that it found out since its start.
    pub left: Vec<Left>,
}

impl BrokerState {
    /// What a broker says that takes no messages, in words.
    pub fn block(&self) -> Option<String> {
        let reason = self.blocked.as_ref()?;
        Some(format!(
            "the broker blocks publishers ({reason}); blocks go on, cursors wait, and what waits follows when it lets them: see its alarms (memory, disk)"
        ))
    }

    /// Nobody need wait for what the broker does not do now.
    pub(super) fn is_idle(&self) -> bool {
        !self.connected || self.blocked.is_some()
    }

    /// What is not delivered and why, on one line: queues of one reason together; none where all is well.
    pub fn refusals(&self) -> Option<String> {
        let mut reasons = BTreeMap::<&str, Vec<&str>>::new();
        for (queue, why) in &self.refused {
            reasons.entry(why).or_default().push(queue);
        }
        let line = |(why, queues): (&str, Vec<&str>)| {
            let shown = queues.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
            let more = match queues.len().saturating_sub(NAMES_SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            match queues.len() {
                1 => format!("queue {shown} is not delivered: {why}"),
                count => format!("{count} queues are not delivered ({shown}{more}): {why}"),
            }
        };
        let lines: Vec<String> = reasons.into_iter().map(line).collect();
        (!lines.is_empty()).then(|| format!("{}; tried again every two seconds", lines.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_that_is_not_delivered_is_counted_and_named_by_its_reason() {
        assert_eq!(BrokerState::default().refusals(), None);
        let refused = (0..12).map(|n| (format!("q{n:02}"), "it is full".to_owned()));
        let other = ("orders".to_owned(), "another kind".to_owned());
        let state = BrokerState {
            refused: refused.chain([other]).collect(),
            ..BrokerState::default()
        };
        assert_eq!(
            state.refusals().unwrap(),
            "queue orders is not delivered: another kind; 12 queues are not delivered \
             (q00, q01, q02, q03, q04, q05, q06, q07 and 4 more): it is full; tried again every two seconds"
        );
    }
}
