//! The ceilings: the same bytes through one TLS 1.3 connection into a file, and one fsync with one round trip. No chain, no checks.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// Read and written at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Bytes between two fdatasync.
const SYNC_BYTES: u64 = 8 << 20;
/// What O_DIRECT wants of addresses and lengths.
const ALIGNMENT: usize = 4096;
/// Buffers on their way to the writing thread.
const BUFFERS: usize = 8;
/// Socket buffer of the reading side.
const SOCKET_BYTES: usize = 256 << 10;

/// How the far end writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Writing {
    /// Buffered, by the thread that reads the socket.
    Buffered,
    /// With O_DIRECT, by a second thread.
    Direct,
}

/// One side's configuration: TLS 1.3, the cipher that nodes agree on, both certificates verified.
pub struct PipeTls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl PipeTls {
    /// From the files of `certgen`.
    pub fn load(tls: &Path) -> Result<PipeTls> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(tls.join("tlsca.ca"))?)?;
        let roots = Arc::new(roots);
        let of = |host: &str| -> Result<_> {
            let chain = vec![CertificateDer::from_pem_file(tls.join(host).join("tls_peer.cert"))?];
            Ok((
                chain,
                PrivateKeyDer::from_pem_file(tls.join(host).join("tls_peer.priv"))?,
            ))
        };
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let (chain, key) = of("node1")?;
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        let (chain, key) = of("cvp")?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        Ok(PipeTls {
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }

    /// A connected pair; the server's end is finished by its own thread's first read.
    fn connect(
        &self,
    ) -> Result<(
        StreamOwned<ServerConnection, Socket>,
        StreamOwned<ClientConnection, Socket>,
    )> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let near = TcpStream::connect(listener.local_addr()?)?;
        let (far, _) = listener.accept()?;
        let client = ClientConnection::new(self.client.clone(), ServerName::try_from("node1")?)?;
        let mut server = ServerConnection::new(self.server.clone())?;
        server.set_buffer_limit(Some(2 * BUFFER_BYTES));
        Ok((
            StreamOwned::new(server, Socket::new(far)?),
            StreamOwned::new(client, Socket::new(near)?),
        ))
    }
}

/// Reads through a buffer: rustls alone asks the kernel for small pieces.
struct Socket(BufReader<TcpStream>);

impl Socket {
    fn new(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        Ok(Socket(BufReader::with_capacity(SOCKET_BYTES, stream)))
    }
}

impl Read for Socket {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

/// Sends up to `bytes` bytes of the files through TLS into `target`, durable at the end, for `seconds` at most. Bytes a second.
pub fn copy(
    tls: &PipeTls,
    files: &[PathBuf],
    bytes: u64,
    target: &Path,
    writing: Writing,
    seconds: u64,
) -> Result<f64> {
    let (server, client) = tls.connect()?;
    let files: Vec<File> = files
        .iter()
        .map(|path| File::open(path).context("open a segment"))
        .collect::<Result<_>>()?;
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let sending = std::thread::spawn(move || send(server, &files, bytes, until));
    let copied = match writing {
        Writing::Buffered => receive_buffered(client, target),
        Writing::Direct => receive_direct(client, target),
    };
    let sent = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
    let (copied, elapsed) = (copied?, begun.elapsed().as_secs_f64());
    let _ = std::fs::remove_file(target);
    anyhow::ensure!(sent? == copied, "the pipe lost bytes");
    Ok(copied as f64 / elapsed)
}

/// Sends, ends the stream, and waits for the one byte that says "durable".
fn send(mut stream: StreamOwned<ServerConnection, Socket>, files: &[File], bytes: u64, until: Instant) -> Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut sent = 0;
    'files: for file in files {
        let mut at = 0;
        loop {
            let wanted = buffer.len().min(usize::try_from(bytes - sent).unwrap_or(usize::MAX));
            let read = file.read_at(&mut buffer[..wanted], at)?;
            if read == 0 {
                break;
            }
            stream.write_all(&buffer[..read])?;
            at += read as u64;
            sent += read as u64;
            if sent >= bytes || Instant::now() >= until {
                break 'files;
            }
        }
    }
    stream.conn.send_close_notify();
    stream.flush()?;
    let mut done = [0];
    stream
        .read_exact(&mut done)
        .context("the far end did not say that it is done")?;
    Ok(sent)
}

fn say_done(mut stream: StreamOwned<ClientConnection, Socket>) -> Result<()> {
    stream.write_all(&[1])?;
    stream.flush()?;
    Ok(())
}

/// Fills `buffer`; less only at the end of the stream.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn receive_buffered(mut stream: StreamOwned<ClientConnection, Socket>, target: &Path) -> Result<u64> {
    let mut file = File::create(target).context("make the pipe's file")?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut copied, mut unsynced) = (0, 0);
    loop {
        let read = fill(&mut stream, &mut buffer)?;
        file.write_all(&buffer[..read])?;
        copied += read as u64;
        unsynced += read as u64;
        if unsynced >= SYNC_BYTES {
            file.sync_data()?;
            unsynced = 0;
        }
        if read < buffer.len() {
            break;
        }
    }
    file.sync_data()?;
    say_done(stream)?;
    Ok(copied)
}

/// A buffer whose used part begins at an aligned address.
struct Aligned {
    memory: Vec<u8>,
    begin: usize,
    used: usize,
}

impl Aligned {
    fn new() -> Aligned {
        let memory = vec![0; BUFFER_BYTES + ALIGNMENT];
        let begin = memory.as_ptr().align_offset(ALIGNMENT);
        Aligned { memory, begin, used: 0 }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.begin..self.begin + BUFFER_BYTES]
    }

    /// What is written: whole blocks; the file is cut afterwards.
    fn blocks(&self) -> &[u8] {
        &self.memory[self.begin..self.begin + self.used.next_multiple_of(ALIGNMENT)]
    }
}

fn receive_direct(mut stream: StreamOwned<ClientConnection, Socket>, target: &Path) -> Result<u64> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::DIRECT;
    let file = File::from(
        rustix::fs::open(target, flags, Mode::RUSR | Mode::WUSR).context("make the pipe's file with O_DIRECT")?,
    );
    let (full, to_write) = mpsc::sync_channel::<Aligned>(BUFFERS);
    let (empty, to_fill) = mpsc::sync_channel::<Aligned>(BUFFERS);
    let writing = std::thread::spawn(move || -> Result<u64> {
        let (mut at, mut unsynced, mut copied) = (0, 0, 0);
        for buffer in to_write {
            file.write_all_at(buffer.blocks(), at)?;
            at += buffer.blocks().len() as u64;
            unsynced += buffer.used as u64;
            copied += buffer.used as u64;
            if unsynced >= SYNC_BYTES {
                file.sync_data()?;
                unsynced = 0;
            }
            let _ = empty.send(buffer);
        }
        file.set_len(copied)?;
        file.sync_data()?;
        Ok(copied)
    });
    let mut made = 0;
    loop {
        let mut buffer = if made < BUFFERS {
            made += 1;
            Aligned::new()
        } else {
            to_fill.recv().context("the writing thread ended")?
        };
        let read = fill(&mut stream, buffer.room())?;
        buffer.used = read;
        if full.send(buffer).is_err() || read < BUFFER_BYTES {
            break;
        }
    }
    drop((full, to_fill));
    let copied = writing.join().map_err(|_| anyhow!("the writing thread panicked"))??;
    say_done(stream)?;
    Ok(copied)
}

/// One 4 KiB append with fdatasync plus one round trip over loopback TLS (1 KiB out, 16 bytes back), `count` times: seconds each.
pub fn fsync_and_round_trip(tls: &PipeTls, target: &Path, count: usize) -> Result<Vec<f64>> {
    let mut floor = Floor::start(tls, target)?;
    let samples = (0..count).map(|_| floor.sample(1)).collect::<Result<_>>()?;
    floor.end()?;
    Ok(samples)
}

/// `count` appends of 4 KiB with an fdatasync each: seconds of all of them.
pub fn fsyncs(target: &Path, count: usize) -> Result<f64> {
    let mut file = File::create(target).context("make the file")?;
    let begun = Instant::now();
    for _ in 0..count {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
    }
    let took = begun.elapsed().as_secs_f64();
    let _ = std::fs::remove_file(target);
    Ok(took)
}

/// `bytes` bytes over loopback TLS, appended and made durable at the far end, and its answer of 16 bytes, `count` times: seconds each.
pub fn durable_blocks(tls: &PipeTls, target: &Path, bytes: usize, count: usize) -> Result<Vec<f64>> {
    let (mut far, mut near) = tls.connect()?;
    let mut file = File::create(target).context("make the file")?;
    let writing = std::thread::spawn(move || -> Result<()> {
        let mut block = vec![0; bytes];
        while fill(&mut far, &mut block)? == block.len() {
            file.write_all(&block)?;
            file.sync_data()?;
            far.write_all(&[1; 16])?;
            far.flush()?;
        }
        Ok(())
    });
    let (block, mut answer) = (vec![7; bytes], [0; 16]);
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        near.write_all(&block)?;
        near.flush()?;
        near.read_exact(&mut answer)?;
        samples.push(begun.elapsed().as_secs_f64());
    }
    near.conn.send_close_notify();
    near.flush()?;
    writing.join().map_err(|_| anyhow!("the writing thread panicked"))??;
    let _ = std::fs::remove_file(target);
    Ok(samples)
}

/// What a durable answer from the other end cannot be faster than.
pub struct Floor {
    client: StreamOwned<ClientConnection, Socket>,
    answering: std::thread::JoinHandle<Result<()>>,
    file: File,
    path: PathBuf,
}

impl Floor {
    /// Over a connection of its own, with a file at `path`.
    pub fn start(tls: &PipeTls, path: &Path) -> Result<Floor> {
        let (mut server, client) = tls.connect()?;
        let answering = std::thread::spawn(move || -> Result<()> {
            let mut asked = [0; 1024];
            while fill(&mut server, &mut asked)? == asked.len() {
                server.write_all(&[1; 16])?;
                server.flush()?;
            }
            Ok(())
        });
        Ok(Floor {
            client,
            answering,
            file: File::create(path).context("make the file")?,
            path: path.to_owned(),
        })
    }

    /// One round trip, and `appends` of 4 KiB with an fdatasync each: seconds.
    pub fn sample(&mut self, appends: usize) -> Result<f64> {
        let (block, mut answer) = ([7; 4096], [0; 16]);
        let begun = Instant::now();
        self.client.write_all(&block[..1024])?;
        self.client.flush()?;
        self.client.read_exact(&mut answer)?;
        for _ in 0..appends {
            self.file.write_all(&block)?;
            self.file.sync_data()?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Closes the connection and removes the file.
    pub fn end(mut self) -> Result<()> {
        self.client.conn.send_close_notify();
        self.client.flush()?;
        self.answering
            .join()
            .map_err(|_| anyhow!("the answering thread panicked"))??;
        let _ = std::fs::remove_file(&self.path);
        Ok(())
    }
}
