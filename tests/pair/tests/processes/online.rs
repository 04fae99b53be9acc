//! Changes of the configuration that are in force while the node runs: what `config set` says of a key is what happens.

use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Setup, init_node};
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;
use serde_json::{Value, json};

use crate::namespaces::prepare;

const SOON: Duration = Duration::from_secs(10);

fn alone() -> Result<(tempfile::TempDir, Node)> {
    let directory = tempfile::tempdir()?;
    let setup = Setup {
        insecure: true,
        ..Setup::default()
    };
    let root = init_node(directory.path(), "node1", "provider", None, &setup)?;
    let mut node = Node::new(root);
    node.provokes(&["p2p.enableTLS is false"]);
    node.start()?;
    Ok((directory, node))
}

/// Sets a key, which must say `takes_effect`.
fn set(node: &Node, file: &str, key: &str, value: &str, takes_effect: &str) -> Result<Value> {
    let (exit, answer) = node.json(&["config", "set", file, key, value])?;
    ensure!(
        exit == 0 && answer["takes_effect"] == takes_effect,
        "{file} {key} {value}: {exit} {answer}"
    );
    Ok(answer)
}

/// Lines of the log so far with all of `parts`.
fn lines(node: &Node, parts: &[&str]) -> usize {
    let log = node.log();
    log.lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .count()
}

/// Makes a block, and waits until the chain shows it.
fn block(node: &Node, namespace: &str) -> Result<()> {
    let rpc = node.rpc().namespace(namespace);
    let before = rpc.height()?;
    send_many(&rpc, &ec()?, 1)?;
    wait::until("a block more", SOON, || {
        let height = rpc.height()?;
        Ok(if height > before {
            Ok(())
        } else {
            Err(height.to_string())
        })
    })
}

const MADE: [&str; 2] = [" INFO cvp::namespace::maker made block", "namespace=global"];

#[test]
fn log_levels_follow_the_configuration_of_the_node_and_of_each_namespace() -> Result<()> {
    let (_directory, mut node) = alone()?;
    let made = || lines(&node, &MADE);
    block(&node, "global")?;
    ensure!(made() == 0, "at NOTICE a block is no line");
    // One module of one namespace.
    set(&node, "global/ns_dynamic.toml", "log.module.execmgr", "INFO", "now")?;
    block(&node, "global")?;
    node.wait_log("made block", SOON)?;
    let before = made();
    set(&node, "global/ns_dynamic.toml", "log.module.execmgr", "NOTICE", "now")?;
    block(&node, "global")?;
    ensure!(made() == before, "quiet again");
    // The whole node: quieter, and more talkative.
    let noted = || lines(&node, &[" NOTICE ", "configuration changed", "cvp.max_rate"]);
    set(&node, "dynamic.toml", "cvp.max_rate", "1", "now")?;
    wait::until("the change is noted", SOON, || {
        Ok(if noted() == 1 { Ok(()) } else { Err(node.log()) })
    })?;
    set(&node, "system.toml", "log.log_level", "ERROR", "now")?;
    set(&node, "dynamic.toml", "cvp.max_rate", "2", "now")?;
    set(&node, "dynamic.toml", "log.module.main", "NOTICE", "now")?;
    set(&node, "dynamic.toml", "cvp.max_rate", "3", "now")?;
    node.wait_log("cvp.max_rate answer=local by=the operator", SOON)?;
    wait::until("the third is noted", SOON, || {
        Ok(if noted() == 2 { Ok(()) } else { Err(node.log()) })
    })?;
    set(&node, "system.toml", "log.log_level", "DEBUG", "now")?;
    let before = made();
    block(&node, "global")?;
    // The module has a level of its own, which stays.
    ensure!(made() == before);
    ensure!(lines(&node, &[" INFO cvp::namespace::committer committed"]) > 0 || made() == before);
    // Libraries say at any level no more than what is wrong: a start compiles strategies.
    node.stop()?;
    node.start()?;
    ensure!(lines(&node, &[" INFO cvp"]) > 0, "the level holds after the start");
    for library in ["cranelift", "wasmtime", "regalloc", " DEBUG log ", " INFO log "] {
        ensure!(lines(&node, &[library]) == 0, "{library} in {}", node.log());
    }
    // A namespace that starts brings its own.
    prepare(&node, "ns2")?;
    let file = node.root().join("configuration/ns2/ns_dynamic.toml");
    let text = std::fs::read_to_string(&file)?.replace("execmgr = \"NOTICE\"", "execmgr = \"INFO\"");
    std::fs::write(&file, text)?;
    let (exit, answer) = node.json(&["namespace", "start", "ns2"])?;
    ensure!(exit == 0, "{answer}");
    block(&node, "ns2")?;
    node.wait_log("made block namespace=ns2", SOON)
}

#[test]
fn limits_of_json_rpc_follow_and_what_needs_a_start_says_so() -> Result<()> {
    let (_directory, node) = alone()?;
    let rpc = node.rpc();
    let large = json!({"method": "tx_getGasPrice", "params": ["x".repeat(5_000)]}).to_string();
    ensure!(rpc.post(&large)?.contains(r#""code":0"#));
    set(&node, "system.toml", "http.request.max_content_length", "2kb", "now")?;
    ensure!(rpc.post(&large)?.contains("at most 2048 bytes"));
    set(&node, "system.toml", "http.request.max_content_length", "100kb", "now")?;
    ensure!(rpc.post(&large)?.contains(r#""code":0"#));
    let batch = format!("[{}]", vec![r#"{"method":"tx_getGasPrice"}"#; 50].join(","));
    let flow = |key: &str, value: &str| {
        let key = format!("rpc.qps.flowCtrl.{key}");
        set(&node, "global/ns_static.toml", &key, value, "now")
    };
    flow("capacity", "1")?;
    flow("limit", "1")?;
    flow("enable", "true")?;
    ensure!(rpc.post(&batch)?.contains("-32026"));
    flow("enable", "false")?;
    ensure!(!rpc.post(&batch)?.contains("-32026"));
    set(
        &node,
        "global/ns_dynamic.toml",
        "consensus.pool.batch_size",
        "7",
        "restart",
    )?;
    set(&node, "dynamic.toml", "cvp.heartbeat", "400ms", "restart")?;
    let never = set(&node, "dynamic.toml", "cvp.later", "1", "never")?;
    ensure!(
        never["warnings"][0]
            .as_str()
            .is_some_and(|text| text.contains("no effect")),
        "{never}"
    );
    set(&node, "dynamic.toml", "log.module.audit", "INFO", "never")?;
    // What cannot be is refused, and nothing of it is in force.
    let (exit, error) = node.json(&["config", "set", "system.toml", "log.log_level", "LOUD"])?;
    ensure!(exit == 1 && error["error"]["code"] == "bad-value", "{error}");
    let (exit, error) = node.json(&["config", "set", "global/ns_genesis.toml", "genesis.ca_mode", "None"])?;
    ensure!(exit == 4 && error["error"]["code"] == "genesis-file", "{error}");
    Ok(())
}
