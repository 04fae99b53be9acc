//! Replication: one machine a node, which takes what happened and says what to do. The node's driver and the simulator run the same one.
//!
//! Owns the links' handshakes and sessions, the sender's windows, the receiver's progress, the checks on what a strategy advises, the
//! questions and notices by which a replaced provider is fenced, and the status. Does no IO, reads no clock; records that wait for the log
//! are shared bytes, at most one window of them. It has no opinion on spans: without a strategy's action nothing flows.

mod api;
mod setup;
mod limits;
mod pair;
mod dispatch;
mod peer;
mod link;
mod address;
mod attach;
mod place;
mod stream;
mod advice;
mod scrutiny;
mod quota;
mod early;
mod lane;
mod desk;
mod desks;
mod sender;
mod intake;
mod lag;
mod last_held;
mod index;
mod ingest;
mod report;
mod tree;
mod turns;
mod patience;
mod changes;
mod queues;
mod archive;
mod archivist;
mod retention;
mod chunk;
mod shipping;
mod linking;
mod staged;
mod taking;
mod backfill;
mod beating;
mod beginnings;
mod budget;
mod control_file;
mod align;
mod followers;
mod offer;
mod passing;
mod roster;
mod work;
mod status;
pub mod strong;

pub use api::{Action, ConnId, Event, Ready, StrategyRun, Token};
pub use archive::{ArchiveEvent, ArchiveWork};
pub use archivist::{Archived, archive};
pub use changes::ChangesSetup;
pub use chunk::ChunkSum;
pub use control_file::ControlFile;
pub use ingest::{NotIngested, ingest};
pub use limits::Limits;
pub use link::DialPurpose;
pub use pair::Pair;
pub use passing::{PASS_BYTES_MAX, Passed};
pub use peer::PeerTls;
pub use queues::{BrokerState, QueueEvent, QueueWork, QueuesHeld};
pub use roster::{Heard, Roster};
pub use setup::{NamespaceSetup, Setup, StrategySetup};
pub use staged::StagedPart;
pub use status::{
    BackfillStatus, BootstrapStatus, BootstrappedStatus, NamespaceStatus, PairStatus, PeerStatus, Phase, RefusedDial,
    StrategyStatus, TreeStatus,
};
pub use strong::{Change, ChangeId, NOT_UNDONE, Outcome, Promised, Ticket};
pub use tree::{
    CERTIFICATES, CHANGED, CHANGED_BYTES_MAX, CONFIG_CHANGE, CONFIGURATION, ELSEWHERE, FILE_BYTES_MAX, FILES_MAX,
    FileChange, Inventory, KeptKey, LEFT_OUT_MAX, LeftOut, MemoryTree, PATH_BYTES_MAX, PRIVATE_KEY, TREE_BYTES_MAX,
    TreeFile, check_copied, check_path, file_digest, is_temporary,
};
pub use turns::TurnLimits;
pub use work::{ChangeEvent, ChangeWork, Proposal, TreeEvent, TreeWork};

#[cfg(test)]
mod tests;
