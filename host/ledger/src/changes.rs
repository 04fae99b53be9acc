//! Keys and values of the state in one run of bytes: many of them cost a few allocations.

/// Where a key is in the bytes, and its value right behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    start: usize,
    key: u32,
    /// None where the key is removed.
    value: Option<u32>,
}

impl Part {
    /// Puts both at the end of `bytes`. Their lengths are bounded by the record's format.
    pub(crate) fn put(bytes: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) -> Part {
        let start = bytes.len();
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value.unwrap_or_default());
        Part {
            start,
            key: key.len() as u32,
            value: value.map(|value| value.len() as u32),
        }
    }

    /// Puts `value` in the place of the one that is there, where both have one length; false: nothing was done.
    pub(crate) fn replace(self, bytes: &mut [u8], value: Option<&[u8]>) -> bool {
        match (self.value, value) {
            (None, None) => true,
            (Some(length), Some(value)) if length as usize == value.len() => {
                let start = self.start + self.key as usize;
                match bytes.get_mut(start..start + value.len()) {
                    Some(place) => place.copy_from_slice(value),
                    None => return false,
                }
                true
            }
            _ => false,
        }
    }

    pub(crate) fn key(self, bytes: &[u8]) -> &[u8] {
        slice(bytes, self.start, self.key)
    }

    pub(crate) fn value(self, bytes: &[u8]) -> Option<&[u8]> {
        Some(slice(bytes, self.start + self.key as usize, self.value?))
    }
}

fn slice(bytes: &[u8], start: usize, length: u32) -> &[u8] {
    bytes.get(start..start + length as usize).unwrap_or_default()
}

/// A key, and its new value: none where it is removed.
pub(crate) type Change<'a> = (&'a [u8], Option<&'a [u8]>);

/// What a span changes in the state, each key once.
#[derive(Default)]
pub(crate) struct Changes {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

impl Changes {
    pub(crate) fn with_capacity(changes: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            parts: Vec::with_capacity(changes),
        }
    }

    pub(crate) fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        let part = Part::put(&mut self.bytes, key, value);
        self.parts.push(part);
    }

    pub(crate) fn get(&self, at: usize) -> Option<Change<'_>> {
        let part = self.parts.get(at)?;
        Some((part.key(&self.bytes), part.value(&self.bytes)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Change<'_>> + Clone {
        let bytes = self.bytes.as_slice();
        self.parts.iter().map(move |part| (part.key(bytes), part.value(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_found_in_order() {
        let mut changes = Changes::default();
        let all: [Change<'_>; 4] = [
            (b"a", Some(b"one")),
            (b"bb", None),
            (b"c", Some(b"")),
            (b"d", Some(b"two")),
        ];
        for (key, value) in all {
            changes.push(key, value);
        }
        assert_eq!(changes.iter().collect::<Vec<_>>(), all);
        assert_eq!((changes.get(1), changes.get(4)), (Some(all[1]), None));
    }

    #[test]
    fn a_value_of_one_length_takes_the_place_of_another() {
        let mut bytes = Vec::new();
        let part = Part::put(&mut bytes, b"key", Some(b"one"));
        let next = Part::put(&mut bytes, b"next", None);
        assert!(part.replace(&mut bytes, Some(b"two")));
        assert_eq!((part.key(&bytes), part.value(&bytes)), (&b"key"[..], Some(&b"two"[..])));
        assert!(!part.replace(&mut bytes, Some(b"three")) && !part.replace(&mut bytes, None));
        assert!(next.replace(&mut bytes, None) && !next.replace(&mut bytes, Some(b"")));
        assert_eq!((next.key(&bytes), next.value(&bytes)), (&b"next"[..], None));
    }
}
