//! What the machine keeps of a link, and of the session on one.

use crate::session::{Agreement, Confirmed, ExpectHello, ExpectReply, ExpectVerdict, Hello, Judge, LookUp, RoundTrip};
use crate::types::{Hostname, Incarnation, Millis, Refusal};

use super::api::ConnId;
use super::peer::PeerTls;

/// What a link is dialled for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DialPurpose {
    /// The receiver's session: the host dials every address of `cvp.remote`, read afresh, and answers with the first that connects.
    Session,
    /// A provider asks this address whether its place was taken.
    Question {
        /// `IP:PORT`.
        address: String,
    },
    /// A promoted node tells its predecessor's address.
    Notice {
        /// `IP:PORT`.
        address: String,
    },
}

/// What a link is at.
#[derive(Debug)]
pub(super) enum Stage {
    /// Accepted; nothing came yet.
    Fresh(ExpectHello),
    /// The host looks up hashes for its hello.
    LookingUp(LookUp),
    /// The file that names the receiver is being written; our reply waits for it.
    Attaching(Box<Hello>, ExpectVerdict),
    /// Our reply went out.
    ExpectVerdict(ExpectVerdict),
    /// Our hello went out.
    ExpectReply(ExpectReply),
    /// The binding is being written.
    Binding(Confirmed),
    /// The session's.
    Streaming,
    /// We asked whether our place was taken.
    Asking,
    /// We told that it is taken.
    Telling,
    /// The fence is being written; the answer to who speaks as this incarnation follows.
    Fencing(Option<Incarnation>),
    /// Between two stages.
    Passing,
}

#[derive(Debug)]
pub(super) struct Link {
    pub peer: PeerTls,
    pub purpose: Option<DialPurpose>,
    pub since: Millis,
    pub stage: Stage,
    /// Who the other end says that it is.
    pub claimed: Option<Hostname>,
}

/// A session: a link on which all checks were made.
#[derive(Debug)]
pub(super) struct Session {
    pub conn: ConnId,
    pub agreement: Agreement,
    pub address: String,
    pub tls: bool,
    pub since: Millis,
    pub judge: Judge,
    pub beat_at: Millis,
    pub round_trip: RoundTrip,
    pub peer_reasons: Vec<Refusal>,
    pub warning: Option<String>,
    pub not_after: Option<i64>,
}

/// What waits for a control file.
#[derive(Debug)]
pub(super) enum Waiting {
    Link(ConnId),
    Fence,
}
