//! The note as bytes. Names of places and exchanges that come again stand in a table, once.

use std::collections::{BTreeMap, BTreeSet};

use super::super::place::{Left, PLACE_BYTES_MAX, Place};
use super::super::registration::NAME_BYTES_MAX;
use super::super::registry::EXCHANGER_BYTES_MAX;
use super::{EXCHANGERS_MAX, Going, LEAVING_MAX, LEFT_MAX, Leaving, Made, QUEUES_MAX};
use crate::types::{Malformed, Reader, Writer};

/// Format of a note of queues that are being made, too.
const ENCODING_MAKING: u8 = 6;
/// Format of a note of queues that may be without a seal.
const ENCODING_UNSEALED: u8 = 5;
/// Format of the note.
const ENCODING: u8 = 4;
/// Format of a note without places. Notes of this format and older are of releases that made no seals.
const ENCODING_NUMBERS: u8 = 3;
/// Format of a note that does not say what was made, either.
const ENCODING_LEAVING: u8 = 2;
/// Format of a note without exchanges.
const ENCODING_QUEUES: u8 = 1;

/// Most texts of the table.
const TEXTS_MAX: usize = 2 * LEAVING_MAX + 2 * LEFT_MAX + EXCHANGERS_MAX + QUEUES_MAX;

/// Texts by their place in the table, from 1 on; 0 stands for none.
struct Table<'a>(Vec<&'a str>);

impl<'a> Table<'a> {
    fn of(leaving: &'a Leaving) -> Self {
        let mut texts = BTreeSet::<&str>::new();
        for going in leaving.queues.values() {
            texts.extend(going.at.as_ref().map(Place::as_str));
            texts.insert(&going.exchanger);
        }
        texts.extend(leaving.exchangers.values().flatten().map(Place::as_str));
        if let Made::At(made) = &leaving.made {
            texts.extend(made.values().flatten().map(Place::as_str));
        }
        for left in &leaving.left {
            texts.extend([left.place.as_str(), left.exchanger.as_str()]);
        }
        texts.remove("");
        Self(texts.into_iter().collect())
    }

    fn write(&self, out: &mut Writer) {
        out.u32(self.0.len() as u32);
        self.0.iter().for_each(|text| out.text(text));
    }

    fn read(input: &mut Reader<'a>) -> Result<Self, Malformed> {
        let count = input.count(TEXTS_MAX, 4)?;
        let texts = (0..count).map(|_| input.text(PLACE_BYTES_MAX));
        Ok(Self(texts.collect::<Result<_, _>>()?))
    }

    fn index(&self, text: &str) -> u32 {
        self.0.binary_search(&text).map_or(0, |at| at as u32 + 1)
    }

    fn text(&self, input: &mut Reader<'_>) -> Result<&'a str, Malformed> {
        let Some(index) = input.u32()?.checked_sub(1) else {
            return Ok("");
        };
        let text = self.0.get(index as usize);
        text.copied()
            .ok_or_else(|| Malformed::new(format!("text {index} of a note")))
    }

    fn place(&self, input: &mut Reader<'_>) -> Result<Option<Place>, Malformed> {
        let text = self.text(input)?;
        Ok((!text.is_empty()).then(|| Place::new(text)))
    }

    fn exchanger(&self, input: &mut Reader<'_>) -> Result<String, Malformed> {
        let text = self.text(input)?;
        match text.len() {
            ..=EXCHANGER_BYTES_MAX => Ok(text.to_owned()),
            bytes => Err(Malformed::new(format!("exchange of {bytes} bytes"))),
        }
    }
}

impl Leaving {
    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let placed = self
            .queues
            .values()
            .any(|it| it.at.is_some() || !it.exchanger.is_empty())
            || self.exchangers.values().any(Option::is_some)
            || !self.left.is_empty();
        match &self.made {
            Made::Numbers(numbers) if !placed => self.encode_numbers(Some(numbers)),
            Made::Any if self.early && !placed => self.encode_numbers(None),
            _ => self.encode_with_places(),
        }
    }

    /// As the earlier release wrote it that it is of.
    fn encode_numbers(&self, made: Option<&BTreeSet<u64>>) -> Vec<u8> {
        let mut out = Writer::with_capacity(16 + 64 * self.queues.len());
        out.u8(if made.is_some() {
            ENCODING_NUMBERS
        } else {
            ENCODING_LEAVING
        });
        out.u32(self.queues.len() as u32);
        for (number, going) in &self.queues {
            out.u64(*number);
            out.text(&going.name);
        }
        out.u32(self.exchangers.len() as u32);
        self.exchangers.keys().for_each(|name| out.text(name));
        if let Some(made) = made {
            write_set(&mut out, made);
        }
        out.into_bytes()
    }

    fn encode_with_places(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64 + 64 * (self.queues.len() + self.left.len()));
        let table = Table::of(self);
        let at = |place: &Option<Place>| table.index(place.as_ref().map_or("", Place::as_str));
        let encoding = match (self.unsealed.is_empty(), self.making.is_empty()) {
            (_, false) => ENCODING_MAKING,
            (false, true) => ENCODING_UNSEALED,
            (true, true) => ENCODING,
        };
        out.u8(encoding);
        table.write(&mut out);
        out.u32(self.queues.len() as u32);
        for (number, going) in &self.queues {
            out.u64(*number);
            out.text(&going.name);
            out.u32(at(&going.at));
            out.u32(table.index(&going.exchanger));
        }
        out.u32(self.exchangers.len() as u32);
        for (name, place) in &self.exchangers {
            out.text(name);
            out.u32(at(place));
        }
        let made: Option<BTreeMap<u64, u32>> = match &self.made {
            Made::Any => None,
            Made::Numbers(numbers) => Some(numbers.iter().map(|number| (*number, 0)).collect()),
            Made::At(made) => Some(made.iter().map(|(number, place)| (*number, at(place))).collect()),
        };
        out.option(made.as_ref(), |out, made| {
            out.u32(made.len() as u32);
            for (number, place) in made {
                out.u64(*number);
                out.u32(*place);
            }
        });
        out.u32(self.left.len() as u32);
        for left in &self.left {
            out.u32(table.index(left.place.as_str()));
            out.u32(table.index(&left.exchanger));
            out.option(left.queue.as_ref(), |out, (number, name)| {
                out.u64(*number);
                out.text(name);
            });
        }
        if encoding != ENCODING {
            write_set(&mut out, &self.unsealed);
        }
        if encoding == ENCODING_MAKING {
            write_set(&mut out, &self.making);
        }
        out.into_bytes()
    }

    /// Reads the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let leaving = match input.u8()? {
            encoding @ (ENCODING | ENCODING_UNSEALED | ENCODING_MAKING) => {
                let mut leaving = Self::read_with_places(&mut input)?;
                if encoding != ENCODING {
                    leaving.unsealed = read_set(&mut input)?;
                }
                if encoding == ENCODING_MAKING {
                    leaving.making = read_set(&mut input)?;
                }
                leaving
            }
            encoding @ (ENCODING_NUMBERS | ENCODING_LEAVING | ENCODING_QUEUES) => {
                Self::read_numbers(&mut input, encoding)?
            }
            other => return Err(Malformed::new(format!("leaving queues of encoding {other}"))),
        };
        input.finish()?;
        Ok(leaving)
    }

    fn read_numbers(input: &mut Reader<'_>, encoding: u8) -> Result<Self, Malformed> {
        let mut leaving = Self::default();
        for _ in 0..input.count(LEAVING_MAX, 12)? {
            let number = input.u64()?;
            let going = Going {
                name: input.text(NAME_BYTES_MAX)?.to_owned(),
                at: None,
                exchanger: String::new(),
            };
            leaving.queues.insert(number, going);
        }
        if encoding != ENCODING_QUEUES {
            for _ in 0..input.count(EXCHANGERS_MAX, 4)? {
                let name = input.text(EXCHANGER_BYTES_MAX)?.to_owned();
                leaving.exchangers.insert(name, None);
            }
        }
        if encoding == ENCODING_NUMBERS {
            let numbers = read_set(input)?;
            leaving.unsealed.extend(&numbers);
            leaving.made = Made::Numbers(numbers);
        }
        leaving.unsealed.extend(leaving.queues.keys());
        leaving.early = encoding != ENCODING_NUMBERS;
        Ok(leaving)
    }

    fn read_with_places(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let table = Table::read(input)?;
        let mut leaving = Self::default();
        for _ in 0..input.count(LEAVING_MAX, 20)? {
            let number = input.u64()?;
            let going = Going {
                name: input.text(NAME_BYTES_MAX)?.to_owned(),
                at: table.place(input)?,
                exchanger: table.exchanger(input)?,
            };
            leaving.queues.insert(number, going);
        }
        for _ in 0..input.count(EXCHANGERS_MAX, 8)? {
            let name = input.text(EXCHANGER_BYTES_MAX)?.to_owned();
            leaving.exchangers.insert(name, table.place(input)?);
        }
        let made = input.option(|input| {
            let count = input.count(LEAVING_MAX + QUEUES_MAX, 12)?;
            let made = (0..count).map(|_| Ok((input.u64()?, table.place(input)?)));
            made.collect::<Result<_, Malformed>>()
        })?;
        leaving.made = made.map_or(Made::Any, Made::At);
        for _ in 0..input.count(LEFT_MAX, 9)? {
            let place = table.place(input)?;
            let left = Left {
                place: place.ok_or_else(|| Malformed::new("something left nowhere"))?,
                exchanger: table.exchanger(input)?,
                queue: input.option(|input| Ok((input.u64()?, input.text(NAME_BYTES_MAX)?.to_owned())))?,
            };
            leaving.left.insert(left);
        }
        Ok(leaving)
    }
}

fn write_set(out: &mut Writer, set: &BTreeSet<u64>) {
    out.u32(set.len() as u32);
    set.iter().for_each(|number| out.u64(*number));
}

fn read_set(input: &mut Reader<'_>) -> Result<BTreeSet<u64>, Malformed> {
    let count = input.count(LEAVING_MAX + QUEUES_MAX, 8)?;
    (0..count).map(|_| input.u64()).collect()
}
