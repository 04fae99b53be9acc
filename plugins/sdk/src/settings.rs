//! Reads a strategy's settings: a flat JSON object of numbers, strings, booleans and lists of strings, checked name by name.
//!
//! Small on purpose: a strategy that reads a handful of settings should not carry a whole JSON library into every node. Nested values are
//! refused with a problem that names the setting.

use std::collections::BTreeMap;

use cvp_types::{Problem, SETTINGS_BYTES_MAX};

/// A value of a setting.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A whole number that fits.
    Whole(u64),
    /// Any other number.
    Number(f64),
    /// A string.
    Text(String),
    /// `true` or `false`.
    Flag(bool),
    /// A list of strings.
    Texts(Vec<String>),
}

/// Settings being read: take what you know, then [`Settings::finish`] names what is left and what was wrong.
#[derive(Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, Value>,
    problems: Vec<Problem>,
}

impl Settings {
    /// Reads a settings text; empty text is an empty object.
    pub fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        if text.len() > SETTINGS_BYTES_MAX {
            settings.problem("", format!("longer than {SETTINGS_BYTES_MAX} bytes"));
        } else if !text.trim().is_empty() {
            let mut scan = Scan { rest: text };
            match scan.object() {
                Ok(values) => settings.values = values,
                Err((path, message)) => settings.problem(&path, message),
            }
        }
        settings
    }

    /// A whole number from `least` to `most`, or `default` when not given.
    pub fn whole(&mut self, name: &str, default: u64, least: u64, most: u64) -> u64 {
        match self.values.remove(name) {
            None => default,
            Some(Value::Whole(value)) if (least..=most).contains(&value) => value,
            Some(_) => {
                self.problem(name, format!("must be a whole number from {least} to {most}"));
                default
            }
        }
    }

    /// A flag, or `default` when not given.
    pub fn flag(&mut self, name: &str, default: bool) -> bool {
        match self.values.remove(name) {
            None => default,
            Some(Value::Flag(value)) => value,
            Some(_) => {
                self.problem(name, "must be true or false".into());
                default
            }
        }
    }

    /// A string, or `default` when not given.
    pub fn text(&mut self, name: &str, default: &str) -> String {
        match self.values.remove(name) {
            None => default.to_owned(),
            Some(Value::Text(value)) => value,
            Some(_) => {
                self.problem(name, "must be a string".into());
                default.to_owned()
            }
        }
    }

    /// A list of at most `most` strings; empty when not given.
    pub fn texts(&mut self, name: &str, most: usize) -> Vec<String> {
        match self.values.remove(name) {
            None => Vec::new(),
            Some(Value::Texts(values)) if values.len() <= most => values,
            Some(_) => {
                self.problem(name, format!("must be a list of at most {most} strings"));
                Vec::new()
            }
        }
    }

    /// Notes one more thing that is wrong.
    pub fn problem(&mut self, path: &str, message: String) {
        self.problems.push(Problem {
            path: path.to_owned(),
            message,
        });
    }

    /// What was wrong, unknown names included.
    pub fn finish(mut self) -> Result<(), Vec<Problem>> {
        for name in std::mem::take(&mut self.values).into_keys() {
            self.problem(&name, "is not a setting of this strategy".into());
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(self.problems)
        }
    }
}

type Wrong = (String, String);

fn wrong(message: &str) -> Wrong {
    (String::new(), message.to_owned())
}

struct Scan<'a> {
    rest: &'a str,
}

impl Scan<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn object(&mut self) -> Result<BTreeMap<String, Value>, Wrong> {
        if !self.eat("{") {
            return Err(wrong("settings must be a JSON object"));
        }
        let mut values = BTreeMap::new();
        if !self.eat("}") {
            loop {
                self.skip_space();
                let name = self.string()?;
                if !self.eat(":") {
                    return Err((name, "expected ':'".into()));
                }
                let value = self.value().map_err(|message| (name.clone(), message))?;
                if values.insert(name.clone(), value).is_some() {
                    return Err((name, "given twice".into()));
                }
                if self.eat("}") {
                    break;
                }
                if !self.eat(",") {
                    return Err((name, "expected ',' or '}' after it".into()));
                }
            }
        }
        self.skip_space();
        if self.rest.is_empty() {
            Ok(values)
        } else {
            Err(wrong("something follows the object"))
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.eat("true") {
            return Ok(Value::Flag(true));
        }
        if self.eat("false") {
            return Ok(Value::Flag(false));
        }
        if self.eat("[") {
            return self.texts().map(Value::Texts);
        }
        self.skip_space();
        if self.rest.starts_with('"') {
            return self.string().map(Value::Text).map_err(|(_, message)| message);
        }
        let end = self
            .rest
            .find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
            .unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(end);
        let value = if let Ok(whole) = number.parse::<u64>() {
            Value::Whole(whole)
        } else if let Ok(number) = number.parse::<f64>() {
            Value::Number(number)
        } else {
            return Err("must be a number, a string, true, false or a list of strings".into());
        };
        self.rest = rest;
        Ok(value)
    }

    /// What follows the `[` of a list.
    fn texts(&mut self) -> Result<Vec<String>, String> {
        let mut values = Vec::new();
        if self.eat("]") {
            return Ok(values);
        }
        loop {
            self.skip_space();
            values.push(self.string().map_err(|_| "must be a list of strings".to_owned())?);
            if self.eat("]") {
                return Ok(values);
            }
            if !self.eat(",") {
                return Err("expected ',' or ']' after a string of it".into());
            }
        }
    }

    fn string(&mut self) -> Result<String, Wrong> {
        let mut chars = self
            .rest
            .strip_prefix('"')
            .ok_or_else(|| wrong("expected a string"))?
            .chars();
        let mut out = String::new();
        loop {
            match chars.next().ok_or_else(|| wrong("a string has no end"))? {
                '"' => break,
                '\\' => out.push(escaped(&mut chars)?),
                plain => out.push(plain),
            }
        }
        self.rest = chars.as_str();
        Ok(out)
    }
}

fn escaped(chars: &mut std::str::Chars<'_>) -> Result<char, Wrong> {
    match chars.next() {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('r') => Ok('\r'),
        Some(same @ ('"' | '\\' | '/')) => Ok(same),
        Some('u') => {
            let digits: String = chars.by_ref().take(4).collect();
            u32::from_str_radix(&digits, 16)
                .ok()
                .and_then(char::from_u32)
                .ok_or_else(|| wrong("an escape that is not a character"))
        }
        _ => Err(wrong("an escape that is not known")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_settings_are_read_and_defaults_stand_in() {
        let mut it = Settings::parse(r#" {"window": 7, "name":"a\"b\u0041", "on" : true} "#);
        assert_eq!(it.whole("window", 1, 0, 10), 7);
        assert_eq!(it.whole("absent", 3, 0, 10), 3);
        assert_eq!(it.text("name", ""), "a\"bA");
        assert!(it.flag("on", false));
        assert_eq!(it.finish(), Ok(()));
        assert_eq!(Settings::parse("").finish(), Ok(()));
        assert_eq!(Settings::parse("{}").finish(), Ok(()));
    }

    #[test]
    fn a_list_holds_strings_and_not_too_many() {
        let mut it = Settings::parse(r#"{"a": [ "x" , "y\"" ], "b":[], "c": ["1", "2", "3"], "d": "one"}"#);
        assert_eq!(it.texts("a", 2), ["x", "y\""]);
        assert!(it.texts("b", 2).is_empty() && it.texts("absent", 2).is_empty());
        it.texts("c", 2);
        it.texts("d", 2);
        let paths: Vec<_> = it.finish().unwrap_err().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["c", "d"]);
    }

    #[test]
    fn every_problem_names_its_setting() {
        let mut it = Settings::parse(r#"{"window": 11, "flag": "yes", "odd": 1}"#);
        it.whole("window", 1, 0, 10);
        it.flag("flag", false);
        let paths: Vec<_> = it.finish().unwrap_err().into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["window", "flag", "odd"]);
    }

    #[test]
    fn what_is_not_a_flat_object_is_refused() {
        for bad in [
            "[]",
            "{",
            "{\"a\"}",
            "{\"a\":[1]}",
            "{\"a\":[[]]}",
            "{\"a\":[\"b\",]}",
            "{\"a\":[\"b\"",
            "{\"a\":[\"b\" \"c\"]}",
            "{\"a\":{}}",
            "{\"a\":1}x",
            "{\"a\":1,\"a\":2}",
            "\"",
            "{\"a\":\"\\u12\"}",
            "{\"a\":null}",
        ] {
            assert!(Settings::parse(bad).finish().is_err(), "{bad}");
        }
    }
}
