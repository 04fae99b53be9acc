//! Namespaces that an end has and does not run, as its `[self]` tells them: without a stream nothing else says whether the copy of one is
//! as new as the original.
//!
//! An entry is `<ns>/stopped = "<last height> <digest of its queues, or ->"`. A release that does not tell them leaves them unknown.

use std::collections::BTreeMap;

use crate::types::{Digest, Height, Namespace, Refusal};

use super::NAMESPACES_MAX;

/// Code of a copy that is older than the namespace which its provider stopped.
pub const COPY_BEHIND: &str = "copy-behind";

const KEY: &str = "/stopped";
const NO_QUEUES: &str = "-";

/// Longest text of a digest.
const DIGEST_CHARS_MAX: usize = 64;

/// What a namespace that does not run holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoppedChain {
    /// Its last record.
    pub height: Height,
    /// Digest of its message queues, as text; none where none is registered.
    pub queues: Option<String>,
}

impl StoppedChain {
    /// With the digest of the queues that are registered; none where none is.
    pub fn new(height: Height, queues: Option<Digest>) -> StoppedChain {
        let queues = queues.map(|digest| digest.to_string());
        StoppedChain { height, queues }
    }

    /// The entry of `[self]`: key, and value as TOML text.
    pub fn entry(&self, namespace: &Namespace) -> (String, String) {
        let queues = self.queues.as_deref().unwrap_or(NO_QUEUES);
        (format!("{namespace}{KEY}"), format!("\"{} {queues}\"", self.height))
    }

    fn read(value: &str) -> Option<StoppedChain> {
        let (height, queues) = value.trim_matches('"').split_once(' ')?;
        let plain = queues.len() <= DIGEST_CHARS_MAX && queues.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let queues = match queues {
            NO_QUEUES => None,
            _ if plain && !queues.is_empty() => Some(queues.to_owned()),
            _ => return None,
        };
        Some(StoppedChain {
            height: height.parse().ok()?,
            queues,
        })
    }
}

/// What an end's `[self]` tells of those that it does not run. What cannot be read is not told.
pub fn stopped_chains(section: &[(String, String)]) -> BTreeMap<Namespace, StoppedChain> {
    let entries = section.iter().filter_map(|(key, value)| {
        let name = Namespace::new(key.strip_suffix(KEY)?).ok()?;
        Some((name, StoppedChain::read(value)?))
    });
    entries.take(NAMESPACES_MAX).collect()
}

/// `[self]` without what it tells of one namespace that is stopped.
pub fn without_stopped(section: &[(String, String)], namespace: &Namespace) -> Vec<(String, String)> {
    let key = format!("{namespace}{KEY}");
    section.iter().filter(|(known, _)| *known != key).cloned().collect()
}

/// A copy that is older than what the provider stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyBehind {
    /// Which namespace.
    pub namespace: Namespace,
    /// The copy's last record.
    pub copied: Height,
    /// The provider's.
    pub stopped_at: Height,
}

impl CopyBehind {
    /// In words; what lacks is named after the node that has it.
    pub fn words(&self, provider: &str) -> String {
        let name = &self.namespace;
        if self.copied < self.stopped_at {
            format!(
                "namespace {name} is stopped on {provider} at block {}, and its copy ends at block {}: blocks, and what was done to queues, \
                 after that are on {provider} alone",
                self.stopped_at, self.copied
            )
        } else {
            format!("namespace {name} is stopped on {provider}, which has other message queues of it than its copy")
        }
    }

    /// The warning, with what helps as long as the provider lives.
    pub fn warning(&self, provider: &str) -> Refusal {
        Refusal::new(
            COPY_BEHIND,
            self.words(provider),
            format!(
                "start it there by `cvp namespace start {}` until the standby has it, and stop it again while the standby is attached",
                self.namespace
            ),
        )
    }
}

/// What is older in the copy, of what both ends tell and neither runs.
pub fn copies_behind(
    provider: &BTreeMap<Namespace, StoppedChain>,
    copy: &BTreeMap<Namespace, StoppedChain>,
) -> Vec<CopyBehind> {
    let both = provider
        .iter()
        .filter_map(|(name, theirs)| Some((name, theirs, copy.get(name)?)));
    let behind = both.filter(|(_, theirs, ours)| {
        ours.height < theirs.height || (ours.height == theirs.height && ours.queues != theirs.queues)
    });
    behind
        .map(|(name, theirs, ours)| CopyBehind {
            namespace: name.clone(),
            copied: ours.height,
            stopped_at: theirs.height,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Namespace {
        Namespace::new(name).unwrap()
    }

    fn chain(height: Height, queues: Option<&str>) -> StoppedChain {
        StoppedChain {
            height,
            queues: queues.map(str::to_owned),
        }
    }

    #[test]
    fn an_entry_comes_back_and_what_is_none_is_not_told() {
        let mut section = vec![("global/self.type".to_owned(), "\"vp\"".to_owned())];
        let told = [("ns1", chain(20, Some("ab12"))), ("ns2", chain(0, None))];
        section.extend(told.iter().map(|(of, chain)| chain.entry(&name(of))));
        assert_eq!(
            stopped_chains(&section),
            told.map(|(of, chain)| (name(of), chain)).into()
        );
        assert_eq!(stopped_chains(&without_stopped(&section, &name("ns1"))).len(), 1);
        let long = format!("\"1 {}\"", "a".repeat(65));
        for bad in ["", "20", "\"x -\"", "\"20 \"", "\"20 a b\"", "\"-1 -\"", long.as_str()] {
            assert!(
                stopped_chains(&[("ns1/stopped".to_owned(), bad.to_owned())]).is_empty(),
                "{bad}"
            );
        }
        assert!(stopped_chains(&[("a b/stopped".to_owned(), "\"1 -\"".to_owned())]).is_empty());
    }

    #[test]
    fn a_copy_is_behind_with_fewer_blocks_or_with_other_queues() {
        let behind = |theirs: StoppedChain, ours: Option<StoppedChain>| {
            let copy = ours.map(|ours| (name("ns1"), ours)).into_iter().collect();
            copies_behind(&[(name("ns1"), theirs)].into(), &copy)
        };
        assert_eq!(
            behind(chain(20, None), None),
            [],
            "whether it was ever copied is another question"
        );
        for (theirs, ours) in [
            (chain(7, Some("aa")), chain(7, Some("aa"))),
            (chain(7, None), chain(7, None)),
            (chain(7, None), chain(8, Some("aa"))),
        ] {
            assert_eq!(behind(theirs, Some(ours)), []);
        }
        let found = behind(chain(20, Some("aa")), Some(chain(7, Some("aa"))));
        assert!(
            found[0]
                .words("node1")
                .contains("stopped on node1 at block 20, and its copy ends at block 7")
        );
        let found = behind(chain(7, None), Some(chain(7, Some("aa"))));
        assert!(found[0].words("node1").contains("other message queues"));
        assert!(found[0].warning("node1").hint.contains("cvp namespace start ns1"));
    }
}
