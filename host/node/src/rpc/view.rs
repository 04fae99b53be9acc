//! A query's view of a chain: the applied records at the moment the query began. What is appended or applied later is not seen.

use bytes::Bytes;
use cvp_core::chain::shape::InBlock;
use cvp_core::chain::{Receipt, Transaction};
use cvp_core::ledger::{Ledger, LedgerError};
use cvp_core::record::{self, Header, Items, Local, RecordRef, public_hash, public_height};
use cvp_core::types::{Height, Malformed, UnixNanos};
use tracing::error;

use super::error::RpcError;

/// The applied chain up to a fixed height.
#[derive(Clone, Copy)]
pub struct ChainView<'a> {
    ledger: &'a dyn Ledger,
    /// Highest height shown.
    pub latest: Height,
    /// Lowest height kept.
    pub first: Height,
}

impl<'a> ChainView<'a> {
    /// The chain in `ledger` as applied now.
    pub fn of(ledger: &'a dyn Ledger) -> Self {
        Self {
            ledger,
            latest: ledger.tips().applied.height,
            first: ledger.history_from(),
        }
    }

    /// The block at `height`, which is at most `latest`.
    pub fn block(&self, height: Height) -> Result<Block, RpcError> {
        if height > self.latest {
            return Err(RpcError::out_of_range(height, self.latest));
        }
        let bytes = match self.ledger.record(height) {
            // Old history may be let go, or be on its way.
            Err(LedgerError::NotFound { from, .. }) => {
                let text = format!("Not found block {height}: this node keeps blocks from {from} on");
                return Err(RpcError::not_found(text));
            }
            found => found.map_err(ledger_failed)?,
        };
        match bytes {
            Some(bytes) => Block::open(bytes),
            None => Err(RpcError::not_found(format!("Not found block {height}"))),
        }
    }

    /// The block with this public hash; the height is in the hash, so no index is needed.
    pub fn block_by_hash(&self, hash: &[u8; 32]) -> Result<Block, RpcError> {
        let height = public_height(hash);
        let found = if height <= self.latest && height >= self.first {
            Some(self.block(height)?).filter(|block| block.hash == *hash)
        } else {
            None
        };
        found.ok_or_else(|| RpcError::not_found(format!("Not found block 0x{}", hex::encode(hash))))
    }

    /// The block and index of a transaction, if it is in the view.
    pub fn find(&self, hash: &[u8; 32]) -> Result<Option<(Block, u32)>, RpcError> {
        match self.ledger.find_transaction(hash).map_err(ledger_failed)? {
            Some(place) if place.height <= self.latest && place.height >= self.first => {
                Ok(Some((self.block(place.height)?, place.index)))
            }
            _ => Ok(None),
        }
    }

    /// A state value as queries see it.
    pub fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RpcError> {
        self.ledger.state_applied(key).map_err(ledger_failed)
    }

    /// The heights whose blocks were made within `start..=end` (ns), genesis apart: a binary search over the headers' times.
    pub fn heights_within(&self, start: UnixNanos, end: UnixNanos) -> Result<Option<(Height, Height)>, RpcError> {
        if start > end {
            return Err(RpcError::params("startTime is after endTime"));
        }
        let lowest = self.first.max(1);
        let first = self.first_where(lowest, |time| time >= start)?;
        let after = self.first_where(first, |time| time > end)?;
        Ok((first < after).then(|| (first, after - 1)))
    }

    /// The lowest height from `low` on whose block's time satisfies `holds`; `latest + 1` if none. Times never decrease.
    fn first_where(&self, low: Height, holds: impl Fn(UnixNanos) -> bool) -> Result<Height, RpcError> {
        let (mut low, mut high) = (low, self.latest.saturating_add(1).max(low));
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(self.block(middle)?.header.time) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    /// Valid and invalid transactions in the blocks `from..=to`, from the headers' totals.
    pub fn counts(&self, from: Height, to: Height) -> Result<(u64, u64), RpcError> {
        let last = self.block(to)?.header;
        let first = self.block(from)?.header;
        let before = |total: u64, own: u32| total.saturating_sub(u64::from(own));
        Ok((
            last.valid_total.saturating_sub(before(first.valid_total, first.valid)),
            last.invalid_total
                .saturating_sub(before(first.invalid_total, first.invalid)),
        ))
    }
}

/// One record, opened for rendering.
pub struct Block {
    bytes: Bytes,
    /// What the record's hash covers.
    pub header: Header,
    /// The maker's measurements.
    pub local: Local,
    /// The public block hash.
    pub hash: [u8; 32],
}

impl Block {
    fn open(bytes: Bytes) -> Result<Self, RpcError> {
        let (header, local, hash) = {
            let record = record::parse(&bytes).map_err(damaged)?;
            let local = record.local().map_err(damaged)?;
            (record.header().clone(), local, public_hash(&record.position()))
        };
        Ok(Self {
            bytes,
            header,
            local,
            hash,
        })
    }

    /// What its transactions and logs say of it.
    pub fn place(&self) -> InBlock<'_> {
        InBlock {
            header: &self.header,
            local: self.local,
            hash: &self.hash,
        }
    }

    fn record(&self) -> Result<RecordRef<'_>, RpcError> {
        record::parse(&self.bytes).map_err(damaged)
    }

    /// Its lists of transactions and receipts: valid ones first.
    pub fn lists(&self) -> Result<Lists<'_>, RpcError> {
        let record = self.record()?;
        Ok(Lists {
            transactions: record.transactions().map_err(damaged)?,
            receipts: record.receipts().map_err(damaged)?,
        })
    }
}

/// Transactions and receipts of one block, decoded one by one.
pub struct Lists<'a> {
    transactions: Items<'a>,
    receipts: Items<'a>,
}

impl Lists<'_> {
    /// The transaction at `index` with its receipt.
    pub fn get(&self, index: u32) -> Result<Option<(Transaction, Receipt)>, RpcError> {
        let at = index as usize;
        let (Some(transaction), Some(receipt)) = (self.transactions.get(at), self.receipts.get(at)) else {
            return Ok(None);
        };
        let transaction = Transaction::decode(transaction).map_err(damaged)?;
        let receipt = Receipt::decode(receipt).map_err(damaged)?;
        Ok(Some((transaction, receipt)))
    }
}

fn ledger_failed(error: LedgerError) -> RpcError {
    error!(%error, "a query failed in the ledger");
    RpcError::internal("the ledger of this node failed; see its log")
}

fn damaged(error: Malformed) -> RpcError {
    error!(%error, "a query met a record that cannot be read");
    RpcError::internal("a record of this node cannot be read; run `cvp verify`")
}
