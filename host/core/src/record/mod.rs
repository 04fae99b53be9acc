//! Block records: the one encoding of a block, in the log, on the wire and in memory.
//!
//! Owns the bytes (header with part table, then the parts), the digests and links, the state commitment and the proof that a span of
//! records follows a position ([`Span`]). Does not know what is inside a transaction or receipt beyond the two index keys at the front
//! of an encoded transaction, nor where records are stored. The bytes are described in `docs/formats/records.md`.

mod accumulator;
mod delta;
mod encode;
mod header;
mod items;
mod links;
mod parse;
mod span;

pub use accumulator::{ACCUMULATOR_BYTES, Accumulator, Element};
pub use delta::{Delta, DeltaRef, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX};
pub use encode::{Draft, encode};
pub use header::{FORMAT, Header, namespace_digest, public_hash, public_height};
pub use items::{Items, Local, index_keys};
pub use links::{check_headers, first_time};
pub use parse::{
    HEADER_REGION, PartKind, RECORD_BYTES_MAX, RECORD_BYTES_MIN, RECORD_MAGIC, RecordRef, parse, record_length,
};
pub use span::{BadPart, BadRecord, ChainTip, Span, check_genesis, check_span};

#[cfg(test)]
mod tests;
