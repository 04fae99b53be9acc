//! Ports of nodes that come and go: each test that runs beside others has a range of its own, so that none takes the port of a node that is
//! killed and will be back.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below what `cvp init` picks from by itself, and below the system's ports for outgoing connections.
const FIRST: u16 = 10_000;
/// Ports a lane, and lanes.
const LANE: u16 = 250;
const LANES: u16 = 8;

/// A port that is free now and was given to nobody in this process.
///
/// # Errors
/// The whole range is taken.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Which of the tests at work this is, as nextest counts them.
    let lane = std::env::var("NEXTEST_TEST_GLOBAL_SLOT").ok();
    let lane = lane.and_then(|lane| lane.parse::<u16>().ok()).unwrap_or(0) % LANES;
    // Another place in each process: what the one before left may be in use for a while.
    let begin = u16::try_from(std::process::id() % u32::from(LANE)).unwrap_or(0);
    for _ in 0..LANE {
        let at = (begin + NEXT.fetch_add(1, Ordering::Relaxed) % LANE) % LANE;
        let port = FIRST + lane * LANE + at;
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of lane {lane} is free")
}
