//! State and indexes in RocksDB: two databases, each with a marker of how far it is, written in the same batch as what it marks.
//!
//! Their write-ahead logs are off. After a crash each holds some prefix of the batches; the store brings both up from the log.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cvp_core::ledger::{LedgerError, Place, Progress};
use cvp_core::record::{ACCUMULATOR_BYTES, Accumulator};
use cvp_core::types::{Digest, Height, Position, Reader, Writer};
use rocksdb::{DB, FlushOptions, Options, WriteBatch, WriteOptions};

use crate::base::Base;
use crate::changes::Changes;
use crate::options::Shared;
use crate::sum::sum_state;

/// Marker keys sort before all others, which begin with a byte above 0.
pub(crate) const MARKER: &[u8] = &[0];
pub(crate) const STATE: u8 = 1;
const HASH: u8 = 1;
const TEXT: u8 = 2;

/// Room for a usual key and the byte before it.
const NAME_BYTES: usize = 64;

/// How far a database is: the last record in it and, for the state, the sum of it all.
#[derive(Clone)]
pub(crate) struct Marker {
    pub(crate) position: Position,
    pub(crate) accumulator: Accumulator,
}

/// Both databases of a namespace.
pub(crate) struct Databases {
    state: DB,
    index: DB,
    state_path: PathBuf,
    index_path: PathBuf,
    /// The last member: dropped when both databases are closed.
    replaced: Replaced,
}

/// Removes the directories of other generations when it is dropped, once it was told which counts.
#[derive(Default)]
struct Replaced(OnceLock<(PathBuf, Base)>);

impl Drop for Replaced {
    fn drop(&mut self) {
        if let Some((data, base)) = self.0.get()
            // Another snapshot may be on its way by now.
            && let Err(error) = base.sweep(data, Some(base.generation + 1))
        {
            tracing::warn!(%error, "what a snapshot replaced stays on the disk until the next start");
        }
    }
}

/// What the databases are given of one span.
pub(crate) struct Entries<'a> {
    pub(crate) state: &'a Changes,
    pub(crate) index: &'a [([u8; 32], Digest, Place)],
}

fn state_key(key: &[u8]) -> Vec<u8> {
    [&[STATE], key].concat()
}

/// A database's name of a key, in a buffer that serves many.
fn named<'a>(buffer: &'a mut Vec<u8>, kind: u8, key: &[u8]) -> &'a [u8] {
    buffer.clear();
    buffer.push(kind);
    buffer.extend_from_slice(key);
    buffer
}

/// Entries come in the order of their keys: with the place of the one before at hand, a memtable finds that of the next near it. By default it
/// looks from the top again.
const NEAR_THE_LAST: &str = "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.1";

fn options(shared: &Shared) -> Options {
    // An unknown name would cost speed alone.
    let mut options = Options::default()
        .get_options_from_string(NEAR_THE_LAST)
        .unwrap_or_default();
    options.create_if_missing(true);
    options.set_write_buffer_manager(&shared.write_buffers);
    options.set_write_buffer_size(16 << 20);
    // Its default takes 1 MiB of memory for the first key of a memtable, and a node may have hundreds of them.
    options.set_arena_block_size(64 << 10);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(2);
    // Its default takes 4 MiB of the disk a database, however little is in it.
    options.set_manifest_preallocation_size(64 << 10);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    let mut table = rocksdb::BlockBasedOptions::default();
    table.set_block_cache(&shared.cache);
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    // In pieces, of which a look takes one. As a whole they are a megabyte a file, more than a part of the cache holds beside others: of a chain
    // of some million transactions each look read and checked them anew, more than half of the processor time of a node that takes transactions.
    table.set_index_type(rocksdb::BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    options.set_block_based_table_factory(&table);
    options
}

pub(crate) fn failed(operation: &'static str, path: &Path) -> impl Fn(rocksdb::Error) -> LedgerError {
    let path = path.display().to_string();
    move |e| match e.kind() {
        rocksdb::ErrorKind::Corruption => LedgerError::corrupt(&path, e.into_string()),
        _ => LedgerError::disk(operation, &path, e.into_string()),
    }
}

impl Databases {
    /// Opens (or makes) state and index of the generation that counts in `data`.
    pub(crate) fn open(data: &Path, base: &Base, shared: &Shared) -> Result<Self, LedgerError> {
        let open = |path: &PathBuf| DB::open(&options(shared), path).map_err(failed("open", path));
        let (state_path, index_path) = (base.directory(data, "state"), base.directory(data, "index"));
        Ok(Self {
            state: open(&state_path)?,
            index: open(&index_path)?,
            state_path,
            index_path,
            replaced: Replaced::default(),
        })
    }

    /// Opens them for reading alone: no file changes. None when they were never made.
    pub(crate) fn open_read_only(data: &Path, base: &Base, shared: &Shared) -> Result<Option<Self>, LedgerError> {
        let (state_path, index_path) = (base.directory(data, "state"), base.directory(data, "index"));
        let made = |path: &Path| path.join("CURRENT").exists();
        if !made(&state_path) || !made(&index_path) {
            return Ok(None);
        }
        let open = |path: &PathBuf| {
            DB::open_for_read_only(&options(shared), path, false).map_err(failed("open for reading", path))
        };
        Ok(Some(Self {
            state: open(&state_path)?,
            index: open(&index_path)?,
            state_path,
            index_path,
            replaced: Replaced::default(),
        }))
    }

    /// How far the state is; none when it is empty.
    pub(crate) fn state_marker(&self) -> Result<Option<Marker>, LedgerError> {
        let bytes = self.state.get(MARKER).map_err(failed("read", &self.state_path))?;
        bytes.map(|bytes| read_marker(&bytes, &self.state_path)).transpose()
    }

    /// How far the index is; none when it is empty.
    pub(crate) fn index_height(&self) -> Result<Option<Height>, LedgerError> {
        let bytes = self.index.get(MARKER).map_err(failed("read", &self.index_path))?;
        let damaged = || LedgerError::corrupt(self.index_path.display(), "the marker has not 8 bytes");
        bytes
            .map(|b| b.try_into().map(u64::from_le_bytes).map_err(|_| damaged()))
            .transpose()
    }

    /// The value of a state key.
    pub(crate) fn state(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        self.state.get(state_key(key)).map_err(failed("read", &self.state_path))
    }

    /// The values of many state keys, in order.
    pub(crate) fn states<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Option<Vec<u8>>>, LedgerError> {
        let (mut names, mut ends) = (Vec::new(), Vec::new());
        for key in keys {
            names.push(STATE);
            names.extend_from_slice(key);
            ends.push(names.len());
        }
        let starts = std::iter::once(&0).chain(&ends);
        let names = starts.zip(&ends).filter_map(|(start, end)| names.get(*start..*end));
        let found = self.state.multi_get(names);
        found
            .into_iter()
            .map(|value| value.map_err(failed("read", &self.state_path)))
            .collect()
    }

    /// Where a transaction is.
    pub(crate) fn place(&self, hash: &[u8; 32]) -> Result<Option<Place>, LedgerError> {
        let bytes = self
            .index
            .get([&[HASH], hash.as_slice()].concat())
            .map_err(failed("read", &self.index_path))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let mut input = Reader::new(&bytes);
        let place = || -> Result<Place, cvp_core::types::Malformed> {
            Ok(Place {
                height: input.u64()?,
                index: input.u32()?,
            })
        };
        let mut place = place;
        place()
            .map(Some)
            .map_err(|e| LedgerError::corrupt(self.index_path.display(), e.what))
    }

    /// Whether a text digest is known.
    pub(crate) fn knows_text(&self, digest: &Digest) -> Result<bool, LedgerError> {
        let found = self.index.get_pinned([&[TEXT], digest.0.as_slice()].concat());
        Ok(found.map_err(failed("read", &self.index_path))?.is_some())
    }

    /// Writes the state changes of spans and moves the marker, atomically.
    pub(crate) fn write_state(&self, spans: &[Entries<'_>], marker: &Marker) -> Result<(), LedgerError> {
        let mut batch = WriteBatch::default();
        let mut name = Vec::with_capacity(NAME_BYTES);
        for (key, value) in spans.iter().flat_map(|span| span.state.iter()) {
            let name = named(&mut name, STATE, key);
            match value {
                Some(value) => batch.put(name, value),
                None => batch.delete(name),
            }
        }
        batch.put(MARKER, write_marker(marker));
        self.state
            .write_opt(batch, &no_wal())
            .map_err(failed("write", &self.state_path))
    }

    /// Writes the index entries of spans up to height `to` and moves the marker, atomically. In the order of the keys: a memtable finds the
    /// place of the next one near that of the last, where keys in the order of the chain are looked for from the top, each of them.
    pub(crate) fn write_index(&self, spans: &[Entries<'_>], to: Height) -> Result<(), LedgerError> {
        let mut batch = WriteBatch::default();
        let mut name = Vec::with_capacity(NAME_BYTES);
        let mut entries: Vec<_> = spans.iter().flat_map(|span| span.index).collect();
        // Stable: of two entries of one key the later one counts.
        entries.sort_by_key(|entry| entry.0);
        for (hash, _, place) in &entries {
            let mut value = [0; 12];
            value[..8].copy_from_slice(&place.height.to_le_bytes());
            value[8..].copy_from_slice(&place.index.to_le_bytes());
            batch.put(named(&mut name, HASH, hash), value);
        }
        entries.sort_by_key(|entry| (entry.1.0, entry.2.height));
        for (_, text, place) in &entries {
            batch.put(named(&mut name, TEXT, &text.0), place.height.to_le_bytes());
        }
        batch.put(MARKER, to.to_le_bytes());
        self.index
            .write_opt(batch, &no_wal())
            .map_err(failed("write", &self.index_path))
    }

    /// Writes memtables out. With `wait` false it only begins to.
    pub(crate) fn flush(&self, wait: bool) -> Result<(), LedgerError> {
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.state
            .flush_opt(&options)
            .map_err(failed("flush", &self.state_path))?;
        self.index
            .flush_opt(&options)
            .map_err(failed("flush", &self.index_path))
    }

    /// Their directories, and the log's, go once nobody has them open any more: `base` counts now.
    pub(crate) fn remove_when_closed(&self, data: &Path, base: Base) {
        let _ = self.replaced.0.set((data.to_owned(), base));
    }

    /// Writes the index's memtables out, so that what was put into it stays.
    pub(crate) fn flush_index(&self) -> Result<(), LedgerError> {
        self.index.flush().map_err(failed("flush", &self.index_path))
    }

    /// Bytes of the state's files and memtables, roughly.
    pub(crate) fn state_bytes(&self) -> u64 {
        ["rocksdb.total-sst-files-size", "rocksdb.size-all-mem-tables"]
            .iter()
            .filter_map(|name| self.state.property_int_value(*name).ok().flatten())
            .sum()
    }

    /// Makes hard links of the state's files in `directory`, which must not exist, with everything that memtables hold.
    pub(crate) fn checkpoint(&self, directory: &Path) -> Result<(), LedgerError> {
        let failed = failed("make a checkpoint in", directory);
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(&self.state).map_err(&failed)?;
        checkpoint.create_checkpoint(directory).map_err(&failed)
    }

    /// The marker and the sum of every state key, both of one snapshot. `progress` is told the marker's height again and again.
    pub(crate) fn sum_state(&self, progress: Progress<'_>) -> Result<Option<(Marker, Accumulator)>, LedgerError> {
        sum_state(&self.state, &self.state_path, progress)
    }
}

/// A state database that is only looked at: a checkpoint, or one that is staged.
pub(crate) struct StateFiles {
    state: DB,
    path: PathBuf,
}

impl StateFiles {
    /// Opens the files in `path` for reading alone.
    pub(crate) fn open(path: &Path, shared: &Shared) -> Result<Self, LedgerError> {
        let state = DB::open_for_read_only(&options(shared), path, false).map_err(failed("open for reading", path))?;
        Ok(Self {
            state,
            path: path.to_owned(),
        })
    }

    /// How far the state is; none when it is empty.
    pub(crate) fn marker(&self) -> Result<Option<Marker>, LedgerError> {
        let bytes = self.state.get(MARKER).map_err(failed("read", &self.path))?;
        bytes.map(|bytes| read_marker(&bytes, &self.path)).transpose()
    }

    /// As [`Databases::sum_state`].
    pub(crate) fn sum(&self, progress: Progress<'_>) -> Result<Option<(Marker, Accumulator)>, LedgerError> {
        sum_state(&self.state, &self.path, progress)
    }
}

fn no_wal() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}

fn write_marker(marker: &Marker) -> Vec<u8> {
    let mut out = Writer::with_capacity(40 + ACCUMULATOR_BYTES);
    out.u64(marker.position.height);
    out.digest(&marker.position.hash);
    out.raw(&marker.accumulator.to_bytes());
    out.into_bytes()
}

pub(crate) fn read_marker(bytes: &[u8], path: &Path) -> Result<Marker, LedgerError> {
    let mut input = Reader::new(bytes);
    let read = (|| -> Result<Marker, cvp_core::types::Malformed> {
        let position = Position {
            height: input.u64()?,
            hash: input.digest()?,
        };
        let accumulator = Accumulator::from_bytes(&input.array()?);
        input.finish()?;
        Ok(Marker { position, accumulator })
    })();
    read.map_err(|e| LedgerError::corrupt(path.display(), e.what))
}
