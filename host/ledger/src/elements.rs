//! Elements of values that were put into the sum lately: the block that changes such a value again takes its element out, and need not make
//! it once more. An element is a function of its key and value, so one that is found is the right one.
//!
//! Key, value and element lie side by side in a place that the key keeps: what was done between two blocks has driven all of it out of the
//! processor's caches, and what lies apart is waited for apart.

use std::hash::BuildHasher as _;

use cvp_core::record::{Accumulator, Element};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::changes::Change;

/// Key and value of an element that is kept have no more bytes together.
const TEXT_BYTES: usize = 112;
/// What one takes, with its place in the table, bytes, about.
const ENTRY_BYTES: usize = size_of::<Known>() + 16;

#[repr(C)]
struct Known {
    text: [u8; TEXT_BYTES],
    hash: u64,
    key: u8,
    value: u8,
    /// The value is known; if not, the place is the key's all the same.
    is_valid: bool,
    /// It was asked for since the hand came by.
    is_used: bool,
    element: Element,
}

impl Known {
    fn key(&self) -> &[u8] {
        self.text.get(..usize::from(self.key)).unwrap_or_default()
    }

    fn is_of(&self, value: &[u8]) -> bool {
        let (from, to) = (usize::from(self.key), usize::from(self.key) + usize::from(self.value));
        self.is_valid && self.text.get(from..to) == Some(value)
    }

    fn fits(key: &[u8], value: &[u8]) -> bool {
        key.len() + value.len() <= TEXT_BYTES
    }

    /// The element of this key and value, from now on.
    fn put(&mut self, hash: u64, key: &[u8], value: &[u8], element: Element) {
        let both = key.iter().chain(value);
        self.text.iter_mut().zip(both).for_each(|(place, byte)| *place = *byte);
        (self.hash, self.key, self.value) = (hash, key.len() as u8, value.len() as u8);
        (self.is_valid, self.is_used, self.element) = (true, true, element);
    }
}

/// Some elements by key, bounded. Where all places are taken, one whose element was not asked for lately goes.
pub(crate) struct Elements {
    table: HashTable<u32>,
    places: Vec<Known>,
    count_max: usize,
    hand: usize,
    hasher: RandomState,
}

impl Elements {
    /// At most about `bytes_max` in all; none where an element is made in less time than an old one comes from memory.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self::bounded(if is_made_quickly() { 0 } else { bytes_max })
    }

    fn bounded(bytes_max: usize) -> Self {
        Self {
            table: HashTable::default(),
            places: Vec::new(),
            count_max: bytes_max / ENTRY_BYTES,
            hand: 0,
            hasher: RandomState::default(),
        }
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let is_key = |at: &u32| self.places.get(*at as usize).is_some_and(|known| known.key() == key);
        self.table.find(hash, is_key).copied()
    }

    /// Changes `sum` by what a block changes, each key once, with the value that it had.
    pub(crate) fn apply<'a>(
        &mut self,
        sum: &mut Accumulator,
        changes: impl Iterator<Item = (Change<'a>, Option<&'a [u8]>)> + Clone,
    ) {
        if self.count_max == 0 {
            for ((key, new), old) in changes {
                sum.replace(key, old, new);
            }
            return;
        }
        let changes = changes.filter(|((_, new), old)| new != old);
        // All of them are looked for before the first is worked on: they come from memory side by side.
        let found: Vec<(u64, Option<u32>)> = changes
            .clone()
            .map(|((key, _), _)| {
                let hash = self.hasher.hash_one(key);
                (hash, self.find(hash, key))
            })
            .collect();
        for (((key, new), old), (hash, found)) in changes.zip(found) {
            // Another key of this block may have taken the place meanwhile.
            let place = found.filter(|at| self.places.get(*at as usize).is_some_and(|known| known.key() == key));
            self.replace((hash, place), key, (old, new), sum);
        }
    }

    fn replace(
        &mut self,
        (hash, place): (u64, Option<u32>),
        key: &[u8],
        (old, new): (Option<&[u8]>, Option<&[u8]>),
        sum: &mut Accumulator,
    ) {
        let known = place.and_then(|at| self.places.get_mut(at as usize));
        if let Some(old) = old {
            match known.as_ref().filter(|known| known.is_of(old)) {
                Some(known) => sum.remove_element(&known.element),
                None => sum.remove(key, old),
            }
        }
        if let Some(new) = new.filter(|new| Known::fits(key, new)) {
            let element = Element::of(key, new);
            sum.add_element(&element);
            match known {
                Some(known) => known.put(hash, key, new, element),
                None => self.insert(hash, key, new, element),
            }
            return;
        }
        if let Some(known) = known {
            known.is_valid = false;
        }
        if let Some(new) = new {
            sum.add(key, new);
        }
    }

    fn insert(&mut self, hash: u64, key: &[u8], value: &[u8], element: Element) {
        if self.places.len() < self.count_max {
            let mut known = Known {
                text: [0; TEXT_BYTES],
                hash,
                key: 0,
                value: 0,
                is_valid: true,
                is_used: true,
                element: element.clone(),
            };
            known.put(hash, key, value, element);
            let at = self.places.len() as u32;
            self.places.push(known);
            return self.name(hash, at);
        }
        // At most once around: whoever was asked for since is passed by, and no longer counts as such.
        for _ in 0..=self.places.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.places.len().max(1);
            let Some(known) = self.places.get_mut(at) else { return };
            if std::mem::take(&mut known.is_used) {
                continue;
            }
            let before = known.hash;
            known.put(hash, key, value, element);
            if let Ok(found) = self.table.find_entry(before, |other| *other as usize == at) {
                found.remove();
            }
            return self.name(hash, at as u32);
        }
    }

    fn name(&mut self, hash: u64, at: u32) {
        let places = &self.places;
        self.table
            .insert_unique(hash, at, |at| places.get(*at as usize).map_or(0, |known| known.hash));
    }
}

/// BLAKE3 makes the blocks of an element sixteen at a time: 2 KiB in a quarter of a microsecond, and in two one after the other.
fn is_made_quickly() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key and what it is changed to.
    type New<'a> = (u32, Option<&'a [u8]>);

    /// Applies changes as blocks, and compares with a sum that knows no elements.
    fn check(elements: &mut Elements, blocks: &[&[New<'_>]]) {
        let mut state = std::collections::BTreeMap::<u32, Vec<u8>>::new();
        let (mut sum, mut plain) = (Accumulator::new(), Accumulator::new());
        for block in blocks {
            let keys: Vec<[u8; 4]> = block.iter().map(|(key, _)| key.to_le_bytes()).collect();
            let old: Vec<Option<Vec<u8>>> = block.iter().map(|(key, _)| state.get(key).cloned()).collect();
            let changes = keys.iter().zip(*block).zip(&old);
            let changes = changes.map(|((key, (_, new)), old)| ((key.as_slice(), *new), old.as_deref()));
            for ((key, new), old) in changes.clone() {
                plain.replace(key, old, new);
            }
            elements.apply(&mut sum, changes);
            assert_eq!(sum.digest(), plain.digest());
            for (key, new) in *block {
                match new {
                    Some(new) => state.insert(*key, new.to_vec()),
                    None => state.remove(key),
                };
            }
            assert!(elements.places.len() <= elements.count_max && elements.table.len() == elements.places.len());
        }
    }

    #[test]
    fn the_sum_is_the_same_whatever_is_known() {
        let mut elements = Elements::bounded(20 * ENTRY_BYTES);
        let long = [7; 200];
        let blocks: [&[New<'_>]; 6] = [
            &[(1, Some(b"one")), (2, Some(b"two"))],
            &[(1, Some(b"one")), (2, Some(b"three"))],
            &[(1, None), (2, Some(&long))],
            &[(1, Some(b"again")), (2, Some(&long))],
            &[(2, Some(b"short")), (3, None)],
            &[(1, Some(b"")), (2, None)],
        ];
        check(&mut elements, &blocks);
        assert_eq!(elements.places.len(), 2, "a key keeps its place");
    }

    #[test]
    fn their_number_is_bounded_and_what_is_used_again_stays() {
        let mut elements = Elements::bounded(20 * ENTRY_BYTES);
        let values: Vec<[u8; 4]> = (0..200_u32).map(u32::to_le_bytes).collect();
        let blocks: Vec<Vec<New<'_>>> = (0..200_u32)
            .map(|round| {
                let value = values.get(round as usize).map(<[u8; 4]>::as_slice);
                vec![(0, value), (1_000 + round, value), (2_000 + round % 50, value)]
            })
            .collect();
        check(&mut elements, &blocks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let find = |key: u32| {
            elements.find(
                elements.hasher.hash_one(key.to_le_bytes().as_slice()),
                &key.to_le_bytes(),
            )
        };
        assert_eq!(elements.places.len(), 20);
        assert!(find(0).is_some() && find(1_199).is_some() && find(1_000).is_none());
    }

    #[test]
    fn more_than_fit_into_all_places_change_in_one_block() {
        let mut elements = Elements::bounded(4 * ENTRY_BYTES);
        let block: Vec<New<'_>> = (0..30).map(|key| (key, Some(b"value".as_slice()))).collect();
        let next: Vec<New<'_>> = (0..30).map(|key| (key, Some(b"next".as_slice()))).collect();
        check(&mut elements, &[&block, &next, &block]);
        check(&mut Elements::bounded(0), &[&block, &next]);
    }
}
