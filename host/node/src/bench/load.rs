//! Signed transfers, and a client that keeps a producer's pool filled: everything is signed and spelled before the clock starts.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use cvp_core::chain::sign::{Signer, Transfer};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::machine;
use super::nodes::pause;

/// Transactions of a block, and of a request.
pub const BLOCK_TRANSACTIONS: usize = 500;
/// The funded secp256k1 account of the development genesis (its key is public).
const SECRET: &str = "67bf3d9573c76de902349f6001007abd340a7f93d27468b18be2565e8f1e4194";
/// Receivers of the value.
const RECEIVERS: u64 = 1_000;
/// Connections of the client.
const CONNECTIONS: usize = 4;
/// Longest answer taken to a request of one block's transactions.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Pause before a client that is ahead looks again.
const AHEAD_PAUSE: Duration = Duration::from_millis(2);
/// Pause before a request is sent again that met a full pool.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// An account with funds.
pub struct Wallet {
    signer: Signer,
    nonces: AtomicU64,
}

impl Wallet {
    /// The development genesis' account.
    pub fn funded() -> Result<Wallet> {
        let secret: [u8; 32] = hex::decode(SECRET)?.try_into().ok().context("a secret has 32 bytes")?;
        let seed = now_nanos() & (u64::MAX >> 1);
        Ok(Wallet {
            signer: Signer::ec(secret)?,
            nonces: AtomicU64::new(seed),
        })
    }

    /// A signed TRANSFER of now.
    pub fn transfer(&self, extra: &str) -> Value {
        let nonce = self.nonces.load(Ordering::Relaxed);
        self.transfer_to(nonce % RECEIVERS, extra)
    }

    /// A signed TRANSFER of now to the account of this number.
    pub fn transfer_to(&self, account: u64, extra: &str) -> Value {
        let nonce = self.nonces.fetch_add(1, Ordering::Relaxed) & (u64::MAX >> 1);
        let mut to = [0x78; 20];
        to[..8].copy_from_slice(&account.to_le_bytes());
        self.signer.transfer(&Transfer {
            to,
            value: 1,
            extra,
            timestamp: now_nanos(),
            nonce,
        })
    }

    /// Requests of one block's transfers each, ready to be written to a socket.
    pub fn requests(&self, count: usize) -> Vec<Vec<u8>> {
        let one = |_| {
            let calls: Vec<Value> = (0..BLOCK_TRANSACTIONS)
                .map(|id| {
                    json!({"jsonrpc": "2.0", "namespace": "global", "method": "tx_sendTransaction", "id": id, "params": [self.transfer("")]})
                })
                .collect();
            let body = Value::Array(calls).to_string();
            let mut request = format!(
                "POST / HTTP/1.1\r\nHost: node\r\nContent-Length: {}\r\n\r\n",
                body.len()
            )
            .into_bytes();
            request.extend_from_slice(body.as_bytes());
            request
        };
        (0..count).into_par_iter().map(one).collect()
    }
}

fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// How fast a client offers.
#[derive(Clone)]
pub enum Pace {
    /// Requests a second.
    Rate(f64),
    /// So many requests more than blocks were made, as told in the counter: the producer always has work, and its pool never grows meanwhile.
    Ahead(u64, Arc<AtomicU64>),
}

impl Pace {
    /// Waits until the request of this number, from 0, may go, or until `stop`.
    fn wait(&self, number: usize, begun: Instant, stop: &AtomicBool) {
        match self {
            Pace::Rate(rate) => pause(Duration::from_secs_f64(number as f64 / rate).saturating_sub(begun.elapsed())),
            Pace::Ahead(most, made) => {
                while number as u64 >= made.load(Ordering::Relaxed) + most && !stop.load(Ordering::Relaxed) {
                    pause(AHEAD_PAUSE);
                }
            }
        }
    }
}

/// Requests on their way to one node; ends when dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    left: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Sends `requests` to `address` from threads on processor `core`.
    pub fn start(address: &str, requests: Vec<Vec<u8>>, pace: Pace, core: Option<usize>) -> Result<Load> {
        let (stop, left) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(requests.len())),
        );
        let queue = Arc::new(parking_lot::Mutex::new(requests));
        let begun = Instant::now();
        let taken = Arc::new(AtomicUsize::new(0));
        let mut threads = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = Client::open(address)?;
            let (stop, left, queue, taken) = (
                Arc::clone(&stop),
                Arc::clone(&left),
                Arc::clone(&queue),
                Arc::clone(&taken),
            );
            let pace = pace.clone();
            let work = move || {
                while !stop.load(Ordering::Relaxed) {
                    let Some(request) = queue.lock().pop() else { break };
                    let number = taken.fetch_add(1, Ordering::Relaxed);
                    pace.wait(number, begun, &stop);
                    client.send_until_taken(&request, &stop)?;
                    left.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(())
            };
            threads.push(machine::on_core(core, || std::thread::spawn(work))?);
        }
        Ok(Load { stop, left, threads })
    }

    /// Requests not sent yet: a run that reaches 0 was starved.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Says so when a request failed: then nothing comes any more.
    pub fn check(&mut self) -> Result<()> {
        match self.threads.iter().position(JoinHandle::is_finished) {
            Some(ended) if self.left() > 0 => join(self.threads.swap_remove(ended)),
            _ => Ok(()),
        }
    }

    /// Stops, and says whether a request failed.
    pub fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            join(thread)?;
        }
        Ok(())
    }
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread
        .join()
        .map_err(|_| anyhow::anyhow!("a thread of the client panicked"))?
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// One connection that is kept alive.
pub struct Client(BufReader<TcpStream>);

/// A page of a node, got over a connection of its own.
pub fn get(address: &str, path: &str) -> Result<String> {
    let mut client = Client::open(address)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    client.0.get_mut().write_all(request.as_bytes())?;
    let mut page = String::new();
    client.0.take(ANSWER_BYTES_MAX as u64).read_to_string(&mut page)?;
    Ok(page)
}

impl Client {
    /// Connects to a node's JSON-RPC port.
    pub fn open(address: &str) -> Result<Client> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Client(BufReader::new(stream)))
    }

    /// One call; its whole answer.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        let body = json!({"jsonrpc": "2.0", "namespace": "global", "method": method, "params": params, "id": 1});
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: node\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        Ok(serde_json::from_str(&self.answer()?)?)
    }

    /// Sends a request again until no transaction of it met a full pool. Those that were taken before answer as repeated ones.
    fn send_until_taken(&mut self, request: &[u8], stop: &AtomicBool) -> Result<()> {
        let mut again = false;
        loop {
            self.0.get_mut().write_all(request)?;
            let answer = self.answer()?;
            let count = |code: &str| answer.matches(code).count();
            let (taken, repeated, busy) = (
                count("\"code\":0,"),
                count("\"code\":-32007,"),
                count("\"code\":-32006,"),
            );
            let known = taken + busy + if again { repeated } else { 0 };
            ensure!(
                known == BLOCK_TRANSACTIONS,
                "a transfer was refused: {}",
                &answer[..answer.len().min(400)]
            );
            if busy == 0 || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            again = true;
            pause(BUSY_PAUSE);
        }
    }

    fn answer(&mut self) -> Result<String> {
        let mut length = None;
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "the node closed the connection");
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let length = length.context("an answer without a length")?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8(body)?)
    }
}
