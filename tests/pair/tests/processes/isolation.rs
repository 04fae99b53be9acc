//! Namespaces side by side: each has its own chain, and the copy holds them all.

use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::signer::{ec, send, send_many, settled, transfer, wait_shown};
use serde_json::json;

#[test]
fn namespaces_are_copied_side_by_side() -> Result<()> {
    let pair = Pair::start(&Setup {
        namespaces: &["ns1", "ns2"],
        ..Setup::default()
    })?;
    let (global, signer) = (pair.provider.rpc(), ec()?);
    send_many(&global, &signer, 3)?;
    let hash = send(&global.namespace("ns1"), transfer(&signer, 2, "only in ns1"))?;
    settled(&global.namespace("ns1"), &hash)?;
    ensure!(global.namespace("ns9").refused("block_getChainHeight", json!([]))? == -32010);

    let copy = pair.receiver.rpc();
    let mut tips = Vec::new();
    for name in ["global", "ns1", "ns2"] {
        let (ours, theirs) = (global.namespace(name), copy.namespace(name));
        let height = ours.height()?;
        pair.wait_durable(name, height)?;
        wait_shown(&theirs, height, Duration::from_secs(10))?;
        // The transaction is in one chain, at both ends of it, and nowhere else.
        for method in ["tx_getTransactionByHash", "tx_getTransactionReceipt"] {
            let answers = [
                ours.text(method, &json!([hash]), 7)?,
                theirs.text(method, &json!([hash]), 7)?,
            ];
            ensure!(answers[0] == answers[1], "{name}: {answers:?}");
            let code = if name == "ns1" {
                "\"code\":0,"
            } else {
                "\"code\":-32001,"
            };
            ensure!(answers[0].contains(code), "{name}: {answers:?}");
        }
        let tip = json!([height, false]);
        let (ours, theirs) = (
            ours.text("block_getBlockByNumber", &tip, 7)?,
            theirs.text("block_getBlockByNumber", &tip, 7)?,
        );
        ensure!(
            ours == theirs && ours.contains("\"code\":0,"),
            "{name}: {ours} {theirs}"
        );
        tips.push(ours);
    }
    ensure!(
        tips[0] != tips[1] && tips[1] != tips[2],
        "chains of their own: {tips:?}"
    );
    let listed = pair.receiver.command(&["namespace", "list"])?;
    ensure!(String::from_utf8_lossy(&listed.stdout).trim() == "global,ns1,ns2");
    Ok(())
}
