//! How far a queue was told, and the small file that keeps it for every queue of a namespace.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::registry::{QUEUES_MAX, Queue};
use crate::types::{Height, Incarnation, Malformed, Reader, Writer};

/// Format of the cursors.
const ENCODING: u8 = 1;

/// A place between two events of a queue: everything before it was confirmed. As text, it is the last confirmed event: `12` when all of
/// block 12 was, `12.0` when only the first of several events of block 12 was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor {
    /// Height of the next block.
    pub next: Height,
    /// Events of that block that were confirmed already.
    pub done: u32,
}

impl Cursor {
    /// Before the first event of `height`.
    pub fn before(height: Height) -> Self {
        Self { next: height, done: 0 }
    }

    /// After event number `index` of `count` that `height` gives the queue.
    pub fn after(height: Height, index: usize, count: usize) -> Self {
        if index + 1 >= count {
            Self::before(height.saturating_add(1))
        } else {
            Self {
                next: height,
                // A block gives a queue a handful of events at most.
                done: index as u32 + 1,
            }
        }
    }

    /// The same place, or that before the first event above `height`, whichever comes first.
    pub fn cut_above(self, height: Height) -> Self {
        self.min(Self::before(height.saturating_add(1)))
    }

    /// Height of the event before it.
    pub fn height(self) -> Height {
        match self.done {
            0 => self.next.saturating_sub(1),
            _ => self.next,
        }
    }

    fn write(self, out: &mut Writer) {
        out.u64(self.next);
        out.u32(self.done);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            next: input.u64()?,
            done: input.u32()?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.done, self.next.checked_sub(1)) {
            (0, Some(height)) => write!(f, "{height}"),
            (0, None) => f.write_str("-"),
            (done, _) => write!(f, "{}.{}", self.next, done - 1),
        }
    }
}

impl FromStr for Cursor {
    type Err = Malformed;

    /// Reads an event's id; the cursor is after that event.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bad = || Malformed::new(format!("{:?} is no id of an event", super::shown(text)));
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse::<u64>().ok(),
            false => None,
        };
        let read = match text.split_once('.') {
            None => number(text).and_then(|height| height.checked_add(1)).map(Self::before),
            Some((height, index)) => number(height).zip(number(index)).and_then(|(next, index)| {
                let done = u32::try_from(index).ok()?.checked_add(1)?;
                Some(Self { next, done })
            }),
        };
        read.ok_or_else(bad)
    }
}

/// The cursors of a namespace's queues, by the number of the registration: a queue that was registered anew begins anew.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cursors {
    /// Under which incarnation the events before them were told; none before the first.
    pub incarnation: Option<Incarnation>,
    /// Where each queue is; one that is not listed is where its registration begins.
    pub at: BTreeMap<u64, Cursor>,
    /// Queues that are to be told that heights from this one on may come again with another hash.
    pub notices: BTreeMap<u64, Height>,
}

impl Cursors {
    /// Where a queue is; never before its own beginning.
    pub fn of(&self, queue: &Queue) -> Cursor {
        let at = self.at.get(&queue.number).copied();
        at.map_or(queue.start(), |at| at.max(queue.start()))
    }

    /// A queue's consumer has everything before `to`; `anew`: first height that was made anew since it was told that. Never back.
    pub fn advance(&mut self, queue: &Queue, to: Cursor, anew: Option<Height>) {
        let told = self.of(queue).max(to);
        self.at.insert(queue.number, told);
        if self.notices.get(&queue.number).is_some_and(|from| told.next > *from) {
            // What is behind it was not announced to who was told it by a node that was lost later.
            match anew.filter(|anew| *anew >= told.next) {
                Some(anew) => self.notices.insert(queue.number, anew),
                None => self.notices.remove(&queue.number),
            };
        }
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64 + 36 * self.at.len());
        out.u8(ENCODING);
        out.option(self.incarnation.as_ref(), |out, incarnation| {
            out.incarnation(incarnation)
        });
        out.u32(self.at.len() as u32);
        for (number, cursor) in &self.at {
            out.u64(*number);
            cursor.write(&mut out);
        }
        out.u32(self.notices.len() as u32);
        for (number, height) in &self.notices {
            out.u64(*number);
            out.u64(*height);
        }
        out.into_bytes()
    }

    /// Reads the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let encoding = input.u8()?;
        if encoding != ENCODING {
            return Err(Malformed::new(format!("cursors of encoding {encoding}")));
        }
        let incarnation = input.option(Reader::incarnation)?;
        let mut cursors = Self {
            incarnation,
            ..Self::default()
        };
        for _ in 0..input.count(QUEUES_MAX, 20)? {
            let number = input.u64()?;
            cursors.at.insert(number, Cursor::read(&mut input)?);
        }
        for _ in 0..input.count(QUEUES_MAX, 16)? {
            let number = input.u64()?;
            cursors.notices.insert(number, input.u64()?);
        }
        input.finish()?;
        Ok(cursors)
    }
}
