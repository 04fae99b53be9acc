//! A namespace that stood still whenever it could have been copied: the standby says so, and the promoted node does not begin its chain anew
//! unless it is told to.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::{Node, cvp_ok};
use cvp_pair::pair::{Pair, Setup, init_receiver, wait_durable};
use serde_json::{Value, json};

use crate::configuration::{files, wait_equal};
use crate::held_namespaces::{held_in_status, one_block};
use crate::namespaces::running;

const WITHIN: Duration = Duration::from_secs(30);

const SETUP: Setup<'static> = Setup {
    namespaces: &["ns2"],
    insecure: false,
};

/// A pair whose provider stopped ns2, which has blocks, before its standby came; how many.
pub fn stopped_before_it_was_copied() -> Result<(Pair, u64)> {
    let mut pair = Pair::init(&SETUP)?;
    pair.provider.start()?;
    one_block(&pair.provider, "ns2")?;
    let height = one_block(&pair.provider, "ns2")?;
    let (code, answer) = pair.provider.json(&["namespace", "stop", "ns2"])?;
    ensure!(code == 0, "{code} {answer}");
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    Ok((pair, height))
}

/// What a status says of namespaces that were never copied.
fn warned(status: &Value) -> Vec<String> {
    let warnings = status["warnings"].as_array().into_iter().flatten();
    let said = warnings.filter(|warning| warning["code"] == "never-copied");
    said.map(|warning| warning["message"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn wait_warned(node: &Node, parts: &[&str]) -> Result<()> {
    let what = format!("one warning with {parts:?}");
    let one = |status: &Value| {
        let said = warned(status);
        said.len() == 1 && parts.iter().all(|part| said[0].contains(part))
    };
    node.wait_status(&what, WITHIN, one).map(|_| ())
}

/// Starts ns2, and is refused; says with what words.
fn refused(node: &Node, more: &[&str], code: &str) -> Result<String> {
    let (exit, answer) = node.json(&[&["namespace", "start", "ns2"], more].concat())?;
    let error = &answer["error"];
    ensure!(exit == 4 && error["code"] == code, "{exit} {answer}");
    ensure!(running(node)? == "global", "{}", running(node)?);
    Ok(format!("{} {}", error["message"], error["help"]))
}

fn started(node: &Node, more: &[&str]) -> Result<()> {
    let (exit, answer) = node.json(&[&["namespace", "start", "ns2"], more].concat())?;
    ensure!(exit == 0 && answer["running"] == true, "{exit} {answer}");
    ensure!(warned(&node.status()?).is_empty(), "{}", node.status()?);
    Ok(())
}

fn upgraded(pair: &mut Pair) -> Result<()> {
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(exit == 0, "{exit} {report}");
    Ok(())
}

/// The files below a directory of a node that does not run, in the place of what another has.
pub fn put_in_place(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    for name in files(from)?.into_keys() {
        let target = to.join(&name);
        std::fs::create_dir_all(target.parent().context("no parent")?)?;
        std::fs::copy(from.join(name), target)?;
    }
    Ok(())
}

#[test]
fn its_chain_begins_by_no_start_and_goes_on_once_its_data_is_in_place() -> Result<()> {
    let (mut pair, height) = stopped_before_it_was_copied()?;
    wait_warned(&pair.receiver, &["ns2 is stopped on node1", "namespace start ns2"])?;
    let last = json!([height, false]);
    upgraded(&mut pair)?;
    let (lost, node) = (pair.provider.root().to_owned(), &mut pair.receiver);
    let address = pair.provider.p2p().to_owned();
    wait_warned(node, &["never copied from node1", &address, "--anew"])?;
    let said = refused(node, &[], "never-copied")?;
    ensure!(said.contains(&address) && said.contains("--anew"), "{said}");

    // Not by a start of the node either, after a crash and with a list that somebody edited.
    node.kill()?;
    let list = node.root().join("configuration/dynamic.toml");
    let text = std::fs::read_to_string(&list)?;
    let off = "name = \"ns2\"\nstart = false";
    ensure!(text.contains(off), "{text}");
    std::fs::write(&list, text.replace(off, "name = \"ns2\"\nstart = true"))?;
    node.provokes(&["namespace ns2 does not run"]);
    node.start()?;
    let waits = ("ns2".to_owned(), "never-copied".to_owned());
    ensure!(held_in_status(node)? == [waits], "{}", node.status()?);
    refused(node, &[], "never-copied")?;

    let (theirs, here) = ("namespaces/ns2/data", node.root().join("namespaces/ns2/data"));
    put_in_place(&lost.join(theirs), &here)?;
    let said = refused(node, &["--anew"], "not-anew")?;
    ensure!(said.contains("has blocks here"), "{said}");
    started(node, &[])?;
    let rpc = node.rpc().namespace("ns2");
    let block = rpc.call("block_getBlockByNumber", last)?;
    let next = rpc.call("block_getBlockByNumber", json!([height + 1, false]))?;
    ensure!(
        next["txcounts"] == "0x0" && next["parentHash"] == block["hash"],
        "no take-over block: {block} {next}"
    );
    one_block(node, "ns2")?;
    node.stop()?;
    node.start()?;
    ensure!(running(node)? == "global,ns2", "{}", running(node)?);
    one_block(node, "ns2")?;
    node.verify()
}

#[test]
fn the_next_standby_and_its_promotion_say_the_same_and_it_begins_anew_on_purpose() -> Result<()> {
    let (mut pair, _) = stopped_before_it_was_copied()?;
    upgraded(&mut pair)?;
    let at = pair.directory.path();
    let tls = at.join("tls").to_string_lossy().into_owned();
    let names = ["--host", "cvp2", "--standby-for", "node1", "--ip", "127.0.0.1"];
    cvp_ok(&[&["certgen", tls.as_str()], names.as_slice()].concat())?;
    let peer = format!("node1 {}", pair.receiver.p2p());
    let mut fresh = Node::new(init_receiver(at, "cvp2", &peer, pair.receiver.root(), &SETUP)?);
    fresh.start()?;
    pair.receiver.wait_normal()?;
    let Pair {
        provider: first,
        receiver,
        directory,
    } = pair;
    drop(first);
    let mut pair = Pair {
        provider: receiver,
        receiver: fresh,
        directory,
    };
    wait_equal(&pair.provider, &pair.receiver)?;
    wait_warned(&pair.receiver, &["ns2 is stopped on node1"])?;
    wait_durable(&pair.receiver, "global", one_block(&pair.provider, "global")?)?;
    refused(&pair.provider, &[], "never-copied")?;
    upgraded(&mut pair)?;
    let node = &mut pair.receiver;
    let said = refused(node, &[], "never-copied")?;
    ensure!(said.contains(pair.provider.p2p()), "{said}");

    started(node, &["--anew"])?;
    ensure!(one_block(node, "ns2")? == 1, "it begins anew");
    node.kill()?;
    node.start()?;
    ensure!(running(node)? == "global,ns2", "{}", running(node)?);
    ensure!(one_block(node, "ns2")? == 2, "it goes on");
    let (exit, answer) = node.json(&["namespace", "stop", "ns2"])?;
    ensure!(exit == 0 && warned(&node.status()?).is_empty(), "{answer}");
    started(node, &[])?;
    node.verify()
}

#[test]
fn what_was_copied_later_is_not_refused_however_old_it_is() -> Result<()> {
    let (mut pair, height) = stopped_before_it_was_copied()?;
    wait_warned(&pair.receiver, &["ns2 is stopped on node1"])?;
    let (code, answer) = pair.provider.json(&["namespace", "start", "ns2"])?;
    ensure!(code == 0, "{code} {answer}");
    wait_durable(&pair.receiver, "ns2", height)?;
    let (code, answer) = pair.provider.json(&["namespace", "stop", "ns2"])?;
    ensure!(code == 0, "{code} {answer}");
    wait_equal(&pair.provider, &pair.receiver)?;
    ensure!(
        warned(&pair.receiver.status()?).is_empty(),
        "{}",
        pair.receiver.status()?
    );
    upgraded(&mut pair)?;
    started(&pair.receiver, &[])?;
    ensure!(one_block(&pair.receiver, "ns2")? > height + 1);
    pair.receiver.verify()
}
