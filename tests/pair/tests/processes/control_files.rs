//! A control file that must be there and is not: the start is refused, and nothing is made up in its place.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};

use crate::takeover::loaded;

/// Time for a start to be refused.
const WITHIN: Duration = Duration::from_secs(20);

fn refused(node: &mut Node, says: &str) -> Result<()> {
    let status = node.run_to_end(WITHIN)?;
    ensure!(!status.success(), "it started although {says}");
    ensure!(node.log().contains(says), "{says:?} is not in {}", node.log());
    Ok(())
}

/// Takes `file` away while `node` is started, and gives it back.
fn without(node: &mut Node, file: &str, says: &str) -> Result<()> {
    let path = node.root().join("system/cvp").join(file);
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside)?;
    refused(node, says)?;
    ensure!(!path.exists(), "{} was made anew", path.display());
    std::fs::rename(&aside, &path)?;
    Ok(())
}

fn set(root: &Path, file: &str, from: &str, to: &str) -> Result<()> {
    let path = root.join("configuration").join(file);
    let text = std::fs::read_to_string(&path)?;
    ensure!(text.contains(from), "{} says no {from}", path.display());
    std::fs::write(&path, text.replace(from, to))?;
    Ok(())
}

#[test]
fn a_missing_identity_or_binding_is_an_error_where_blocks_are() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    loaded(&pair)?;
    pair.provider.stop()?;
    pair.receiver.stop()?;
    without(&mut pair.provider, "identity", "identity is missing")?;
    without(&mut pair.receiver, "identity", "identity is missing")?;
    without(&mut pair.receiver, "binding", "binding is missing")?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    Ok(())
}

#[test]
fn a_standby_is_no_provider_by_an_edit() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    loaded(&pair)?;
    pair.receiver.stop()?;
    let root = pair.receiver.root().to_owned();
    set(&root, "dynamic.toml", "\"receiver\"", "\"provider\"")?;
    set(&root, "global/ns_dynamic.toml", "type = \"cvp\"", "type = \"vp\"")?;
    refused(&mut pair.receiver, "still-a-standby")?;
    ensure!(pair.provider.runs(), "the provider goes on");
    Ok(())
}
