//! A refusal: what one end says no to, and what an operator can do about it. Shown on both ends.

use std::borrow::Cow;
use std::fmt;

use super::read::{Malformed, Reader, Writer};

/// A reasoned no. `code` is kebab-case and stable (scripts match it), `text` says what is wrong, `hint` what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Kebab-case code, e.g. `other-provider`; at most 64 bytes on the wire.
    pub code: Cow<'static, str>,
    /// What is wrong, with the values that disagree; at most 1,024 bytes on the wire.
    pub text: String,
    /// What the operator can do; may be empty; at most 1,024 bytes on the wire.
    pub hint: String,
}

impl Refusal {
    /// A refusal with a static code.
    pub fn new(code: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code: Cow::Borrowed(code),
            text: text.into(),
            hint: hint.into(),
        }
    }

    /// Appends the wire form (three bounded strings; longer ones are cut at a character boundary).
    pub fn write(&self, out: &mut Writer) {
        out.text(cut(&self.code, 64));
        out.text(cut(&self.text, 1024));
        out.text(cut(&self.hint, 1024));
    }

    /// Reads the wire form.
    pub fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            code: Cow::Owned(input.text(64)?.to_owned()),
            text: input.text(1024)?.to_owned(),
            hint: input.text(1024)?.to_owned(),
        })
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)?;
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
