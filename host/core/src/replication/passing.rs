//! Transactions that clients send to a follower: passed on to the node that makes the blocks, and answered with what that node says.
//!
//! Bounded in number and bytes on both ends. Where the answer does not come, nobody knows whether the transaction was taken: the client is
//! told so with a code on which it sends again, and a transaction that is sent twice is taken once.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::frame::{Frame, Kind};
use crate::session::refuse;
use crate::types::{Malformed, Millis, Namespace, Reader, Refusal, Writer};

use super::api::{Action, Token};
use super::pair::Pair;

/// Longest transaction, bytes of JSON.
pub const PASS_BYTES_MAX: usize = 1 << 20;

/// Transactions of one follower on their way, and their bytes.
const PASSING_MAX: usize = 256;
const PASSING_BYTES_MAX: usize = 8 << 20;

/// An answer is waited for so long.
const ANSWER_MS: Millis = 10_000;

/// Longest text of an answer, bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// What became of a transaction that was passed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Passed {
    /// It is in the pool of the node that makes the blocks; its hash.
    Taken([u8; 32]),
    /// That node refused it.
    Refused {
        /// The platform's code.
        code: i64,
        /// The text.
        message: String,
    },
    /// Too many are on their way.
    Busy,
    /// No session, or no answer: why. It may have been taken all the same.
    Unanswered(String),
}

impl Passed {
    fn write(&self, out: &mut Writer) {
        let (code, message) = match self {
            Passed::Taken(hash) => {
                out.flag(true);
                return out.raw(hash);
            }
            Passed::Refused { code, message } => (*code, message.as_str()),
            Passed::Busy => (-32006, "system is too busy"),
            Passed::Unanswered(why) => (-32024, why.as_str()),
        };
        out.flag(false);
        out.u64(code as u64);
        let mut end = message.len().min(TEXT_BYTES_MAX);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        out.text(&message[..end]);
    }

    fn read(input: &mut Reader<'_>) -> Result<Passed, Malformed> {
        if input.flag()? {
            return Ok(Passed::Taken(input.array()?));
        }
        Ok(Passed::Refused {
            code: input.u64()? as i64,
            message: input.text(TEXT_BYTES_MAX)?.to_owned(),
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    bytes: usize,
    since: Millis,
    ticket: Token,
}

/// What is under way, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Passing {
    numbers: u64,
    under_way: BTreeMap<u64, UnderWay>,
    bytes: usize,
}

impl Passing {
    fn has_room(&self, bytes: usize) -> bool {
        self.under_way.len() < PASSING_MAX && self.bytes + bytes <= PASSING_BYTES_MAX
    }

    fn begin(&mut self, number: u64, bytes: usize, ticket: Token, since: Millis) {
        self.bytes += bytes;
        self.under_way.insert(number, UnderWay { bytes, since, ticket });
    }

    fn end(&mut self, number: u64) -> Option<UnderWay> {
        let ended = self.under_way.remove(&number)?;
        self.bytes -= ended.bytes;
        Some(ended)
    }
}

impl Pair {
    fn answer_passed(&mut self, ticket: Token, answer: Passed) {
        self.out.push(Action::PassedOn { ticket, answer });
    }

    /// Follower: a client's transaction.
    pub(super) fn pass_on(&mut self, ticket: Token, ns: &Namespace, transaction: &Bytes) {
        let lane = self.lanes.iter().find(|lane| lane.setup.namespace == *ns);
        let Some(tag) = lane.filter(|lane| lane.peer.is_some()).map(|lane| lane.tag) else {
            let why = self.ending.as_ref().map_or("no session yet", |ending| &ending.text);
            let answer = Passed::Unanswered(why.to_owned());
            return self.answer_passed(ticket, answer);
        };
        let bytes = transaction.len();
        if bytes > PASS_BYTES_MAX || !self.passing.has_room(bytes) {
            return self.answer_passed(ticket, Passed::Busy);
        }
        self.passing.numbers += 1;
        let number = self.passing.numbers;
        self.passing.begin(number, bytes, ticket, self.now);
        let mut out = Writer::with_capacity(bytes + 8);
        out.u64(number);
        out.raw(transaction);
        self.send_session(Frame::of(Kind::PassOn, tag, 0, out.into_bytes().into()));
    }

    /// Follower: what the VP says.
    pub(super) fn on_passed(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        let mut input = Reader::new(payload);
        let number = input.u64();
        let answer = Passed::read(&mut input);
        let (number, answer) = number
            .and_then(|number| Ok((number, answer?)))
            .map_err(|error| refuse::malformed("the answer to a transaction", &error))?;
        // One whose time is over was answered before.
        if let Some(ended) = self.passing.end(number) {
            self.answer_passed(ended.ticket, answer);
        }
        Ok(())
    }

    /// Serving a follower: a transaction to be taken in.
    pub(super) fn on_pass_on(&mut self, index: usize, payload: &Bytes) -> Result<(), Refusal> {
        let mut input = Reader::new(payload);
        let number = input
            .u64()
            .map_err(|error| refuse::malformed("a transaction", &error))?;
        let transaction = payload.slice(8..);
        if transaction.len() > PASS_BYTES_MAX || self.passing.under_way.contains_key(&number) {
            return Err(refuse::unexpected("transaction: too long, or of a number under way"));
        }
        if !self.passing.has_room(transaction.len()) {
            // A follower of this release keeps within the bounds by itself.
            self.answer_follower(number, &Passed::Busy);
            return Ok(());
        }
        let Some(lane) = self.lanes.get(index) else {
            return Ok(());
        };
        let ns = lane.setup.namespace.clone();
        self.passing.begin(number, transaction.len(), 0, self.now);
        self.out.push(Action::Submit {
            number,
            ns,
            transaction,
        });
        Ok(())
    }

    /// Serving a follower: the pool's answer.
    pub(super) fn on_submitted(&mut self, number: u64, answer: &Passed) {
        if self.passing.end(number).is_some() {
            self.answer_follower(number, answer);
        }
    }

    fn answer_follower(&mut self, number: u64, answer: &Passed) {
        let mut out = Writer::new();
        out.u64(number);
        answer.write(&mut out);
        self.send_session(Frame::node(Kind::Passed, out.into_bytes()));
    }

    /// Those whose answer does not come.
    pub(super) fn settle_passing(&mut self) {
        if self.serves_follower() {
            return;
        }
        let (now, passing) = (self.now, &self.passing.under_way);
        let late = |one: &UnderWay| now.saturating_sub(one.since) >= ANSWER_MS;
        let late: Vec<u64> = passing
            .iter()
            .filter(|(_, one)| late(one))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(ended) = self.passing.end(number) {
                let why = format!("no answer within {ANSWER_MS} ms; it may have been taken");
                self.answer_passed(ended.ticket, Passed::Unanswered(why));
            }
        }
    }

    /// The session is over: what was under way is answered by nobody.
    pub(super) fn drop_passing(&mut self) {
        let ended = std::mem::take(&mut self.passing.under_way);
        self.passing.bytes = 0;
        if self.serves_follower() {
            return;
        }
        for one in ended.into_values() {
            let why = "the session ended before the answer; it may have been taken".to_owned();
            self.answer_passed(one.ticket, Passed::Unanswered(why));
        }
    }
}
