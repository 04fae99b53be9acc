//! Bytes of mq-sync's events and actions.

use super::{
    Coded, read_extra, read_fault, read_level, read_role, tagged_bytes, tagged_other, tagged_text, text, write_extra,
    write_fault, write_level, write_role,
};
use crate::types::strategy::mq_sync::{
    Action, Change, Event, Inventory, KEYS_MAX, NAME_BYTES_MAX, QUEUES_MAX, Queue, View,
};
use crate::types::strategy::{SEND_BYTES_MAX, STORE_BYTES_MAX};
use crate::types::{Malformed, Reader, Writer};

/// The shortest queue: an empty name's length, number, no keys, two digests, the flag, two heights, no extra.
const QUEUE_BYTES_MIN: usize = 4 + 8 + 4 + 64 + 1 + 16 + 4;

fn write_names(out: &mut Writer, names: &[String]) {
    out.u32(names.len() as u32);
    names.iter().for_each(|name| out.text(name));
}

fn read_names(input: &mut Reader<'_>, most: usize) -> Result<Vec<String>, Malformed> {
    let mut names = Vec::new();
    for _ in 0..input.count(most, 4)? {
        names.push(input.text(NAME_BYTES_MAX)?.to_owned());
    }
    Ok(names)
}

fn write_queue(out: &mut Writer, queue: &Queue) {
    out.text(&queue.name);
    out.u64(queue.number);
    write_names(out, &queue.keys);
    out.raw(&queue.filter);
    out.raw(&queue.registration);
    out.flag(queue.delay);
    out.u64(queue.registered);
    out.u64(queue.cursor);
    write_extra(out, &queue.extra);
}

fn read_queue(input: &mut Reader<'_>) -> Result<Queue, Malformed> {
    Ok(Queue {
        name: input.text(NAME_BYTES_MAX)?.to_owned(),
        number: input.u64()?,
        keys: read_names(input, KEYS_MAX)?,
        filter: input.array()?,
        registration: input.array()?,
        delay: input.flag()?,
        registered: input.u64()?,
        cursor: input.u64()?,
        extra: read_extra(input)?,
    })
}

fn write_inventory(out: &mut Writer, it: &Inventory) {
    out.text(&it.exchange);
    out.u32(it.queues.len() as u32);
    it.queues.iter().for_each(|queue| write_queue(out, queue));
    write_extra(out, &it.extra);
}

fn read_inventory(input: &mut Reader<'_>) -> Result<Inventory, Malformed> {
    let exchange = text(input)?;
    let mut queues = Vec::new();
    for _ in 0..input.count(QUEUES_MAX, QUEUE_BYTES_MIN)? {
        queues.push(read_queue(input)?);
    }
    Ok(Inventory {
        exchange,
        queues,
        extra: read_extra(input)?,
    })
}

fn write_view(out: &mut Writer, view: &View) {
    write_role(out, view.role);
    out.text(&view.namespace);
    out.u64(view.now);
    out.option(view.local.as_ref(), write_inventory);
    out.option(view.peer.as_ref(), write_inventory);
    out.text(&view.broker);
    write_extra(out, &view.extra);
}

fn read_view(input: &mut Reader<'_>) -> Result<View, Malformed> {
    Ok(View {
        role: read_role(input)?,
        namespace: text(input)?,
        now: input.u64()?,
        local: input.option(read_inventory)?,
        peer: input.option(read_inventory)?,
        broker: text(input)?,
        extra: read_extra(input)?,
    })
}

fn write_change(out: &mut Writer, tag: u8, change: &Change) {
    out.u8(tag);
    out.u64(change.id);
    out.text(&change.exchange);
    write_queue(out, &change.queue);
    out.text(&change.broker);
    out.flag(change.attached);
    write_extra(out, &change.extra);
}

fn read_change(input: &mut Reader<'_>) -> Result<Change, Malformed> {
    Ok(Change {
        id: input.u64()?,
        exchange: text(input)?,
        queue: read_queue(input)?,
        broker: text(input)?,
        attached: input.flag()?,
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
            Event::Inventories(view) => {
                out.u8(1);
                write_view(out, view);
            }
            Event::Broker(view) => {
                out.u8(2);
                write_view(out, view);
            }
            Event::Registered(change) => write_change(out, 3, change),
            Event::Unregistered(change) => write_change(out, 4, change),
            Event::Tick(now) => {
                out.u8(5);
                out.u64(*now);
            }
            Event::Message(bytes) => tagged_bytes(out, 6, bytes),
            Event::Fault(fault) => {
                out.u8(7);
                write_fault(out, fault);
            }
            Event::Other(name, bytes) => tagged_other(out, 8, name, bytes),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            0 => Event::Opened {
                view: read_view(input)?,
                stored: input.bytes(STORE_BYTES_MAX)?.to_vec(),
            },
            1 => Event::Inventories(read_view(input)?),
            2 => Event::Broker(read_view(input)?),
            3 => Event::Registered(read_change(input)?),
            4 => Event::Unregistered(read_change(input)?),
            5 => Event::Tick(input.u64()?),
            6 => Event::Message(input.bytes(SEND_BYTES_MAX)?.to_vec()),
            7 => Event::Fault(read_fault(input)?),
            8 => Event::Other(text(input)?, input.bytes(SEND_BYTES_MAX)?.to_vec()),
            other => return Err(Malformed::new(format!("event {other}"))),
        })
    }
}

impl Coded for Action {
    fn write(&self, out: &mut Writer) {
        match self {
            Action::Replicate(change) => {
                out.u8(0);
                out.u64(*change);
            }
            Action::Hold(change) => {
                out.u8(1);
                out.u64(*change);
            }
            Action::Refuse { change, reason } => {
                out.u8(2);
                out.u64(*change);
                out.text(reason);
            }
            Action::Apply(names) => {
                out.u8(3);
                write_names(out, names);
            }
            Action::Drop(names) => {
                out.u8(4);
                write_names(out, names);
            }
            Action::Warn(warning) => tagged_text(out, 5, warning),
            Action::Store(bytes) => tagged_bytes(out, 6, bytes),
            Action::Send(bytes) => tagged_bytes(out, 7, bytes),
            Action::Log(level, line) => {
                out.u8(8);
                write_level(out, *level);
                out.text(line);
            }
            Action::Metric(name, value) => {
                tagged_text(out, 9, name);
                out.u64(value.cast_unsigned());
            }
            Action::Other(name, bytes) => tagged_other(out, 10, name, bytes),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            0 => Action::Replicate(input.u64()?),
            1 => Action::Hold(input.u64()?),
            2 => Action::Refuse {
                change: input.u64()?,
                reason: text(input)?,
            },
            3 => Action::Apply(read_names(input, QUEUES_MAX)?),
            4 => Action::Drop(read_names(input, QUEUES_MAX)?),
            5 => Action::Warn(text(input)?),
            6 => Action::Store(input.bytes(STORE_BYTES_MAX)?.to_vec()),
            7 => Action::Send(input.bytes(SEND_BYTES_MAX)?.to_vec()),
            8 => Action::Log(read_level(input)?, text(input)?),
            9 => Action::Metric(text(input)?, input.u64()?.cast_signed()),
            10 => Action::Other(text(input)?, input.bytes(SEND_BYTES_MAX)?.to_vec()),
            other => return Err(Malformed::new(format!("action {other}"))),
        })
    }
}
