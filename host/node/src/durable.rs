//! Small durable files: one helper for every one of them.
//!
//! Owns the frame of a binary control file (magic, version, length, digest), the atomic replacement of a file (temporary file, fsync,
//! rename, fsync of the directory) and the lock file of a root. Does not know what the files mean:
//! a missing file is `None` here, and whether that is an error is the caller's decision.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Largest payload of a control file, bytes: they hold identities, bindings and staged changes, never chain data.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Bytes before the payload: magic 8, version 2, zero 2, length 4, digest 32.
const HEAD_BYTES: usize = 48;

/// What went wrong with a small durable file, and with which.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The system refused an operation on the disk.
    #[error("cannot {operation} {}: {source}", path.display())]
    Disk {
        /// Verb of what was tried.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The file is there, and is not what was written.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The rule that does not hold.
        what: String,
    },
    /// Another process holds the lock.
    #[error("{} is locked by process {holder}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Process id written in it (`?` when unreadable).
        holder: String,
    },
}

fn disk<'a>(operation: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> DurableError + 'a {
    move |source| DurableError::Disk {
        operation,
        path: path.to_path_buf(),
        source,
    }
}

/// Replaces `path` atomically by a framed `payload`; durable when this returns. A crash leaves the old file or the new one.
pub fn write_file(path: &Path, magic: &[u8; 8], version: u16, payload: &[u8]) -> Result<(), DurableError> {
    replace(path, &frame(magic, version, payload), 0o600)
}

/// Reads what [`write_file`] wrote: version and payload. `None` when there is no file; an empty or damaged one is an error.
pub fn read_file(path: &Path, magic: &[u8; 8]) -> Result<Option<(u16, Vec<u8>)>, DurableError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("open", path)(error)),
    };
    let mut bytes = Vec::new();
    file.take((HEAD_BYTES + PAYLOAD_BYTES_MAX + 1) as u64)
        .read_to_end(&mut bytes)
        .map_err(disk("read", path))?;
    unframe(&bytes, magic).map(Some).map_err(|what| DurableError::Damaged {
        path: path.to_path_buf(),
        what,
    })
}

fn frame(magic: &[u8; 8], version: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES + payload.len());
    head.extend_from_slice(magic);
    head.extend_from_slice(&version.to_le_bytes());
    head.extend_from_slice(&[0; 2]);
    head.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let digest = digest_of(&head, payload);
    head.extend_from_slice(&digest);
    head.extend_from_slice(payload);
    head
}

fn digest_of(head: &[u8], payload: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head).update(payload);
    *hasher.finalize().as_bytes()
}

fn unframe(bytes: &[u8], magic: &[u8; 8]) -> Result<(u16, Vec<u8>), String> {
    let Some((head, payload)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Err(format!("{} bytes, fewer than its head of {HEAD_BYTES}", bytes.len()));
    };
    if &head[..8] != magic {
        return Err("it does not begin with its magic".to_owned());
    }
    let length = u32::from_le_bytes([head[12], head[13], head[14], head[15]]) as usize;
    if length != payload.len() {
        return Err(format!("payload of {} bytes, {length} announced", payload.len()));
    }
    if head[16..] != digest_of(&head[..16], payload) {
        return Err("its digest does not match".to_owned());
    }
    Ok((u16::from_le_bytes([head[8], head[9]]), payload.to_vec()))
}

/// Replaces `path` atomically by `bytes` with permission bits `mode` (never wider, not even for an instant); durable on return.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    put(path, bytes, mode, |file, temporary| {
        file.sync_all().map_err(disk("sync", temporary))
    })?;
    sync_directory(&parent_of(path))
}

/// As [`replace`], for everybody to see and not durable yet: for what a start can write again. [`settle`] makes it durable.
pub fn place(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    put(path, bytes, mode, |_, _| Ok(()))
}

/// Makes what [`place`] wrote durable.
pub fn settle(path: &Path) -> Result<(), DurableError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(disk("sync", path))?;
    sync_directory(&parent_of(path))
}

fn put(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    sync: impl FnOnce(&File, &Path) -> Result<(), DurableError>,
) -> Result<(), DurableError> {
    let parent = parent_of(path);
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    let temporary = parent.join(format!(".{name}.{}.new", std::process::id()));
    let guard = RemoveOnDrop(&temporary);
    // A leftover of a crashed process with the same id keeps its own mode: start afresh.
    let _ = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(disk("create", &temporary))?;
    file.write_all(bytes).map_err(disk("write", &temporary))?;
    sync(&file, &temporary)?;
    std::fs::rename(&temporary, path).map_err(disk("replace", path))?;
    std::mem::forget(guard);
    Ok(())
}

/// Removes `path` durably; no error when it is not there.
pub fn remove(path: &Path) -> Result<(), DurableError> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_directory(&parent_of(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(disk("remove", path)(error)),
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(path: &Path) -> Result<(), DurableError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(disk("sync", path))
}

/// Creates a directory and its missing parents, each name durable.
pub fn create_directories(path: &Path) -> Result<(), DurableError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    create_directories(&parent)?;
    match std::fs::create_dir(path) {
        Ok(()) => sync_directory(&parent),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(disk("create directory", path)(error)),
    }
}

/// Directory of `path`; `.` for a bare name.
fn parent_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

/// The right to work in a root: an exclusive lock on a file with the holder's process id. Released when dropped or when the process dies.
#[derive(Debug)]
pub struct LockFile {
    _file: File,
}

impl LockFile {
    /// Takes the lock at `path`, or says who holds it.
    pub fn acquire(path: &Path) -> Result<Self, DurableError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(disk("open", path))?;
        lock(&file, path, FlockOperation::NonBlockingLockExclusive)?;
        file.set_len(0).map_err(disk("write", path))?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(disk("write", path))?;
        Ok(Self { _file: file })
    }

    /// Keeps everybody from taking the lock at `path`, with others who only look; writes nothing. `None` where there was never a lock.
    pub fn share(path: &Path) -> Result<Option<Self>, DurableError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(disk("open", path)(error)),
        };
        lock(&file, path, FlockOperation::NonBlockingLockShared)?;
        Ok(Some(Self { _file: file }))
    }
}

fn lock(file: &File, path: &Path, operation: FlockOperation) -> Result<(), DurableError> {
    match flock(file, operation) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = file.take(20).read_to_string(&mut holder);
            let holder = holder.trim();
            Err(DurableError::Locked {
                path: path.to_path_buf(),
                holder: if holder.is_empty() { "?" } else { holder }.to_owned(),
            })
        }
        Err(errno) => Err(disk("lock", path)(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: &[u8; 8] = b"CVPtest1";

    #[test]
    fn what_is_written_is_read_back_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        assert!(read_file(&path, MAGIC).unwrap().is_none());
        write_file(&path, MAGIC, 3, b"one").unwrap();
        write_file(&path, MAGIC, 4, b"two").unwrap();
        assert_eq!(read_file(&path, MAGIC).unwrap(), Some((4, b"two".to_vec())));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let good = frame(MAGIC, 1, b"payload");
        assert!(unframe(&good, MAGIC).is_ok());
        for end in 0..good.len() {
            assert!(unframe(&good[..end], MAGIC).is_err(), "cut at {end}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(unframe(&bad, MAGIC).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn a_lock_is_held_once_and_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cvp.pid.lock");
        let held = LockFile::acquire(&path).unwrap();
        let refused = LockFile::acquire(&path).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert!(LockFile::share(&path).is_err());
        drop(held);
        LockFile::acquire(&path).unwrap();
    }

    #[test]
    fn who_only_looks_shares_the_lock_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cvp.pid.lock");
        assert!(LockFile::share(&path).unwrap().is_none() && !path.exists());
        std::fs::write(&path, "7\n").unwrap();
        let looking = (LockFile::share(&path).unwrap(), LockFile::share(&path).unwrap());
        assert!(LockFile::acquire(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"7\n");
        drop(looking);
        LockFile::acquire(&path).unwrap();
    }
}
