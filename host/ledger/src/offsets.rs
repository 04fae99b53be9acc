//! Where the records of one segment begin, in few bytes: records of a chain are about as long as their neighbours, so of most of them one byte
//! is kept, where an offset takes four. That is what decides the memory of a long chain of short blocks.

/// Records whose offsets are packed together.
const GROUP: usize = 64;

/// File offsets that never fall, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    groups: Vec<Group>,
    /// Of each group, how much longer than its shortest record each but the last is; little-endian, as wide as the group says.
    longer: Vec<u8>,
    /// The offsets behind the groups, fewer than one holds.
    rest: Vec<u32>,
}

/// [`GROUP`] offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    first: u32,
    /// Bytes of its shortest record.
    shortest: u32,
    /// Where in `longer` its numbers begin; each takes `width` bytes: 0, 1, 2 or 4.
    begins: u32,
    width: u8,
}

impl Offsets {
    pub(crate) fn len(&self) -> usize {
        self.groups.len() * GROUP + self.rest.len()
    }

    /// The offset of the record at `index`.
    pub(crate) fn get(&self, index: usize) -> Option<u32> {
        match self.groups.get(index / GROUP) {
            Some(group) => Some(self.unpack(group).nth(index % GROUP).unwrap_or(group.first)),
            None => self.rest.get(index - self.groups.len() * GROUP).copied(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let packed = self.groups.iter().flat_map(|group| self.unpack(group));
        packed.chain(self.rest.iter().copied())
    }

    /// One more, not below the last.
    pub(crate) fn push(&mut self, offset: u32) {
        self.rest.push(offset);
        if self.rest.len() == GROUP {
            self.pack();
        }
    }

    /// Takes the last one away.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        if self.rest.is_empty() {
            let group = self.groups.pop()?;
            self.rest = self.unpack(&group).collect();
            self.longer.truncate(group.begins as usize);
        }
        self.rest.pop()
    }

    /// How many of the first `to` are below `floor`.
    pub(crate) fn below(&self, floor: u64, to: usize) -> usize {
        let (mut low, mut high) = (0, to.min(self.len()));
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(|offset| u64::from(offset) < floor) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// No more come: gives back the room that was for them.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.groups.shrink_to_fit();
        self.longer.shrink_to_fit();
        self.rest.shrink_to_fit();
    }

    fn pack(&mut self) {
        let lengths = || self.rest.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let shortest = lengths().min().unwrap_or(0);
        let width = match lengths().max().unwrap_or(0) - shortest {
            0 => 0,
            1..=0xff => 1,
            0x100..=0xffff => 2,
            _ => 4,
        };
        let group = Group {
            first: self.rest[0],
            shortest,
            begins: self.longer.len() as u32,
            width,
        };
        for length in lengths() {
            let bytes = (length - shortest).to_le_bytes();
            self.longer.extend_from_slice(&bytes[..usize::from(width)]);
        }
        self.groups.push(group);
        self.rest.clear();
    }

    fn unpack<'a>(&'a self, group: &Group) -> impl Iterator<Item = u32> + 'a {
        let (first, shortest, width) = (group.first, group.shortest, usize::from(group.width));
        let longer = self.longer.get(group.begins as usize..).unwrap_or_default();
        let lengths = (0..GROUP - 1).map(move |index| {
            let mut bytes = [0; 4];
            if let Some(number) = longer.get(index * width..(index + 1) * width) {
                bytes[..width].copy_from_slice(number);
            }
            shortest + u32::from_le_bytes(bytes)
        });
        let offsets = lengths.scan(first, |offset, length| {
            *offset += length;
            Some(*offset)
        });
        std::iter::once(first).chain(offsets)
    }
}

impl FromIterator<u32> for Offsets {
    fn from_iter<I: IntoIterator<Item = u32>>(offsets: I) -> Self {
        let mut packed = Self::default();
        offsets.into_iter().for_each(|offset| packed.push(offset));
        packed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Offsets of records of lengths that are drawn from one of several ranges, so that groups of each width come.
    fn offsets() -> impl Strategy<Value = Vec<u32>> {
        let lengths = prop_oneof![Just(700..701u32), Just(600..850), Just(600..60_000), Just(0..90_000)];
        let runs = prop::collection::vec((lengths, 1..200usize), 0..8).prop_flat_map(|runs| {
            let each = runs
                .into_iter()
                .map(|(range, count)| prop::collection::vec(range, count));
            each.collect::<Vec<_>>()
        });
        runs.prop_map(|runs| {
            let lengths = runs.into_iter().flatten();
            let offsets = lengths.scan(64, |offset: &mut u32, length| {
                *offset += length;
                Some(*offset)
            });
            offsets.collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_pushed_is_found_and_taken_away(plain in offsets(), taken in 0..150usize, floor in 0..90_000_000u64) {
            let mut packed: Offsets = plain.iter().copied().collect();
            let mut plain = plain;
            let check = |packed: &Offsets, plain: &[u32]| {
                assert_eq!(packed.len(), plain.len());
                assert_eq!(packed.iter().collect::<Vec<_>>(), plain);
                let found: Vec<u32> = (0..plain.len()).map_while(|index| packed.get(index)).collect();
                assert_eq!(found, plain);
                assert_eq!(packed.get(plain.len()), None);
                for to in [0, plain.len() / 2, plain.len()] {
                    let below = plain[..to].partition_point(|offset| u64::from(*offset) < floor);
                    assert_eq!(packed.below(floor, to), below);
                }
            };
            check(&packed, &plain);
            for _ in 0..taken {
                assert_eq!(packed.pop(), plain.pop());
            }
            check(&packed, &plain);
            // And goes on as if nothing had been taken.
            let last = plain.last().copied().unwrap_or(64);
            let more: Vec<u32> = (1..100).map(|step| last + step * 1_000).collect();
            more.iter().for_each(|offset| packed.push(*offset));
            plain.extend(&more);
            check(&packed, &plain);
            assert_eq!(packed, plain.iter().copied().collect());
        }
    }

    #[test]
    fn short_blocks_take_a_third_of_what_their_offsets_would() {
        let mut packed: Offsets = (0..60_000u32).map(|index| 64 + index * 1_090 + index % 7).collect();
        packed.shrink_to_fit();
        let bytes = packed.groups.len() * size_of::<Group>() + packed.longer.len() + packed.rest.len() * 4;
        assert!(bytes < 60_000 * 4 / 3, "{bytes}");
    }

    #[test]
    fn the_largest_file_is_packed_too() {
        let far = [0, u32::MAX / 2, u32::MAX - 1, u32::MAX];
        let plain: Vec<u32> = far.iter().copied().chain(std::iter::repeat_n(u32::MAX, 90)).collect();
        let packed: Offsets = plain.iter().copied().collect();
        assert_eq!(packed.iter().collect::<Vec<_>>(), plain);
    }
}
