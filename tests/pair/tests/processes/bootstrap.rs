//! A standby begins from a snapshot of the state: where the provider's records do not reach back, and where that is quicker. And old records
//! go, but not those that the standby lacks.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::dice::Dice;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, configured_p2p, wait_durable};
use cvp_pair::proxy::Proxy;
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{RECEIVER, ec, send, send_many, settled, transfer, wait_shown};
use cvp_pair::wait;
use serde_json::{Value, json};

/// What a pruned node says of what went, and a standby of the snapshot that did not fit.
const GOES: [&str; 2] = ["cvp.retain_bytes", "stream halted"];

/// Requests of whole blocks are taken.
const MAX_BODY: (&str, &str) = ("max_content_length = \"100kb\"", "max_content_length = \"2mb\"");
/// Blocks follow each other quickly.
pub const BATCH: (&str, &str) = ("batch = \"0.5s\"", "batch = \"0.02s\"");
/// Bytes of a block made by [`fill`].
const BLOCK_BYTES: usize = 200 << 10;

/// Puts a text in the place of another in a file below `configuration/`.
pub fn replace(node: &Node, file: &str, from: &str, to: &str) -> Result<()> {
    let path = node.root().join("configuration").join(file);
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains(from), "{from:?} is not in {}", path.display());
    std::fs::write(&path, text.replacen(from, to, 1))?;
    Ok(())
}

/// A pair that is not started, with small batches and `accounts` more accounts in its state.
pub fn pair_of(accounts: usize) -> Result<Pair> {
    pair_with(&Setup::default(), accounts)
}

/// The same, with further namespaces.
pub fn pair_with(setup: &Setup<'_>, accounts: usize) -> Result<Pair> {
    let pair = Pair::init(setup)?;
    let lines: String = (1..=accounts).map(|n| format!("\"0x{n:040x}\" = \"{n}\"\n")).collect();
    for node in [&pair.provider, &pair.receiver] {
        let path = node.root().join("configuration/global/ns_genesis.toml");
        let text = std::fs::read_to_string(&path)?;
        std::fs::write(&path, text + &lines)?;
    }
    take_large_blocks(&pair.provider)?;
    Ok(pair)
}

/// What [`fill`] sends is taken, and soon in a block.
pub fn take_large_blocks(node: &Node) -> Result<()> {
    replace(node, "system.toml", MAX_BODY.0, MAX_BODY.1)?;
    replace(node, "global/ns_static.toml", BATCH.0, BATCH.1)
}

pub fn keep_blocks(node: &Node, blocks: u64) -> Result<()> {
    replace(
        node,
        "global/ns_static.toml",
        "keep_blocks = 0",
        &format!("keep_blocks = {blocks}"),
    )
}

/// Makes `blocks` blocks of about 200 KiB; answers the height.
pub fn fill(node: &Node, blocks: usize) -> Result<u64> {
    fill_of(&node.rpc(), blocks)
}

/// The same, in a namespace.
pub fn fill_of(rpc: &Rpc, blocks: usize) -> Result<u64> {
    let signer = ec()?;
    let evidence = "x".repeat(BLOCK_BYTES);
    for _ in 0..blocks {
        let hash = send(rpc, transfer(&signer, 1, &evidence))?;
        settled(rpc, &hash)?;
    }
    rpc.height()
}

fn namespace(status: &Value) -> Result<Value> {
    let found = status["namespaces"].as_array().and_then(|list| list.first());
    Ok(found.context("no namespace")?.clone())
}

pub fn history_from(node: &Node) -> Result<u64> {
    namespace(&node.status()?)?["history_from"]
        .as_u64()
        .context("no history_from")
}

pub fn wait_history(node: &Node, what: &str, is: impl Fn(u64) -> bool) -> Result<u64> {
    wait::until(what, Duration::from_secs(60), || {
        let from = history_from(node)?;
        Ok(if is(from) {
            Ok(from)
        } else {
            Err(format!("history from {from}"))
        })
    })
}

/// Both nodes answer the same: every block that both keep, and the balances.
fn the_same(pair: &Pair) -> Result<()> {
    let (ours, theirs) = (pair.provider.rpc(), pair.receiver.rpc());
    let height = ours.height()?;
    wait_shown(&theirs, height, Duration::from_secs(20))?;
    let from = history_from(&pair.provider)?.max(history_from(&pair.receiver)?);
    for number in from..=height {
        let ask = json!([number, true]);
        let (a, b) = (
            ours.call("block_getBlockByNumber", ask.clone())?,
            theirs.call("block_getBlockByNumber", ask)?,
        );
        ensure!(a == b, "block {number} differs");
    }
    for account in [format!("0x{:040x}", 7), format!("0x{}", hex::encode(RECEIVER))] {
        let (a, b) = (
            ours.answer("account_getBalance", json!([account]))?["result"].clone(),
            theirs.answer("account_getBalance", json!([account]))?["result"].clone(),
        );
        ensure!(a == b, "balance of {account}: {a} and {b}");
    }
    pair.provider.verify()?;
    pair.receiver.verify()
}

#[test]
fn a_standby_that_comes_late_begins_from_a_snapshot_and_can_take_over() -> Result<()> {
    let mut pair = pair_of(100)?;
    keep_blocks(&pair.provider, 5)?;
    replace(
        &pair.provider,
        "global/ns_static.toml",
        "tx_drift_time = \"5m\"",
        "tx_drift_time = \"100ms\"",
    )?;
    pair.provider.start()?;
    let paid = transfer(&ec()?, 3, "once");
    let hash = send(&pair.provider.rpc(), paid.clone())?;
    settled(&pair.provider.rpc(), &hash)?;
    fill(&pair.provider, 50)?;
    let from = wait_history(&pair.provider, "old blocks go", |from| from > 10)?;
    let gone = pair
        .provider
        .rpc()
        .answer("block_getBlockByNumber", json!([from - 1, true]))?;
    ensure!(
        gone["code"] == -32001
            && gone["message"]
                .as_str()
                .is_some_and(|text| text.contains("keeps blocks from")),
        "{gone}"
    );
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    wait::until(
        "what the provider still has is filled in",
        Duration::from_secs(60),
        || {
            let (kept, own) = (history_from(&pair.provider)?, history_from(&pair.receiver)?);
            let filled = kept >= from && own <= kept;
            Ok(if filled {
                Ok(())
            } else {
                Err(format!("from {own}, the provider from {kept}"))
            })
        },
    )?;
    send(&pair.provider.rpc(), transfer(&ec()?, 5, "after"))?;
    fill(&pair.provider, 1)?;
    the_same(&pair)?;
    // Both start again as they are.
    pair.provider.stop()?;
    pair.receiver.stop()?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    the_same(&pair)?;
    pair.lose_provider()?;
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    let checks = report["checks"].as_array().context("no checks")?;
    let history = checks
        .iter()
        .find(|check| check["id"] == "history-complete")
        .context("no check")?;
    ensure!(history["verdict"] == "warn", "{history}");
    pair.receiver.json(&["upgrade"])?;
    let hash = send(&pair.receiver.rpc(), transfer(&ec()?, 1, "promoted"))?;
    ensure!(settled(&pair.receiver.rpc(), &hash)?["code"] == 0);
    // Its block went, and nobody here can know it: it is not executed again.
    let again = pair.receiver.rpc().answer("tx_sendTransaction", json!([paid]))?;
    ensure!(
        again["code"] == -32602 && again["message"].as_str().is_some_and(|text| text.contains("snapshot")),
        "{again}"
    );
    Ok(())
}

#[test]
fn a_long_history_is_begun_from_the_state_and_filled_in_from_behind() -> Result<()> {
    let mut pair = pair_of(100)?;
    replace(
        &pair.receiver,
        "global/ns_static.toml",
        "[strategy]\n",
        "[strategy.chain-sync]\nsettings = { bootstrap_bytes_min = 0 }\n\n[strategy]\n",
    )?;
    pair.provider.start()?;
    let height = fill(&pair.provider, 60)?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    ensure!(
        pair.receiver.log().contains("standing on the snapshot"),
        "it streamed all {height} blocks: {}",
        pair.receiver.log()
    );
    wait_history(&pair.receiver, "the whole history is there", |from| from == 0)?;
    fill(&pair.provider, 2)?;
    the_same(&pair)?;
    let first = pair.receiver.rpc().call("block_getBlockByNumber", json!([0, true]))?;
    ensure!(first["number"] == "0x0", "{first}");
    let status = namespace(&pair.receiver.status()?)?;
    let warned = status["warnings"].to_string();
    ensure!(!warned.contains("history begins"), "{warned}");
    Ok(())
}

#[test]
fn who_is_promoted_on_a_snapshot_says_for_how_long_no_transaction_is_taken() -> Result<()> {
    let mut pair = pair_of(100)?;
    let settings = "[strategy.chain-sync]\nsettings = { bootstrap_bytes_min = 0 }\n\n[strategy]\n";
    replace(&pair.receiver, "global/ns_static.toml", "[strategy]\n", settings)?;
    replace(
        &pair.receiver,
        "global/ns_static.toml",
        "backfill = true",
        "backfill = false",
    )?;
    pair.provider.start()?;
    let height = fill(&pair.provider, 20)?;
    pair.receiver.start()?;
    wait_durable(&pair.receiver, "global", height)?;
    pair.lose_provider()?;
    let (_, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
    ensure!(
        report["checks"].to_string().contains("takes no transaction for "),
        "{report}"
    );
    let (code, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 0, "{report}");
    let status = namespace(&pair.receiver.status()?)?;
    ensure!(status["warnings"].to_string().contains("transactions-wait"), "{status}");
    let made = transfer(&ec()?, 1, "too early");
    let answer = pair.receiver.rpc().answer("tx_sendTransaction", json!([made]))?;
    ensure!(answer["code"] == -32602, "{answer}");
    Ok(())
}

/// Cuts of the bootstrap below, and most bytes that a connection lives for there.
const CUTS: u64 = 50;
const CUT_BYTES_MAX: u64 = 80 << 10;

#[test]
fn a_bootstrap_cut_at_fifty_random_bytes_and_killed_on_both_ends_goes_on() -> Result<()> {
    let mut pair = pair_of(20_000)?;
    pair.provokes(&GOES);
    keep_blocks(&pair.provider, 5)?;
    // A chunk is a quarter of what a second may bring: small beside what a connection lives for.
    replace(&pair.provider, "dynamic.toml", "max_rate = 0", "max_rate = \"160kb\"")?;
    replace(
        &pair.receiver,
        "system.toml",
        "retrytime = \"3s\"",
        "retrytime = \"20ms\"",
    )?;
    pair.provider.start()?;
    fill(&pair.provider, 40)?;
    wait_history(&pair.provider, "old blocks go", |from| from > 10)?;
    // The record of the snapshot goes ahead of its bytes in each session: a small one.
    send_many(&pair.provider.rpc(), &ec()?, 1)?;
    let target = configured_p2p(pair.provider.root())?;
    let proxy = Proxy::start(&target, Dice::new(11))?;
    proxy.lead(pair.receiver.root(), &target)?;
    pair.provokes(&["connection", "link"]);
    pair.receiver.start()?;
    // What is cut is the snapshot, not the genesis file in the copy of the configuration.
    pair.receiver
        .wait_status("the configuration is copied", Duration::from_secs(30), |status| {
            status["configuration"]["equal"] == true
        })?;
    proxy.cut_after(CUT_BYTES_MAX);
    let stands = |pair: &Pair| pair.receiver.log().contains("standing on the snapshot");
    let cuts_reach = |cuts: u64| {
        wait::until("enough cuts", Duration::from_secs(60), || {
            let now = proxy.cuts();
            Ok(if now >= cuts {
                Ok(())
            } else {
                Err(format!("{now} cuts"))
            })
        })
    };
    cuts_reach(CUTS / 3)?;
    pair.receiver.kill()?;
    pair.receiver.start()?;
    cuts_reach(CUTS * 2 / 3)?;
    pair.provider.kill()?;
    pair.provider.start()?;
    cuts_reach(CUTS)?;
    ensure!(!stands(&pair), "the snapshot was whole before the last cut");
    proxy.cut_after(0);
    pair.provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "0"])?;
    pair.provider.wait_normal()?;
    ensure!(stands(&pair));
    // What came before a cut, or a SIGKILL of either end, does not come again.
    let log = pair.receiver.log();
    let kept: Vec<u64> = log.lines().filter_map(bytes_here).collect();
    ensure!(
        kept.len() >= 10 && kept.is_sorted() && kept.first() < kept.last(),
        "each beginning goes on where the one before ended: {kept:?}"
    );
    the_same(&pair)
}

/// Bytes of a snapshot that a line of the log says are here.
fn bytes_here(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("going on with a snapshot of the provider's state, ")?;
    rest.split_once(" bytes are here")?.0.parse().ok()
}

#[test]
fn what_an_absent_standby_lacks_is_kept_and_too_much_of_it_goes() -> Result<()> {
    let mut pair = pair_of(10)?;
    pair.provokes(&GOES);
    keep_blocks(&pair.provider, 3)?;
    replace(
        &pair.provider,
        "dynamic.toml",
        "retain_bytes = \"8gb\"",
        "retain_bytes = \"16mb\"",
    )?;
    pair.provider.start()?;
    pair.receiver.start()?;
    fill(&pair.provider, 2)?;
    pair.provider.wait_normal()?;
    pair.receiver.kill()?;
    // Less than 16 MB: it stays, and is streamed.
    fill(&pair.provider, 30)?;
    ensure!(history_from(&pair.provider)? == 0);
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    ensure!(!pair.receiver.log().contains("snapshot"), "{}", pair.receiver.log());
    wait_history(&pair.provider, "what both hold goes", |from| from > 0)?;
    pair.receiver.kill()?;
    let held = pair.provider.rpc().height()?;
    fill(&pair.provider, 70)?;
    wait::until("the warning", Duration::from_secs(10), || {
        let status = namespace(&pair.provider.status()?)?["warnings"].to_string();
        Ok(if status.contains("\"retention-nearly-full\"") {
            Ok(())
        } else {
            Err(status)
        })
    })?;
    fill(&pair.provider, 40)?;
    wait_history(&pair.provider, "what is too much goes", |from| from > held + 1)?;
    ensure!(log_bytes(pair.provider.root())? < 24 << 20);
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    ensure!(pair.receiver.log().contains("standing on the snapshot"));
    the_same(&pair)
}

/// Bytes of the log of `global`.
fn log_bytes(root: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(root.join("namespaces/global/data/log"))? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

#[test]
fn a_provider_that_prunes_while_it_hands_over_begins_again_and_ends() -> Result<()> {
    let mut pair = pair_of(20_000)?;
    pair.provokes(&GOES);
    keep_blocks(&pair.provider, 3)?;
    replace(
        &pair.provider,
        "dynamic.toml",
        "retain_bytes = \"8gb\"",
        "retain_bytes = \"1mb\"",
    )?;
    replace(&pair.provider, "dynamic.toml", "max_rate = 0", "max_rate = \"200kb\"")?;
    pair.provider.start()?;
    fill(&pair.provider, 50)?;
    wait_history(&pair.provider, "old blocks go", |from| from > 10)?;
    pair.receiver.start()?;
    wait::until("a snapshot is on its way", Duration::from_secs(20), || {
        let status = namespace(&pair.receiver.status()?)?;
        let bytes = status["bootstrap"]["bytes"].as_u64();
        Ok(if bytes > Some(0) && status["phase"] == "bootstrap" {
            Ok(())
        } else {
            Err(status.to_string())
        })
    })?;
    // Its tail goes.
    fill(&pair.provider, 60)?;
    pair.provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "0"])?;
    pair.provider.wait_normal()?;
    the_same(&pair)
}

#[test]
fn the_rate_is_bounded_and_changed_online() -> Result<()> {
    let mut pair = pair_of(10)?;
    replace(&pair.provider, "dynamic.toml", "max_rate = 0", "max_rate = \"400kb\"")?;
    pair.provider.start()?;
    let height = fill(&pair.provider, 40)?;
    pair.receiver.start()?;
    let begun = std::time::Instant::now();
    let durable = wait::until(
        "three seconds of copying at 400 KB a second",
        Duration::from_secs(20),
        || {
            let durable = namespace(&pair.receiver.status()?)?["durable"].as_u64().unwrap_or(0);
            Ok(if begun.elapsed() > Duration::from_secs(3) {
                Ok(durable)
            } else {
                Err(format!("{durable}"))
            })
        },
    )?;
    // A block takes half a second at that rate; one run may be on its way.
    let most = begun.elapsed().as_secs_f64() * 2.0 + 12.0;
    ensure!(
        (durable as f64) < most && durable < height,
        "{durable} of {height} blocks"
    );
    pair.provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "0", "--must-replicate"])?;
    pair.wait_durable("global", height)
}

#[test]
fn a_provider_that_is_lost_in_the_first_bootstrap_is_not_replaced_by_an_empty_chain() -> Result<()> {
    let mut pair = pair_of(20_000)?;
    pair.provokes(&GOES);
    keep_blocks(&pair.provider, 5)?;
    replace(&pair.provider, "dynamic.toml", "max_rate = 0", "max_rate = \"100kb\"")?;
    pair.provider.start()?;
    fill(&pair.provider, 40)?;
    wait_history(&pair.provider, "old blocks go", |from| from > 10)?;
    pair.receiver.start()?;
    wait::until("a part of the snapshot is here", Duration::from_secs(60), || {
        let status = namespace(&pair.receiver.status()?)?;
        Ok(match status["bootstrap"]["bytes"].as_u64() {
            Some(bytes) if bytes > 0 => Ok(()),
            _ => Err(status["bootstrap"].to_string()),
        })
    })?;
    pair.lose_provider()?;
    for _ in 0..2 {
        let (code, report) = pair.receiver.json(&["upgrade", "--dry-run"])?;
        let checks = report["checks"].as_array().context("no checks")?;
        let history = checks.iter().find(|check| check["id"] == "history-complete");
        let history = history.context("no check")?;
        ensure!(code == 6 && history["verdict"] == "fail", "{code} {history}");
        ensure!(history["message"].to_string().contains("of a snapshot"), "{history}");
        // After a restart it has not heard of the provider's tip, and knows what is staged.
        pair.receiver.stop()?;
        pair.receiver.start()?;
    }
    let (code, _) = pair.receiver.json(&["upgrade"])?;
    ensure!(code == 4, "{code}");
    let (code, report) = pair.receiver.json(&["upgrade", "--begin-anew"])?;
    ensure!(code == 0 && pair.receiver.rpc().height()? >= 1, "{code} {report}");
    Ok(())
}
