//! Frames over a link: one task reads, one writes; both ends of each queue are bounded.
//!
//! A payload is read straight into the buffer that goes to the ledger, and written from the buffer that came from it. Frames leave in the
//! order in which they were queued.

use std::future::Future;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use cvp_core::frame::{Frame, FrameHeader, HEADER_BYTES, Kind, Side};
use cvp_core::types::Slab;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;

use super::error::{LinkError, from_io};
use super::room::Room;
use super::stream::Stream;
use super::{Link, Peer};

/// Large frames of the session's own that may wait to be written; a peer that lets more pile up does not read. Records, snapshots and history
/// wait for [`Room`].
pub(super) const LARGE_FRAMES_MAX: usize = 256;
/// A payload of more bytes makes a frame a large one.
const SMALL_BYTES_MAX: usize = 4 << 10;
/// Frames of any size that may wait. Above what one turn of a session can say at once, before the task that writes has had its turn: answers
/// to all transactions that a follower may have on their way, a word for each of many namespaces.
const FRAMES_MAX: usize = 4096;
/// A frame that has begun must go on arriving, and one being written must go on leaving.
const PROGRESS_MS_MAX: u64 = 10_000;
/// Time for the last words of a link that is being closed.
const GOODBYE_MS_MAX: u64 = 1_000;
/// A frame that takes long is reported so often: well below what heartbeats may be away.
const ARRIVING_EVERY: Duration = Duration::from_millis(100);
/// And only when so much more of it came: who sends a byte now and then is as good as silent.
const ARRIVING_BYTES: usize = 1 << 10;
/// Read-ahead for headers and small payloads.
const AHEAD_BYTES: usize = 16 << 10;
/// Allocated at once for a payload; longer ones grow as they arrive, so a length alone costs no memory.
const FIRST_BYTES_MAX: usize = 4 << 20;

/// What a link reports.
#[derive(Debug)]
pub enum LinkEvent {
    /// A whole, checked frame.
    Frame(Frame),
    /// Bytes of a frame that is not whole yet, said now and then.
    Arriving,
    /// The link has ended; nothing follows.
    Closed(LinkError),
}

/// The sending side of an open link; dropping it ends the link at once.
#[derive(Debug)]
pub struct Connection {
    queue: Option<mpsc::Sender<Frame>>,
    room: Arc<Room>,
    reader: AbortHandle,
    writer: Option<JoinHandle<()>>,
    /// The far end.
    pub peer: Peer,
}

/// Queues frames on a link from a thread that may wait.
#[derive(Clone, Debug)]
pub struct FrameSender {
    queue: mpsc::WeakSender<Frame>,
    room: Arc<Room>,
}

impl FrameSender {
    /// Queues one frame, waiting for room in turn with others; `false`: the link has ended.
    pub fn send_blocking(&self, frame: Frame) -> bool {
        let placed = !is_large(&frame) || self.room.take_blocking(frame.payload.len());
        placed
            && self
                .queue
                .upgrade()
                .is_some_and(|queue| queue.blocking_send(frame).is_ok())
    }

    /// Bytes that a frame of records should have at most, so that what is said after it does not wait for long.
    pub fn frame_bytes(&self) -> usize {
        self.room.frame_bytes()
    }

    /// Queues one frame if there is room now; `false`: it was not queued.
    pub fn send_now(&self, frame: Frame) -> bool {
        self.queue.upgrade().is_some_and(|queue| {
            let room = |bytes| self.room.take_now(bytes);
            queue_now(&queue, room, frame).is_ok()
        })
    }
}

/// Whether it takes room of large frames.
fn is_large(frame: &Frame) -> bool {
    frame.payload.len() > SMALL_BYTES_MAX
}

/// Queues a frame if there is room now; a large one takes it with `room`.
fn queue_now(queue: &mpsc::Sender<Frame>, room: impl FnOnce(usize) -> bool, frame: Frame) -> Result<(), LinkError> {
    let slot = queue.try_reserve().map_err(|error| no_room(&error))?;
    if is_large(&frame) && !room(frame.payload.len()) {
        return Err(no_room(&mpsc::error::TrySendError::Full(())));
    }
    slot.send(frame);
    Ok(())
}

fn no_room(error: &mpsc::error::TrySendError<()>) -> LinkError {
    match error {
        mpsc::error::TrySendError::Full(()) => LinkError::Lost("the peer does not read".into()),
        mpsc::error::TrySendError::Closed(()) => LinkError::Lost("nothing can be written any more".into()),
    }
}

impl Connection {
    /// Starts the two tasks of `link`. `side` bounds what is read; `report` is told each frame and, once, the end. Reading waits for it.
    pub fn open<F, R>(link: Link, side: Side, mut report: F) -> Connection
    where
        F: FnMut(LinkEvent) -> R + Send + 'static,
        R: Future<Output = ()> + Send,
    {
        let (queue, queued) = mpsc::channel(FRAMES_MAX);
        let room = Arc::new(Room::default());
        let checksums = link.peer.certificate.is_none();
        let (input, output) = tokio::io::split(link.stream);
        let mut source = Source {
            input,
            ahead: BytesMut::with_capacity(AHEAD_BYTES),
            side,
            checksums,
            slab: Slab::default(),
        };
        let reader = tokio::spawn(async move {
            loop {
                match source.next(&mut report).await {
                    Ok(Some(frame)) => report(LinkEvent::Frame(frame)).await,
                    Ok(None) => {}
                    Err(error) => return report(LinkEvent::Closed(error)).await,
                }
            }
        });
        // What goes wrong in writing shows on the reading side too, or in the heartbeats.
        let taken = RoomEnd(Arc::clone(&room));
        let writer = tokio::spawn(async move {
            if let Err(error) = write_all(output, queued, &taken.0, checksums).await {
                tracing::debug!(%error, "write link");
            }
        });
        Connection {
            queue: Some(queue),
            room,
            reader: reader.abort_handle(),
            writer: Some(writer),
            peer: link.peer,
        }
    }

    /// Queues a frame; never waits.
    ///
    /// # Errors
    /// [`LinkError::Lost`]: the queue is full (the peer does not read) or the link has ended.
    pub fn send(&self, frame: Frame) -> Result<(), LinkError> {
        let Some(queue) = &self.queue else {
            return Err(LinkError::Closed(None));
        };
        queue_now(queue, |bytes| self.room.take_beyond(bytes, LARGE_FRAMES_MAX), frame)
    }

    /// Bytes that the system took so far, while large frames wait for it.
    pub fn waits(&self) -> Option<u64> {
        self.room.waits()
    }

    /// For a worker that may wait for room in the queue.
    pub fn sender(&self) -> FrameSender {
        let queue = self.queue.as_ref();
        FrameSender {
            queue: queue.map_or_else(|| mpsc::channel(1).0.downgrade(), mpsc::Sender::downgrade),
            room: Arc::clone(&self.room),
        }
    }

    /// Ends the link once the frames queued so far (a goodbye among them) are written, a second later at the latest.
    pub fn close(mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let abort = writer.abort_handle();
            tokio::spawn(async move {
                if timeout(Duration::from_millis(GOODBYE_MS_MAX), writer).await.is_err() {
                    abort.abort();
                }
                drop(self);
            });
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        if let Some(writer) = &self.writer {
            writer.abort();
        }
    }
}

/// Of the task that writes: whoever waits for room hears when it is over, however it ends.
struct RoomEnd(Arc<Room>);

impl Drop for RoomEnd {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Source {
    input: ReadHalf<Stream>,
    ahead: BytesMut,
    side: Side,
    checksums: bool,
    /// Of chunks.
    slab: Slab,
}

impl Source {
    /// The next frame; `None` for one that is to be skipped.
    async fn next<F, R>(&mut self, report: &mut F) -> Result<Option<Frame>, LinkError>
    where
        F: FnMut(LinkEvent) -> R + Send,
        R: Future<Output = ()> + Send,
    {
        let malformed = |error: cvp_core::frame::FrameError| LinkError::Malformed(error.to_string());
        while self.ahead.len() < HEADER_BYTES {
            // Between frames a peer may be silent: the heartbeats judge that.
            if self.ahead.is_empty() {
                self.read_ahead().await?;
            } else {
                progress("the rest of a frame", self.read_ahead()).await?;
            }
        }
        let mut bytes = [0; HEADER_BYTES];
        self.ahead.copy_to_slice(&mut bytes);
        let header = FrameHeader::parse(&bytes, self.side, self.checksums).map_err(malformed)?;
        let payload = self.payload(header.length, header.kind, report).await?;
        header.finish(payload).map_err(malformed)
    }

    /// The rest of a frame; what takes long is reported meanwhile.
    async fn payload<F, R>(&mut self, length: usize, kind: Kind, report: &mut F) -> Result<Bytes, LinkError>
    where
        F: FnMut(LinkEvent) -> R + Send,
        R: Future<Output = ()> + Send,
    {
        if self.ahead.len() >= length {
            return Ok(Bytes::copy_from_slice(&self.ahead.split_to(length)));
        }
        // Chunks of a snapshot are nearly of one length and given up once written. Records, which have any length, are kept for a while by those
        // who count their bytes, and not what a larger buffer would pin.
        let comes_back = kind == Kind::SnapshotChunk;
        let first = length.min(FIRST_BYTES_MAX);
        let mut out = match comes_back {
            true => self.slab.take(first),
            false => Vec::with_capacity(first),
        };
        out.clear();
        out.extend_from_slice(&self.ahead.split());
        let mut said = (Instant::now(), out.len());
        while out.len() < length {
            if said.0.elapsed() >= ARRIVING_EVERY && out.len() - said.1 >= ARRIVING_BYTES {
                said = (Instant::now(), out.len());
                report(LinkEvent::Arriving).await;
            }
            if out.len() == out.capacity() {
                out.reserve_exact((length - out.len()).min(out.len()));
            }
            let room = length - out.len();
            let mut limited = bytes::BufMut::limit(&mut out, room);
            let read = self.input.read_buf(&mut limited);
            progress("the rest of a frame", async { ended(read.await) }).await?;
        }
        Ok(if comes_back { self.slab.lend(out) } else { out.into() })
    }

    async fn read_ahead(&mut self) -> Result<(), LinkError> {
        self.ahead.reserve(AHEAD_BYTES - self.ahead.len().min(AHEAD_BYTES - 1));
        let mut limited = bytes::BufMut::limit(&mut self.ahead, AHEAD_BYTES);
        ended(self.input.read_buf(&mut limited).await)
    }
}

fn ended(read: std::io::Result<usize>) -> Result<(), LinkError> {
    match read {
        Ok(0) => Err(LinkError::Lost("the peer closed it".into())),
        Ok(_) => Ok(()),
        Err(error) => Err(from_io(&error)),
    }
}

async fn progress<T>(what: &'static str, work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    super::dial::within(PROGRESS_MS_MAX, what, work).await
}

/// Writes frames until the queue is closed and empty, then ends the stream.
async fn write_all(
    mut output: WriteHalf<Stream>,
    mut queued: mpsc::Receiver<Frame>,
    room: &Room,
    checksums: bool,
) -> Result<(), LinkError> {
    while let Some(frame) = queued.recv().await {
        let large = is_large(&frame);
        if large {
            room.leave();
        }
        let begun = Instant::now();
        let header = frame.encode_header(checksums);
        write_frame(&mut output, &header, &frame.payload, room).await?;
        if large {
            room.written(frame.payload.len(), begun.elapsed());
        }
        if queued.is_empty() {
            progress("a write", async { output.flush().await.map_err(|e| from_io(&e)) }).await?;
        }
    }
    progress("a write", async { output.shutdown().await.map_err(|e| from_io(&e)) }).await
}

async fn write_frame(
    output: &mut WriteHalf<Stream>,
    header: &[u8; HEADER_BYTES],
    payload: &[u8],
    room: &Room,
) -> Result<(), LinkError> {
    let mut done = 0;
    while done < header.len() + payload.len() {
        let slices = [
            IoSlice::new(&header[done.min(header.len())..]),
            IoSlice::new(&payload[done.saturating_sub(header.len())..]),
        ];
        let write = async { output.write_vectored(&slices).await.map_err(|e| from_io(&e)) };
        match progress("a write", write).await? {
            0 => return Err(LinkError::Lost("the peer takes no more".into())),
            written => {
                done += written;
                room.moved(written);
            }
        }
    }
    Ok(())
}
