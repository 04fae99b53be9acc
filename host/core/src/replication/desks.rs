//! Strategies of every kind: which run on both ends, what their halves say to each other, what they say to the log.

use crate::frame::{Frame, Kind};
use crate::session::StrategyId;
use crate::types::strategy::Level;
use crate::types::{Namespace, Reader, Writer};

use super::api::{Action, StrategyRun};
use super::pair::Pair;

impl Pair {
    /// Another strategy runs here, or another state of it: the other end must know, and both run the same.
    pub(super) fn on_strategy_state(&mut self, index: usize, id: StrategyId, run: StrategyRun, faults: u64) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (attached, tag, kind) = (lane.peer.is_some(), lane.tag, id.kind.clone());
        let streams = lane.tells(&kind);
        let Some(desk) = lane.desk_mut(&kind) else { return };
        if desk.on_state(id, run, faults, streams) && attached {
            let frame = desk.state_frame(tag);
            self.send_session(frame);
        }
        self.compare_strategies(index);
    }

    /// What the configuration names, and why that does not run.
    pub(super) fn on_strategy_problem(&mut self, index: usize, kind: &str, configured: String, problem: String) {
        let desk = self.lanes.get_mut(index).and_then(|lane| lane.desk_mut(kind));
        let Some(desk) = desk else { return };
        (desk.configured, desk.problem) = (configured, problem);
    }

    /// The hello says what this end offers, not that it faulted too often.
    pub(super) fn announce_quarantine(&mut self, index: usize) {
        let Some(lane) = self.lanes.get(index) else { return };
        let quarantined = lane
            .desks()
            .into_iter()
            .filter(|desk| desk.run == StrategyRun::Quarantined);
        let frames: Vec<Frame> = quarantined.map(|desk| desk.state_frame(lane.tag)).collect();
        frames.into_iter().for_each(|frame| self.send_session(frame));
    }

    /// The other end's strategy, or its state, changed.
    pub(super) fn on_peer_strategy(&mut self, index: usize, payload: &[u8]) {
        let mut input = Reader::new(payload);
        let (Ok(id), Ok(quarantined)) = (StrategyId::read(&mut input), input.flag()) else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let ns = lane.setup.namespace.clone();
        let Some(desk) = lane.desk_mut(&id.kind) else { return };
        if desk.on_theirs(id.clone(), quarantined) {
            self.out.push(Action::StrategyLeft { ns, theirs: id });
        }
        self.compare_strategies(index);
    }

    /// Both ends run the same strategy of a kind, or both the embedded default.
    pub(super) fn compare_strategies(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (ns, streams) = (lane.setup.namespace.clone(), lane.peer.is_some());
        for desk in lane.desks_mut() {
            if let Some(embedded) = desk.compare(streams) {
                self.out.push(Action::UseDefault {
                    ns: ns.clone(),
                    kind: desk.ours.kind.clone(),
                    embedded,
                });
            }
        }
    }

    /// A strategy speaks to its other half.
    pub(super) fn send_to_half(&mut self, index: usize, kind: &str, bytes: &[u8]) {
        let Some(lane) = self.lanes.get(index) else { return };
        let mut out = Writer::with_capacity(bytes.len() + 32);
        out.text(kind);
        out.raw(bytes);
        let frame = Frame::of(Kind::StrategyMessage, lane.tag, 0, out.into_bytes().into());
        self.send_session(frame);
    }

    /// The other half's message.
    pub(super) fn on_strategy_message(&mut self, index: usize, payload: &[u8]) {
        let mut input = Reader::new(payload);
        let Ok(kind) = input.text(64) else { return };
        let desk = self.lanes.get_mut(index).and_then(|lane| lane.desk_mut(kind));
        if let (Some(desk), Ok(bytes)) = (desk, input.take(input.remaining())) {
            desk.keep_message(bytes.to_vec());
        }
    }

    /// What a strategy said to the log.
    pub(super) fn log_lines(&mut self, ns: &Namespace, lines: Vec<(Level, String)>) {
        let lines = lines.into_iter().map(|(level, text)| Action::Log {
            level,
            ns: Some(ns.clone()),
            text,
        });
        self.out.extend(lines);
    }
}
