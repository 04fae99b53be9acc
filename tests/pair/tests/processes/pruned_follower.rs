//! A follower that was away for longer than its VP keeps blocks: it stays out, says why on both ends, and what it is told to do helps.

use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::chain::{Draft, Nodes};
use cvp_pair::pair::configured_p2p;
use cvp_pair::signer::wait_shown;
use serde_json::json;

use crate::bootstrap::{fill, keep_blocks, take_large_blocks, wait_history};
use crate::uncopied::put_in_place;

const WITHIN: Duration = Duration::from_secs(30);

#[test]
fn a_follower_below_what_its_vp_keeps_says_so_and_goes_on_with_another_nodes_data() -> Result<()> {
    let nodes = Nodes::new(&[("node1", None), ("node2", None)])?;
    let mut vp = nodes.init(&Draft {
        hostname: "node1",
        ..Draft::default()
    })?;
    keep_blocks(&vp, 5)?;
    take_large_blocks(&vp)?;
    let mut nvp = nodes.init(&Draft {
        hostname: "node2",
        namespaces: &["global:nvp"],
        follow: &[("node1", configured_p2p(vp.root())?)],
        genesis_from: Some(&vp),
        ..Draft::default()
    })?;
    vp.start()?;
    nvp.start()?;
    let seen = fill(&vp, 2)?;
    wait_shown(&nvp.rpc(), seen, WITHIN)?;
    nvp.stop()?;
    fill(&vp, 60)?;
    wait_history(&vp, "old blocks go", |from| from > seen + 1)?;
    nvp.provokes(&["history-missing"]);
    vp.provokes(&["history-missing"]);
    nvp.start()?;
    let status = nvp.wait_status("it says what is missing", WITHIN, |status| {
        status["namespaces"][0]["follows"]["reason"]
            .to_string()
            .contains("keeps records from")
    })?;
    let said = status["namespaces"][0]["follows"]["reason"]["message"].to_string();
    ensure!(
        said.contains(&format!("the follower ends at {seen}"))
            && said.contains("namespaces/global/data, without data/mq"),
        "{said}"
    );
    ensure!(nvp.rpc().height()? == seen, "nothing was overwritten");

    vp.stop()?;
    nvp.stop()?;
    let data = "namespaces/global/data";
    put_in_place(&vp.root().join(data), &nvp.root().join(data))?;
    let queues = nvp.root().join(data).join("mq");
    if queues.exists() {
        std::fs::remove_dir_all(queues)?;
    }
    vp.start()?;
    nvp.start()?;
    let height = fill(&vp, 2)?;
    wait_shown(&nvp.rpc(), height, WITHIN)?;
    let ask = json!([height, true]);
    let (ours, theirs) = (
        vp.rpc().call("block_getBlockByNumber", ask.clone())?,
        nvp.rpc().call("block_getBlockByNumber", ask)?,
    );
    ensure!(ours == theirs, "{ours} and {theirs}");
    nvp.verify()
}
