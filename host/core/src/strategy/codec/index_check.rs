//! Bytes of kind index-check.

use super::{
    Coded, read_extra, read_fault, read_level, read_role, tagged_bytes, tagged_other, tagged_text, text, write_extra,
    write_fault, write_level, write_role,
};
use crate::types::strategy::index_check::{Action, Event, Side, View};
use crate::types::strategy::{SEND_BYTES_MAX, STORE_BYTES_MAX};
use crate::types::{Malformed, Reader, Writer};

fn write_side(out: &mut Writer, side: &Side) {
    out.flag(side.enabled);
    out.flag(side.configured);
    out.text(&side.backend);
    out.text(&side.problem);
    write_extra(out, &side.extra);
}

fn read_side(input: &mut Reader<'_>) -> Result<Side, Malformed> {
    Ok(Side {
        enabled: input.flag()?,
        configured: input.flag()?,
        backend: text(input)?,
        problem: text(input)?,
        extra: read_extra(input)?,
    })
}

fn write_view(out: &mut Writer, view: &View) {
    write_role(out, view.role);
    out.text(&view.namespace);
    out.u64(view.now);
    write_side(out, &view.local);
    write_side(out, &view.peer);
    write_extra(out, &view.extra);
}

fn read_view(input: &mut Reader<'_>) -> Result<View, Malformed> {
    Ok(View {
        role: read_role(input)?,
        namespace: text(input)?,
        now: input.u64()?,
        local: read_side(input)?,
        peer: read_side(input)?,
        extra: read_extra(input)?,
    })
}

impl Coded for Event {
    fn write(&self, out: &mut Writer) {
        match self {
            Event::Opened { view, stored } => {
                out.u8(0);
                write_view(out, view);
                out.bytes(stored);
            }
            Event::State(view) => {
                out.u8(1);
                write_view(out, view);
            }
            Event::Tick(now) => {
                out.u8(2);
                out.u64(*now);
            }
            Event::Message(bytes) => tagged_bytes(out, 3, bytes),
            Event::Fault(fault) => {
                out.u8(4);
                write_fault(out, fault);
            }
            Event::Other(name, bytes) => tagged_other(out, 5, name, bytes),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            0 => Event::Opened {
                view: read_view(input)?,
                stored: input.bytes(STORE_BYTES_MAX)?.to_vec(),
            },
            1 => Event::State(read_view(input)?),
            2 => Event::Tick(input.u64()?),
            3 => Event::Message(input.bytes(SEND_BYTES_MAX)?.to_vec()),
            4 => Event::Fault(read_fault(input)?),
            5 => Event::Other(text(input)?, input.bytes(SEND_BYTES_MAX)?.to_vec()),
            other => return Err(Malformed::new(format!("event {other}"))),
        })
    }
}

impl Coded for Action {
    fn write(&self, out: &mut Writer) {
        match self {
            Action::Accept => out.u8(0),
            Action::Refuse(reason) => tagged_text(out, 1, reason),
            Action::Warn(warning) => tagged_text(out, 2, warning),
            Action::Store(bytes) => tagged_bytes(out, 3, bytes),
            Action::Send(bytes) => tagged_bytes(out, 4, bytes),
            Action::Log(level, line) => {
                out.u8(5);
                write_level(out, *level);
                out.text(line);
            }
            Action::Metric(name, value) => {
                tagged_text(out, 6, name);
                out.u64(value.cast_unsigned());
            }
            Action::Other(name, bytes) => tagged_other(out, 7, name, bytes),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            0 => Action::Accept,
            1 => Action::Refuse(text(input)?),
            2 => Action::Warn(text(input)?),
            3 => Action::Store(input.bytes(STORE_BYTES_MAX)?.to_vec()),
            4 => Action::Send(input.bytes(SEND_BYTES_MAX)?.to_vec()),
            5 => Action::Log(read_level(input)?, text(input)?),
            6 => Action::Metric(text(input)?, input.u64()?.cast_signed()),
            7 => Action::Other(text(input)?, input.bytes(SEND_BYTES_MAX)?.to_vec()),
            other => return Err(Malformed::new(format!("action {other}"))),
        })
    }
}
