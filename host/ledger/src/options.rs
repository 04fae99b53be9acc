//! What a store is opened with, and what all stores of a process share.

use std::sync::Arc;

use cvp_core::types::Slab;
use rocksdb::{Cache, WriteBufferManager};

/// Memory shared by the databases of all namespaces of a node.
#[derive(Clone)]
pub struct Shared {
    pub(crate) cache: Cache,
    pub(crate) write_buffers: Arc<WriteBufferManager>,
    /// What long runs are read into.
    pub(crate) runs: Slab,
}

impl Shared {
    /// A block cache of `cache_bytes`, and `write_buffer_bytes` for all memtables together (charged to the cache).
    pub fn new(cache_bytes: usize, write_buffer_bytes: usize) -> Self {
        let cache = Cache::new_lru_cache(cache_bytes);
        let manager = WriteBufferManager::new_write_buffer_manager_with_cache(write_buffer_bytes, false, cache.clone());
        Self {
            cache,
            write_buffers: Arc::new(manager),
            runs: Slab::default(),
        }
    }
}

impl Default for Shared {
    fn default() -> Self {
        // What lies between the two is for blocks that are read, above all those of filters; what finds no place there comes from the system's pages,
        // 4 KiB at a time.
        Self::new(96 << 20, 64 << 20)
    }
}

/// How one namespace's store behaves.
#[derive(Clone)]
pub struct StoreOptions {
    /// Largest size of a segment file, bytes; preallocated. The first ones of a chain are smaller.
    pub segment_bytes: u64,
    /// Recent records kept in memory for the live tail, bytes.
    pub ring_bytes: usize,
    /// State values kept in memory after they were applied, bytes.
    pub recent_bytes: usize,
    /// Log bytes after which the databases are flushed, so that bringing them up after a crash stays short.
    pub flush_every_bytes: u64,
    /// Room that a new segment leaves on the file system, for control records and the databases, bytes.
    pub reserve_bytes: u64,
    /// Log bytes appended and not applied after which `append` syncs and applies itself: bounds memory when nobody else does.
    pub pending_bytes_max: u64,
    /// Memory shared with other stores.
    pub shared: Shared,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            ring_bytes: 32 << 20,
            recent_bytes: 8 << 20,
            flush_every_bytes: 512 << 20,
            reserve_bytes: 64 << 20,
            pending_bytes_max: 64 << 20,
            shared: Shared::default(),
        }
    }
}
