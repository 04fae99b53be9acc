//! What is wrong, and the status: `normal` is proof, not hope.

use crate::session::{Mood, StrategyId};
use crate::types::strategy::Role;
use crate::types::{Height, Millis, Refusal};

use super::advice::CALL_MS;
use super::api::StrategyRun;
use super::desk::Desk;
use super::lane::{BEHIND_MS, Lane, STALL_MS};
use super::link::Stage;
use super::pair::Pair;
use super::status::{NamespaceStatus, PairStatus, PeerStatus, Phase, RefusedDial, StrategyStatus};

/// A read, write or fsync that takes so long is stalled.
const DISK_MS: Millis = 2_000;

/// A receiver began from a snapshot so often that it pauses before the next one.
const BOOTSTRAP_AGAIN: &str = "bootstrap-again";

/// Codes of the handshake that need no `refused-` before them.
const PLAIN_CODES: [&str; 12] = [
    "diverged",
    "fenced",
    "receiver-ahead",
    "disk-full",
    "disk-failed",
    "ledger-damaged",
    "stream-paused",
    "defect",
    "history-incomplete",
    "unreachable",
    "silent",
    "superseded",
];

fn shown(refusal: &Refusal) -> Refusal {
    if PLAIN_CODES.contains(&refusal.code.as_ref()) {
        return refusal.clone();
    }
    Refusal {
        code: format!("refused-{}", refusal.code).into(),
        ..refusal.clone()
    }
}

/// Why the default runs in the place of the configured strategy, and how that ends.
fn quarantine(desk: &Desk) -> Refusal {
    let (id, problem) = (&desk.configured, &desk.problem);
    let code = "strategy-quarantined";
    if desk.is_unloaded() {
        return Refusal::new(
            code,
            format!("strategy {id} cannot be loaded ({problem}), the default runs"),
            format!("correct plugins/{id} (`cvp plugin check plugins/{id}`), or the strategy's id in ns_static.toml"),
        );
    }
    let last = match problem.as_str() {
        "" => String::new(),
        problem => format!(" (the last time: {problem})"),
    };
    Refusal::new(
        code,
        format!("strategy {id} faulted too often{last}, the default runs"),
        format!("correct it, then run `cvp plugin reset {id}`"),
    )
}

/// Why both ends run the default although nothing is wrong with the strategy of this one; what is wrong here is a reason.
fn difference(desk: &Desk) -> Option<String> {
    let theirs = desk.theirs.as_ref().filter(|_| desk.defaulted)?;
    if desk.is_unloaded() {
        return None;
    }
    let (ours, end) = (&desk.ours, "on the other end");
    let other = match desk.theirs_quarantined {
        // The embedded one is never in quarantine: it is offered in the place of what could not be loaded.
        true if theirs.id == "default" => format!("what is configured {end} cannot be loaded"),
        true => format!("{} {} {end} is quarantined", theirs.id, theirs.version),
        false => format!("{} {} {end} differs", theirs.id, theirs.version),
    };
    Some(format!(
        "strategies-differ: strategy {} {} here, {other}: both run the embedded default",
        ours.id, ours.version
    ))
}

/// The configured strategy, as far as it is known.
fn configured(desk: &Desk) -> StrategyId {
    if !desk.is_unloaded() {
        return desk.ours.clone();
    }
    StrategyId {
        kind: desk.ours.kind.clone(),
        id: desk.configured.clone(),
        version: String::new(),
        sha256: [0; 32],
    }
}

fn strategy_status(desk: &Desk) -> StrategyStatus {
    StrategyStatus {
        id: configured(desk),
        run: desk.run,
        defaulted: desk.defaulted,
        faults: desk.faults,
        refused: desk.refused,
    }
}

impl Pair {
    pub(super) fn other(&self) -> &'static str {
        match self.setup.role {
            Role::Provider => "receiver",
            Role::Receiver => "provider",
        }
    }

    /// What is wrong here, whatever the peer says of itself: what a heartbeat carries.
    pub(super) fn own_reasons(&self, now: Millis) -> Vec<Refusal> {
        let mut reasons = Vec::new();
        if let Some(defect) = &self.defect {
            reasons.push(Refusal::new(
                "defect",
                defect.clone(),
                "report it with both logs; restart the node",
            ));
        }
        if let Some(failed) = &self.control_failed {
            reasons.push(shown(failed));
        }
        if let Some(fenced) = self.place.fenced() {
            let text = format!(
                "incarnation {} took this node's place (told by {})",
                fenced.by(),
                fenced.told_by
            );
            reasons.push(Refusal::new(
                "fenced",
                text,
                format!(
                    "to make it a standby of the promoted node, stop it, run `cvp clear --yes --as-standby-of \"{} IP:PORT\"` with that node's address, and start it",
                    fenced.take_over.hostname
                ),
            ));
        }
        for lane in &self.lanes {
            self.lane_reasons(lane, now, &mut reasons);
        }
        self.rate_reasons(now, &mut reasons);
        if self.session.is_some() && self.is_standby() {
            self.tree_reasons(&mut reasons);
            self.alignment_reasons(&mut reasons);
        }
        self.held_reasons(&mut reasons);
        self.change_reasons(&mut reasons);
        reasons
    }

    fn lane_reasons(&self, lane: &Lane, now: Millis, reasons: &mut Vec<Refusal>) {
        let name = &lane.setup.namespace;
        let mut add =
            |code: &'static str, text: String| reasons.push(Refusal::new(code, format!("{name}: {text}"), ""));
        let over = |since: Option<Millis>, most: Millis| {
            since.map(|since| now.saturating_sub(since)).filter(|age| *age >= most)
        };
        if let Some(age) = over(
            lane.intake
                .disk_since()
                .or(self.reads_since(lane, now))
                .or(lane.snapshot_disk_since()),
            DISK_MS,
        ) {
            add("disk-stalled", format!("the disk has not answered for {age} ms"));
        }
        let calling = lane.advisor.calling.map(|call| call.since);
        let called = [
            calling,
            lane.files.calling_since(),
            lane.index.calling_since(),
            lane.queues.calling_since(),
        ];
        if let Some(age) = over(called.into_iter().flatten().min(), CALL_MS) {
            add(
                "strategy-stalled",
                format!("the strategy has not answered for {age} ms"),
            );
        }
        if let Some(reason) = &lane.advisor.paused {
            add("stream-paused", reason.clone());
        }
        for desk in lane
            .desks()
            .into_iter()
            .filter(|desk| desk.run == StrategyRun::Quarantined)
        {
            let refusal = quarantine(desk);
            reasons.push(Refusal {
                text: format!("{name}: {}", refusal.text),
                ..refusal
            });
        }
        let failed = lane.store.iter().chain(lane.halt.iter().map(|halt| &halt.refusal));
        for refusal in failed {
            let refusal = shown(refusal);
            reasons.push(Refusal {
                text: format!("{name}: {}", refusal.text),
                ..refusal
            });
        }
        reasons.extend(lane.index.reason(name));
        reasons.extend(lane.queues.reason(name, now));
        if lane.peer.is_some() {
            reasons.extend(Self::beginnings_reason(lane, now));
            self.stream_reasons(lane, now, reasons);
        }
    }

    fn beginnings_reason(lane: &Lane, now: Millis) -> Option<Refusal> {
        let count = lane.beginnings.many(lane.live, now)?;
        Some(Refusal::new(
            BOOTSTRAP_AGAIN,
            format!(
                "{}: began from a snapshot {count} times in a row: what the provider keeps is gone before it is copied",
                lane.setup.namespace
            ),
            "raise cvp.max_rate, or cvp.retain_bytes and ledger.keep_blocks on the provider; it is tried more and more seldom meanwhile",
        ))
    }

    fn stream_reasons(&self, lane: &Lane, now: Millis, reasons: &mut Vec<Refusal>) {
        #[cfg(feature = "planted-faults")]
        if crate::planted::active(crate::planted::Fault::StallNotSeen) {
            return;
        }
        let role = self.setup.role;
        let name = &lane.setup.namespace;
        let (idle, age) = (self.stands_ms(lane, now), lane.marks.age(now));
        let behind = format!("{} blocks behind", self.lag_blocks(lane));
        if idle >= STALL_MS && (lane.store.is_some() || lane.halt.is_some()) {
            // Why is said already.
        } else if idle >= STALL_MS && self.pauses_on_purpose(lane) {
            // It says so itself.
        } else if idle >= STALL_MS {
            let text = format!("{name}: nothing moved for {idle} ms, {behind}");
            reasons.push(Refusal::new(
                "stream-stalled",
                text,
                "check the other node's disk and load, and the line between them: bytes of other namespaces may fill it, or cvp.max_rate is small for its blocks",
            ));
        } else if lane.live && age > BEHIND_MS {
            let text = format!("{name}: {behind}, the oldest for {age} ms");
            reasons.push(Refusal::new(
                "gap-grows",
                text,
                "the standby is slower than the provider",
            ));
        } else if let Some(status) = lane.bootstrap(role, now) {
            let text = format!(
                "{name}: beginning from a snapshot, {} of {} bytes",
                status.bytes, status.total
            );
            reasons.push(Refusal::new("bootstrap", text, ""));
        } else if let Some(blocks) = lane.growth.per_minute().filter(|_| !lane.live) {
            let text = format!("{name}: the gap grows by {blocks} blocks a minute, {behind}");
            let hint = "the standby, or cvp.max_rate, is slower than the provider";
            reasons.push(Refusal::new("gap-grows", text, hint));
        } else if !lane.live && self.lag_blocks(lane) > 0 {
            reasons.push(Refusal::new("catching-up", format!("{name}: {behind}"), ""));
        }
    }

    /// Provider: the receiver waits before it begins from a snapshot once more.
    fn pauses_on_purpose(&self, lane: &Lane) -> bool {
        let said = self.session.iter().flat_map(|session| &session.peer_reasons);
        let prefix = format!("{}: ", lane.setup.namespace);
        self.setup.role == Role::Provider
            && said
                .filter(|reason| reason.code == BOOTSTRAP_AGAIN)
                .any(|reason| reason.text.starts_with(&prefix))
    }

    fn lag_blocks(&self, lane: &Lane) -> u64 {
        let (tip, durable) = lane.heights(self.setup.role);
        tip - durable.min(tip)
    }

    /// Why there is no proof: everything above, and what the link and the peer say.
    fn reasons(&self, now: Millis) -> Vec<Refusal> {
        let mut reasons = self.own_reasons(now);
        let other = self.other();
        if !self.setup.enabled {
            reasons.push(Refusal::new(
                "disabled",
                "cvp.enable is false",
                "run `cvp enable` on the provider",
            ));
        }
        let silent = |text: String| {
            Refusal::new(
                if other == "receiver" {
                    "receiver-silent"
                } else {
                    "provider-silent"
                },
                text,
                "check the network and the other node",
            )
        };
        match &self.session {
            Some(session) => {
                if session.judge.tardy(now) != Mood::Fresh {
                    reasons.push(silent(self.silence(session.judge.age(now))));
                }
                for reason in &session.peer_reasons {
                    if !reasons.iter().any(|known| known.code == reason.code) {
                        reasons.push(Refusal {
                            text: format!("{other}: {}", reason.text),
                            ..reason.clone()
                        });
                    }
                }
            }
            None => self.absence(&mut reasons, now, silent),
        }
        reasons
    }

    fn silence(&self, age: Millis) -> String {
        format!("the {} has said nothing for {age} ms", self.other())
    }

    /// A link was refused here: the status names the last one.
    pub(super) fn note_refused(&mut self, refused: RefusedDial) {
        // The older link of a standby that dialled anew.
        if refused.refusal.code != "superseded" {
            self.refused = Some(refused);
        }
    }

    fn absence(&self, reasons: &mut Vec<Refusal>, now: Millis, silent: impl Fn(String) -> Refusal) {
        let provider = self.setup.role == Role::Provider;
        match &self.ending {
            Some(ending) if ending.code == "silent" => reasons.push(silent(match self.silent_since {
                Some(since) => self.silence(now.saturating_sub(since)),
                None => ending.text.clone(),
            })),
            Some(ending) if !matches!(ending.code.as_ref(), "unreachable" | "connection-lost" | "superseded") => {
                reasons.push(shown(ending));
            }
            _ if provider && self.setup.last_receiver.is_none() => {
                reasons.push(Refusal::new(
                    "no-receiver",
                    "no receiver has ever attached",
                    "start the CVP with this node in cvp.remote",
                ));
            }
            ending => {
                let code = if provider {
                    "receiver-unreachable"
                } else {
                    "provider-unreachable"
                };
                let text = match ending {
                    Some(ending) => ending.text.clone(),
                    None if self.lanes.iter().any(|lane| lane.seen_before) => {
                        "no session since this node's start: what the receiver holds is as it was last noted before"
                            .to_owned()
                    }
                    None => "no session yet".to_owned(),
                };
                reasons.push(Refusal::new(code, text, "check the network and the other node"));
            }
        }
    }

    fn phase(&self, lane: &Lane) -> Phase {
        if self.session.is_some() {
            return match lane.peer {
                Some(_) if lane.bootstrap(self.setup.role, self.now).is_some() => Phase::Bootstrap,
                Some(_) if lane.live => Phase::Live,
                Some(_) => Phase::CatchUp,
                // The other end does not run it.
                None => Phase::Detached,
            };
        }
        let handshake = |stage: &Stage| {
            matches!(
                stage,
                Stage::LookingUp(_)
                    | Stage::ExpectVerdict(_)
                    | Stage::Attaching(..)
                    | Stage::ExpectReply(_)
                    | Stage::Binding(_)
            )
        };
        if self.links.values().any(|link| handshake(&link.stage)) {
            Phase::Handshake
        } else {
            Phase::Detached
        }
    }

    fn namespace_status(&self, lane: &Lane, now: Millis) -> NamespaceStatus {
        let (tip, durable): (Height, Height) = lane.heights(self.setup.role);
        NamespaceStatus {
            name: lane.setup.namespace.clone(),
            role: lane.setup.role,
            phase: self.phase(lane),
            tip,
            durable,
            durable_before: lane.seen_before,
            lag_blocks: self.lag_blocks(lane),
            lag_bytes: lane.lag_bytes(self.setup.role),
            lag_ms: lane.marks.age(now),
            ack_micros: lane.sender.ack_micros(),
            history_from: lane.setup.history_from,
            bootstrap: lane.bootstrap(self.setup.role, now),
            backfill: lane.backfill_status(self.setup.role, now),
            bootstrapped: lane.bootstrapped,
            strategies: lane.desks().map(strategy_status).to_vec(),
            overrides: Vec::new(),
            warnings: lane
                .desks()
                .into_iter()
                .filter_map(difference)
                .chain(lane.index.warnings())
                .chain(lane.queues.warnings())
                .chain(self.retention_warning(lane))
                .chain(lane.history_warning(self.setup.role))
                .collect(),
        }
    }

    /// The status at this time.
    pub fn status(&self, now: Millis) -> PairStatus {
        let now = now.max(self.now);
        let reasons = self.reasons(now);
        let bound = self
            .setup
            .binding
            .as_ref()
            .filter(|_| self.setup.role == Role::Receiver);
        PairStatus {
            normal: reasons.is_empty() && self.session.is_some(),
            role: self.setup.role,
            hostname: self.setup.hostname.clone(),
            node_id: bound.map_or(self.setup.identity.node_id, |binding| binding.node_id),
            incarnation: self.lineage().current(),
            enabled: self.setup.enabled,
            making: self.place.making(),
            last_heard: self.last_heard,
            refused: self.refused.clone(),
            peer: self.session.as_ref().map(|session| PeerStatus {
                hostname: session.agreement.peer_hostname().clone(),
                address: session.address.clone(),
                since: session.since,
                heard: now.saturating_sub(session.judge.age(now)),
                tls: session.tls,
                not_after: session.not_after,
            }),
            reasons,
            tree: (self.session.is_some() && self.is_standby()).then(|| self.tree_status()),
            followers: self.followers.list(),
            behind: self
                .session
                .as_ref()
                .map_or_else(Vec::new, |session| session.agreement.behind().to_vec()),
            left_out: self
                .session
                .as_ref()
                .map_or_else(Vec::new, |session| session.agreement.left_out().to_vec()),
            namespaces: self.lanes.iter().map(|lane| self.namespace_status(lane, now)).collect(),
            warnings: self
                .session
                .iter()
                .filter_map(|session| session.warning.clone())
                .chain(if self.is_standby() {
                    self.tree_warnings()
                } else {
                    Vec::new()
                })
                .collect(),
        }
    }
}
