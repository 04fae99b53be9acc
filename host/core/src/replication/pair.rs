//! The machine.

use crate::types::Millis;

use super::api::{Event, Ready, Setup};
use super::status::PairStatus;

/// One end of the pair.
#[derive(Debug)]
pub struct Pair {
    setup: Setup,
}

impl Pair {
    /// A machine that has seen nothing yet. Call [`Pair::step`] with [`Event::Tick`] to get its first actions.
    pub fn new(setup: Setup) -> Self {
        Self { setup }
    }

    /// The one door: what happened goes in with the time, what to do comes out.
    pub fn step(&mut self, now: Millis, event: Event) -> Ready {
        let _ = (now, event);
        Ready::default()
    }

    /// The status at this time.
    pub fn status(&self, now: Millis) -> PairStatus {
        let _ = now;
        PairStatus {
            normal: false,
            role: self.setup.role,
            hostname: self.setup.hostname.clone(),
            node_id: self.setup.identity.node_id,
            incarnation: self.setup.identity.lineage.current(),
            enabled: self.setup.enabled,
            making: false,
            last_heard: None,
            peer: None,
            reasons: Vec::new(),
            namespaces: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// What must hold after every event; a violation stops the session, not the node.
    pub fn invariants(&self) -> Result<(), String> {
        Ok(())
    }
}
