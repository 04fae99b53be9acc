//! Signed transactions of the development genesis' accounts, and a load of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use cvp_core::chain::Kind;
use cvp_core::chain::sign::{Signer, Transfer};
use serde_json::{Value, json};

use crate::rpc::Rpc;
use crate::wait;

/// Where the tests send value to.
pub const RECEIVER: [u8; 20] = [0x78; 20];

/// The built-in contract that keeps the chain id.
const CHAIN_ID_CONTRACT: [u8; 20] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 6];

static NEXT_NONCE: AtomicU64 = AtomicU64::new(1);

fn secret(hex_text: &str) -> Result<[u8; 32]> {
    let bytes = hex::decode(hex_text)?;
    bytes.try_into().ok().context("a secret has 32 bytes")
}

/// The funded secp256k1 account of the development genesis.
pub fn ec() -> Result<Signer> {
    Ok(Signer::ec(secret(
        "67bf3d9573c76de902349f6001007abd340a7f93d27468b18be2565e8f1e4194",
    )?)?)
}

/// The funded SM2 account of the development genesis.
pub fn sm2() -> Result<Signer> {
    Ok(Signer::sm2(secret(
        "435150974b4eee33ccf7592b28fc0a8a8458be012ef8879a0a20f2fcb07f49fd",
    )?)?)
}

/// An Ed25519 account without funds: it can lodge evidence and fail to pay.
pub fn ed25519() -> Result<Signer> {
    Ok(Signer::ed25519(secret(
        "01772ccc20dd0186147e4c495040b0ae749fc52d50194e1365e3a6e65da71912",
    )?))
}

/// Nanoseconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos() as u64)
}

/// A signed TRANSFER of now, with a nonce never used before in this process.
pub fn transfer(signer: &Signer, value: u64, extra: &str) -> Value {
    transaction(signer, Kind::Transfer, &[], RECEIVER, value, extra)
}

/// As [`transfer`], of any kind, with a payload and to anybody.
pub fn transaction(signer: &Signer, kind: Kind, payload: &[u8], to: [u8; 20], value: u64, extra: &str) -> Value {
    let transfer = Transfer {
        to,
        value,
        extra,
        timestamp: now(),
        nonce: NEXT_NONCE.fetch_add(1, Ordering::Relaxed),
    };
    signer.transaction(kind, payload, &transfer)
}

/// The call of the built-in contract with which users of the SDKs set up a chain.
pub fn set_chain_id(signer: &Signer, id: &str) -> Value {
    let part = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let payload = [part("SetChainID"), 1_u32.to_be_bytes().to_vec(), part(id)].concat();
    transaction(signer, Kind::Bvm, &payload, CHAIN_ID_CONTRACT, 0, "")
}

/// Sends `params` and answers the transaction hash.
pub fn send(rpc: &Rpc, params: Value) -> Result<String> {
    send_by(rpc, "tx_sendTransaction", params)
}

/// Sends `params` by one of the methods that take a transaction.
pub fn send_by(rpc: &Rpc, method: &str, params: Value) -> Result<String> {
    let hash = rpc.call(method, json!([params]))?;
    Ok(hash.as_str().context("the answer is not a hash")?.to_owned())
}

/// Waits until `hash` has a receipt or a failure code, and answers that answer.
pub fn settled(rpc: &Rpc, hash: &str) -> Result<Value> {
    wait::until(&format!("a receipt of {hash}"), Duration::from_secs(20), || {
        let answer = rpc.answer("tx_getTransactionReceipt", json!([hash]))?;
        Ok(if answer["code"] == -32001 {
            Err(answer.to_string())
        } else {
            Ok(answer)
        })
    })
}

/// Waits until the node shows `height` to its clients.
pub fn wait_shown(rpc: &Rpc, height: u64, within: Duration) -> Result<()> {
    wait::until(&format!("height {height} is shown"), within, || {
        let shown = rpc.height()?;
        Ok(if shown >= height {
            Ok(())
        } else {
            Err(format!("height {shown}"))
        })
    })
}

/// Sends `count` transfers, waits for the last, and answers the hashes in order.
pub fn send_many(rpc: &Rpc, signer: &Signer, count: usize) -> Result<Vec<String>> {
    let hashes = (0..count)
        .map(|_| send(rpc, transfer(signer, 1, "")))
        .collect::<Result<Vec<_>>>()?;
    for hash in &hashes {
        settled(rpc, hash)?;
    }
    Ok(hashes)
}

/// A thread that sends transfers until it is stopped; refused connections are waited out (the node may be down).
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Load {
    /// Starts sending to `rpc`.
    pub fn start(rpc: Rpc) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (signer, until) = (ec()?, stop.clone());
        let thread = std::thread::spawn(move || {
            let mut sent = Vec::new();
            while !until.load(Ordering::Relaxed) {
                match send(&rpc, transfer(&signer, 1, "load")) {
                    Ok(hash) => sent.push(hash),
                    Err(_) => std::thread::park_timeout(Duration::from_millis(20)),
                }
            }
            sent
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Stops and answers the hashes that the node acknowledged, in order.
    pub fn stop(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|t| t.join().ok()).unwrap_or_default()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
