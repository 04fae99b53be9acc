//! A chain for the simulator: a few accounts, transfers between them, records made by core's encoder; and records made wrong on purpose.

use bytes::Bytes;
use cvp_core::chain::takeover_delta;
use cvp_core::ledger::Ledger;
use cvp_core::record::{Accumulator, Delta, Draft, Local, encode, namespace_digest, parse};
use cvp_core::types::{Digest, Hostname, Incarnation, Malformed, Namespace, Position};

use crate::random::Random;

pub const ACCOUNTS: u64 = 6;
pub const BALANCE: u64 = 1000;

pub fn account(index: u64) -> Vec<u8> {
    format!("account/{index}").into_bytes()
}

fn balance(value: Option<Vec<u8>>) -> u64 {
    value
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// Sum of all balances at the appended tip: constant along every chain.
pub fn sum(ledger: &dyn Ledger) -> Result<u64, String> {
    (0..ACCOUNTS)
        .map(|index| {
            Ok(balance(
                ledger.state(&account(index)).map_err(|error| error.to_string())?,
            ))
        })
        .sum()
}

fn empty_draft(namespace: Digest, proposer: Hostname) -> Draft {
    Draft {
        namespace,
        height: 0,
        parent: Digest::ZERO,
        time: 0,
        incarnation: Incarnation { number: 0, id: [0; 16] },
        proposer,
        second_root: None,
        valid: 0,
        invalid: 0,
        valid_total: 0,
        invalid_total: 0,
        transactions: Vec::new(),
        receipts: Vec::new(),
        delta: Delta::default(),
        local: Local {
            write_time: 0,
            average_time_ms: 0,
        },
    }
}

pub fn genesis(namespace: &Namespace) -> Result<Bytes, Malformed> {
    let proposer = Hostname::new("genesis").map_err(|error| Malformed::new(error.to_string()))?;
    let mut draft = empty_draft(namespace_digest(namespace), proposer);
    let mut accumulator = Accumulator::new();
    for index in 0..ACCOUNTS {
        let (key, value) = (account(index), BALANCE.to_le_bytes().to_vec());
        accumulator.add(&key, &value);
        draft.delta.0.insert(key, Some(value));
    }
    encode(&draft, accumulator.digest())
}

/// What a maker of blocks knows of its tip.
#[derive(Clone, Debug)]
pub struct Maker {
    pub namespace: Namespace,
    pub hostname: Hostname,
    pub incarnation: Incarnation,
    tip: Position,
    valid_total: u64,
    tip_incarnation: Incarnation,
}

impl Maker {
    /// Goes on from a ledger whose records are all durable.
    pub fn open(
        ledger: &dyn Ledger,
        namespace: &Namespace,
        hostname: &Hostname,
        incarnation: Incarnation,
    ) -> Result<Maker, String> {
        let tip = ledger.tips().durable;
        let run = ledger
            .read(tip.height, tip.height, 1)
            .map_err(|error| error.to_string())?;
        let record = parse(&run.bytes).map_err(|error| error.to_string())?;
        Ok(Maker {
            namespace: namespace.clone(),
            hostname: hostname.clone(),
            incarnation,
            tip,
            valid_total: record.header().valid_total,
            tip_incarnation: record.header().incarnation,
        })
    }

    /// The next block: a take-over block first if the incarnation is new, else a transfer.
    pub fn block(&mut self, ledger: &dyn Ledger, now: u64, random: &mut Random) -> Result<(Bytes, Position), String> {
        let mut draft = empty_draft(namespace_digest(&self.namespace), self.hostname.clone());
        (draft.height, draft.parent) = (self.tip.height + 1, self.tip.hash);
        (draft.time, draft.incarnation) = (now * 1_000_000, self.incarnation);
        if self.tip_incarnation.number != 0 && self.tip_incarnation != self.incarnation {
            draft
                .delta
                .0
                .extend(takeover_delta(self.tip_incarnation, self.incarnation, self.tip.height));
        } else {
            let (from, to) = (random.range(0, ACCOUNTS - 1), random.range(0, ACCOUNTS - 1));
            let state = |index| {
                ledger
                    .state(&account(index))
                    .map(balance)
                    .map_err(|error| error.to_string())
            };
            let (have, other) = (state(from)?, state(to)?);
            let amount = random.range(0, have);
            if from != to {
                draft
                    .delta
                    .0
                    .insert(account(from), Some((have - amount).to_le_bytes().to_vec()));
                draft
                    .delta
                    .0
                    .insert(account(to), Some((other + amount).to_le_bytes().to_vec()));
            }
            let mut transaction = [random.id(), random.id(), random.id(), random.id()].concat();
            transaction.resize(64 + random.range(0, 400) as usize, 7);
            (draft.valid, draft.transactions, draft.receipts) = (1, vec![transaction], vec![vec![0]]);
        }
        draft.valid_total = self.valid_total + u64::from(draft.valid);
        let state = ledger
            .commitment_after(&draft.delta)
            .map_err(|error| error.to_string())?;
        let bytes = encode(&draft, state).map_err(|error| error.to_string())?;
        let record = parse(&bytes).map_err(|error| error.to_string())?;
        let position = record.position();
        (self.tip, self.valid_total, self.tip_incarnation) = (position, draft.valid_total, self.incarnation);
        Ok((bytes, position))
    }
}

/// How a run of records is damaged on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tamper {
    /// Any bit of any part.
    FlippedBit,
    /// A record whose digests all hold, on another parent.
    OtherParent,
    /// A record whose digests all hold, with a state commitment of nobody.
    OtherState,
}

/// The run as a damaged or lying provider would send it.
pub fn tamper(run: &Bytes, how: Tamper, random: &mut Random) -> Bytes {
    if how == Tamper::FlippedBit {
        let mut bytes = run.to_vec();
        let at = random.range(0, bytes.len() as u64 - 1) as usize;
        bytes[at] ^= 1 << random.range(0, 7);
        return bytes.into();
    }
    forge(run, how, random).unwrap_or_else(|| Bytes::from_static(b"nothing"))
}

fn forge(run: &Bytes, how: Tamper, random: &mut Random) -> Option<Bytes> {
    let record = parse(run).ok()?;
    let header = record.header();
    let mut draft = empty_draft(header.namespace, header.proposer.clone());
    (draft.height, draft.parent, draft.time) = (header.height, header.parent, header.time);
    (draft.incarnation, draft.valid, draft.invalid) = (header.incarnation, header.valid, header.invalid);
    (draft.valid_total, draft.invalid_total) = (header.valid_total, header.invalid_total);
    draft.transactions = record.transactions().ok()?.iter().map(<[u8]>::to_vec).collect();
    draft.receipts = record.receipts().ok()?.iter().map(<[u8]>::to_vec).collect();
    for entry in record.delta().ok()?.iter() {
        let (key, value) = entry.ok()?;
        draft.delta.0.insert(key.to_vec(), value.map(<[u8]>::to_vec));
    }
    let mut state = header.state;
    match how {
        Tamper::OtherParent => draft.parent = Digest::of(&random.id()),
        _ => state = Digest::of(&random.id()),
    }
    encode(&draft, state).ok()
}
