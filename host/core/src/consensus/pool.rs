//! Verified transactions that wait for a block, and those in blocks that queries do not show yet.
//!
//! A transaction is known by hash and by signed text, so that another signature of the same text is a duplicate. The ledger answers for
//! what is applied; this pool for everything before: [`Pool::take`] hands transactions out but remembers them until [`Pool::forget`].

use std::collections::{BTreeSet, VecDeque};

use crate::chain::{Rejected, Transaction, code};
use crate::types::Digest;

/// Bounds of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLimits {
    /// Most transactions that wait or are under way (`consensus.pool.pool_size`).
    pub transactions_max: usize,
    /// Most bytes that wait, about as encoded.
    pub bytes_max: usize,
}

/// The pool of one namespace.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    waiting: VecDeque<Transaction>,
    waiting_bytes: usize,
    hashes: BTreeSet<[u8; 32]>,
    texts: BTreeSet<Digest>,
}

/// Bytes of a transaction's fixed fields with their lengths, rounded up.
const FIXED_BYTES: usize = 256;

/// What a transaction weighs in pool and block: at least the length of its encoding, so that a batch's bound holds for the record.
fn weight(transaction: &Transaction) -> usize {
    let Transaction {
        payload,
        extra,
        extra_ids,
        version,
        cname,
        signature,
        ..
    } = transaction;
    let texts = extra.len() + extra_ids.len() + version.len() + cname.len();
    FIXED_BYTES + payload.len() + texts + signature.len()
}

impl Pool {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            hashes: BTreeSet::new(),
            texts: BTreeSet::new(),
        }
    }

    /// Transactions that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Takes `transaction` in, at the end of the line. Refuses a duplicate (-32007) and a full pool (-32006).
    pub fn admit(&mut self, transaction: Transaction) -> Result<(), Rejected> {
        if self.hashes.contains(&transaction.hash) || self.texts.contains(&transaction.text) {
            return Err(Rejected::new(code::DUPLICATE, "repeated tx"));
        }
        let weight = weight(&transaction);
        // What is under way counts as well: a store that stalls must not let the line grow without end.
        if self.hashes.len() >= self.limits.transactions_max || self.waiting_bytes + weight > self.limits.bytes_max {
            return Err(Rejected::new(code::BUSY, "system is too busy"));
        }
        self.hashes.insert(transaction.hash);
        self.texts.insert(transaction.text);
        self.waiting_bytes += weight;
        self.waiting.push_back(transaction);
        Ok(())
    }

    /// The first `count` transactions (fewer when fewer wait), oldest first, of at most `bytes_max` together but at least one. They
    /// stay known until [`Pool::forget`].
    pub fn take(&mut self, count: usize, bytes_max: usize) -> Vec<Transaction> {
        let mut batch = Vec::with_capacity(count.min(self.waiting.len()));
        let mut bytes = 0;
        while batch.len() < count {
            let Some(next) = self.waiting.front().map(weight) else {
                break;
            };
            if bytes + next > bytes_max && !batch.is_empty() {
                break;
            }
            bytes += next;
            self.waiting_bytes -= next;
            batch.extend(self.waiting.pop_front());
        }
        batch
    }

    /// Drops what is now applied: from here on the ledger answers for it.
    pub fn forget<'a>(&mut self, applied: impl IntoIterator<Item = (&'a [u8; 32], &'a Digest)>) {
        for (hash, text) in applied {
            self.hashes.remove(hash);
            self.texts.remove(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chain::{Address, Kind};

    fn transaction(n: u8, text: u8) -> Transaction {
        Transaction {
            hash: [n; 32],
            text: Digest([text; 32]),
            from: Address([1; 20]),
            to: Some(Address([2; 20])),
            kind: Kind::Transfer,
            value: 0,
            payload: Vec::new(),
            timestamp: 0,
            nonce: 0,
            opcode: 0,
            extra: String::new(),
            extra_ids: String::new(),
            version: String::new(),
            cname: String::new(),
            gas_price: 0,
            gas_limit: 0,
            expiration: 0,
            signature: Vec::new(),
        }
    }

    fn pool(transactions_max: usize) -> Pool {
        Pool::new(PoolLimits {
            transactions_max,
            bytes_max: 1 << 20,
        })
    }

    #[test]
    fn a_transaction_is_known_from_admission_until_it_is_applied() {
        let mut pool = pool(10);
        pool.admit(transaction(1, 1)).expect("new");
        assert_eq!(
            pool.admit(transaction(1, 9)).map_err(|r| r.code),
            Err(code::DUPLICATE),
            "same hash"
        );
        assert_eq!(
            pool.admit(transaction(9, 1)).map_err(|r| r.code),
            Err(code::DUPLICATE),
            "same text"
        );
        let taken = pool.take(5, usize::MAX);
        assert_eq!(taken.len(), 1);
        assert!(pool.admit(transaction(9, 1)).is_err(), "under way");
        pool.forget(taken.iter().map(|t| (&t.hash, &t.text)));
        assert!(pool.admit(transaction(1, 1)).is_ok());
    }

    #[test]
    fn a_full_pool_says_busy_even_when_all_is_under_way() {
        let mut pool = pool(2);
        pool.admit(transaction(1, 1)).expect("room");
        pool.admit(transaction(2, 2)).expect("room");
        pool.take(2, usize::MAX);
        assert_eq!(pool.admit(transaction(3, 3)).map_err(|r| r.code), Err(code::BUSY));
    }

    #[test]
    fn a_batch_is_bounded_in_count_and_bytes_and_keeps_the_order() {
        let mut pool = pool(10);
        for n in 1..=5 {
            pool.admit(transaction(n, n)).expect("room");
        }
        let first: Vec<u8> = pool.take(2, usize::MAX).iter().map(|t| t.hash[0]).collect();
        let second: Vec<u8> = pool.take(9, 1).iter().map(|t| t.hash[0]).collect();
        assert_eq!((first, second, pool.waiting()), (vec![1, 2], vec![3], 2));
    }

    #[test]
    fn the_bytes_that_wait_are_bounded_and_come_back_when_taken() {
        let long = |n: u8| Transaction {
            extra: "x".repeat(1000),
            ..transaction(n, n)
        };
        let mut pool = Pool::new(PoolLimits {
            transactions_max: 10,
            bytes_max: 2 * weight(&long(1)),
        });
        pool.admit(long(1)).expect("room");
        pool.admit(long(2)).expect("room");
        assert_eq!(pool.admit(transaction(3, 3)).map_err(|r| r.code), Err(code::BUSY));
        assert_eq!(pool.take(1, usize::MAX).len(), 1);
        assert_eq!(pool.admit(long(3)), Ok(()));
        assert_eq!(
            pool.admit(long(2)).map_err(|r| r.code),
            Err(code::DUPLICATE),
            "not busy: the client may stop"
        );
    }

    #[test]
    fn a_transaction_weighs_no_less_than_its_encoding() {
        let largest = Transaction {
            payload: vec![1; 700],
            extra: "e".repeat(300),
            extra_ids: "[1]".into(),
            version: "v".repeat(256),
            cname: "c".repeat(256),
            signature: vec![1; 512],
            ..transaction(1, 1)
        };
        for transaction in [transaction(1, 1), largest] {
            assert!(weight(&transaction) >= transaction.encode().len());
        }
    }

    proptest! {
        /// Against a plain list: nothing known enters again, nothing is lost, order and bounds hold.
        #[test]
        fn a_pool_is_a_bounded_line_without_duplicates(steps in prop::collection::vec((0u8..4, 0u8..12, 0u8..12), 0..80)) {
            let mut pool = pool(6);
            let (mut line, mut under_way) = (VecDeque::new(), VecDeque::new());
            for (what, hash, text) in steps {
                match what {
                    0 | 1 => {
                        let known = line.iter().chain(&under_way).any(|(h, t)| *h == hash || *t == text);
                        let expected = match (known, line.len() + under_way.len() >= 6) {
                            (true, _) => Err(code::DUPLICATE),
                            (false, true) => Err(code::BUSY),
                            (false, false) => Ok(()),
                        };
                        prop_assert_eq!(pool.admit(transaction(hash, text)).map_err(|r| r.code), expected);
                        if expected.is_ok() {
                            line.push_back((hash, text));
                        }
                    }
                    2 => {
                        let taken = pool.take(usize::from(hash % 3), usize::MAX);
                        for one in taken {
                            prop_assert_eq!(line.pop_front(), Some((one.hash[0], one.text.0[0])));
                            under_way.push_back((one.hash[0], one.text.0[0]));
                        }
                    }
                    _ => {
                        let applied: Vec<_> = under_way.drain(..).map(|(h, t)| ([h; 32], Digest([t; 32]))).collect();
                        pool.forget(applied.iter().map(|(h, t)| (h, t)));
                    }
                }
                prop_assert_eq!(pool.waiting(), line.len());
                prop_assert_eq!(pool.waiting_bytes, line.len() * weight(&transaction(1, 1)));
            }
        }
    }
}
