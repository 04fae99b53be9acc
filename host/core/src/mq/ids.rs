//! Ids of events, and what they say of who saw one. A take-over makes heights anew: so the id of an event at or above one names the incarnation
//! that took over, and one that was given before is told from it. Where no node was ever replaced an id is the plain place.

use std::fmt;
use std::str::FromStr;

use super::{Cursor, shown};
use crate::types::{Height, Incarnation, Malformed};

/// An incarnation in short: its number and the first bytes of its random id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    number: u64,
    id: u32,
}

impl Mark {
    /// Of an incarnation.
    pub fn of(incarnation: &Incarnation) -> Self {
        let [a, b, c, d, ..] = incarnation.id;
        Self {
            number: incarnation.number,
            id: u32::from_be_bytes([a, b, c, d]),
        }
    }
}

/// An event's id: `12`, `12.0`, and `12@2-9f3a51c0` where an incarnation that took over made the block anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The place behind the event.
    pub after: Cursor,
    /// Who took over at or below it, last.
    pub mark: Option<Mark>,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mark {
            None => self.after.fmt(f),
            Some(Mark { number, id }) => write!(f, "{}@{number}-{id:08x}", self.after),
        }
    }
}

impl FromStr for EventId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let Some((place, mark)) = text.split_once('@') else {
            let after = text.parse()?;
            return Ok(Self { after, mark: None });
        };
        let bad = || Malformed::new(format!("{:?} is no id of an event", shown(text)));
        let (number, id) = mark.split_once('-').ok_or_else(bad)?;
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let hex = id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit());
        let mark = match (digits && hex, number.parse(), u32::from_str_radix(id, 16)) {
            (true, Ok(number), Ok(id)) => Mark { number, id },
            _ => return Err(bad()),
        };
        Ok(Self {
            after: place.parse()?,
            mark: Some(mark),
        })
    }
}

/// What who saw an event has of this chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The place behind it; behind the last block that was not made anew, where the event's own was.
    pub cursor: Cursor,
    /// First height that was made anew since that event was told; none where nothing was.
    pub anew: Option<Height>,
    /// The event itself is of a block that was made anew.
    pub lost: bool,
}

/// Where a namespace's chain was taken over, and by whom; oldest first. A later one may begin below an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reigns(Vec<(Height, Mark)>);

impl Reigns {
    /// `incarnation` took over, too: its first height is `first`. Nothing changes where that is known.
    pub fn add(&mut self, incarnation: &Incarnation, first: Height) {
        if !self.knows(incarnation) {
            self.0.push((first, Mark::of(incarnation)));
        }
    }

    /// Whether it is known where `incarnation` took over.
    pub fn knows(&self, incarnation: &Incarnation) -> bool {
        let mark = Mark::of(incarnation);
        self.0.iter().any(|(_, known)| *known == mark)
    }

    /// First height that was made anew since `incarnation` told something; since ever, where nobody knows who did. None where nothing was.
    pub fn first_since(&self, incarnation: Option<Incarnation>) -> Option<Height> {
        let mark = incarnation.as_ref().map(Mark::of);
        let known = self.0.iter().position(|(_, known)| Some(*known) == mark);
        self.0
            .iter()
            .skip(known.map_or(0, |at| at + 1))
            .map(|(first, _)| *first)
            .min()
    }

    /// Id of the event before `after`.
    pub fn id(&self, after: Cursor) -> EventId {
        let made = self.0.iter().rev().find(|(first, _)| *first <= after.height());
        EventId {
            after,
            mark: made.map(|(_, mark)| *mark),
        }
    }

    /// What who saw `id` has of this chain; none where it is of a chain that this node knows nothing of.
    pub fn seen(&self, id: EventId) -> Option<Seen> {
        let later = match id.mark {
            None => 0,
            Some(mark) => self.0.iter().position(|(_, known)| *known == mark)? + 1,
        };
        let anew = self.0.iter().skip(later).map(|(first, _)| *first).min();
        let cursor = anew.map_or(id.after, |anew| id.after.cut_above(anew.saturating_sub(1)));
        Some(Seen {
            cursor,
            anew,
            lost: cursor != id.after,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Announced;
    use super::*;

    fn incarnation(number: u64) -> Incarnation {
        Incarnation {
            number,
            id: [number as u8; 16],
        }
    }

    fn reigns(firsts: &[Height]) -> Reigns {
        let mut reigns = Reigns::default();
        for (number, first) in (2..).zip(firsts) {
            reigns.add(&incarnation(number), *first);
        }
        reigns
    }

    fn seen(reigns: &Reigns, id: &str) -> Option<(String, Option<Height>, bool)> {
        let seen = reigns.seen(id.parse().unwrap())?;
        Some((seen.cursor.to_string(), seen.anew, seen.lost))
    }

    #[test]
    fn an_id_is_plain_below_every_take_over_and_names_the_last_one_above() {
        let reigns = reigns(&[11, 20]);
        let ids = [9, 10, 11, 19, 20, 25].map(|height| reigns.id(Cursor::before(height + 1)).to_string());
        assert_eq!(
            ids,
            [
                "9",
                "10",
                "11@2-02020202",
                "19@2-02020202",
                "20@3-03030303",
                "25@3-03030303"
            ]
        );
        assert_eq!(
            reigns.id(Cursor::inside(11, 1)).to_string(),
            "11.0@2-02020202",
            "inside the first block that was made anew"
        );
        assert_eq!(
            reigns.id(Cursor::behind(Announced::Anew, 11)).to_string(),
            "11.stateUpdate@2-02020202",
            "before it"
        );
        for id in ids {
            assert_eq!(id.parse::<EventId>().unwrap().to_string(), id);
        }
        for bad in [
            "11@",
            "11@2",
            "11@2-",
            "11@2-0202",
            "11@-02020202",
            "11@x-02020202",
            "11@2-0202020g",
            "11@+2-02020202",
            "@2-02020202",
            "11@2-02020202@3-03030303",
            "11@2-+2020202",
        ] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_of_a_lost_node_counts_up_to_what_the_chain_has_of_it() {
        let once = reigns(&[11]);
        let of = |id: &str| seen(&once, id).unwrap();
        assert_eq!(of("9"), ("9".into(), Some(11), false));
        assert_eq!(of("10"), ("10".into(), Some(11), false));
        assert_eq!(of("16"), ("10".into(), Some(11), true));
        assert_eq!(of("11.0"), ("10".into(), Some(11), true));
        assert_eq!(of("16@2-02020202"), ("16".into(), None, false));
        assert_eq!(seen(&once, "16@2-03030303"), None);
        assert_eq!(seen(&once, "16@3-03030303"), None);
    }

    #[test]
    fn who_heard_a_node_long_ago_missed_every_take_over_since() {
        let twice = reigns(&[20, 30]);
        let since = |number| twice.first_since(Some(incarnation(number)));
        assert_eq!(
            [twice.first_since(None), since(1), since(2), since(3)],
            [Some(20), Some(20), Some(30), None]
        );
        assert_eq!(reigns(&[30, 20]).first_since(Some(incarnation(1))), Some(20));
        assert_eq!(Reigns::default().first_since(None), None);
    }

    #[test]
    fn a_later_take_over_may_begin_below_an_earlier_one() {
        let twice = reigns(&[20, 11]);
        assert_eq!(twice.id(Cursor::before(26)).to_string(), "25@3-03030303");
        assert_eq!(seen(&twice, "25@2-02020202").unwrap(), ("10".into(), Some(11), true));
        assert_eq!(seen(&twice, "25").unwrap(), ("10".into(), Some(11), true));
        let growing = reigns(&[11, 20]);
        assert_eq!(seen(&growing, "25@2-02020202").unwrap(), ("19".into(), Some(20), true));
        assert_eq!(seen(&growing, "15@2-02020202").unwrap(), ("15".into(), Some(20), false));
    }
}
