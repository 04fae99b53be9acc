//! State values that were applied lately: a block changes many keys that the blocks before it changed, and asks for each one's old value.
//!
//! Two generations: the young one takes what is put; once it is full it takes the old one's place. So what is used again stays, at the cost
//! of no list. Values here are the newest of their keys, unless a span is pending for them: whoever looks asks for that first.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

/// What an entry takes beside its key and value, bytes, about.
const ENTRY_BYTES: usize = 96;

type Values = HashMap<Arc<[u8]>, Option<Arc<[u8]>>, RandomState>;

/// The newest applied values of some keys, bounded in bytes.
pub(crate) struct Recent {
    young: Values,
    old: Values,
    young_bytes: usize,
    generation_bytes: usize,
}

impl Recent {
    /// At most about `bytes_max` in all.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            young_bytes: 0,
            generation_bytes: bytes_max / 2,
        }
    }

    /// The newest value of `key` now, none where it was removed.
    pub(crate) fn put(&mut self, key: &Arc<[u8]>, value: &Option<Arc<[u8]>>) {
        let length = |value: &Option<Arc<[u8]>>| value.as_ref().map_or(0, |value| value.len());
        let added = ENTRY_BYTES + key.len() + length(value);
        if added > self.generation_bytes {
            // Code of a contract, say: known here no more, and not with an older value.
            self.young.remove(key);
            self.old.remove(key);
            return;
        }
        if self.young_bytes + added > self.generation_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        let before = self.young.insert(Arc::clone(key), value.clone());
        let replaced = before.map_or(0, |value| ENTRY_BYTES + key.len() + length(&value));
        self.young_bytes = (self.young_bytes + added).saturating_sub(replaced);
    }

    /// As [`crate::pending::Pending::state`].
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Arc<[u8]>>> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(recent: &mut Recent, key: u32, value: Option<&[u8]>) {
        recent.put(&key.to_le_bytes().as_slice().into(), &value.map(Arc::from));
    }

    fn get(recent: &Recent, key: u32) -> Option<Option<Vec<u8>>> {
        let found = recent.get(&key.to_le_bytes())?;
        Some(found.map(|value| value.to_vec()))
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
        let mut recent = Recent::new(200 * 101);
        for round in 0..10_000_u32 {
            put(&mut recent, 0, Some(&round.to_le_bytes()));
            put(&mut recent, 1_000 + round, Some(&[1]));
            assert!(recent.young.len() + recent.old.len() <= 202);
            assert_eq!(get(&recent, 0), Some(Some(round.to_le_bytes().to_vec())));
        }
        assert_eq!(get(&recent, 1_000), None);
    }
}
