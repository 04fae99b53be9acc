//! The data index as the two ends tell each other of it: the switch in the hello, the rest there and whenever it changes.

use crate::types::strategy::index_check::{HEALTHY, OFF, Side, UNHEALTHY, UNKNOWN};
use crate::types::{Malformed, Reader, Writer};

/// Longest text on what is wrong with a backend, bytes.
pub const PROBLEM_BYTES_MAX: usize = 256;

/// How an end finds its own index backend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackendHealth {
    /// The switch is off: nobody looks.
    Off,
    /// Nobody has looked yet.
    Unknown,
    /// It accepts connections.
    Healthy,
    /// It does not; why, with its address, without credentials. At most [`PROBLEM_BYTES_MAX`], no control characters.
    Unhealthy(String),
}

/// What may change of an end's index while it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexState {
    /// `database.indexdb.layer1.enable` as it is configured now: it takes effect with the next start.
    pub configured: bool,
    /// Its backend.
    pub backend: BackendHealth,
}

/// The index of one namespace at one end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexOffer {
    /// `database.indexdb.layer1.enable` as the namespace runs.
    pub enabled: bool,
    /// How it is.
    pub state: IndexState,
}

impl BackendHealth {
    /// One that does not answer; a text that is too long is cut, and what cannot be shown is replaced.
    pub fn unhealthy(problem: &str) -> BackendHealth {
        let mut text = String::new();
        for c in problem.chars() {
            let c = if c.is_control() { ' ' } else { c };
            if text.len() + c.len_utf8() > PROBLEM_BYTES_MAX {
                break;
            }
            text.push(c);
        }
        BackendHealth::Unhealthy(text)
    }
}

impl IndexState {
    /// What is known of a namespace that begins to run.
    pub fn unseen(enabled: bool) -> IndexState {
        IndexState {
            configured: enabled,
            backend: if enabled {
                BackendHealth::Unknown
            } else {
                BackendHealth::Off
            },
        }
    }

    /// Payload of a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads a payload; bytes behind the last known field are ignored.
    pub fn decode(bytes: &[u8]) -> Result<IndexState, Malformed> {
        IndexState::read(&mut Reader::new(bytes))
    }

    fn write(&self, out: &mut Writer) {
        out.flag(self.configured);
        let (code, problem) = match &self.backend {
            BackendHealth::Off => (0, ""),
            BackendHealth::Unknown => (1, ""),
            BackendHealth::Healthy => (2, ""),
            BackendHealth::Unhealthy(problem) => (3, problem.as_str()),
        };
        out.u8(code);
        out.text(problem);
    }

    fn read(input: &mut Reader<'_>) -> Result<IndexState, Malformed> {
        let (configured, code) = (input.flag()?, input.u8()?);
        let problem = input.text(PROBLEM_BYTES_MAX)?;
        if problem.chars().any(char::is_control) {
            return Err(Malformed::new("control characters in what is wrong with an index"));
        }
        let backend = match (code, problem) {
            (0, "") => BackendHealth::Off,
            (1, "") => BackendHealth::Unknown,
            (2, "") => BackendHealth::Healthy,
            (3, problem) => BackendHealth::Unhealthy(problem.to_owned()),
            (other, _) => return Err(Malformed::new(format!("index backend {other}"))),
        };
        Ok(IndexState { configured, backend })
    }
}

impl IndexOffer {
    /// The index of a namespace that begins to run.
    pub fn new(enabled: bool) -> IndexOffer {
        IndexOffer {
            enabled,
            state: IndexState::unseen(enabled),
        }
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.flag(self.enabled);
        self.state.write(out);
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<IndexOffer, Malformed> {
        Ok(IndexOffer {
            enabled: input.flag()?,
            state: IndexState::read(input)?,
        })
    }

    /// As strategies see it.
    pub(crate) fn side(&self) -> Side {
        let (backend, problem) = match &self.state.backend {
            BackendHealth::Off => (OFF, ""),
            BackendHealth::Unknown => (UNKNOWN, ""),
            BackendHealth::Healthy => (HEALTHY, ""),
            BackendHealth::Unhealthy(problem) => (UNHEALTHY, problem.as_str()),
        };
        Side {
            configured: self.state.configured,
            backend: backend.to_owned(),
            problem: problem.to_owned(),
            ..Side::new(self.enabled)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_back_may_be_cut_nowhere_and_holds_nothing_that_cannot_be_shown() {
        for backend in [
            BackendHealth::Off,
            BackendHealth::Unknown,
            BackendHealth::Healthy,
            BackendHealth::unhealthy("10.0.0.1:27017: connection refused"),
        ] {
            let state = IndexState {
                configured: backend != BackendHealth::Off,
                backend,
            };
            let bytes = state.encode();
            assert_eq!(IndexState::decode(&bytes), Ok(state));
            assert!((0..bytes.len()).all(|cut| IndexState::decode(&bytes[..cut]).is_err()));
        }
        let long = BackendHealth::unhealthy(&"\u{fc}\n".repeat(PROBLEM_BYTES_MAX));
        let BackendHealth::Unhealthy(text) = &long else {
            panic!()
        };
        assert!(text.len() <= PROBLEM_BYTES_MAX && !text.contains('\n'));
        for bad in [
            BackendHealth::Unhealthy("a\nb".into()),
            BackendHealth::Unhealthy("x".repeat(PROBLEM_BYTES_MAX + 1)),
        ] {
            let state = IndexState {
                configured: true,
                backend: bad,
            };
            assert!(IndexState::decode(&state.encode()).is_err(), "{state:?}");
        }
        let mut odd = IndexState::unseen(true).encode();
        odd[1] = 4;
        assert!(IndexState::decode(&odd).is_err());
    }
}
