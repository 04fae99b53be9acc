//! What a crash leaves of a log in memory.

use bytes::{Bytes, BytesMut};

/// What a crash did to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CrashReport {
    /// Records that were appended and not synced, and are gone.
    pub records_lost: u64,
    /// Records that were not synced and survived all the same.
    pub records_kept: u64,
    /// Bytes of a torn record that were found and cut.
    pub torn_bytes: usize,
}

/// The bytes of unsynced records that a crash leaves: none without a seed, else a prefix of any length whose last bytes may be wrong.
pub(super) fn torn_tail(lost: &[Bytes], seed: Option<u64>) -> Bytes {
    let Some(seed) = seed else { return Bytes::new() };
    let mut tail = BytesMut::new();
    for record in lost {
        tail.extend_from_slice(record);
    }
    let draw = mix(seed);
    tail.truncate((draw % (tail.len() as u64 + 1)) as usize);
    if draw >> 63 == 1 && !tail.is_empty() {
        let at = (mix(draw) % tail.len() as u64) as usize;
        tail[at] ^= 1 << (draw & 7);
    }
    tail.freeze()
}

/// One step of splitmix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
