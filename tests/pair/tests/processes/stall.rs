//! A receiver that stops answering costs the provider nothing, and status says so.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{self, ec, send_many};

#[test]
fn a_stopped_receiver_never_delays_the_producer() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let (rpc, signer) = (pair.provider.rpc(), ec()?);
    send_many(&rpc, &signer, 5)?;

    pair.receiver.freeze()?;
    let status = pair.provider.wait_status(
        "status leaves normal while the receiver is stopped",
        Duration::from_secs(6),
        |s| s["normal"] == false,
    )?;
    let codes: Vec<&str> = status["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|reason| reason["code"].as_str())
        .collect();
    ensure!(
        codes
            .iter()
            .any(|c| ["receiver-silent", "receiver-unreachable", "no-receiver"].contains(c)),
        "reasons: {codes:?}"
    );
    let before = rpc.height()?;
    send_many(&rpc, &signer, 20)?;
    ensure!(
        rpc.height()? > before,
        "no block was made while the receiver was stopped"
    );
    let counted = &pair.provider.status()?["commits_waited_on_link"];
    ensure!(*counted == 0, "commits_waited_on_link in status: {counted}");
    let metrics = status["metrics"].as_str().context("status names no metrics address")?;
    let page = Rpc::page(&format!("http://{metrics}/metrics"))?;
    let counter = page.lines().find(|line| line.starts_with("cvp_commits_waited_on_link"));
    ensure!(
        counter.is_some_and(|line| line.ends_with(" 0")),
        "commits_waited_on_link: {counter:?}"
    );

    pair.receiver.thaw()?;
    pair.provider.wait_normal()?;
    pair.wait_durable("global", rpc.height()?)?;
    pair.provider
        .wait_status("acknowledgements are measured again", Duration::from_secs(10), |s| {
            s["namespaces"][0]["ack_micros"].as_u64() > Some(0) && s["commits_waited_on_link"] == 0
        })?;
    let hash = signer::send(&rpc, signer::transfer(&signer, 1, ""))?;
    signer::settled(&rpc, &hash)?;
    Ok(())
}
