//! How far a queue was told, and the small file that keeps it for every queue of a namespace.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::registry::{QUEUES_MAX, Queue, Registry};
use crate::types::{Height, Incarnation, Malformed, Reader, Writer};

/// Format of the cursors.
const ENCODING: u8 = 2;
/// Format of cursors none of which is between an announcement and its block. An earlier release knows this one alone; there an announcement was
/// the first event of its block.
const ENCODING_PLAIN: u8 = 1;

/// What a queue may have to be told before the events of a block, in the order of telling. It is no event of the block: those have the same
/// places with it and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Announced {
    /// Nothing.
    #[default]
    Nothing = 0,
    /// Blocks below are not on this node: `MQException` with `subType` "recovery".
    Missing = 1,
    /// Blocks from here on may come again with another hash: `MQException` with `subType` "stateUpdate".
    Anew = 2,
}

impl Announced {
    /// The `subType` of its message.
    pub fn as_str(self) -> &'static str {
        match self {
            Announced::Nothing => "",
            Announced::Missing => "recovery",
            Announced::Anew => "stateUpdate",
        }
    }

    fn from_number(number: u8) -> Result<Self, Malformed> {
        [Announced::Nothing, Announced::Missing, Announced::Anew]
            .into_iter()
            .find(|known| *known as u8 == number)
            .ok_or_else(|| Malformed::new(format!("announcement {number}")))
    }
}

/// A place between two events of a queue: everything before it was confirmed. As text, it is the last confirmed event: `12` when all of
/// block 12 was, `12.0` when only the first of several events of block 12 was, `12.stateUpdate` when what is announced before that block was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor {
    /// Height of the next block.
    pub next: Height,
    /// Events of that block that were confirmed already.
    pub done: u32,
    /// What was announced before that block and confirmed, while none of its events is.
    pub announced: Announced,
}

impl Cursor {
    /// Before the first event of `height`, and before what is announced there.
    pub fn before(height: Height) -> Self {
        Self::inside(height, 0)
    }

    /// After `done` events of the block at `height`.
    pub fn inside(height: Height, done: u32) -> Self {
        Self {
            next: height,
            done,
            announced: Announced::Nothing,
        }
    }

    /// Behind what is announced before the block at `height`.
    pub fn behind(announced: Announced, height: Height) -> Self {
        Self {
            next: height,
            done: 0,
            announced,
        }
    }

    /// After event number `index` of `count` that `height` gives the queue.
    pub fn after(height: Height, index: usize, count: usize) -> Self {
        if index + 1 >= count {
            Self::before(height.saturating_add(1))
        } else {
            // A block gives a queue a handful of events at most.
            Self::inside(height, index as u32 + 1)
        }
    }

    /// The same place, or that before the first event above `height`, whichever comes first.
    pub fn cut_above(self, height: Height) -> Self {
        self.min(Self::before(height.saturating_add(1)))
    }

    /// Height of the event before it.
    pub fn height(self) -> Height {
        match (self.done, self.announced) {
            (0, Announced::Nothing) => self.next.saturating_sub(1),
            _ => self.next,
        }
    }

    fn write(self, out: &mut Writer, encoding: u8) {
        out.u64(self.next);
        out.u32(self.done);
        if encoding != ENCODING_PLAIN {
            out.u8(self.announced as u8);
        }
    }

    fn read(input: &mut Reader<'_>, encoding: u8) -> Result<Self, Malformed> {
        let mut cursor = Self::inside(input.u64()?, input.u32()?);
        if encoding != ENCODING_PLAIN {
            cursor.announced = Announced::from_number(input.u8()?)?;
        }
        if cursor.done > 0 && cursor.announced != Announced::Nothing {
            return Err(Malformed::new(format!("cursor {cursor} inside a block and before it")));
        }
        Ok(cursor)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.announced != Announced::Nothing {
            return write!(f, "{}.{}", self.next, self.announced.as_str());
        }
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
            Some((height, what)) => number(height).and_then(|next| {
                let mut known = [Announced::Missing, Announced::Anew].into_iter();
                if let Some(announced) = known.find(|known| known.as_str() == what) {
                    return Some(Self::behind(announced, next));
                }
                let done = u32::try_from(number(what)?).ok()?.checked_add(1)?;
                Some(Self::inside(next, done))
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
    /// Queues that are to be told that heights from this one on may come again with another hash, and did not confirm it yet.
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
        let heard = |from: &Height| told >= Cursor::behind(Announced::Anew, *from);
        if self.notices.get(&queue.number).is_some_and(heard) {
            // What is behind it was not announced to who was told it by a node that was lost later.
            match anew.filter(|anew| *anew >= told.next) {
                Some(anew) => self.notices.insert(queue.number, anew),
                None => self.notices.remove(&queue.number),
            };
        }
    }

    /// This node has no block below `from`: what is to be announced below it comes before the first one there is, behind the word that those
    /// below are missing. Says whether anything changed.
    pub fn begin_at(&mut self, from: Height) -> bool {
        let low = self.notices.values_mut().filter(|due| **due < from);
        low.map(|due| *due = from).count() > 0
    }

    /// What this node, which has no block below `from`, cannot tell the queues of `registry`.
    pub fn missing(&self, registry: &Registry, from: Height) -> Vec<Missing> {
        let of = |queue: &Queue| Some((queue.registration.queue.clone(), queue.missing(self.of(queue), from)?));
        let all = registry.queues().values().filter_map(of);
        all.map(|(queue, (first, last))| Missing { queue, first, last })
            .collect()
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let plain = self.at.values().all(|cursor| cursor.announced == Announced::Nothing);
        let encoding = if plain { ENCODING_PLAIN } else { ENCODING };
        let mut out = Writer::with_capacity(64 + 37 * self.at.len());
        out.u8(encoding);
        out.option(self.incarnation.as_ref(), |out, incarnation| {
            out.incarnation(incarnation)
        });
        out.u32(self.at.len() as u32);
        for (number, cursor) in &self.at {
            out.u64(*number);
            cursor.write(&mut out, encoding);
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
        if encoding != ENCODING && encoding != ENCODING_PLAIN {
            return Err(Malformed::new(format!("cursors of encoding {encoding}")));
        }
        let incarnation = input.option(Reader::incarnation)?;
        let mut cursors = Self {
            incarnation,
            ..Self::default()
        };
        for _ in 0..input.count(QUEUES_MAX, 20)? {
            let number = input.u64()?;
            cursors.at.insert(number, Cursor::read(&mut input, encoding)?);
        }
        for _ in 0..input.count(QUEUES_MAX, 16)? {
            let number = input.u64()?;
            cursors.notices.insert(number, input.u64()?);
        }
        input.finish()?;
        cursors.take_announcements_apart();
        Ok(cursors)
    }

    /// An earlier release counted an announcement as the first event of its block, and forgot it behind that block.
    fn take_announcements_apart(&mut self) {
        let at = &mut self.at;
        self.notices.retain(|number, from| match at.get_mut(number) {
            Some(cursor) if cursor.next == *from && cursor.done > 0 => {
                *cursor = match cursor.done {
                    1 => Cursor::behind(Announced::Anew, *from),
                    done => Cursor::inside(*from, done - 1),
                };
                false
            }
            _ => true,
        });
    }
}

/// Blocks that a queue was to be told and that are not on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Name of the queue.
    pub queue: String,
    /// First of them.
    pub first: Height,
    /// Last of them.
    pub last: Height,
}
