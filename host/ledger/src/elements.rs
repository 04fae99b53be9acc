//! Elements of values that were put into the sum lately: the block that changes such a value again takes its element out, and need not make
//! it once more. An element is a function of its key and value, so one that is found is the right one.
//!
//! Two generations, as of the values themselves (`recent`).

use std::collections::HashMap;
use std::sync::Arc;

use cvp_core::record::{ACCUMULATOR_BYTES, Element};
use foldhash::fast::RandomState;

/// What one takes, with its key, its value and its place, bytes, about.
const ENTRY_BYTES: usize = ACCUMULATOR_BYTES + 256;

struct Known {
    value: Box<[u8]>,
    element: Box<Element>,
}

type Generation = HashMap<Arc<[u8]>, Known, RandomState>;

/// Some elements by key, bounded.
pub(crate) struct Elements {
    young: Generation,
    old: Generation,
    count_max: usize,
}

impl Elements {
    /// At most about `bytes_max` in all.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            count_max: bytes_max / 2 / ENTRY_BYTES,
        }
    }

    /// The element of this key and value, if it is known; it is not any more then.
    pub(crate) fn take(&mut self, key: &[u8], value: &[u8]) -> Option<Box<Element>> {
        let young = self.young.remove(key);
        let known = young.or_else(|| self.old.remove(key))?;
        (*known.value == *value).then_some(known.element)
    }

    /// The element of this key and value is known from now on.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], element: Box<Element>) {
        if value.len() > ACCUMULATOR_BYTES {
            return;
        }
        if self.young.len() >= self.count_max {
            self.old = std::mem::take(&mut self.young);
        }
        let value = value.into();
        self.young.insert(key.into(), Known { value, element });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_found_for_its_own_value_alone_and_their_number_is_bounded() {
        let mut elements = Elements::new(20 * ENTRY_BYTES);
        let of = |key: &[u8], value: &[u8]| Box::new(Element::of(key, value));
        elements.put(b"key", b"one", of(b"key", b"one"));
        assert!(elements.take(b"key", b"two").is_none());
        elements.put(b"key", b"two", of(b"key", b"two"));
        let found = elements.take(b"key", b"two").unwrap();
        assert_eq!(format!("{found:?}"), format!("{:?}", Element::of(b"key", b"two")));
        assert!(elements.take(b"key", b"two").is_none(), "it was taken");
        for key in 0..1_000_u32 {
            let key = key.to_le_bytes();
            elements.put(&key, b"v", of(&key, b"v"));
            assert!(elements.young.len() + elements.old.len() <= 20);
        }
        assert!(elements.take(&999_u32.to_le_bytes(), b"v").is_some());
        assert!(elements.take(&0_u32.to_le_bytes(), b"v").is_none());
    }
}
