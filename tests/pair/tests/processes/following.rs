//! Nodes that follow a VP: they hold its chain, answer as it does, pass transactions on, and have a standby of their own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::chain::{Draft, Nodes};
use cvp_pair::node::Node;
use cvp_pair::pair::{configured_p2p, wait_durable};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{ec, send, send_many, settled, transfer, wait_shown};
use cvp_pair::wait;
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(30);

/// A VP of `ns2`, a node that follows it there and makes its own blocks in `global` and `ns1`, and the standby of that node.
struct Trio {
    vp: Node,
    nvp: Node,
    cvp: Node,
    /// Their directory, which goes last.
    _nodes: Nodes,
}

impl Trio {
    fn start() -> Result<Trio> {
        let nodes = Nodes::new(&[("node1", None), ("node2", None), ("cvp", Some("node2"))])?;
        let mut vp = nodes.init(&Draft {
            hostname: "node1",
            namespaces: &["ns2"],
            ..Draft::default()
        })?;
        let mut nvp = nodes.init(&Draft {
            hostname: "node2",
            namespaces: &["ns1", "ns2:nvp"],
            follow: &[("node1", configured_p2p(vp.root())?)],
            ..Draft::default()
        })?;
        let mut cvp = nodes.init(&Draft {
            hostname: "cvp",
            namespaces: &["ns1", "ns2"],
            standby_of: Some(&nvp),
            ..Draft::default()
        })?;
        vp.start()?;
        nvp.start()?;
        cvp.start()?;
        nvp.wait_normal()?;
        Ok(Trio {
            _nodes: nodes,
            vp,
            nvp,
            cvp,
        })
    }
}

fn entry<'a>(status: &'a Value, namespace: &str) -> Option<&'a Value> {
    let mut entries = status["namespaces"].as_array()?.iter();
    entries.find(|entry| entry["name"] == namespace)
}

/// Waits until `node` follows in `namespace`, with nothing wrong.
fn wait_follows(node: &Node, namespace: &str, vp: &str) -> Result<Value> {
    node.wait_status(&format!("{namespace} follows {vp}"), WITHIN, |status| {
        let follows = entry(status, namespace).map(|entry| &entry["follows"]);
        follows.is_some_and(|follows| {
            follows["hostname"] == vp && follows["phase"] == "live" && follows["reason"].is_null()
        })
    })
}

/// A transaction through `through` is in a block, and `through` itself shows its receipt.
fn passes(through: &Rpc) -> Result<String> {
    let hash = send(through, transfer(&ec()?, 1, "passed on"))?;
    settled(through, &hash)?;
    Ok(hash)
}

/// Every block, and every transaction of it, is answered by all byte for byte alike.
fn same_answers(rpcs: &[Rpc]) -> Result<u64> {
    let first = rpcs.first().context("nobody")?;
    let height = first.height()?;
    for rpc in rpcs {
        wait_shown(rpc, height, WITHIN)?;
    }
    let same = |method: &str, params: &Value| -> Result<Value> {
        let answer = first.text(method, params, 7)?;
        for rpc in rpcs {
            let found = rpc.text(method, params, 7)?;
            ensure!(found == answer, "{method} {params}: {answer} and {found}");
        }
        Ok(serde_json::from_str(&answer)?)
    };
    for number in 0..=height {
        let block = same("block_getBlockByNumber", &json!([number, false]))?;
        for transaction in block["result"]["transactions"].as_array().into_iter().flatten() {
            same("tx_getTransactionByHash", &json!([transaction["hash"]]))?;
            same("tx_getTransactionReceipt", &json!([transaction["hash"]]))?;
        }
    }
    same("tx_getTransactionsCount", &json!([]))
        .map(|_| height)
        .or(Ok(height))
}

#[test]
fn a_follower_answers_as_its_vp_does_and_passes_transactions_on() -> Result<()> {
    let mut trio = Trio::start()?;
    let (vp, nvp) = (trio.vp.rpc().namespace("ns2"), trio.nvp.rpc().namespace("ns2"));
    let cvp = trio.cvp.rpc().namespace("ns2");
    wait_follows(&trio.nvp, "ns2", "node1")?;
    send_many(&vp, &ec()?, 10)?;
    let hash = passes(&nvp)?;
    let height = same_answers(&[vp.clone(), nvp.clone(), cvp.clone()])?;
    wait_durable(&trio.cvp, "ns2", height)?;
    // What was taken once is not taken twice, and what is wrong is refused here.
    let once = transfer(&ec()?, 1, "twice");
    let hash_once = send(&nvp, once.clone())?;
    settled(&nvp, &hash_once)?;
    ensure!(nvp.refused("tx_sendTransaction", json!([once]))? == -32007);
    let mut forged = transfer(&ec()?, 1, "forged");
    forged["value"] = json!("0x63");
    ensure!(nvp.refused("tx_sendTransaction", json!([forged]))? == -32003);
    ensure!(
        cvp.refused("tx_sendTransaction", json!([transfer(&ec()?, 1, "")]))
            .context("a standby")?
            == -32023
    );
    // Each says whom it follows, or who follows it; the chains that a node makes itself go on beside.
    send_many(&trio.nvp.rpc().namespace("ns1"), &ec()?, 3)?;
    let status = trio.nvp.wait_normal()?;
    let role = |namespace: &str| entry(&status, namespace).map(|entry| entry["role"].clone());
    ensure!(
        role("ns1") == Some(json!("vp")) && role("ns2") == Some(json!("nvp")),
        "{status}"
    );
    let served = trio.vp.status()?["followers"].clone();
    ensure!(
        served[0]["hostname"] == "node2" && served[0]["namespaces"][0]["name"] == "ns2" && served[1].is_null(),
        "{served}"
    );
    let nodes = nvp.call("node_getNodes", json!([]))?;
    ensure!(
        nodes[0]["isvp"] == false
            && nodes[0]["peerType"] == "NVP"
            && nodes[1]["hostname"] == "node1"
            && nodes[1]["status"] == 0,
        "{nodes}"
    );
    // Without its VP it answers and takes nothing; its pair stays what it is.
    trio.vp.kill()?;
    trio.nvp
        .wait_status("the loss of the VP is a warning", WITHIN, |status| {
            let warnings = entry(status, "ns2").map(|entry| entry["warnings"].to_string());
            warnings.is_some_and(|warnings| warnings.contains("vp-unreachable"))
        })?;
    ensure!(nvp.refused("tx_sendTransaction", json!([transfer(&ec()?, 1, "")]))? == -32024);
    ensure!(nvp.call("tx_getTransactionReceipt", json!([hash]))?.is_object());
    trio.nvp.wait_normal()?;
    trio.vp.start()?;
    wait_follows(&trio.nvp, "ns2", "node1")?;
    let vp = trio.vp.rpc().namespace("ns2");
    send_many(&vp, &ec()?, 3)?;
    passes(&nvp)?;
    same_answers(&[vp, nvp, cvp])?;
    trio.nvp.verify()?;
    trio.cvp.verify()
}

#[test]
fn a_promoted_standby_of_a_follower_follows_on_in_each_role() -> Result<()> {
    let mut trio = Trio::start()?;
    wait_follows(&trio.nvp, "ns2", "node1")?;
    passes(&trio.nvp.rpc().namespace("ns2"))?;
    for namespace in ["global", "ns1"] {
        send_many(&trio.nvp.rpc().namespace(namespace), &ec()?, 3)?;
    }
    let heights: Vec<u64> = ["global", "ns1", "ns2"]
        .iter()
        .map(|name| trio.nvp.rpc().namespace(name).height())
        .collect::<Result<_>>()?;
    for (name, height) in ["global", "ns1", "ns2"].iter().zip(&heights) {
        wait_durable(&trio.cvp, name, *height)?;
    }
    trio.nvp.kill()?;
    wait::until("the preflight takes the node for dead", WITHIN, || {
        let (_, report) = trio.cvp.json(&["upgrade", "--dry-run"])?;
        let mut checks = report["checks"].as_array().into_iter().flatten();
        let fails = checks.any(|check| check["verdict"] == "fail");
        Ok(if fails { Err(report.to_string()) } else { Ok(()) })
    })?;
    let (code, report) = trio.cvp.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    // The chains it makes go on with a take-over block; the one it follows has none, and goes on as its VP makes it.
    wait_follows(&trio.cvp, "ns2", "node1")?;
    let (vp, promoted) = (trio.vp.rpc().namespace("ns2"), trio.cvp.rpc().namespace("ns2"));
    ensure!(
        promoted.height()? == heights[2],
        "a block was made in a chain that is followed"
    );
    passes(&promoted)?;
    same_answers(&[vp.clone(), promoted.clone()])?;
    for (name, height) in ["global", "ns1"].iter().zip(&heights) {
        let rpc = trio.cvp.rpc().namespace(name);
        passes(&rpc)?;
        ensure!(rpc.height()? > height + 1, "no take-over block in {name}");
    }
    let status = trio.cvp.status()?;
    ensure!(
        status["hostname"] == "node2" && entry(&status, "ns2").is_some_and(|ns| ns["role"] == "nvp"),
        "{status}"
    );
    // The VP knows one node of that name: the old one is fenced when it comes back, and follows nobody.
    trio.nvp.start().ok();
    trio.nvp.wait_status("the old node is fenced", WITHIN, |status| {
        status.to_string().contains("\"fenced\"")
    })?;
    passes(&promoted)?;
    let followers = trio.vp.status()?["followers"].clone();
    ensure!(followers.as_array().is_some_and(|all| all.len() == 1), "{followers}");
    // And once more after a restart.
    trio.cvp.stop()?;
    trio.cvp.start()?;
    wait_follows(&trio.cvp, "ns2", "node1")?;
    passes(&trio.cvp.rpc().namespace("ns2"))?;
    // The old node's way back: a standby of all three chains.
    trio.nvp.stop()?;
    let remote = format!("node2 {}", trio.cvp.p2p());
    let output = trio.nvp.command(&["clear", "--yes", "--as-standby-of", &remote])?;
    ensure!(output.status.success(), "{output:?}");
    trio.nvp.start()?;
    trio.cvp.wait_normal()?;
    wait_durable(&trio.nvp, "ns2", trio.vp.rpc().namespace("ns2").height()?)?;
    trio.cvp.verify()
}

#[test]
fn a_vp_that_was_replaced_by_its_standby_is_found_there() -> Result<()> {
    let nodes = Nodes::new(&[("node1", None), ("node2", None), ("cvp", Some("node1"))])?;
    let mut vp = nodes.init(&Draft {
        hostname: "node1",
        ..Draft::default()
    })?;
    let mut nvp = nodes.init(&Draft {
        hostname: "node2",
        namespaces: &["global:nvp"],
        follow: &[("node1", configured_p2p(vp.root())?)],
        ..Draft::default()
    })?;
    let mut cvp = nodes.init(&Draft {
        hostname: "cvp",
        standby_of: Some(&vp),
        ..Draft::default()
    })?;
    vp.start()?;
    nvp.start()?;
    wait_follows(&nvp, "global", "node1")?;
    // Only now it has a standby: the follower hears of it all the same.
    cvp.start()?;
    vp.wait_normal()?;
    wait_follows(&nvp, "global", "node1")?;
    send_many(&vp.rpc(), &ec()?, 5)?;
    let height = vp.rpc().height()?;
    wait_durable(&cvp, "global", height)?;
    wait_shown(&nvp.rpc(), height, WITHIN)?;
    vp.kill()?;
    wait::until("the preflight takes the VP for dead", WITHIN, || {
        let (_, report) = cvp.json(&["upgrade", "--dry-run"])?;
        Ok(if report.to_string().contains("\"fail\"") {
            Err(report.to_string())
        } else {
            Ok(())
        })
    })?;
    let (code, report) = cvp.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    wait_follows(&nvp, "global", "node1")?;
    passes(&nvp.rpc())?;
    same_answers(&[cvp.rpc(), nvp.rpc()])?;
    // The old VP comes back at the address that the follower is configured with.
    vp.start().ok();
    vp.wait_status("the old VP is fenced", WITHIN, |status| {
        status.to_string().contains("\"fenced\"")
    })?;
    nvp.stop()?;
    nvp.start()?;
    wait_follows(&nvp, "global", "node1")?;
    passes(&nvp.rpc())?;
    nvp.verify()
}

#[test]
fn a_vp_that_is_not_there_is_left_for_the_next() -> Result<()> {
    let nodes = Nodes::new(&[("node1", None), ("node2", None)])?;
    let mut vp = nodes.init(&Draft {
        hostname: "node1",
        namespaces: &["ns1"],
        ..Draft::default()
    })?;
    vp.start()?;
    let mut nvp = nodes.init(&Draft {
        hostname: "node2",
        namespaces: &["ns1:nvp"],
        follow: &[("ghost", "127.0.0.1:1".to_owned()), ("node1", vp.p2p().to_owned())],
        ..Draft::default()
    })?;
    nvp.start()?;
    wait_follows(&nvp, "ns1", "node1")?;
    passes(&nvp.rpc().namespace("ns1"))?;
    // A namespace that follows can be stopped and started like any other.
    let output = nvp.command(&["namespace", "stop", "ns1"])?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(nvp.rpc().namespace("ns1").refused("block_getChainHeight", json!([]))? == -32010);
    let output = nvp.command(&["namespace", "start", "ns1"])?;
    ensure!(output.status.success(), "{output:?}");
    wait_follows(&nvp, "ns1", "node1")?;
    passes(&nvp.rpc().namespace("ns1"))?;
    Ok(())
}
