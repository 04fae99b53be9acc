//! Bytes of events and actions, for traces. Integers little-endian, everything bounded before it is allocated. Here what all kinds share; one
//! file a kind.

mod chain_sync;
mod config_sync;
mod index_check;
mod mq_sync;

use crate::types::strategy::{Fault, Level, Role, TEXT_BYTES_MAX};
use crate::types::{Malformed, Reader, Writer};

/// Most entries of the open end of a view.
const EXTRA_MAX: usize = 256;

/// What a trace holds: an event or an action of one kind.
pub trait Coded: Sized {
    /// Appends it.
    fn write(&self, out: &mut Writer);

    /// Reads one.
    ///
    /// # Errors
    /// Bytes that are none, or lengths beyond what the contract allows.
    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed>;
}

pub fn write_role(out: &mut Writer, role: Role) {
    out.u8(match role {
        Role::Provider => 0,
        Role::Receiver => 1,
    });
}

pub fn read_role(input: &mut Reader<'_>) -> Result<Role, Malformed> {
    match input.u8()? {
        0 => Ok(Role::Provider),
        1 => Ok(Role::Receiver),
        other => Err(Malformed::new(format!("role {other}"))),
    }
}

pub fn write_fault(out: &mut Writer, fault: &Fault) {
    out.text(&fault.code);
    out.text(&fault.text);
}

pub fn read_fault(input: &mut Reader<'_>) -> Result<Fault, Malformed> {
    Ok(Fault {
        code: text(input)?,
        text: text(input)?,
    })
}

fn text(input: &mut Reader<'_>) -> Result<String, Malformed> {
    Ok(input.text(TEXT_BYTES_MAX)?.to_owned())
}

fn write_extra(out: &mut Writer, extra: &[(String, String)]) {
    out.u32(extra.len() as u32);
    for (name, value) in extra {
        out.text(name);
        out.text(value);
    }
}

fn read_extra(input: &mut Reader<'_>) -> Result<Vec<(String, String)>, Malformed> {
    let mut extra = Vec::new();
    for _ in 0..input.count(EXTRA_MAX, 8)? {
        extra.push((text(input)?, text(input)?));
    }
    Ok(extra)
}

fn write_level(out: &mut Writer, level: Level) {
    out.u8(match level {
        Level::Debug => 0,
        Level::Info => 1,
        Level::Warn => 2,
    });
}

fn read_level(input: &mut Reader<'_>) -> Result<Level, Malformed> {
    match input.u8()? {
        0 => Ok(Level::Debug),
        1 => Ok(Level::Info),
        2 => Ok(Level::Warn),
        other => Err(Malformed::new(format!("log level {other}"))),
    }
}

/// A tag and a text.
fn tagged_text(out: &mut Writer, tag: u8, text: &str) {
    out.u8(tag);
    out.text(text);
}

/// A tag and bytes.
fn tagged_bytes(out: &mut Writer, tag: u8, bytes: &[u8]) {
    out.u8(tag);
    out.bytes(bytes);
}

/// A tag, a name and bytes: what a later release may have.
fn tagged_other(out: &mut Writer, tag: u8, name: &str, bytes: &[u8]) {
    tagged_text(out, tag, name);
    out.bytes(bytes);
}
