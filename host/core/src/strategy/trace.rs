//! A trace: every call of one strategy instance with what it answered, as bytes; recorded by a node, replayed by anyone.
//!
//! Bytes: magic `cvptrac2`, then of the instance its kind, role, namespace, settings and component (id, version, sha256); then, for each call,
//! a flag 1, the events, and the actions or the fault. A trace cut off anywhere replays up to its last whole call.

use super::{Boxed, ChainSync, Coded, Kind, codec};
use crate::types::strategy::{ACTIONS_MAX, Fault, Role, SETTINGS_BYTES_MAX, TEXT_BYTES_MAX};
use crate::types::{Malformed, Reader, Writer};

const MAGIC: &[u8; 8] = b"cvptrac2";

/// Most events one recorded call may hold.
const EVENTS_MAX: usize = 4_096;

/// What opened the recorded instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// Its kind: `chain-sync`, `config-sync`.
    pub kind: String,
    /// The end it worked for.
    pub role: Role,
    /// The namespace.
    pub namespace: String,
    /// Its settings text.
    pub settings: String,
    /// Id of its component.
    pub id: String,
    /// Version of its component.
    pub version: String,
    /// SHA-256 of its component.
    pub sha256: [u8; 32],
}

/// One recorded call of a strategy of kind `K`.
#[derive(Clone, PartialEq, Debug)]
pub struct Call<K: Kind = ChainSync> {
    /// What it was told.
    pub events: Vec<K::Event>,
    /// What it answered.
    pub answer: Result<Vec<K::Action>, Fault>,
}

impl Opening {
    /// The head of a trace.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(MAGIC);
        out.text(&self.kind);
        codec::write_role(&mut out, self.role);
        out.text(&self.namespace);
        out.text(&self.settings);
        out.text(&self.id);
        out.text(&self.version);
        out.raw(&self.sha256);
        out.into_bytes()
    }

    /// Reads the head of a trace of any kind, from its first byte.
    ///
    /// # Errors
    /// It is none.
    pub fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        if &input.array::<8>()? != MAGIC {
            return Err(Malformed::new("not a strategy trace"));
        }
        Ok(Self {
            kind: input.text(64)?.to_owned(),
            role: codec::read_role(input)?,
            namespace: input.text(64)?.to_owned(),
            settings: input.text(SETTINGS_BYTES_MAX)?.to_owned(),
            id: input.text(TEXT_BYTES_MAX)?.to_owned(),
            version: input.text(TEXT_BYTES_MAX)?.to_owned(),
            sha256: input.array()?,
        })
    }
}

impl<K: Kind> Call<K> {
    /// One call's bytes, to append to a trace.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.flag(true);
        out.u32(self.events.len() as u32);
        for event in &self.events {
            event.write(&mut out);
        }
        match &self.answer {
            Ok(actions) => {
                out.flag(true);
                out.u32(actions.len() as u32);
                for action in actions {
                    action.write(&mut out);
                }
            }
            Err(fault) => {
                out.flag(false);
                codec::write_fault(&mut out, fault);
            }
        }
        out.into_bytes()
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.flag()?;
        let mut events = Vec::new();
        for _ in 0..input.count(EVENTS_MAX, 1)? {
            events.push(K::Event::read(input)?);
        }
        let answer = if input.flag()? {
            let mut actions = Vec::new();
            for _ in 0..input.count(ACTIONS_MAX, 1)? {
                actions.push(K::Action::read(input)?);
            }
            Ok(actions)
        } else {
            Err(codec::read_fault(input)?)
        };
        Ok(Self { events, answer })
    }
}

/// Reads a trace of kind `K` up to its last whole call.
///
/// # Errors
/// The head is none, or is of another kind.
pub fn read<K: Kind>(bytes: &[u8]) -> Result<(Opening, Vec<Call<K>>), Malformed> {
    let mut input = Reader::new(bytes);
    let opening = Opening::read(&mut input)?;
    if opening.kind != K::NAME {
        return Err(Malformed::new(format!("a trace of kind {:?}", opening.kind)));
    }
    let mut calls = Vec::new();
    while let Ok(call) = Call::read(&mut input) {
        calls.push(call);
    }
    Ok((opening, calls))
}

/// Plays the calls to a fresh instance; names the first call that is answered otherwise than recorded.
pub fn replay<K: Kind>(calls: &[Call<K>], strategy: &mut Boxed<K>) -> Result<(), String> {
    for (number, call) in calls.iter().enumerate() {
        let answer = strategy.handle(call.events.clone());
        if answer != call.answer {
            return Err(format!("call {number}: recorded {:?}, now {answer:?}", call.answer));
        }
        if answer.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
