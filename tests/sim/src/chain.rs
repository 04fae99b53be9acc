//! A chain for the simulator: a few accounts, transfers between them, blocks made as the node makes them; and records made wrong on purpose.

use bytes::Bytes;
use cvp_core::chain::{
    self, Address, Below, BlockContext, Executed, Genesis, Kind, StateView, Transaction, execute_block, state,
};
use cvp_core::ledger::{Ledger, LedgerError};
use cvp_core::record::{Delta, Draft, Local, Span, encode, namespace_digest, parse};
use cvp_core::types::{Digest, Hostname, Incarnation, Malformed, Namespace};

use crate::random::Random;

const ACCOUNTS: u8 = 6;
const BALANCE: u64 = 1000;
/// What all accounts hold together, for ever.
pub const SUM: u64 = ACCOUNTS as u64 * BALANCE;

/// What local measurements say in a world where they take no time.
const LOCAL: Local = Local {
    write_time: 0,
    average_time_ms: 0,
};

fn account(index: u8) -> Address {
    Address([index + 1; 20])
}

/// Sum of all balances at the appended tip: constant along every chain.
pub fn sum(ledger: &dyn Ledger) -> Result<u64, String> {
    (0..ACCOUNTS)
        .map(|index| {
            let value = ledger.state(&state::balance_key(account(index)));
            let balance = state::balance(value.map_err(|error| error.to_string())?.as_deref());
            u64::try_from(balance).map_err(|error| error.to_string())
        })
        .sum()
}

/// Record 0: every account is funded alike.
pub fn genesis(namespace: &Namespace) -> Result<Bytes, Malformed> {
    let content = Genesis {
        ca_mode: "None".into(),
        alloc: (0..ACCOUNTS)
            .map(|index| (account(index).0, BALANCE.to_string()))
            .collect(),
        ..Genesis::default()
    };
    chain::genesis(namespace, &content)
}

/// The executor's eyes: state at the appended tip.
struct TipState<'a>(&'a dyn Ledger);

impl StateView for TipState<'_> {
    type Error = LedgerError;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        self.0.state(key)
    }
}

/// A transfer of any amount up to all that one account had at first: some senders cannot pay.
fn transfer(random: &mut Random) -> Transaction {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(&random.id());
    hash[16..].copy_from_slice(&random.id());
    let mut party = || account(random.range(0, u64::from(ACCOUNTS) - 1) as u8);
    let (from, to) = (party(), party());
    Transaction {
        hash,
        text: Digest::of(&hash),
        from,
        to: Some(to),
        kind: Kind::Transfer,
        value: random.range(1, BALANCE),
        payload: Vec::new(),
        timestamp: 0,
        nonce: random.draw(),
        opcode: 0,
        extra: "e".repeat(random.range(0, 150) as usize),
        extra_ids: String::new(),
        version: "3.0".into(),
        cname: String::new(),
        gas_price: 0,
        gas_limit: 0,
        expiration: 0,
        signature: vec![0],
    }
}

/// Makes blocks where a ledger's chain ends.
#[derive(Clone, Debug)]
pub struct Maker {
    identity: chain::Maker,
    below: Below,
}

impl Maker {
    /// Goes on from a ledger whose records are all durable and applied.
    pub fn open(
        ledger: &dyn Ledger,
        namespace: &Namespace,
        hostname: &Hostname,
        incarnation: Incarnation,
    ) -> Result<Maker, String> {
        let tip = ledger.tips().appended;
        let bytes = ledger.record(tip.height).map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| format!("record {} is not applied", tip.height))?;
        let record = parse(&bytes).map_err(|error| error.to_string())?;
        let below = Below::of(record.header(), tip);
        let identity = chain::Maker {
            namespace: namespace_digest(namespace),
            proposer: hostname.clone(),
            incarnation,
        };
        Ok(Maker { identity, below })
    }

    /// The next block: a transfer. Answers the record; nothing is appended yet.
    pub fn block(&mut self, ledger: &dyn Ledger, now: u64, random: &mut Random) -> Result<Span, String> {
        let time = self.below.next_time(now * 1_000_000);
        let context = BlockContext {
            height: self.below.position.height + 1,
            time,
        };
        let executed = execute_block(&TipState(ledger), &context, vec![transfer(random)]);
        let executed: Executed = executed.map_err(|error| error.to_string())?;
        self.encoded(ledger, chain::draft(&self.identity, &self.below, time, LOCAL, executed))
    }

    /// The take-over block that this chain still lacks: it did not run when its node was promoted.
    pub fn belated(&mut self, ledger: &dyn Ledger, now: u64) -> Result<Option<Span>, String> {
        let changes = self.below.belated_takeover(self.identity.incarnation);
        changes
            .map(|changes| self.takeover(ledger, now, Delta(changes)))
            .transpose()
    }

    /// The empty first block after a promotion.
    pub fn takeover(&mut self, ledger: &dyn Ledger, now: u64, delta: Delta) -> Result<Span, String> {
        let time = self.below.next_time(now * 1_000_000);
        let draft = chain::takeover_draft(&self.identity, &self.below, time, LOCAL, delta.0);
        self.encoded(ledger, draft)
    }

    fn encoded(&mut self, ledger: &dyn Ledger, draft: Draft) -> Result<Span, String> {
        let state = ledger
            .commitment_after(&draft.delta)
            .map_err(|error| error.to_string())?;
        let bytes = encode(&draft, state).map_err(|error| error.to_string())?;
        let span = Span::of_own_record(bytes).map_err(|error| error.to_string())?;
        self.below = Below {
            position: span.last(),
            incarnation: draft.incarnation,
            time: draft.time,
            valid_total: draft.valid_total,
            invalid_total: draft.invalid_total,
        };
        Ok(span)
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
    let mut draft = Draft {
        namespace: header.namespace,
        height: header.height,
        parent: header.parent,
        time: header.time,
        incarnation: header.incarnation,
        proposer: header.proposer.clone(),
        second_root: None,
        valid: header.valid,
        invalid: header.invalid,
        valid_total: header.valid_total,
        invalid_total: header.invalid_total,
        transactions: record.transactions().ok()?.iter().map(<[u8]>::to_vec).collect(),
        receipts: record.receipts().ok()?.iter().map(<[u8]>::to_vec).collect(),
        delta: Delta::default(),
        local: LOCAL,
    };
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
