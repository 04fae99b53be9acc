//! Where the socket is. A path longer than the system allows is reached through the open directory.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Longest path a Unix socket can have, bytes, without the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A path that the system accepts for the socket, and the directory it leans on while it is used.
pub(super) struct SocketPath {
    pub(super) path: PathBuf,
    _directory: Option<File>,
}

/// A path for `name` in `directory` that is short enough.
pub(super) fn socket_path(directory: &Path, name: &Path) -> std::io::Result<SocketPath> {
    let path = directory.join(name);
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(SocketPath { path, _directory: None });
    }
    let parent = path.parent().unwrap_or(directory);
    let file_name = path.file_name().unwrap_or(name.as_os_str());
    let open = File::open(parent)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())).join(file_name);
    Ok(SocketPath {
        path: short,
        _directory: Some(open),
    })
}
