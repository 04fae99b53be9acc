//! A trace: every call of one strategy instance with what it answered, as bytes; recorded by a node, replayed by anyone.
//!
//! Bytes: magic `cvptrac1`, then of the instance its role, namespace, settings and component (id, version, sha256); then, for each call, a
//! flag 1, the events, and the actions or the fault. A trace cut off anywhere replays up to its last whole call.

use super::{ChainSyncStrategy, codec};
use crate::types::strategy::chain_sync::{Action, Event};
use crate::types::strategy::{ACTIONS_MAX, Fault, Role, SETTINGS_BYTES_MAX, TEXT_BYTES_MAX};
use crate::types::{Malformed, Reader, Writer};

const MAGIC: &[u8; 8] = b"cvptrac1";

/// Most events one recorded call may hold.
const EVENTS_MAX: usize = 4_096;

/// What opened the recorded instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
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

/// One recorded call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// What it was told.
    pub events: Vec<Event>,
    /// What it answered.
    pub answer: Result<Vec<Action>, Fault>,
}

impl Opening {
    /// The head of a trace.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(MAGIC);
        codec::write_role(&mut out, self.role);
        out.text(&self.namespace);
        out.text(&self.settings);
        out.text(&self.id);
        out.text(&self.version);
        out.raw(&self.sha256);
        out.into_bytes()
    }
}

impl Call {
    /// One call's bytes, to append to a trace.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.flag(true);
        out.u32(self.events.len() as u32);
        for event in &self.events {
            codec::write_event(&mut out, event);
        }
        match &self.answer {
            Ok(actions) => {
                out.flag(true);
                out.u32(actions.len() as u32);
                for action in actions {
                    codec::write_action(&mut out, action);
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
            events.push(codec::read_event(input)?);
        }
        let answer = if input.flag()? {
            let mut actions = Vec::new();
            for _ in 0..input.count(ACTIONS_MAX, 1)? {
                actions.push(codec::read_action(input)?);
            }
            Ok(actions)
        } else {
            Err(codec::read_fault(input)?)
        };
        Ok(Self { events, answer })
    }
}

/// Reads a trace up to its last whole call. Fails when the head is not one.
pub fn read(bytes: &[u8]) -> Result<(Opening, Vec<Call>), Malformed> {
    let mut input = Reader::new(bytes);
    if &input.array::<8>()? != MAGIC {
        return Err(Malformed::new("not a strategy trace"));
    }
    let opening = Opening {
        role: codec::read_role(&mut input)?,
        namespace: input.text(64)?.to_owned(),
        settings: input.text(SETTINGS_BYTES_MAX)?.to_owned(),
        id: input.text(TEXT_BYTES_MAX)?.to_owned(),
        version: input.text(TEXT_BYTES_MAX)?.to_owned(),
        sha256: input.array()?,
    };
    let mut calls = Vec::new();
    while let Ok(call) = Call::read(&mut input) {
        calls.push(call);
    }
    Ok((opening, calls))
}

/// Plays the calls to a fresh instance; names the first call that is answered otherwise than recorded.
pub fn replay(calls: &[Call], strategy: &mut ChainSyncStrategy) -> Result<(), String> {
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
mod tests {
    use super::super::contract;
    use super::*;
    use crate::types::strategy::Level;

    fn every_action() -> Vec<Action> {
        vec![
            Action::Window(1),
            Action::Pause("p".into()),
            Action::Bootstrap(2),
            Action::VerifyEvery(3),
            Action::Throttle(4),
            Action::Refuse("r".into()),
            Action::Store(vec![1, 2]),
            Action::Send(vec![3]),
            Action::Log(Level::Warn, "w".into()),
            Action::Metric("m".into(), -5),
            Action::Other("o".into(), vec![6]),
        ]
    }

    #[test]
    fn a_trace_is_read_back_and_may_be_cut_anywhere() {
        let opening = Opening {
            role: Role::Receiver,
            namespace: "global".into(),
            settings: "{}".into(),
            id: "default".into(),
            version: "1.0.0".into(),
            sha256: [7; 32],
        };
        let mut bytes = opening.encode();
        let head = bytes.len();
        let mut calls: Vec<Call> = contract::script(Role::Receiver)
            .into_iter()
            .map(|events| Call {
                events,
                answer: Ok(every_action()),
            })
            .collect();
        calls.push(Call {
            events: Vec::new(),
            answer: Err(Fault::new("code", "text")),
        });
        for call in &calls {
            bytes.extend(call.encode());
        }
        assert_eq!(read(&bytes).unwrap(), (opening, calls.clone()));
        for end in head..bytes.len() {
            let (_, whole) = read(&bytes[..end]).unwrap();
            assert!(whole.len() < calls.len() && calls.starts_with(&whole), "cut at {end}");
        }
        assert!(read(&bytes[..head - 1]).is_err());
        assert!(read(b"something else entirely").is_err());
    }
}
