//! Opening a store: the generation that counts, its log and its databases, brought up to each other.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use cvp_core::ledger::{LedgerError, Tips};
use cvp_core::record::{ChainTip, RECORD_BYTES_MAX, namespace_digest, parse};
use cvp_core::types::{Digest, Namespace, Position};
use parking_lot::{Mutex, RwLock};

use crate::base::Base;
use crate::bring_up::bring_up;
use crate::databases::Databases;
use crate::elements::Elements;
use crate::log::Log;
use crate::options::StoreOptions;
use crate::pending::Pending;
use crate::ring::Ring;
use crate::segment::sync_directory;
use crate::snapshot::Shipped;
use crate::staging::Staging;
use crate::store::{Inner, Store};

/// One generation of log and databases, brought up to each other.
pub(crate) struct Opened {
    pub(crate) inner: Inner,
    pub(crate) databases: Databases,
}

impl Opened {
    pub(crate) fn open(
        data: &Path,
        namespace: Digest,
        base: Base,
        genesis: &Bytes,
        options: &StoreOptions,
    ) -> Result<Self, LedgerError> {
        let databases = Databases::open(data, &base, &options.shared)?;
        let marker = databases.state_marker()?;
        let applied = marker.as_ref().map(|m| m.position.height);
        let log = base.directory(data, "log");
        let (log, tip) = Log::open(&log, (namespace, base), genesis, options, applied)?;
        if let Some(marker) = &marker {
            let found = log.position_of(marker.position.height)?;
            if found != marker.position {
                let what = format!(
                    "the state is of another record {}: {}",
                    found.height, marker.position.hash
                );
                return Err(LedgerError::corrupt(data.display(), what));
            }
        }
        let start = bring_up(&log, &databases, namespace, tip, marker)?;
        let last = log
            .place(tip.height, tip.height, RECORD_BYTES_MAX)
            .map(|p| p.read())
            .transpose()?;
        let chain_tip = last
            .as_deref()
            .and_then(|bytes| parse(bytes).ok().map(|r| ChainTip::of(&r)));
        let missing = || LedgerError::corrupt(data.display(), format!("record {} is missing", tip.height));
        let inner = Inner {
            log,
            ring: Ring::new(options.ring_bytes),
            pending: Pending::new(options.recent_bytes),
            tips: Tips {
                appended: tip,
                durable: tip,
                applied: tip,
            },
            tip: chain_tip.ok_or_else(missing)?,
            accumulator: start,
            prepared: None,
            failed: None,
        };
        Ok(Self { inner, databases })
    }
}

impl Store {
    /// Opens the ledger in `data` (`namespaces/<ns>/data`), making it with `genesis` (the encoded record 0) at the first start. A torn
    /// tail of the log is cut; state and indexes are brought up to it.
    ///
    /// # Errors
    /// `Diverged` at height 0 when `genesis` is another one; `Corrupt` naming what is damaged; `Disk`.
    pub fn open(
        data: &Path,
        namespace: &Namespace,
        genesis: Bytes,
        options: StoreOptions,
    ) -> Result<Self, LedgerError> {
        let digest = namespace_digest(namespace);
        std::fs::create_dir_all(data).map_err(|e| LedgerError::disk("create", data.display(), e))?;
        if let Some(parent) = data.parent().filter(|parent| parent.is_dir()) {
            sync_directory(parent)?;
        }
        let first = Position {
            height: 0,
            hash: parse(&genesis)
                .map_err(|e| LedgerError::corrupt("genesis", e.what))?
                .hash(),
        };
        let base = Base::read(data)?.unwrap_or(Base::whole(first.hash));
        let staging = Staging::found(data, base.generation + 1);
        base.sweep(data, staging.as_ref().map(|staged| staged.generation))?;
        let Opened { inner, databases } = Opened::open(data, digest, base, &genesis, &options)?;
        // Of no use once its tail is gone.
        let snapshot = Shipped::found(data).filter(|found| found.follows(inner.log.history_from()));
        if snapshot.is_none() {
            Shipped::remove(data)?;
        }
        Ok(Self {
            inner: RwLock::new(inner),
            append_lock: Mutex::new(()),
            elements: Mutex::new(Elements::new(options.recent_bytes / 2)),
            sync_lock: Mutex::new(()),
            fsyncs: AtomicU64::new(0),
            apply_lock: Mutex::new(0),
            history_lock: Mutex::new(()),
            snapshot: Mutex::new(snapshot),
            staging: Mutex::new(staging),
            databases: RwLock::new(Arc::new(databases)),
            namespace: digest,
            genesis: first,
            genesis_record: genesis,
            options,
            directory: data.to_owned(),
        })
    }
}
