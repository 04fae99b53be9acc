//! Bytes of config-sync's events and actions.

use super::{
    Coded, read_extra, read_fault, read_level, read_role, tagged_bytes, tagged_other, tagged_text, text, write_extra,
    write_fault, write_level, write_role,
};
use crate::types::strategy::config_sync::{
    Action, Edit, Event, FILES_MAX, FileEntry, KEY_BYTES_MAX, PATH_BYTES_MAX, PATHS_MAX, View,
};
use crate::types::strategy::{SEND_BYTES_MAX, STORE_BYTES_MAX};
use crate::types::{Malformed, Reader, Writer};

/// The shortest entry of an inventory: an empty path's length, size and digest.
const ENTRY_BYTES_MIN: usize = 4 + 8 + 32;

fn path(input: &mut Reader<'_>) -> Result<String, Malformed> {
    Ok(input.text(PATH_BYTES_MAX)?.to_owned())
}

fn key(input: &mut Reader<'_>) -> Result<String, Malformed> {
    Ok(input.text(KEY_BYTES_MAX)?.to_owned())
}

fn write_paths(out: &mut Writer, paths: &[String]) {
    out.u32(paths.len() as u32);
    for path in paths {
        out.text(path);
    }
}

fn read_paths(input: &mut Reader<'_>, most: usize) -> Result<Vec<String>, Malformed> {
    let mut paths = Vec::new();
    for _ in 0..input.count(most, 4)? {
        paths.push(path(input)?);
    }
    Ok(paths)
}

fn write_inventory(out: &mut Writer, files: &Vec<FileEntry>) {
    out.u32(files.len() as u32);
    for file in files {
        out.text(&file.path);
        out.u64(file.size);
        out.raw(&file.digest);
    }
}

fn read_inventory(input: &mut Reader<'_>) -> Result<Vec<FileEntry>, Malformed> {
    let mut files = Vec::new();
    for _ in 0..input.count(FILES_MAX, ENTRY_BYTES_MIN)? {
        files.push(FileEntry {
            path: path(input)?,
            size: input.u64()?,
            digest: input.array()?,
        });
    }
    Ok(files)
}

fn write_view(out: &mut Writer, view: &View) {
    write_role(out, view.role);
    out.text(&view.namespace);
    out.u64(view.now);
    write_inventory(out, &view.local);
    out.option(view.peer.as_ref(), write_inventory);
    write_paths(out, &view.requested);
    write_extra(out, &view.extra);
}

fn read_view(input: &mut Reader<'_>) -> Result<View, Malformed> {
    Ok(View {
        role: read_role(input)?,
        namespace: text(input)?,
        now: input.u64()?,
        local: read_inventory(input)?,
        peer: input.option(read_inventory)?,
        requested: read_paths(input, FILES_MAX)?,
        extra: read_extra(input)?,
    })
}

fn write_edit(out: &mut Writer, edit: &Edit) {
    out.u64(edit.id);
    out.text(&edit.file);
    out.text(&edit.key);
    out.option(edit.old.as_ref(), |out, digest| out.raw(digest));
    out.option(edit.new.as_ref(), |out, digest| out.raw(digest));
}

fn read_edit(input: &mut Reader<'_>) -> Result<Edit, Malformed> {
    Ok(Edit {
        id: input.u64()?,
        file: path(input)?,
        key: key(input)?,
        old: input.option(Reader::array)?,
        new: input.option(Reader::array)?,
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
            Event::Edit(edit) => {
                out.u8(2);
                write_edit(out, edit);
            }
            Event::Tick(now) => {
                out.u8(3);
                out.u64(*now);
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
            1 => Event::Inventories(read_view(input)?),
            2 => Event::Edit(read_edit(input)?),
            3 => Event::Tick(input.u64()?),
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
            Action::Request(paths) => {
                out.u8(0);
                write_paths(out, paths);
            }
            Action::Delete(paths) => {
                out.u8(1);
                write_paths(out, paths);
            }
            Action::Weigh { edit, strong } => {
                out.u8(2);
                out.u64(*edit);
                out.flag(*strong);
            }
            Action::KeepLocal { file, key } => {
                tagged_text(out, 3, file);
                out.text(key);
            }
            Action::Refuse(reason) => tagged_text(out, 4, reason),
            Action::Store(bytes) => tagged_bytes(out, 5, bytes),
            Action::Send(bytes) => tagged_bytes(out, 6, bytes),
            Action::Log(level, text) => {
                out.u8(7);
                write_level(out, *level);
                out.text(text);
            }
            Action::Metric(name, value) => {
                tagged_text(out, 8, name);
                out.u64(value.cast_unsigned());
            }
            Action::Other(name, bytes) => tagged_other(out, 9, name, bytes),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match input.u8()? {
            0 => Action::Request(read_paths(input, PATHS_MAX)?),
            1 => Action::Delete(read_paths(input, PATHS_MAX)?),
            2 => Action::Weigh {
                edit: input.u64()?,
                strong: input.flag()?,
            },
            3 => Action::KeepLocal {
                file: path(input)?,
                key: key(input)?,
            },
            4 => Action::Refuse(text(input)?),
            5 => Action::Store(input.bytes(STORE_BYTES_MAX)?.to_vec()),
            6 => Action::Send(input.bytes(SEND_BYTES_MAX)?.to_vec()),
            7 => Action::Log(read_level(input)?, text(input)?),
            8 => Action::Metric(text(input)?, input.u64()?.cast_signed()),
            9 => Action::Other(text(input)?, input.bytes(SEND_BYTES_MAX)?.to_vec()),
            other => return Err(Malformed::new(format!("action {other}"))),
        })
    }
}
