//! State values that were applied lately: a block changes many keys that the blocks before it changed, and asks for each one's old value.
//!
//! Two generations: the young one takes what is put; once it is full it takes the old one's place. So what is used again stays, at the cost
//! of no list. Values here are the newest of their keys, unless a span is pending for them: whoever looks asks for that first.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::changes::Part;

/// What an entry takes beside its key and value, bytes, about.
const ENTRY_BYTES: usize = 2 * size_of::<Part>();

/// Values by key, in one run of bytes that is used again when they go.
#[derive(Default)]
struct Generation {
    bytes: Vec<u8>,
    parts: HashTable<Part>,
}

impl Generation {
    fn get(&self, hash: u64, key: &[u8]) -> Option<Option<&[u8]>> {
        let part = self.parts.find(hash, |part| part.key(&self.bytes) == key)?;
        Some(part.value(&self.bytes))
    }

    fn remove(&mut self, hash: u64, key: &[u8]) {
        if let Ok(found) = self.parts.find_entry(hash, |part| part.key(&self.bytes) == key) {
            found.remove();
        }
    }

    /// Puts a value where one of its length is; false: there is none.
    fn replace(&mut self, hash: u64, key: &[u8], value: Option<&[u8]>) -> bool {
        let part = self.parts.find(hash, |part| part.key(&self.bytes) == key).copied();
        part.is_some_and(|part| part.replace(&mut self.bytes, value))
    }

    fn used(&self) -> usize {
        self.bytes.len() + self.parts.len() * ENTRY_BYTES
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.parts.clear();
    }
}

/// The newest applied values of some keys, bounded in bytes.
pub(crate) struct Recent {
    young: Generation,
    old: Generation,
    generation_bytes: usize,
    hasher: RandomState,
}

impl Recent {
    /// At most about `bytes_max` in all.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            young: Generation::default(),
            old: Generation::default(),
            generation_bytes: bytes_max / 2,
            hasher: RandomState::default(),
        }
    }

    /// The newest value of `key` now, none where it was removed.
    pub(crate) fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        let hash = self.hasher.hash_one(key);
        let added = ENTRY_BYTES + key.len() + value.map_or(0, <[u8]>::len);
        if added > self.generation_bytes {
            // Code of a contract, say: known here no more, and not with an older value.
            self.young.remove(hash, key);
            self.old.remove(hash, key);
            return;
        }
        if self.young.replace(hash, key, value) {
            return;
        }
        if self.young.used() + added > self.generation_bytes {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        } else {
            // Of another length: its bytes are lost until the generation goes.
            self.young.remove(hash, key);
        }
        let part = Part::put(&mut self.young.bytes, key, value);
        let Generation { bytes, parts } = &mut self.young;
        parts.insert_unique(hash, part, |part| self.hasher.hash_one(part.key(bytes)));
    }

    /// As [`crate::pending::Pending::state`].
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let hash = self.hasher.hash_one(key);
        self.young.get(hash, key).or_else(|| self.old.get(hash, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(recent: &mut Recent, key: u32, value: Option<&[u8]>) {
        recent.put(&key.to_le_bytes(), value);
    }

    fn get(recent: &Recent, key: u32) -> Option<Option<Vec<u8>>> {
        let found = recent.get(&key.to_le_bytes())?;
        Some(found.map(<[u8]>::to_vec))
    }

    #[test]
    fn the_newest_value_of_a_key_is_found_or_none_at_all() {
        let mut recent = Recent::new(20 * 200);
        put(&mut recent, 1, Some(&[1]));
        put(&mut recent, 2, Some(&[2]));
        put(&mut recent, 2, None);
        assert_eq!(get(&recent, 1), Some(Some(vec![1])));
        assert_eq!(get(&recent, 2), Some(None), "known to be removed");
        assert_eq!(get(&recent, 3), None);
        put(&mut recent, 2, Some(&[3, 4]));
        assert_eq!(get(&recent, 2), Some(Some(vec![3, 4])), "of another length");
        // The young generation becomes the old one, and 1 is written anew.
        (100..130).for_each(|key| put(&mut recent, key, Some(&[0])));
        put(&mut recent, 1, Some(&[9]));
        assert_eq!(get(&recent, 1), Some(Some(vec![9])));
        // Too large to be kept: nothing older may be found in its place.
        put(&mut recent, 1, Some(&[7; 3000]));
        assert_eq!(get(&recent, 1), None);
    }

    #[test]
    fn bytes_are_bounded_and_what_is_used_again_stays() {
        let mut recent = Recent::new(20_000);
        for round in 0..10_000_u32 {
            // Of two lengths in turn.
            let value = &round.to_le_bytes()[..2 + (round as usize % 2)];
            put(&mut recent, 0, Some(value));
            put(&mut recent, 1_000 + round, Some(&[1]));
            assert!(recent.young.used() <= 10_000 && recent.old.used() <= 10_000);
            assert_eq!(get(&recent, 0), Some(Some(value.to_vec())));
        }
        assert_eq!(get(&recent, 1_000), None);
        assert!(get(&recent, 10_999).is_some() && get(&recent, 10_900).is_some());
    }
}
