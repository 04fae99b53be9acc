//! A hundred namespaces, one of which cannot be taken over: the ninety-nine serve, the one is held with its reason, and another upgrade takes
//! it over once it is mended.

use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::pair::{Pair, Setup, wait_durable};
use cvp_pair::signer::{ec, send, settled, transfer};
use serde_json::{Value, json};

use crate::configuration::wait_equal;
use crate::held_namespaces::{break_store, held, held_in_status, one_block};

/// Namespaces of the node, `global` among them.
const NAMESPACES: usize = 100;

const WITHIN: Duration = Duration::from_secs(60);

fn serving(report: &Value) -> usize {
    report["serving"]["namespaces"].as_object().map_or(0, |all| all.len())
}

#[test]
fn one_bad_namespace_of_a_hundred_is_held_and_the_others_serve() -> Result<()> {
    let names: Vec<String> = (1..NAMESPACES).map(|number| format!("n{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let bad = names[NAMESPACES / 2];
    let mut pair = Pair::start(&Setup {
        namespaces: &names,
        ..Setup::default()
    })?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let mut height = 0;
    for namespace in ["global", names[0], bad, names[NAMESPACES - 2]] {
        height = one_block(&pair.provider, namespace)?;
        wait_durable(&pair.receiver, namespace, height)?;
    }
    pair.receiver.stop()?;
    let broken = break_store(&pair.receiver, bad)?;
    pair.receiver.start()?;
    let told = |status: &Value| status["peer"]["hostname"] == "node1" && status["held"][0]["name"] == bad;
    pair.receiver.wait_status("it is held", WITHIN, told)?;
    pair.lose_provider()?;
    let (node, signer) = (&mut pair.receiver, ec()?);

    let (code, report) = node.json(&["upgrade"])?;
    ensure!(code == 0 && held(&report) == [bad], "{code} {report}");
    ensure!(serving(&report) == NAMESPACES - 1, "{report}");
    let reason = report["held"][bad].as_str().unwrap_or_default();
    ensure!(
        reason.contains("CURRENT") && !reason.contains("unknown"),
        "the reason: {reason:?}"
    );
    ensure!(
        held_in_status(node)? == [(bad.to_owned(), "not-taken-over".to_owned())],
        "{:?}",
        node.status()?
    );
    let others = names.iter().copied().chain(["global"]).filter(|name| *name != bad);
    let mut sent = Vec::new();
    for namespace in others {
        let rpc = node.rpc().namespace(namespace);
        let hash = send(&rpc, transfer(&signer, 1, namespace))?;
        sent.push((rpc, hash));
    }
    ensure!(sent.len() == NAMESPACES - 1);
    for (rpc, hash) in sent {
        settled(&rpc, &hash)?;
        // The take-over block, and the one of the client.
        ensure!(rpc.height()? >= 2);
    }
    // Before the cause is gone another upgrade refuses, and names it.
    let (code, report) = node.json(&["upgrade"])?;
    ensure!(code == 4 && report.to_string().contains(bad), "{code} {report}");

    broken.mend()?;
    let (code, report) = node.json(&["upgrade"])?;
    ensure!(code == 0 && held(&report).is_empty(), "the second: {code} {report}");
    ensure!(serving(&report) == NAMESPACES, "{report}");
    let first = node
        .rpc()
        .namespace(bad)
        .call("block_getBlockByNumber", json!([height + 1, false]))?;
    ensure!(first["txcounts"] == "0x0", "no take-over block: {first}");
    ensure!(one_block(node, bad)? == height + 2);
    ensure!(held_in_status(node)?.is_empty());
    // All of them again after a start.
    node.stop()?;
    node.start()?;
    for namespace in [bad, "global", names[1]] {
        one_block(node, namespace)?;
    }
    let (code, report) = node.json(&["verify", "--namespace", bad])?;
    ensure!(code == 0 && report["good"] == true, "{code} {report}");
    Ok(())
}
