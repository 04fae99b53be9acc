//! The links of the machine by number: opened, closed, and the line in the log about why one ended.
//!
//! A link that ended leaves nothing behind here: its socket is given back with it. Owns also the memory of whose refusals were logged
//! lately, and of the addresses that refused.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use cvp_core::config::Remote;
use cvp_core::frame::{Frame, Side};
use cvp_core::replication::ConnId;
use cvp_core::types::{Millis, Refusal};

use super::dialer::Shunned;
use super::serving::Route;
use crate::link::{Connection, FrameSender, Link, LinkError, LinkEvent};

/// A peer that is refused, or refuses, for one reason gets one line in so long, however often it comes.
const REPEAT_LOG_MS: Millis = 60_000;
/// Peers and reasons remembered; beyond it new ones wait for an old one's time to be over.
const TOLD_MAX: usize = 256;

/// Who was told of in the log, and for what.
#[derive(Default)]
struct Told(HashMap<(String, String), Millis>);

impl Told {
    /// Whether a line is due; it then counts as written.
    fn is_due(&mut self, who: &str, code: &str, now: Millis) -> bool {
        self.0.retain(|_, at| now < *at + REPEAT_LOG_MS);
        let key = (who.to_owned(), code.to_owned());
        if self.0.contains_key(&key) || self.0.len() >= TOLD_MAX {
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

struct Open {
    connection: Connection,
    /// Whom a session was dialled at.
    remote: Option<Remote>,
    /// Where its frames go once it is handed over.
    route: Route,
    /// Bytes that had left when frames were last seen to wait.
    left: u64,
}

/// The links of one machine.
#[derive(Default)]
pub(super) struct Links {
    open: HashMap<ConnId, Open>,
    last: ConnId,
    told: Told,
    /// Addresses whose node said no.
    pub(super) shunned: Shunned,
}

impl Links {
    /// Opens a link under a number of its own; `remote` is whom a session was dialled at.
    pub(super) fn open<F, R>(&mut self, link: Link, side: Side, remote: Option<Remote>, report: F) -> ConnId
    where
        F: Fn(ConnId, LinkEvent, Route) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        self.last += 1;
        let (conn, route) = (self.last, Route::default());
        let to = Arc::clone(&route);
        let connection = Connection::open(link, side, move |event| report(conn, event, Arc::clone(&to)));
        let open = Open {
            connection,
            remote,
            route,
            left: 0,
        };
        self.open.insert(conn, open);
        conn
    }

    /// A link that another task goes on with: it sets where the frames go.
    pub(super) fn take(&mut self, conn: ConnId) -> Option<(Connection, Route)> {
        let open = self.open.remove(&conn)?;
        Some((open.connection, open.route))
    }

    /// Queues a frame. `Err`: the link has ended, and is forgotten.
    pub(super) fn send(&mut self, conn: ConnId, frame: Frame) -> Result<(), LinkError> {
        let Some(link) = self.open.get(&conn) else {
            return Ok(());
        };
        let sent = link.connection.send(frame);
        if sent.is_err() {
            self.open.remove(&conn);
        }
        sent
    }

    /// The links for whose line frames wait now, and whether bytes left since the last look.
    pub(super) fn waiting(&mut self) -> Vec<(ConnId, bool)> {
        let waits = self.open.iter_mut().filter_map(|(conn, link)| {
            let left = link.connection.waits()?;
            Some((*conn, std::mem::replace(&mut link.left, left) != left))
        });
        waits.collect()
    }

    /// Queues frames on a link from a thread that may wait.
    pub(super) fn sender(&self, conn: ConnId) -> Option<FrameSender> {
        self.open.get(&conn).map(|link| link.connection.sender())
    }

    /// Ends a link after its last words; false if it had ended.
    pub(super) fn close(&mut self, conn: ConnId, refusal: Option<&Refusal>, now: Millis) -> bool {
        let Some(link) = self.open.remove(&conn) else {
            return false;
        };
        if let Some(refusal) = refusal {
            if let Some(remote) = &link.remote {
                self.shunned.note(&remote.address, &refusal.code, now);
            }
            self.log_refused(&link.connection.peer.address.ip().to_string(), refusal, now);
        }
        link.connection.close();
        true
    }

    /// A link ended by itself, and why: what it held is given back.
    pub(super) fn ended(&mut self, conn: ConnId, reason: Option<&Refusal>, now: Millis) {
        let Some(link) = self.open.remove(&conn) else { return };
        if let Some(reason) = reason {
            self.log_refused(&link.connection.peer.address.ip().to_string(), reason, now);
        }
    }

    /// Where the session was dialled.
    pub(super) fn dialled(&self) -> Option<String> {
        let mut remotes = self.open.values().filter_map(|open| open.remote.as_ref());
        remotes.next().map(|remote| remote.address.clone())
    }

    /// Ends all links after their last words.
    pub(super) fn close_all(&mut self) {
        self.open.drain().for_each(|(_, link)| link.connection.close());
    }

    /// A line about `who`, once for each reason in a while. A connection that is lost is the network's business, and nobody refused it: the
    /// status says so.
    pub(super) fn log_refused(&mut self, who: &str, refusal: &Refusal, now: Millis) {
        if refusal.code != "connection-lost" && self.told.is_due(who, &refusal.code, now) {
            tracing::warn!(peer = %who, code = %refusal.code, "link refused: {refusal}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_a_minute_and_strangers_do_not_fill_the_log() {
        let mut told = Told::default();
        assert!(told.is_due("10.0.0.2", "second-standby", 0));
        for now in (2_000..60_000).step_by(2_000) {
            assert!(!told.is_due("10.0.0.2", "second-standby", now));
        }
        assert!(told.is_due("10.0.0.2", "genesis", 10));
        assert!(told.is_due("10.0.0.3", "second-standby", 10));
        assert!(told.is_due("10.0.0.2", "second-standby", 60_000));
        let lines = (0..10_000).filter(|n| told.is_due(&n.to_string(), "not-a-node", 61_000));
        assert!(lines.count() <= TOLD_MAX);
    }
}
