//! The order of telling one queue: which block to read next, what to publish, when the cursor moves. One window at a time: it is filled
//! from whole blocks, published, and confirmed as one; the cursor moves only then. So memory is bounded by the window and one block,
//! and what a crash or a lost broker makes come again is one window at most.

use std::collections::VecDeque;

use super::{Cursor, Event};
use crate::types::Height;

/// Most events of a window.
pub const WINDOW_EVENTS_MAX: usize = 256;
/// A window takes no further block once it holds so many bytes of messages.
pub const WINDOW_BYTES_MAX: usize = 1 << 20;
/// A window is published after so many blocks, also where few of them gave an event.
pub const WINDOW_BLOCKS_MAX: u64 = 4096;

/// Windows that are remembered apart while the standby does not hold them.
const AHEAD_MAX: usize = 64;

/// Up to which height a queue may be told: what queries see, and, for a delayed queue while a standby is attached, what that holds
/// durably (`copy`).
pub fn gate(delay: bool, applied: Height, copy: Option<Height>) -> Height {
    match copy {
        Some(copy) if delay => applied.min(copy),
        _ => applied,
    }
}

/// What a queue was told ahead of what the standby knows of it: a take-over makes as much come again. With a standby attached it is one window
/// at most.
#[derive(Clone, Debug, Default)]
pub struct Ahead {
    /// Windows that the standby does not hold the cursor of: place behind each, and its events.
    windows: VecDeque<(Cursor, usize)>,
    events: usize,
}

impl Ahead {
    /// Goes on at a place that the standby may not hold: nothing more is told before it does; `most` as for [`Ahead::has_room`].
    pub fn at(cursor: Cursor, most: usize) -> Self {
        Self {
            windows: [(cursor, most)].into(),
            events: most,
        }
    }

    /// A window was told.
    pub fn told(&mut self, after: Cursor, events: usize) {
        self.events += events;
        let many = self.windows.len() >= AHEAD_MAX;
        if let Some(last) = self.windows.back_mut().filter(|_| many) {
            // Without a standby, or behind one that lags: few are remembered, and what is between counts as not held.
            *last = (after, last.1 + events);
            return;
        }
        self.windows.push_back((after, events));
    }

    /// The standby holds this cursor durably.
    pub fn held(&mut self, cursor: Cursor) {
        while let Some((after, events)) = self.windows.pop_front() {
            if after > cursor {
                self.windows.push_front((after, events));
                return;
            }
            self.events -= events;
        }
    }

    /// Whether a window of so many events may be told before the standby holds more.
    pub fn has_room(&self, events: usize, most: usize) -> bool {
        self.windows.is_empty() || self.events + events <= most
    }
}

/// One queue's delivery.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Everything before it is confirmed.
    cursor: Cursor,
    /// Next height to read.
    next: Height,
    last: Option<Height>,
    window: Vec<Event>,
    bytes: usize,
    published: bool,
}

impl Delivery {
    /// Goes on at `cursor`, up to `last` where there is an end.
    pub fn new(cursor: Cursor, last: Option<Height>) -> Self {
        Self {
            cursor,
            next: cursor.next,
            last,
            window: Vec::new(),
            bytes: 0,
            published: false,
        }
    }

    /// Everything before it is confirmed.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The height that comes next, whether it may be told yet or not.
    pub fn next(&self) -> Height {
        self.next
    }

    /// The height to read next; none while a window is out, when it is full, or when nothing above `gate` may be told.
    pub fn wants(&self, gate: Height) -> Option<Height> {
        let room = self.window.len() < WINDOW_EVENTS_MAX
            && self.bytes < WINDOW_BYTES_MAX
            && self.next.saturating_sub(self.cursor.next) < WINDOW_BLOCKS_MAX;
        let allowed = self.next <= gate && self.last.is_none_or(|last| self.next <= last);
        (room && allowed && !self.published).then_some(self.next)
    }

    /// Blocks from the wanted height `first` up to `last` are not there: this is told in their place.
    pub fn missing(&mut self, first: Height, last: Height, word: Event) {
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::MissingNotTold) {
            return self.take(first, last, Vec::new());
        }
        self.take(first, last, vec![word]);
    }

    /// What the block at the wanted height gives the queue.
    pub fn loaded(&mut self, height: Height, events: Vec<Event>) {
        self.take(height, height, events);
    }

    fn take(&mut self, first: Height, last: Height, events: Vec<Event>) {
        if first != self.next || last < first || self.published {
            return;
        }
        // The first events of the block at the cursor may be confirmed already.
        let fresh = events.into_iter().filter(|event| event.after > self.cursor);
        for event in fresh {
            self.bytes += event.message.len();
            self.window.push(event);
        }
        self.next = last.saturating_add(1);
        if self.window.is_empty() {
            // Nothing to confirm below it.
            self.cursor = self.cursor.max(Cursor::before(self.next));
        }
    }

    /// The window to publish, once; empty when there is nothing to.
    pub fn publish(&mut self) -> &[Event] {
        if self.published {
            return &[];
        }
        self.published = !self.window.is_empty();
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::CursorAheadOfConfirmed) {
            self.cursor = Cursor::before(self.next);
        }
        &self.window
    }

    /// Events of the window that is filled or out.
    pub fn events(&self) -> usize {
        self.window.len()
    }

    /// The whole window was confirmed: the cursor is behind it.
    pub fn confirmed(&mut self) {
        if !self.published {
            return;
        }
        self.cursor = Cursor::before(self.next);
        self.window.clear();
        self.bytes = 0;
        self.published = false;
    }

    /// The window was not confirmed (the broker is gone, or said no): it is read and published again from the cursor on.
    pub fn failed(&mut self) {
        *self = Self::new(self.cursor, self.last);
    }
}
