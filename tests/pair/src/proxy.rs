//! A wire between receiver and provider that listens, cuts and slows: it records what passes, ends connections when it is told to or after a
//! random number of bytes, and lets no more through than a line of a given rate.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::dice::Dice;

/// Most that is recorded, bytes.
const RECORDED_MAX: usize = 256 << 20;
/// Bytes that pass at once, and on a slow line.
const PIECE: usize = 64 << 10;
const PIECE_SLOW: usize = 4 << 10;

#[derive(Default)]
struct Shared {
    recorded: Mutex<Vec<u8>>,
    open: Mutex<Vec<TcpStream>>,
    /// Most bytes that a connection lives for; 0: it lives on.
    budget_max: AtomicU64,
    /// Bytes a second that pass in each direction of a connection; 0: as many as come.
    rate: AtomicU64,
    cuts: AtomicU64,
    ended: AtomicBool,
}

/// A proxy on a port of its own; its connections end with it.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Begins to listen for whoever wants to reach `target`.
    pub fn start(target: &str, mut dice: Dice) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared::default());
        let (target, all) = (target.to_owned(), shared.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                if all.ended.load(Ordering::SeqCst) {
                    return;
                }
                // Nobody there: the connection ends at once, as it would without a proxy.
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let most = all.budget_max.load(Ordering::SeqCst);
                let budget = if most == 0 { u64::MAX } else { 1 + dice.below(most) };
                let _ = join(near, far, budget, &all);
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Everything that passed, both ways, in pieces as they came.
    pub fn recorded(&self) -> Vec<u8> {
        self.shared
            .recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on connections end after at most so many bytes (0: they live on); those that are open end now.
    pub fn cut_after(&self, bytes_max: u64) {
        self.shared.budget_max.store(bytes_max, Ordering::SeqCst);
        self.cut();
    }

    /// From now on so many bytes a second pass, each way (0: as many as come).
    pub fn slow_to(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    /// Ends every connection.
    pub fn cut(&self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Two ends a connection.
        self.shared
            .cuts
            .fetch_add(open.len().div_ceil(2) as u64, Ordering::SeqCst);
        for stream in open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// How many connections ended before their ends wanted it.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Puts itself between: the root names the proxy in place of `target`.
    pub fn lead(&self, root: &Path, target: &str) -> Result<()> {
        let path = root.join("configuration/dynamic.toml");
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(target), "{target} is not in {}", path.display());
        std::fs::write(&path, text.replace(target, &self.address)).context("write dynamic.toml")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        // The listening thread looks up.
        let _ = TcpStream::connect(&self.address);
    }
}

fn join(near: TcpStream, far: TcpStream, budget: u64, shared: &Arc<Shared>) -> Result<()> {
    let left = Arc::new(AtomicU64::new(budget));
    let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.push(near.try_clone()?);
    open.push(far.try_clone()?);
    drop(open);
    for (from, to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        let (shared, left) = (shared.clone(), left.clone());
        std::thread::spawn(move || {
            let _ = pump(&from, &to, &left, &shared);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}

fn pump(mut from: &TcpStream, mut to: &TcpStream, left: &AtomicU64, shared: &Shared) -> Result<()> {
    let mut bytes = vec![0; PIECE];
    loop {
        let rate = shared.rate.load(Ordering::SeqCst);
        let most = if rate == 0 { PIECE } else { PIECE_SLOW };
        let read = from.read(&mut bytes[..most])?;
        if read == 0 {
            return Ok(());
        }
        if let Some(nanos) = (read as u64 * 1_000_000_000).checked_div(rate) {
            #[allow(clippy::disallowed_methods)]
            // The line itself, not a wait for a condition.
            std::thread::sleep(Duration::from_nanos(nanos));
        }
        let before = left.fetch_sub((read as u64).min(left.load(Ordering::SeqCst)), Ordering::SeqCst);
        // The last bytes of a connection go out, the rest does not: a frame ends in its middle.
        let passing = read.min(usize::try_from(before).unwrap_or(usize::MAX));
        let mut recorded = shared.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.len() < RECORDED_MAX {
            recorded.extend_from_slice(&bytes[..passing]);
        }
        drop(recorded);
        to.write_all(&bytes[..passing])?;
        if passing < read {
            shared.cuts.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
    }
}
