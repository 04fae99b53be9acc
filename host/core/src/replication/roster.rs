//! Which VP a follower's namespaces follow: one at a time each, in the order of their `[[nodes]]`, replaced by the next when it is lost.
//! One session a VP, whatever the number of namespaces that follow it.

use std::collections::BTreeMap;

use crate::types::{Hostname, Millis, Namespace};

/// A VP that gives nothing for so long is left for the next, if there is one.
const PATIENCE_MS: Millis = 10_000;

/// What is heard of a namespace from the VP it follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It is in a session that streams.
    Streams,
    /// Not.
    Nothing,
}

#[derive(Clone, Debug)]
struct Choice {
    candidates: Vec<Hostname>,
    at: usize,
    /// Since when nothing came.
    since: Option<Millis>,
}

/// Every namespace that follows, and whom.
#[derive(Clone, Debug, Default)]
pub struct Roster(BTreeMap<Namespace, Choice>);

impl Roster {
    /// The namespaces and their VPs now. One whose list did not change goes on with the VP it has.
    pub fn set(&mut self, wanted: Vec<(Namespace, Vec<Hostname>)>) {
        let mut next = BTreeMap::new();
        for (namespace, candidates) in wanted {
            let known = self.0.remove(&namespace).filter(|known| known.candidates == candidates);
            let choice = known.unwrap_or(Choice {
                candidates,
                at: 0,
                since: None,
            });
            next.insert(namespace, choice);
        }
        self.0 = next;
    }

    /// Whom each namespace follows, by VP.
    pub fn groups(&self) -> BTreeMap<Hostname, Vec<Namespace>> {
        let mut groups: BTreeMap<Hostname, Vec<Namespace>> = BTreeMap::new();
        for (namespace, choice) in &self.0 {
            if let Some(hostname) = choice.candidates.get(choice.at) {
                groups.entry(hostname.clone()).or_default().push(namespace.clone());
            }
        }
        groups
    }

    /// Looks at what is heard. True: a namespace follows another VP from now on.
    pub fn judge(&mut self, now: Millis, heard: impl Fn(&Namespace, &Hostname) -> Heard) -> bool {
        let mut moved = false;
        for (namespace, choice) in &mut self.0 {
            let Some(hostname) = choice.candidates.get(choice.at) else {
                continue;
            };
            if heard(namespace, hostname) == Heard::Streams {
                choice.since = None;
                continue;
            }
            let since = *choice.since.get_or_insert(now);
            if choice.candidates.len() > 1 && now.saturating_sub(since) >= PATIENCE_MS {
                choice.at = (choice.at + 1) % choice.candidates.len();
                choice.since = None;
                moved = true;
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Hostname {
        Hostname::new(name).unwrap()
    }

    fn ns(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    #[test]
    fn a_vp_that_is_lost_is_left_for_the_next_and_namespaces_of_one_vp_share_a_session() {
        let mut roster = Roster::default();
        let wanted = vec![
            (ns("ns1"), vec![host("node1")]),
            (ns("ns2"), vec![host("node1"), host("node2")]),
            (ns("ns3"), vec![host("node2"), host("node1")]),
        ];
        roster.set(wanted.clone());
        let groups = |roster: &Roster| -> Vec<(String, usize)> {
            let groups = roster.groups();
            groups.iter().map(|(host, of)| (host.to_string(), of.len())).collect()
        };
        assert_eq!(groups(&roster), [("node1".into(), 2), ("node2".into(), 1)]);
        let only_two = |_: &Namespace, vp: &Hostname| {
            if vp.as_str() == "node2" {
                Heard::Streams
            } else {
                Heard::Nothing
            }
        };
        assert!(!roster.judge(0, only_two) && !roster.judge(PATIENCE_MS - 1, only_two));
        assert!(roster.judge(PATIENCE_MS, only_two));
        // ns1 has nobody else; the others share one session at node2.
        assert_eq!(groups(&roster), [("node1".into(), 1), ("node2".into(), 2)]);
        roster.set(wanted);
        assert_eq!(groups(&roster), [("node1".into(), 1), ("node2".into(), 2)]);
        roster.set(vec![(ns("ns2"), vec![host("node1")])]);
        assert_eq!(groups(&roster), [("node1".into(), 1)]);
    }

    #[test]
    fn a_short_loss_moves_nobody_and_all_are_tried_in_turn() {
        let mut roster = Roster::default();
        roster.set(vec![(ns("ns1"), vec![host("a"), host("b")])]);
        let nobody = |_: &Namespace, _: &Hostname| Heard::Nothing;
        let all = |_: &Namespace, _: &Hostname| Heard::Streams;
        assert!(!roster.judge(0, nobody));
        assert!(!roster.judge(9_000, all) && !roster.judge(11_000, nobody) && !roster.judge(20_999, nobody));
        assert!(roster.judge(21_000, nobody));
        assert!(!roster.judge(22_000, nobody) && roster.judge(32_000, nobody));
        assert!(roster.groups().contains_key(&host("a")));
    }
}
