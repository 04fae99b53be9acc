//! The operator's end of the socket. Blocking: commands do one thing at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::path::socket_path;
use super::wire::{ANSWER_BYTES_MAX, Answer};
use super::{Exit, Failure, Request};

/// An open connection to a running node.
pub struct Connection {
    stream: BufReader<UnixStream>,
    root: PathBuf,
}

impl Connection {
    /// Connects to `socket` in `root`; exit code 3 when no node answers there.
    pub fn open(root: &Path, socket: &Path) -> Result<Self, Failure> {
        let connected = socket_path(root, socket).and_then(|s| UnixStream::connect(&s.path));
        match connected {
            Ok(stream) => Ok(Self {
                stream: BufReader::new(stream),
                root: root.to_path_buf(),
            }),
            Err(error) => Err(Failure::new(
                Exit::NoNode,
                "no-node",
                format!("no node answers at {} ({}: {error})", root.display(), socket.display()),
                "start it with `cvp start`, or name its root directory with --root",
            )),
        }
    }

    /// Sends a request and waits for its answer; each progress line is handed to `on_progress`.
    pub fn call(&mut self, request: &Request, mut on_progress: impl FnMut(Value)) -> Result<Value, Failure> {
        let mut line = serde_json::to_vec(request).map_err(|e| self.lost(&e.to_string()))?;
        line.push(b'\n');
        let stream = self.stream.get_mut();
        if let Err(error) = stream.write_all(&line) {
            return Err(self.lost(&error.to_string()));
        }
        loop {
            match self.read()? {
                Answer::Progress(value) => on_progress(value),
                Answer::Done(value) => return Ok(value),
                Answer::Failed(failure) => return Err(failure),
            }
        }
    }

    fn read(&mut self) -> Result<Answer, Failure> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.stream).take(ANSWER_BYTES_MAX as u64);
        match bounded.read_until(b'\n', &mut line) {
            Ok(0) => Err(self.lost("the connection was closed")),
            Ok(_) => serde_json::from_slice(&line).map_err(|e| self.lost(&e.to_string())),
            Err(error) => Err(self.lost(&error.to_string())),
        }
    }

    fn lost(&self, what: &str) -> Failure {
        Failure::new(
            Exit::NoNode,
            "node-lost",
            format!("the node at {} did not answer: {what}", self.root.display()),
            "look at its log, then at `cvp status`",
        )
    }
}
