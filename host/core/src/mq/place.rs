//! Where a queue stands: at a virtual host of a broker. A node may come to another one when its configuration changes, and what it made at the old
//! one stays there.

use std::fmt;

/// Longest place, bytes: name of a host, port and virtual host with every byte of it escaped.
pub(super) const PLACE_BYTES_MAX: usize = 1_280;

/// A virtual host of a broker: `host:port/` and its name, without credentials.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place(String);

impl Place {
    /// As `text` writes it; one that is too long for any broker is cut.
    pub fn new(text: &str) -> Self {
        let mut end = text.len().min(PLACE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text.get(..end).unwrap_or_default().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the virtual host; empty for the broker's default one.
    pub(super) fn virtual_host(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of a queue's seal: an exchange of its own, bound to it alone, which the broker removes with the queue. So where it stands, the queue is the
/// very one that was made for this registration, whatever the broker is called.
pub fn seal(exchanger: &str, number: u64) -> String {
    format!("{exchanger}.{number}")
}

/// What was made at a place where the node does not come any more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Left {
    /// Where.
    pub place: Place,
    /// Its exchange; of a queue, the one that it is bound to.
    pub exchanger: String,
    /// Number of the registration and name of the queue; none where it is the exchange itself.
    pub queue: Option<(u64, String)>,
}

impl Left {
    /// Name of the exchange that stands as long as it does.
    pub(super) fn proof(&self) -> String {
        match &self.queue {
            Some((number, _)) => seal(&self.exchanger, *number),
            None => self.exchanger.clone(),
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.queue {
            Some((_, name)) => write!(f, "queue {name} (exchange {}) at {}", self.exchanger, self.place),
            None => write!(f, "exchange {} at {}", self.exchanger, self.place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_too_long_is_cut_between_two_characters() {
        let long = "ä".repeat(PLACE_BYTES_MAX);
        assert_eq!(Place::new(&format!("x{long}")).as_str().len(), PLACE_BYTES_MAX - 1);
        assert_eq!(Place::new("host:5672/").to_string(), "host:5672/");
    }
}
