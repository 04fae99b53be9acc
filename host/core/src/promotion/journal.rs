//! Bytes of `system/cvp/promotion.journal`: one preallocated append-only file, one checksummed entry a finished step.
//!
//! ```text
//! file   "CVPJRNL1" · entry*  · zeros up to the preallocated size
//! entry  length u32 (of body) · body · checksum[16]
//! body   1 ++ plan            promotion begun (step `fence` finished)
//!        2 ++ step u8         step finished
//!        3 ++ held namespace  a namespace that could not be taken over after all
//!        4 ++ namespace       one that was held is the operator's own affair now
//! ```
//!
//! The checksum is BLAKE3 (first 16 bytes) over the checksum before it and the entry's length and body, so what is left of an older,
//! torn entry can never pass for the next one. The first entry that does not hold ends the journal: it was never acknowledged, its
//! step is done again. docs/formats/journal.md is the same in words.

use std::collections::BTreeMap;

use super::plan::{HeldNamespace, Plan};
use super::step::Step;
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
    /// The operator destroyed what was held: nothing is left to take over.
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
mod tests {
    use super::super::run::tests::plan;
    use super::super::step::next_step;
    use super::*;

    fn write(file: &mut Vec<u8>, append: &Append) {
        let end = append.offset as usize + append.bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[append.offset as usize..end].copy_from_slice(&append.bytes);
    }

    fn full() -> (Vec<u8>, Vec<usize>) {
        let mut file = vec![0; 4096];
        let mut journal = Journal::empty();
        let mut ends = Vec::new();
        for step in Step::ALL {
            let entry = match step {
                Step::Fence => Entry::Begin(plan()),
                later => Entry::Finished(later),
            };
            let append = journal.append(&entry).unwrap();
            write(&mut file, &append);
            journal.appended(entry, &append);
            ends.push(journal.end);
        }
        (file, ends)
    }

    #[test]
    fn a_cut_at_any_byte_leaves_the_entries_before_it() {
        let (file, ends) = full();
        for cut in 0..=ends[6] {
            let mut torn = file[..cut].to_vec();
            torn.resize(4096, 0);
            let journal = Journal::read(&torn).unwrap();
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(
                journal.finished(),
                whole.checked_sub(1).map(|i| Step::ALL[i]),
                "cut {cut}"
            );
            assert_eq!(Journal::read(&file[..cut]).unwrap(), journal, "short file, cut {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_there() {
        let (file, ends) = full();
        for at in MAGIC.len()..ends[6] {
            let mut bad = file.clone();
            bad[at] ^= 0x10;
            let whole = ends.iter().filter(|end| **end <= at).count();
            let finished = Journal::read(&bad).unwrap().finished();
            assert_eq!(finished, whole.checked_sub(1).map(|i| Step::ALL[i]), "byte {at}");
        }
    }

    #[test]
    fn the_rest_of_a_torn_entry_never_passes_for_a_new_one() {
        let (file, ends) = full();
        let mut torn = file.clone();
        torn[ends[0] + 5] ^= 1;
        let mut journal = Journal::read(&torn).unwrap();
        assert_eq!(next_step(&journal), Some(Step::Identity));
        let entry = Entry::Finished(Step::Identity);
        let append = journal.append(&entry).unwrap();
        write(&mut torn, &append);
        journal.appended(entry, &append);
        assert_eq!(torn[..ends[1]], file[..ends[1]]);
        // Written again with the same bytes, the old chain is whole again: each of its entries was durable and true.
        assert_eq!(Journal::read(&torn).unwrap().finished(), Some(Step::Done));
    }

    #[test]
    fn one_file_holds_several_promotions() {
        let (mut file, _) = full();
        let mut journal = Journal::read(&file).unwrap();
        assert_eq!(next_step(&journal), None);
        let mut second = plan();
        second.old = second.new;
        second.new.number += 1;
        let entry = Entry::Begin(second.clone());
        let append = journal.append(&entry).unwrap();
        write(&mut file, &append);
        journal.appended(entry, &append);
        assert_eq!(Journal::read(&file).unwrap(), journal);
        assert_eq!((journal.plan(), journal.promotions()), (Some(&second), 2));
        assert_eq!(next_step(&journal), Some(Step::Identity));
    }

    fn held(name: &str, reason: &str) -> HeldNamespace {
        HeldNamespace::new(Namespace::new(name).unwrap(), crate::types::NodeRole::Vp, reason)
    }

    #[test]
    fn what_was_held_is_remembered_until_it_is_taken_over_or_released() {
        let (mut file, mut journal) = (vec![0; 8192], Journal::empty());
        let mut put = |journal: &mut Journal, entry: Entry| {
            let append = journal.append(&entry)?;
            write(&mut file, &append);
            journal.appended(entry, &append);
            assert_eq!(&Journal::read(&file).unwrap(), journal);
            Ok::<(), JournalError>(())
        };
        assert!(put(&mut journal, Entry::Held(held("ns1", "too early"))).is_err());
        let mut first = plan();
        first.held = vec![held("ns1", "it is not open"), held("ns2", "its files are bad")];
        put(&mut journal, Entry::Begin(first.clone())).unwrap();
        put(&mut journal, Entry::Held(held("ns3", &"x".repeat(500)))).unwrap();
        assert_eq!(journal.held().len(), 3);
        for step in &Step::ALL[1..] {
            put(&mut journal, Entry::Finished(*step)).unwrap();
        }
        put(&mut journal, Entry::Released(Namespace::new("ns2").unwrap())).unwrap();
        let names = |journal: &Journal| journal.held().keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (names(&journal), next_step(&journal)),
            (vec!["ns1".into(), "ns3".into()], None)
        );
        let late = first.late(plan().namespaces, vec![held("ns3", "still")]);
        put(&mut journal, Entry::Begin(late)).unwrap();
        assert_eq!(
            (names(&journal), next_step(&journal)),
            (vec!["ns3".into()], Some(Step::Identity))
        );
    }

    #[test]
    fn a_plan_of_before_namespaces_could_be_held_is_read() {
        let mut out = Writer::new();
        plan().write(&mut out);
        let bytes = out.into_bytes();
        // Without the count of what is held and the flag behind it.
        let older = &bytes[..bytes.len() - 5];
        assert_eq!(Plan::read(&mut Reader::new(older)).unwrap(), plan());
    }

    #[test]
    fn only_the_first_entry_of_a_file_has_a_head() {
        let mut journal = Journal::empty();
        let first = journal.append(&Entry::Begin(plan())).unwrap();
        assert_eq!(first.head(), Some(MAGIC.as_slice()));
        // The head is durable, and the entry behind it in any pages but the first, or torn: the promotion has not begun.
        let mut torn = first.bytes.clone();
        torn[MAGIC.len()..100].fill(0);
        assert_eq!(Journal::read(&torn).unwrap().plan(), None);
        let again = Journal::read(&torn).unwrap().append(&Entry::Begin(plan())).unwrap();
        assert_eq!((again.offset, again.head()), (MAGIC.len() as u64, None));
        journal.appended(Entry::Begin(plan()), &first);
        assert_eq!(journal.append(&Entry::Finished(Step::Identity)).unwrap().head(), None);
    }

    #[test]
    fn order_bounds_and_strangers_are_refused() {
        let journal = Journal::empty();
        assert!(matches!(
            journal.append(&Entry::Finished(Step::Identity)),
            Err(JournalError::Order {
                from: "nothing",
                to: "identity"
            })
        ));
        let mut backwards = plan();
        backwards.new.number = backwards.old.number;
        assert!(matches!(
            journal.append(&Entry::Begin(backwards)),
            Err(JournalError::Plan(_))
        ));
        assert!(Journal::read(b"something else entirely").is_err());
        assert!(Journal::read(&[]).unwrap().plan().is_none());
        assert!(Journal::read(&[0; 64]).unwrap().plan().is_none());
    }
}
