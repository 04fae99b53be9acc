//! The state commitment: LtHash16, a sum of one vector per (key, value). Adding and removing are exact inverses and commute, so the
//! commitment depends on the state alone, not on the way to it.

use std::fmt;

use crate::types::Digest;

const LANES: usize = 1024;

/// Bytes of an encoded accumulator.
pub const ACCUMULATOR_BYTES: usize = LANES * 2;

/// Sets elements of this sum apart from every other use of BLAKE3 here.
const DOMAIN: &[u8; 16] = b"cvp state elem 1";

/// The running sum: 1,024 lanes of 16 bits, wrapping.
#[derive(Clone, PartialEq, Eq)]
pub struct Accumulator {
    lanes: Box<[u16; LANES]>,
}

impl Default for Accumulator {
    fn default() -> Self {
        Self {
            lanes: Box::new([0; LANES]),
        }
    }
}

impl Accumulator {
    /// The sum of the empty state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds (key, value). The caller holds the rule that each key is in the sum once.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.add_element(&Element::of(key, value));
    }

    /// Takes (key, value) out again.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.remove_element(&Element::of(key, value));
    }

    /// Adds what another sum has.
    pub fn merge(&mut self, other: &Accumulator) {
        for (lane, added) in self.lanes.iter_mut().zip(other.lanes.iter()) {
            *lane = lane.wrapping_add(*added);
        }
    }

    /// As [`Accumulator::add`] of an element that is known.
    pub fn add_element(&mut self, element: &Element) {
        for (lane, bytes) in self.lanes.iter_mut().zip(element.0.as_chunks::<2>().0) {
            *lane = lane.wrapping_add(u16::from_le_bytes(*bytes));
        }
    }

    /// As [`Accumulator::remove`] of an element that is known.
    pub fn remove_element(&mut self, element: &Element) {
        for (lane, bytes) in self.lanes.iter_mut().zip(element.0.as_chunks::<2>().0) {
            *lane = lane.wrapping_sub(u16::from_le_bytes(*bytes));
        }
    }

    /// Replaces the value of `key`; nothing is hashed when it did not change.
    pub fn replace(&mut self, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.remove(key, old);
        }
        if let Some(new) = new {
            self.add(key, new);
        }
    }

    /// What a header carries: BLAKE3 of the encoded lanes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The lanes, little-endian.
    pub fn to_bytes(&self) -> [u8; ACCUMULATOR_BYTES] {
        let mut out = [0; ACCUMULATOR_BYTES];
        for (bytes, lane) in out.as_chunks_mut::<2>().0.iter_mut().zip(self.lanes.iter()) {
            *bytes = lane.to_le_bytes();
        }
        out
    }

    /// The inverse of [`Accumulator::to_bytes`].
    pub fn from_bytes(bytes: &[u8; ACCUMULATOR_BYTES]) -> Self {
        let mut out = Self::default();
        for (lane, bytes) in out.lanes.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *lane = u16::from_le_bytes(*bytes);
        }
        out
    }
}

impl fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accumulator({})", self.digest().short())
    }
}

/// What one (key, value) adds to a sum: most of the work of adding it.
#[derive(Clone)]
pub struct Element([u8; ACCUMULATOR_BYTES]);

impl Element {
    /// Of this key and value.
    pub fn of(key: &[u8], value: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DOMAIN);
        hasher.update(&(key.len() as u32).to_le_bytes());
        hasher.update(key);
        hasher.update(value);
        let mut out = [0; ACCUMULATOR_BYTES];
        hasher.finalize_xof().fill(&mut out);
        Self(out)
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Element({})", Digest::of(&self.0).short())
    }
}
