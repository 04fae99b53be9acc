//! Bytes of `system/cvp/promotion.journal`: one preallocated append-only file, one checksummed entry a finished step.
//!
//! ```text
//! file   "CVPJRNL1" · entry*  · zeros up to the preallocated size
//! entry  length u32 (of body) · body · checksum[16]
//! body   1 ++ plan            promotion begun (step `fence` finished)
//!        2 ++ step u8         step finished
//!        3 ++ held namespace  a namespace that could not be taken over after all
//!        4 ++ namespace       one that was held or never copied is the operator's own affair now
//! ```
//!
//! The checksum is BLAKE3 (first 16 bytes) over the checksum before it and the entry's length and body, so what is left of an older,
//! torn entry can never pass for the next one. The first entry that does not hold ends the journal: it was never acknowledged, its
//! step is done again. docs/formats/journal.md is the same in words.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{HeldNamespace, Plan};
use super::step::Step;
use super::uncopied::Uncopied;
use crate::types::{Malformed, Namespace, Reader, Writer};

const MAGIC: &[u8; 8] = b"CVPJRNL1";
const CHECKSUM_BYTES: usize = 16;
/// Longest body: the plan of 1,024 namespaces stays below it.
const BODY_BYTES_MAX: usize = 1 << 20;
const CHECKSUM_START: [u8; CHECKSUM_BYTES] = *b"cvp promotion v1";

/// Bytes the node preallocates and zeroes before the first entry, so that an append changes no file size and needs one fdatasync. It
/// grows by the same amount when an entry does not fit.
pub const JOURNAL_BYTES: u64 = 64 << 10;

/// One entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A promotion begins; finishes [`Step::Fence`].
    Begin(Plan),
    /// A later step is finished.
    Finished(Step),
    /// This namespace could not be taken over.
    Held(HeldNamespace),
    /// What was held was destroyed by the operator: nothing is left to take over; or what was never copied begins here, or was destroyed.
    Released(Namespace),
}

/// Bytes to write at an offset of the file, then to fdatasync.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// Where in the file, bytes.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

impl Append {
    /// The magic, when the file's first entry brings it along: to be made durable alone, before the rest. A torn write may keep its later
    /// pages and lose its first, and a file that does not begin with the magic is refused.
    pub fn head(&self) -> Option<&[u8]> {
        (self.offset == 0).then(|| &self.bytes[..MAGIC.len()])
    }
}

/// Why an entry cannot be appended, or a file is no journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The file's first bytes are not a journal's: it belongs to something else, or the disk lost it.
    #[error("this is not a promotion journal: {0}")]
    NotAJournal(String),
    /// A step out of order: a bug of the caller, nothing was written.
    #[error("step {to} cannot follow {from}")]
    Order {
        /// Last finished step, or `nothing`.
        from: &'static str,
        /// The step that was to be written.
        to: &'static str,
    },
    /// A plan outside its bounds.
    #[error("the plan cannot be written: {0}")]
    Plan(#[from] Malformed),
}

/// What a journal's bytes say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Journal {
    plan: Option<Plan>,
    finished: Option<Step>,
    held: BTreeMap<Namespace, HeldNamespace>,
    uncopied: BTreeSet<Namespace>,
    end: usize,
    checksum: [u8; CHECKSUM_BYTES],
    promotions: u32,
}

impl Default for Journal {
    fn default() -> Self {
        Self::empty()
    }
}

impl Journal {
    /// A journal without entries.
    pub fn empty() -> Journal {
        Journal {
            plan: None,
            finished: None,
            held: BTreeMap::new(),
            uncopied: BTreeSet::new(),
            end: 0,
            checksum: CHECKSUM_START,
            promotions: 0,
        }
    }

    /// Reads a file's bytes. An empty or all-zero file is an empty journal (the crash came while it was made); torn entries end it.
    pub fn read(bytes: &[u8]) -> Result<Journal, JournalError> {
        let mut journal = Journal::empty();
        let head = &bytes[..bytes.len().min(MAGIC.len())];
        if head != MAGIC {
            // The magic is durable before anything follows it ([`Append::head`]): torn, it leaves a prefix of itself and zeros.
            let torn = head.iter().zip(MAGIC).position(|(a, b)| a != b).unwrap_or(head.len());
            return if bytes[torn..].iter().all(|b| *b == 0) {
                Ok(journal)
            } else {
                Err(JournalError::NotAJournal(format!(
                    "it begins with {}",
                    hex::encode(head)
                )))
            };
        }
        journal.end = MAGIC.len();
        while let Some((entry, length)) = journal.entry_at(bytes) {
            let checksum_at = journal.end + length - CHECKSUM_BYTES;
            journal
                .checksum
                .copy_from_slice(&bytes[checksum_at..checksum_at + CHECKSUM_BYTES]);
            journal.end += length;
            journal.take(entry);
        }
        Ok(journal)
    }

    /// The plan of the promotion under way, or of the last one done.
    pub fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    /// The last finished step of the promotion under way, or [`Step::Done`] of the last one.
    pub fn finished(&self) -> Option<Step> {
        self.finished
    }

    /// What the last promotion did not take over, by name.
    pub fn held(&self) -> &BTreeMap<Namespace, HeldNamespace> {
        &self.held
    }

    /// What was never copied before the last promotion, and neither begins here nor was destroyed since.
    pub fn uncopied(&self) -> Uncopied {
        Uncopied {
            names: self.uncopied.clone(),
            from: self.plan.as_ref().map(Plan::predecessor).unwrap_or_default(),
        }
    }

    /// Whether [`Entry::Released`] of it says anything.
    pub fn knows(&self, name: &Namespace) -> bool {
        self.held.contains_key(name) || self.uncopied.contains(name)
    }

    /// Promotions begun since the file was made.
    pub fn promotions(&self) -> u32 {
        self.promotions
    }

    /// The bytes that record `entry`; call [`Journal::appended`] once they are durable.
    pub fn append(&self, entry: &Entry) -> Result<Append, JournalError> {
        if let Entry::Begin(plan) = entry {
            plan.check()?;
        }
        let again = matches!(entry, Entry::Finished(Step::Fence));
        if again || !self.may_follow(entry) {
            let from = self.finished.map_or("nothing", Step::id);
            return Err(JournalError::Order { from, to: entry.id() });
        }
        let mut out = Writer::new();
        if self.end == 0 {
            out.raw(MAGIC);
        }
        let body = encode_body(entry);
        if body.len() > BODY_BYTES_MAX {
            return Err(Malformed::new(format!("{} bytes of plan", body.len())).into());
        }
        out.bytes(&body);
        out.raw(&checksum(&self.checksum, &body));
        Ok(Append {
            offset: self.end as u64,
            bytes: out.into_bytes(),
        })
    }

    /// Advances over an entry whose bytes ([`Journal::append`]) are durable now.
    pub fn appended(&mut self, entry: Entry, append: &Append) {
        self.checksum
            .copy_from_slice(&append.bytes[append.bytes.len() - CHECKSUM_BYTES..]);
        self.end = append.offset as usize + append.bytes.len();
        self.take(entry);
    }

    /// Whether the entry may come where the journal ends.
    fn may_follow(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Begin(_) => Step::valid_transition(self.finished, Step::Fence),
            Entry::Finished(step) => Step::valid_transition(self.finished, *step),
            Entry::Held(_) | Entry::Released(_) => self.plan.is_some(),
        }
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Begin(plan) => {
                let held = plan.held.iter().map(|held| (held.name.clone(), held.clone()));
                self.held = held.collect();
                // A late one has the first's, and the operator may have decided since.
                if !plan.late {
                    self.uncopied.clone_from(&plan.uncopied);
                }
                self.plan = Some(plan);
                self.finished = Some(Step::Fence);
                self.promotions += 1;
            }
            Entry::Finished(step) => self.finished = Some(step),
            Entry::Held(held) => {
                self.held.insert(held.name.clone(), held);
            }
            Entry::Released(name) => {
                self.held.remove(&name);
                self.uncopied.remove(&name);
            }
        }
    }

    /// The whole, valid, permitted entry at the journal's end and its length in the file; `None` where it ends.
    fn entry_at(&self, bytes: &[u8]) -> Option<(Entry, usize)> {
        let mut input = Reader::new(bytes.get(self.end..)?);
        let body = input.bytes(BODY_BYTES_MAX).ok()?;
        let found: [u8; CHECKSUM_BYTES] = input.array().ok()?;
        let holds = found == checksum(&self.checksum, body);
        #[cfg(feature = "planted-faults")]
        let holds = holds || crate::planted::active(crate::planted::Fault::PartialJournalWrite);
        if body.is_empty() || !holds {
            return None;
        }
        let entry = decode_body(body).ok()?;
        self.may_follow(&entry)
            .then_some((entry, 4 + body.len() + CHECKSUM_BYTES))
    }
}

impl Entry {
    /// As messages name it.
    fn id(&self) -> &'static str {
        match self {
            Entry::Begin(_) => Step::Fence.id(),
            Entry::Finished(step) => step.id(),
            Entry::Held(_) => "held",
            Entry::Released(_) => "released",
        }
    }
}

fn checksum(before: &[u8; CHECKSUM_BYTES], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(&(body.len() as u32).to_le_bytes());
    hasher.update(body);
    let mut out = [0; CHECKSUM_BYTES];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_BYTES]);
    out
}

fn encode_body(entry: &Entry) -> Vec<u8> {
    let mut out = Writer::new();
    match entry {
        Entry::Begin(plan) => {
            out.u8(1);
            plan.write(&mut out);
        }
        Entry::Finished(step) => {
            out.u8(2);
            out.u8(step.code());
        }
        Entry::Held(held) => {
            out.u8(3);
            held.write(&mut out);
        }
        Entry::Released(name) => {
            out.u8(4);
            out.namespace(name);
        }
    }
    out.into_bytes()
}

fn decode_body(body: &[u8]) -> Result<Entry, Malformed> {
    let mut input = Reader::new(body);
    let entry = match input.u8()? {
        1 => Entry::Begin(Plan::read(&mut input)?),
        2 => {
            let code = input.u8()?;
            let step = Step::from_code(code).ok_or_else(|| Malformed::new(format!("step byte {code}")))?;
            Entry::Finished(step)
        }
        3 => Entry::Held(HeldNamespace::read(&mut input)?),
        4 => Entry::Released(input.namespace()?),
        other => return Err(Malformed::new(format!("entry kind {other}"))),
    };
    input.finish()?;
    Ok(entry)
}

#[cfg(test)]
mod tests;
