//! A signature that somebody else made from a mined one, without the key: it must not repeat the transfer, here or on the standby.

use anyhow::{Context, Result, ensure};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{ec, send, settled, transfer};
use serde_json::{Value, json};

/// JSON-RPC code of a transaction that is known already.
const DUPLICATE: i64 = -32007;

/// Order of the group that secp256k1 signs in.
const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

/// The same transfer with (r, n-s) for (r, s), and the other point recovered: valid for the same text and key.
fn malleated(params: &Value) -> Result<Value> {
    let text = params["signature"].as_str().context("no signature")?;
    let mut signature = hex::decode(text)?;
    ensure!(
        signature.len() == 66 && signature[0] == 0,
        "no secp256k1 signature: {text}"
    );
    let order = hex::decode(ORDER)?;
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(signature[33 + at]) - borrow;
        borrow = i16::from(difference < 0);
        signature[33 + at] = difference.rem_euclid(256) as u8;
    }
    signature[65] ^= 1;
    let mut other = params.clone();
    other["signature"] = json!(hex::encode(signature));
    Ok(other)
}

fn refused(rpc: &Rpc, params: &Value, whose: &str) -> Result<()> {
    let before = rpc.height()?;
    let code = rpc.refused("tx_sendTransaction", json!([params]))?;
    ensure!(code == DUPLICATE, "{whose}: code {code}");
    ensure!(rpc.height()? == before, "{whose}: a block was made");
    Ok(())
}

#[test]
fn a_malleated_signature_repeats_no_transfer() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    let rpc = pair.provider.rpc();
    let original = transfer(&ec()?, 7, "once");
    let copy = malleated(&original)?;
    let hash = send(&rpc, original.clone())?;
    ensure!(settled(&rpc, &hash)?["code"] == 0, "the transfer failed");
    refused(&rpc, &original, "the transfer itself")?;
    refused(&rpc, &copy, "the same node")?;
    pair.wait_durable("global", rpc.height()?)?;

    // The other way round it is a transfer as good as the first, which proves that it is the text that is known.
    let second = transfer(&ec()?, 7, "twice");
    let hash = send(&rpc, malleated(&second)?)?;
    ensure!(settled(&rpc, &hash)?["code"] == 0, "a malleated signature is valid");
    refused(&rpc, &second, "the original after its copy")?;
    pair.wait_durable("global", rpc.height()?)?;

    pair.provider.kill()?;
    pair.provider.start()?;
    for (params, whose) in [
        (&copy, "a copy after a restart"),
        (&second, "an original after a restart"),
    ] {
        refused(&pair.provider.rpc(), params, whose)?;
    }

    pair.provider.wait_normal()?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    for (params, whose) in [
        (&copy, "a copy on the standby"),
        (&second, "an original on the standby"),
    ] {
        refused(&pair.receiver.rpc(), params, whose)?;
    }
    Ok(())
}
