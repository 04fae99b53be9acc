//! A change of a namespace's queues on its way to both disks: the whole registry, as it is to be. So writing it twice is writing it once.

use std::collections::BTreeSet;

use super::registry::REGISTRY_BYTES_MAX;
use super::{Cursors, Queue, Registry};
use crate::types::{Digest, Height, Incarnation, Malformed, Namespace, Reader, Writer};

/// The kind of a strong change whose body is a [`QueueChange`].
pub const QUEUE_CHANGE: &str = "queue";

/// What a client wants of a registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueEdit {
    /// This queue is to come.
    Registered(Queue),
    /// This one is to go.
    Unregistered(Queue),
}

impl QueueEdit {
    /// Which queue it is about.
    pub fn queue(&self) -> &Queue {
        match self {
            QueueEdit::Registered(queue) | QueueEdit::Unregistered(queue) => queue,
        }
    }
}

/// What a namespace's registry is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueChange {
    /// The namespace.
    pub namespace: Namespace,
    /// Digest of the registry's encoding that it takes the place of; none for the first.
    pub old: Option<Digest>,
    /// The new one.
    pub registry: Registry,
}

impl QueueChange {
    /// Body of the change.
    pub fn encode(&self) -> Vec<u8> {
        let registry = self.registry.encode();
        let mut out = Writer::with_capacity(registry.len() + 128);
        out.text(self.namespace.as_str());
        out.option(self.old.as_ref(), |out, digest| out.digest(digest));
        out.bytes(&registry);
        out.into_bytes()
    }

    /// What it does to `here`, for who reads a list of checks.
    pub fn in_words(&self, here: Option<&Registry>) -> String {
        let (namespace, wanted) = (&self.namespace, self.registry.queues());
        let numbers = |registry: &Registry| -> BTreeSet<u64> { registry.queues().values().map(|q| q.number).collect() };
        let (before, after) = (here.map(numbers).unwrap_or_default(), numbers(&self.registry));
        let mut said = Vec::new();
        for queue in here.iter().flat_map(|here| here.queues().values()) {
            if !after.contains(&queue.number) {
                said.push(format!(
                    "queue {} of {namespace} unregistered",
                    queue.registration.queue
                ));
            }
        }
        for queue in wanted.values().filter(|queue| !before.contains(&queue.number)) {
            said.push(format!("queue {} of {namespace} registered", queue.registration.queue));
        }
        let same = |here: &Registry| here.exchanger() == self.registry.exchanger();
        if said.is_empty() && here.is_some_and(|here| same(here) && here.leaving() != self.registry.leaving()) {
            said.push(format!("what the broker of {namespace} is still to remove"));
        }
        if said.is_empty() {
            said.push(format!("the exchange of the message queues of {namespace}"));
        }
        said.join(", ")
    }

    /// Reads the whole of a body.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let change = Self {
            namespace: input.namespace()?,
            old: input.option(Reader::digest)?,
            registry: Registry::decode(input.bytes(REGISTRY_BYTES_MAX)?)?,
        };
        input.finish()?;
        Ok(change)
    }
}

/// First height of a chain that was made under `incarnation` or a later one; `tip` + 1 where none was yet. What an earlier one made, or
/// what is not kept any more, lies below it. `made_by` says under which one a height was made.
///
/// # Errors
/// What `made_by` fails with.
pub fn first_under<E>(
    incarnation: Incarnation,
    tip: Height,
    made_by: impl Fn(Height) -> Result<Option<Incarnation>, E>,
) -> Result<Height, E> {
    let (mut low, mut high) = (1, tip.saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let made = made_by(middle)?;
        if made.is_some_and(|made| made == incarnation || made.number > incarnation.number) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

impl Cursors {
    /// The registry became another one: queues that are gone leave nothing behind, and one that is new begins where it was registered,
    /// whatever was told under its number.
    pub fn follow(&mut self, before: &Registry, after: &Registry) {
        let stays = |number: &u64| {
            let has = |registry: &Registry| registry.queues().values().any(|queue| queue.number == *number);
            has(before) && has(after)
        };
        self.at.retain(|number, _| stays(number));
        self.notices.retain(|number, _| stays(number));
    }

    /// The node goes on under `incarnation`, whose first block in this namespace is `first`; none where it took over nothing here. Where
    /// the events so far were told under another one, or nobody knows under which, every cursor is cut to the blocks below `first`, and each
    /// queue that may have been told more is to be told so. Says whether anything changed.
    pub fn take_over(&mut self, registry: &Registry, incarnation: Incarnation, first: Option<Height>) -> bool {
        let before = self.incarnation.replace(incarnation);
        self.follow(registry, registry);
        if before == Some(incarnation) {
            return false;
        }
        let Some(first) = first else { return true };
        let held = first.saturating_sub(1);
        for queue in registry.queues().values() {
            let at = self.of(queue);
            // Below its own beginning there is nothing to be told of.
            let cut = at.cut_above(held).max(queue.start());
            #[cfg(feature = "planted-faults")]
            let cut = match crate::planted::active(crate::planted::Fault::CursorNotCut) {
                true => at,
                false => cut,
            };
            self.at.insert(queue.number, cut);
            #[cfg(feature = "planted-faults")]
            if crate::planted::active(crate::planted::Fault::NoticeForgotten) {
                continue;
            }
            let ended = queue.registration.to_block.is_some_and(|last| last <= held);
            if !ended {
                // One that was registered above what the standby held may have been told from its beginning on.
                let first = first.max(queue.first);
                // One that was not told yet of an earlier take-over is told of both by the lower height.
                let due = self.notices.entry(queue.number).or_insert(first);
                *due = first.min(*due);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Announced, Cursor, Registration};
    use super::*;

    const BEFORE: Incarnation = Incarnation { number: 1, id: [1; 16] };
    const AFTER: Incarnation = Incarnation { number: 2, id: [2; 16] };

    fn registry() -> Registry {
        let mut registry = Registry::new("global_fa34664e_1".into());
        for (name, from, to) in [("old", "1", ""), ("ended", "1", "5"), ("later", "30", "")] {
            let wanted =
                serde_json::json!({"queueName": name, "routingKeys": ["MQBlock"], "fromBlock": from, "toBlock": to});
            registry
                .register(Registration::from_json(&wanted).unwrap(), (0, 3))
                .unwrap();
        }
        registry
    }

    #[test]
    fn cursors_are_cut_once_where_a_standby_took_over_and_the_queues_are_told() {
        for before in [Some(BEFORE), None] {
            let mut cursors = Cursors {
                incarnation: before,
                at: [(1, Cursor::before(15)), (2, Cursor::before(6))].into(),
                ..Cursors::default()
            };
            assert!(cursors.take_over(&registry(), AFTER, Some(11)));
            let places: Vec<Cursor> = cursors.at.values().copied().collect();
            // The last one's own beginning is above all that the standby held.
            assert_eq!(places, [Cursor::before(11), Cursor::before(6), Cursor::before(30)]);
            assert_eq!(cursors.notices, [(1, 11), (3, 30)].into(), "{before:?}");
            cursors.at.insert(1, Cursor::before(20));
            let held = cursors.clone();
            assert!(!cursors.take_over(&registry(), AFTER, Some(11)));
            assert_eq!(cursors, held);
        }
    }

    #[test]
    fn a_queue_for_the_next_block_on_is_told_of_all_that_a_standby_makes() {
        let mut registry = Registry::new("global_fa34664e_1".into());
        for (name, from) in [("next", ""), ("later", "30")] {
            let wanted = serde_json::json!({"queueName": name, "routingKeys": ["MQBlock"], "fromBlock": from});
            registry
                .register(Registration::from_json(&wanted).unwrap(), (0, 24))
                .unwrap();
        }
        assert_eq!(registry.queues()["next"].first, 25);
        assert!(registry.begin_at(11) && !registry.begin_at(11));
        let mut cursors = Cursors {
            at: [(1, Cursor::before(28))].into(),
            ..Cursors::default()
        };
        assert!(cursors.take_over(&registry, AFTER, Some(11)));
        let at = |name: &str| cursors.of(&registry.queues()[name]);
        assert_eq!((at("next"), at("later")), (Cursor::before(11), Cursor::before(30)));
        assert_eq!(cursors.notices.values().copied().collect::<Vec<_>>(), [11, 30]);
    }

    #[test]
    fn an_announcement_that_was_not_told_yet_is_not_lost_over_a_second_take_over() {
        let third = Incarnation { number: 3, id: [3; 16] };
        for (second, due) in [(20, 11), (7, 7)] {
            let mut cursors = Cursors::default();
            assert!(cursors.take_over(&registry(), AFTER, Some(11)));
            assert!(cursors.take_over(&registry(), third, Some(second)));
            assert_eq!(cursors.notices[&1], due, "the second at {second}");
            assert_eq!(cursors.notices[&3], 30);
        }
    }

    #[test]
    fn a_take_over_behind_an_announcement_that_was_confirmed_alone_is_announced_itself() {
        let registry = registry();
        let queue = registry.get("old").unwrap();
        let mut cursors = Cursors::default();
        assert!(cursors.take_over(&registry, AFTER, Some(11)));
        cursors.advance(queue, Cursor::behind(Announced::Anew, 11), None);
        assert_eq!(cursors.notices.get(&1), None, "it was heard");
        let third = Incarnation { number: 3, id: [3; 16] };
        let mut again = cursors.clone();
        assert!(cursors.take_over(&registry, third, Some(17)));
        assert_eq!(
            (cursors.of(queue).to_string(), cursors.notices[&1]),
            ("11.stateUpdate".into(), 17)
        );
        // Of one at the same block, and below it, nothing was heard.
        for first in [11, 7] {
            let mut lower = again.clone();
            assert!(lower.take_over(&registry, third, Some(first)));
            assert_eq!((lower.of(queue), lower.notices[&1]), (Cursor::before(first), first));
        }
        // A late word of the node that announced it, after the second take-over.
        again.at.insert(1, Cursor::before(9));
        again.notices.insert(1, 11);
        again.advance(queue, Cursor::behind(Announced::Anew, 11), Some(17));
        assert_eq!(again.notices[&1], 17);
    }

    #[test]
    fn an_earlier_releases_cursors_inside_a_block_behind_its_announcement_skip_nothing_of_it() {
        // Encoding 1: queue 1 confirmed the announcement at 11, queue 2 the first event behind it too, queue 3 is inside another block.
        let mut out = Writer::with_capacity(64);
        out.u8(1);
        out.option(None::<&Incarnation>, |out, it| out.incarnation(it));
        out.u32(3);
        for (number, next, done) in [(1_u64, 11_u64, 1_u32), (2, 11, 2), (3, 9, 1)] {
            out.u64(number);
            out.u64(next);
            out.u32(done);
        }
        out.u32(3);
        for number in 1_u64..=3 {
            out.u64(number);
            out.u64(11);
        }
        let read = Cursors::decode(&out.into_bytes()).unwrap();
        let places: Vec<String> = read.at.values().map(ToString::to_string).collect();
        assert_eq!(places, ["11.stateUpdate", "11.0", "9.0"]);
        assert_eq!(read.notices, [(3, 11)].into());
        assert_eq!(Cursors::decode(&read.encode()).unwrap(), read);
    }

    #[test]
    fn an_announcement_below_the_first_block_that_is_here_comes_with_that_block() {
        let registry = registry();
        let queue = registry.get("old").unwrap();
        let mut cursors = Cursors::default();
        assert!(cursors.take_over(&registry, AFTER, Some(11)));
        assert!(cursors.begin_at(61) && !cursors.begin_at(61));
        cursors.advance(queue, Cursor::behind(Announced::Missing, 61), None);
        assert_eq!(
            cursors.notices[&1], 61,
            "what is missing was heard, and what may come again was not"
        );
        cursors.advance(queue, Cursor::behind(Announced::Anew, 61), None);
        assert_eq!(cursors.notices.get(&1), None);
    }

    #[test]
    fn a_late_word_of_the_node_before_leaves_the_announcement_of_what_came_later() {
        let registry = registry();
        let queue = registry.get("old").unwrap();
        let mut cursors = Cursors {
            notices: [(1, 11)].into(),
            ..Cursors::default()
        };
        // Told by the node that took over at 11, and that was lost at 20.
        cursors.advance(queue, Cursor::before(16), Some(20));
        assert_eq!((cursors.of(queue), cursors.notices[&1]), (Cursor::before(16), 20));
        cursors.advance(queue, Cursor::before(9), Some(11));
        assert_eq!((cursors.of(queue), cursors.notices[&1]), (Cursor::before(16), 20));
        cursors.advance(queue, Cursor::before(21), None);
        assert_eq!((cursors.of(queue), cursors.notices.len()), (Cursor::before(21), 0));
    }

    #[test]
    fn a_node_that_took_over_nothing_cuts_nothing() {
        let mut cursors = Cursors {
            at: [(1, Cursor::before(15))].into(),
            ..Cursors::default()
        };
        assert!(cursors.take_over(&registry(), BEFORE, None));
        assert_eq!((cursors.at[&1], cursors.notices.len()), (Cursor::before(15), 0));
    }

    #[test]
    fn the_first_height_of_an_incarnation_is_found_wherever_it_is() {
        for tip in 0..20 {
            for first in 1..=tip + 1 {
                let made_by = |height: Height| -> Result<_, ()> {
                    let kept = (height > 3).then_some(if height < first { BEFORE } else { AFTER });
                    Ok(kept.or((height >= first).then_some(AFTER)))
                };
                assert_eq!(first_under(AFTER, tip, made_by), Ok(first), "{tip}");
            }
        }
        assert_eq!(first_under(AFTER, 5, |_| Err("disk")), Err("disk"));
        // Of one whose place was taken, too: also where nothing of it is left.
        let third = Incarnation { number: 3, id: [3; 16] };
        let made_by = |height: Height| -> Result<_, ()> {
            Ok(Some(match height {
                ..5 => BEFORE,
                5..9 => AFTER,
                _ => third,
            }))
        };
        assert_eq!(
            (first_under(AFTER, 20, made_by), first_under(third, 20, made_by)),
            (Ok(5), Ok(9))
        );
        let without = |height: Height| made_by(height + 4 * Height::from(height > 4));
        assert_eq!(
            (first_under(AFTER, 20, without), first_under(third, 20, without)),
            (Ok(5), Ok(5))
        );
    }

    #[test]
    fn a_number_that_comes_new_has_no_cursor_of_another_queue() {
        let mut fewer = registry();
        let exchanger = fewer.exchanger().to_owned();
        fewer.unregister("later", &exchanger).unwrap();
        let all = [(1, Cursor::before(5)), (3, Cursor::before(40)), (9, Cursor::before(2))];
        let mut cursors = Cursors {
            at: all.into(),
            ..Cursors::default()
        };
        cursors.follow(&fewer, &registry());
        assert_eq!(cursors.at, [(1, Cursor::before(5))].into());
    }

    #[test]
    fn a_queue_of_another_registry_is_kept_where_its_name_and_its_number_are_free() {
        let mut theirs = registry();
        let exchanger = theirs.exchanger().to_owned();
        let kept = theirs.unregister("later", &exchanger).unwrap();
        let taken = theirs.get("old").unwrap().clone();
        theirs.keep(&taken);
        assert_eq!(theirs.queues().len(), 2);
        let mut again = kept.clone();
        again.number = 7;
        theirs.keep(&again);
        assert_eq!(theirs.get("later").unwrap().number, 7);
        let mut other = kept;
        other.registration.queue = "other".into();
        other.number = 2;
        theirs.keep(&other);
        assert!(theirs.get("other").is_err(), "its number is another queue's");
        assert_eq!(Registry::decode(&theirs.encode()).unwrap(), theirs);
    }
}
