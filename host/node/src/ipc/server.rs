//! The node's end of the socket.

use std::future::Future;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cvp_core::config::PairRole;
use rustix::fs::Mode;
use serde_json::Value;
use tokio::io::{AsyncWrite, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, warn};

use super::path::socket_path;
use super::wire::{self, Answer, REQUEST_BYTES_MAX};
use super::{Failure, Request};

/// Operators at a time; beyond that a connection waits.
const CONNECTIONS_MAX: usize = 32;

/// Progress lines under way to a slow client; more are dropped, the latest will follow.
const PROGRESS_MAX: usize = 16;

/// A client that does not read its answer for so long is cut off.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who answers the requests: assembly.
pub trait Operator: Send + Sync + 'static {
    /// The node's role now; it changes at an upgrade.
    fn role(&self) -> PairRole;

    /// Does what is asked. The role was checked. `progress` may be used as often as there is something to say.
    fn answer(
        self: Arc<Self>,
        request: Request,
        progress: Progress,
    ) -> Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>>;
}

/// Tells a waiting operator how far a long request is.
#[derive(Clone, Debug)]
pub struct Progress {
    lines: mpsc::Sender<Value>,
    /// Its sender lives until the last line of the answer is written.
    answering: watch::Receiver<()>,
}

impl Progress {
    /// Lines go to `sender`, and nobody writes an answer.
    #[cfg(test)]
    pub fn to(sender: mpsc::Sender<Value>) -> Self {
        Self::of(sender, &watch::channel(()).0)
    }

    /// Lines go to `lines`; its receiver is dropped when nobody waits any more.
    fn of(lines: mpsc::Sender<Value>, writing: &watch::Sender<()>) -> Self {
        Self {
            lines,
            answering: writing.subscribe(),
        }
    }

    /// Waits until the answer to this request is written, or its client is gone.
    pub async fn answered(mut self) {
        // The sender never says anything: it ends.
        while self.answering.changed().await.is_ok() {}
    }

    /// Sends one line if the client keeps up; never waits.
    pub fn tell(&self, value: Value) {
        let _ = self.lines.try_send(value);
    }

    /// Nobody waits for the answer any more.
    pub fn is_abandoned(&self) -> bool {
        self.lines.is_closed()
    }
}

/// The bound socket; its file is removed when this is dropped.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds `name` in `root`, mode 0600 from the first instant. The caller holds the root's lock, so a file there is a dead node's.
    pub fn bind(root: &Path, name: &str) -> std::io::Result<Self> {
        let path = root.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let short = socket_path(root, Path::new(name))?;
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let bound = StdListener::bind(&short.path);
        rustix::process::umask(before);
        let bound = bound?;
        bound.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(bound)?,
            path,
        })
    }

    /// Serves until the future is dropped.
    pub async fn serve(self, operator: Arc<dyn Operator>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let operator = Arc::clone(&operator);
                    tokio::spawn(async move {
                        if let Err(error) = talk(stream, operator).await {
                            debug!(%error, "operator's connection ended");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept an operator's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn talk(stream: UnixStream, operator: Arc<dyn Operator>) -> std::io::Result<()> {
    let (input, mut output) = stream.into_split();
    let mut input = BufReader::new(input);
    loop {
        let request: Request = match wire::read_line(&mut input, REQUEST_BYTES_MAX).await {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                let what = format!("the node did not understand the request: {error}");
                let help = "use the `cvp` of the same version as the node's";
                write(&mut output, &Answer::Failed(Failure::usage(what, help))).await?;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        // Dropped when the answer is written, and when it cannot be.
        let writing = watch::channel(()).0;
        let last = match request.check(operator.role()) {
            Ok(()) => answer(&mut output, Arc::clone(&operator), request, &writing).await?,
            Err(failure) => Answer::Failed(failure),
        };
        write(&mut output, &last).await?;
    }
}

async fn answer(
    output: &mut (impl AsyncWrite + Unpin),
    operator: Arc<dyn Operator>,
    request: Request,
    writing: &watch::Sender<()>,
) -> std::io::Result<Answer> {
    let (sender, mut lines) = mpsc::channel(PROGRESS_MAX);
    // A task of its own: an upgrade goes on when its operator's terminal dies.
    let mut work = tokio::spawn(operator.answer(request, Progress::of(sender, writing)));
    loop {
        tokio::select! {
            biased;
            Some(line) = lines.recv() => write(output, &Answer::Progress(line)).await?,
            done = &mut work => {
                while let Ok(line) = lines.try_recv() {
                    write(output, &Answer::Progress(line)).await?;
                }
                return Ok(match done {
                    Ok(Ok(value)) => Answer::Done(value),
                    Ok(Err(failure)) => Answer::Failed(failure),
                    Err(error) => Answer::Failed(Failure::failed(
                        "internal",
                        format!("the node failed while answering: {error}"),
                        "see the node's log",
                    )),
                });
            }
        }
    }
}

async fn write(output: &mut (impl AsyncWrite + Unpin), line: &Answer) -> std::io::Result<()> {
    match tokio::time::timeout(WRITE_TIMEOUT, wire::write_line(output, line)).await {
        Ok(written) => written,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    /// Works on until nobody waits, and says so.
    struct Endless(parking_lot::Mutex<Option<oneshot::Sender<()>>>);

    impl Operator for Endless {
        fn role(&self) -> PairRole {
            PairRole::Provider
        }

        fn answer(
            self: Arc<Self>,
            _request: Request,
            progress: Progress,
        ) -> Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>> {
            Box::pin(async move {
                while !progress.is_abandoned() {
                    progress.tell(Value::from(1));
                    tokio::task::yield_now().await;
                }
                if let Some(ended) = self.0.lock().take() {
                    let _ = ended.send(());
                }
                Ok(Value::Null)
            })
        }
    }

    /// Answers, and tells when the answer was written.
    struct Last(parking_lot::Mutex<Option<oneshot::Sender<()>>>);

    impl Operator for Last {
        fn role(&self) -> PairRole {
            PairRole::Provider
        }

        fn answer(
            self: Arc<Self>,
            request: Request,
            progress: Progress,
        ) -> Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send>> {
            Box::pin(async move {
                if request == Request::NamespaceList
                    && let Some(written) = self.0.lock().take()
                {
                    tokio::spawn(async move {
                        progress.answered().await;
                        let _ = written.send(());
                    });
                }
                // More than a socket takes at once.
                Ok(Value::from("x".repeat(8 << 20)))
            })
        }
    }

    #[tokio::test]
    async fn who_waits_for_its_answer_waits_until_the_client_has_it() {
        let root = tempfile::tempdir().unwrap();
        let server = Server::bind(root.path(), "test.ipc").unwrap();
        let (send, mut written) = oneshot::channel();
        let serving = tokio::spawn(server.serve(Arc::new(Last(parking_lot::Mutex::new(Some(send))))));
        let mut client = UnixStream::connect(root.path().join("test.ipc")).await.unwrap();
        client.write_all(b"{\"command\":\"namespace-list\"}\n").await.unwrap();
        // Another client's answer is not this one's.
        let mut other = UnixStream::connect(root.path().join("test.ipc")).await.unwrap();
        other.write_all(b"{\"command\":\"status\"}\n").await.unwrap();
        let mut line = String::new();
        BufReader::new(&mut other).read_line(&mut line).await.unwrap();
        assert!(written.try_recv().is_err(), "most of the answer waits for its client");
        line.clear();
        BufReader::new(&mut client).read_line(&mut line).await.unwrap();
        assert!(line.len() > (8 << 20));
        tokio::time::timeout(Duration::from_secs(10), written)
            .await
            .unwrap()
            .unwrap();
        serving.abort();
    }

    #[tokio::test]
    async fn a_work_learns_that_its_client_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let server = Server::bind(root.path(), "test.ipc").unwrap();
        let (send, ended) = oneshot::channel();
        let serving = tokio::spawn(server.serve(Arc::new(Endless(parking_lot::Mutex::new(Some(send))))));
        let mut client = UnixStream::connect(root.path().join("test.ipc")).await.unwrap();
        client.write_all(b"{\"command\":\"namespace-list\"}\n").await.unwrap();
        let mut line = String::new();
        BufReader::new(&mut client).read_line(&mut line).await.unwrap();
        assert_eq!(line, "{\"progress\":1}\n");
        drop(client);
        tokio::time::timeout(Duration::from_secs(10), ended)
            .await
            .unwrap()
            .unwrap();
        serving.abort();
    }
}
