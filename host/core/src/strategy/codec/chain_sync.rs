//! Bytes of chain-sync's events and actions.

use super::{
    Coded, EXTRA_MAX, read_extra, read_fault, read_level, read_role, tagged_bytes, tagged_other, tagged_text, text,
    write_extra, write_fault, write_level, write_role,
};
use crate::types::strategy::chain_sync::{Action, Batch, Event, Fetch, Snapshot, View};
use crate::types::strategy::{Position, SEND_BYTES_MAX, STORE_BYTES_MAX};
use crate::types::{Malformed, Reader, Writer};

fn write_position(out: &mut Writer, at: &Position) {
    out.u64(at.height);
    out.raw(&at.hash);
}

fn read_position(input: &mut Reader<'_>) -> Result<Position, Malformed> {
    Ok(Position {
        height: input.u64()?,
        hash: input.array()?,
    })
}

fn write_fetch(out: &mut Writer, fetch: &Fetch) {
    out.u64(fetch.first);
    out.u64(fetch.last);
    out.u64(fetch.bytes_in_flight);
}

fn read_fetch(input: &mut Reader<'_>) -> Result<Fetch, Malformed> {
    Ok(Fetch {
        first: input.u64()?,
        last: input.u64()?,
        bytes_in_flight: input.u64()?,
    })
}

/// The plain numbers of a view, in the order they are written.
fn numbers(view: &mut View) -> [&mut u64; 13] {
    [
        &mut view.now,
        &mut view.history_from,
        &mut view.next,
        &mut view.in_flight_bytes,
        &mut view.backlog_bytes,
        &mut view.window_bytes_max,
        &mut view.record_bytes_mean,
        &mut view.applied_batches,
        &mut view.lag_blocks,
        &mut view.lag_bytes,
        &mut view.lag_millis,
        &mut view.idle_millis,
        &mut view.disk_wait_millis,
    ]
}

fn write_view(out: &mut Writer, view: &View) {
    let mut view = view.clone();
    write_role(out, view.role);
    out.text(&view.namespace);
    for number in numbers(&mut view) {
        out.u64(*number);
    }
    out.u64(view.round_trip_micros);
    out.u64(view.max_rate);
    write_position(out, &view.local);
    out.option(view.peer.as_ref(), write_position);
    out.option(view.fetch.as_ref(), write_fetch);
    out.option(view.applied.as_ref(), |out, batch| {
        out.u64(batch.records);
        out.u64(batch.bytes);
        out.u64(batch.ingest_micros);
        out.u64(batch.sync_micros);
    });
    out.u32(view.snapshots.len() as u32);
    for snapshot in &view.snapshots {
        write_position(out, &snapshot.at);
        out.u64(snapshot.bytes);
    }
    write_extra(out, &view.extra);
}

fn read_view(input: &mut Reader<'_>) -> Result<View, Malformed> {
    let role = read_role(input)?;
    let mut view = View::new(role, text(input)?);
    for number in numbers(&mut view) {
        *number = input.u64()?;
    }
    view.round_trip_micros = input.u64()?;
    view.max_rate = input.u64()?;
    view.local = read_position(input)?;
    view.peer = input.option(read_position)?;
    view.fetch = input.option(read_fetch)?;
    view.applied = input.option(|input| {
        Ok(Batch {
            records: input.u64()?,
            bytes: input.u64()?,
            ingest_micros: input.u64()?,
            sync_micros: input.u64()?,
        })
    })?;
    for _ in 0..input.count(EXTRA_MAX, 48)? {
        view.snapshots.push(Snapshot {
            at: read_position(input)?,
            bytes: input.u64()?,
        });
    }
    view.extra = read_extra(input)?;
    Ok(view)
}

impl Coded for Event {
    fn write(&self, out: &mut Writer) {
        match self {
            Event::Opened { view, stored } => {
                out.u8(0);
                write_view(out, view);
                out.bytes(stored);
            }
            Event::Progress(view) => {
                out.u8(1);
                write_view(out, view);
            }
            Event::Stall { view, millis } => {
                out.u8(2);
                write_view(out, view);
                out.u64(*millis);
            }
            Event::Tick(view) => {
                out.u8(3);
                write_view(out, view);
            }
            Event::Message(bytes) => tagged_bytes(out, 4, bytes),
            Event::Fault(fault) => {
                out.u8(5);
                write_fault(out, fault);
            }
            Event::Other(name, bytes) => tagged_other(out, 6, name, bytes),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            0 => Event::Opened {
                view: read_view(input)?,
                stored: input.bytes(STORE_BYTES_MAX)?.to_vec(),
            },
            1 => Event::Progress(read_view(input)?),
            2 => Event::Stall {
                view: read_view(input)?,
                millis: input.u64()?,
            },
            3 => Event::Tick(read_view(input)?),
            4 => Event::Message(input.bytes(SEND_BYTES_MAX)?.to_vec()),
            5 => Event::Fault(read_fault(input)?),
            6 => Event::Other(text(input)?, input.bytes(SEND_BYTES_MAX)?.to_vec()),
            other => return Err(Malformed::new(format!("event {other}"))),
        })
    }
}

impl Coded for Action {
    fn write(&self, out: &mut Writer) {
        match self {
            Action::Fetch(fetch) => {
                out.u8(0);
                write_fetch(out, fetch);
            }
            Action::Window(bytes) => tagged(out, 1, *bytes),
            Action::Pause(reason) => tagged_text(out, 2, reason),
            Action::Bootstrap(height) => tagged(out, 3, *height),
            Action::VerifyEvery(records) => tagged(out, 4, *records),
            Action::Throttle(rate) => tagged(out, 5, *rate),
            Action::Refuse(reason) => tagged_text(out, 6, reason),
            Action::Store(bytes) => tagged_bytes(out, 7, bytes),
            Action::Send(bytes) => tagged_bytes(out, 8, bytes),
            Action::Log(level, text) => {
                out.u8(9);
                write_level(out, *level);
                out.text(text);
            }
            Action::Metric(name, value) => {
                out.u8(10);
                out.text(name);
                out.u64(value.cast_unsigned());
            }
            Action::Other(name, bytes) => tagged_other(out, 11, name, bytes),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            0 => Action::Fetch(read_fetch(input)?),
            1 => Action::Window(input.u64()?),
            2 => Action::Pause(text(input)?),
            3 => Action::Bootstrap(input.u64()?),
            4 => Action::VerifyEvery(input.u64()?),
            5 => Action::Throttle(input.u64()?),
            6 => Action::Refuse(text(input)?),
            7 => Action::Store(input.bytes(STORE_BYTES_MAX)?.to_vec()),
            8 => Action::Send(input.bytes(SEND_BYTES_MAX)?.to_vec()),
            9 => Action::Log(read_level(input)?, text(input)?),
            10 => Action::Metric(text(input)?, input.u64()?.cast_signed()),
            11 => Action::Other(text(input)?, input.bytes(SEND_BYTES_MAX)?.to_vec()),
            other => return Err(Malformed::new(format!("action {other}"))),
        })
    }
}

fn tagged(out: &mut Writer, tag: u8, number: u64) {
    out.u8(tag);
    out.u64(number);
}
