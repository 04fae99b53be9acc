//! Namespaces side by side: each has its own chain, and the copy holds them all.

use anyhow::{Result, ensure};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::signer::{ec, send, send_many, settled, transfer};
use serde_json::json;

#[test]
fn namespaces_are_copied_side_by_side() -> Result<()> {
    let pair = Pair::start(&Setup {
        namespaces: &["ns1", "ns2"],
        ..Setup::default()
    })?;
    let (global, signer) = (pair.provider.rpc(), ec()?);
    let ns1 = global.namespace("ns1");
    send_many(&global, &signer, 3)?;
    let hash = send(&ns1, transfer(&signer, 2, "only in ns1"))?;
    settled(&ns1, &hash)?;
    ensure!(global.refused("tx_getTransactionByHash", json!([hash]))? == -32001);
    ensure!(global.namespace("ns9").refused("block_getChainHeight", json!([]))? == -32010);

    pair.wait_durable("ns1", ns1.height()?)?;
    pair.wait_durable("global", global.height()?)?;
    let there = pair.receiver.rpc().namespace("ns1");
    ensure!(settled(&there, &hash)? == settled(&ns1, &hash)? || there.height()? == ns1.height()?);
    ensure!(
        there.call("tx_getTransactionByHash", json!([hash]))? == ns1.call("tx_getTransactionByHash", json!([hash]))?
    );
    let listed = pair.receiver.command(&["namespace", "list"])?;
    ensure!(String::from_utf8_lossy(&listed.stdout).trim() == "global,ns1,ns2");
    Ok(())
}
