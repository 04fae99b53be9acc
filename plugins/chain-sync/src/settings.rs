//! The settings of the default strategy, with their bounds and their schema.

use cvp_sdk::Problem;
use cvp_sdk::settings::Settings;

/// JSON Schema of [`Options`], as the descriptor shows it.
pub const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"properties":{
"window_bytes_start":{"type":"integer","default":8388608,"description":"bytes under way before the disk's speed is known"},
"window_bytes_min":{"type":"integer","default":1048576,"description":"the window never gets smaller"},
"window_bytes_max":{"type":"integer","default":33554432,"description":"the window never gets larger"},
"window_millis":{"type":"integer","default":250,"description":"work of the receiver's disk that the window should hold"},
"backlog_bytes_max":{"type":"integer","default":134217728,"description":"pause when more bytes than this wait for the disk"},
"disk_wait_millis_max":{"type":"integer","default":2000,"description":"pause when one write or fsync takes longer"},
"verify_every":{"type":"integer","default":0,"description":"records between checks of the state; 0: once a run, whatever comes in it"},
"bootstrap_bytes_min":{"type":"integer","default":1073741824,"description":"begin from a snapshot when more bytes than this would have to be streamed, and four times the snapshot's; what the provider no longer holds comes so anyway"},
"max_rate":{"type":"integer","default":0,"description":"bytes a second the provider sends; 0: no limit"}}}"#;

/// What can be set, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Bytes under way before the disk's speed is known.
    pub window_bytes_start: u64,
    /// The window never gets smaller.
    pub window_bytes_min: u64,
    /// The window never gets larger.
    pub window_bytes_max: u64,
    /// Work of the receiver's disk that the window should hold, milliseconds.
    pub window_millis: u64,
    /// Pause when more bytes than this wait for the disk.
    pub backlog_bytes_max: u64,
    /// Pause when one write or fsync takes longer, milliseconds.
    pub disk_wait_millis_max: u64,
    /// Records between checks of the state commitment; 0: once a run, whatever comes in it.
    pub verify_every: u64,
    /// Begin from a snapshot when more bytes than this would have to be streamed.
    pub bootstrap_bytes_min: u64,
    /// Bytes a second the provider sends; 0: no limit.
    pub max_rate: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Options {
    /// Reads and checks a settings text.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let mut it = Settings::parse(text);
        let options = Self {
            window_bytes_start: it.whole("window_bytes_start", 8 * MIB, 64 * KIB, GIB),
            window_bytes_min: it.whole("window_bytes_min", MIB, 64 * KIB, GIB),
            window_bytes_max: it.whole("window_bytes_max", 32 * MIB, 64 * KIB, GIB),
            window_millis: it.whole("window_millis", 250, 1, 60_000),
            backlog_bytes_max: it.whole("backlog_bytes_max", 128 * MIB, 64 * KIB, 16 * GIB),
            disk_wait_millis_max: it.whole("disk_wait_millis_max", 2_000, 10, 600_000),
            verify_every: it.whole("verify_every", 0, 0, u64::MAX),
            bootstrap_bytes_min: it.whole("bootstrap_bytes_min", GIB, 0, u64::MAX),
            max_rate: it.whole("max_rate", 0, 0, u64::MAX),
        };
        if options.window_bytes_min > options.window_bytes_max {
            let message = format!("must not be above window_bytes_max ({})", options.window_bytes_max);
            it.problem("window_bytes_min", message);
        }
        it.finish().map(|()| options)
    }
}
