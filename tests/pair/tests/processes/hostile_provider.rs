//! An online node whose records are damaged on their way: the receiver refuses them by part, shows none of them, and copies its other
//! namespaces on.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use cvp_core::record::{PartKind, parse};
use cvp_core::types::Namespace;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, durable};
use cvp_pair::peer::{Guise, Online, Standby, TlsSet, geneses, hello};
use cvp_pair::signer::{ec, ed25519, send, settled, sm2, transfer};
use serde_json::json;

const SOON: Duration = Duration::from_secs(15);
/// Where the hashed region and the part table of a record begin (docs/formats/records.md).
const HASHED: usize = 48;
const TABLE: usize = 406;
const ENTRY: usize = 44;

/// One bit of `record` flipped: which place, where, and the part that the refusal must name.
fn flips(record: &Bytes) -> Result<Vec<(&'static str, usize, &'static str)>> {
    let parsed = parse(record).map_err(|error| anyhow!("{error}"))?;
    let middle = |kind: PartKind| {
        let part = parsed.part(kind);
        let at = part.as_ptr() as usize - record.as_ptr() as usize;
        ensure!(!part.is_empty(), "{} is empty", kind.as_str());
        Ok(at + part.len() / 2)
    };
    Ok(vec![
        ("length", 9, "header"),
        ("checksum", 20, "header"),
        // Its height and the parent's hash are looked at first; this is the second half of the time.
        ("hashed region", HASHED + 4 + 32 + 8 + 32 + 6, "header"),
        ("table", TABLE + 4 * ENTRY + 20, "header"),
        ("transactions", middle(PartKind::Transactions)?, "transactions"),
        ("receipts", middle(PartKind::Receipts)?, "receipts"),
        ("delta", middle(PartKind::Delta)?, "delta"),
        ("local", middle(PartKind::Local)?, "local"),
    ])
}

/// What a provider made in both namespaces, pulled from it as a standby would.
fn recorded(pair: &mut Pair, own: &Namespace, other: &Namespace) -> Result<Guise> {
    pair.provider.start()?;
    let rpc = pair.provider.rpc();
    let ns1 = rpc.namespace(own.as_str());
    // A block with valid and failed transactions of every kind of key.
    for signer in [ec()?, sm2()?, ed25519()?] {
        settled(&ns1, &send(&ns1, transfer(&signer, 1, "evidence"))?)?;
    }
    // A block each.
    for _ in 0..10 {
        settled(&rpc, &send(&rpc, transfer(&ec()?, 1, ""))?)?;
    }
    let set = TlsSet::of(pair.receiver.root())?;
    let attached = Standby::attach(pair.provider.p2p(), "node1", &set, &hello(pair.receiver.root(), "cvp")?)?;
    let mut standby = attached.map_err(|refusal| anyhow!("{refusal}"))?;
    let mut chains = geneses(pair.provider.root())?
        .into_iter()
        .map(|(namespace, genesis)| (namespace, (genesis, Vec::new())))
        .collect::<std::collections::BTreeMap<_, _>>();
    for namespace in [own, other] {
        let height = rpc.namespace(namespace.as_str()).height()?;
        let records = standby.copy(namespace, height)?;
        chains.get_mut(namespace).context("no such namespace")?.1 = records;
    }
    let hello = standby.provider.clone();
    drop(standby);
    pair.provider.stop()?;
    Ok(Guise { hello, chains })
}

/// Nothing above genesis of `namespace` is on the receiver's disk, or visible to its clients.
fn shows_nothing(receiver: &Node, namespace: &Namespace) -> Result<()> {
    let status = receiver.status()?;
    ensure!(durable(&status, namespace.as_str()) == Some(0), "{status}");
    let rpc = receiver.rpc().namespace(namespace.as_str());
    rpc.refused("block_getBlockByNumber", json!([1, false]))?;
    Ok(())
}

#[test]
fn a_flipped_bit_in_any_part_is_refused_and_the_other_namespace_goes_on() -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.receiver.provokes(&["stream halted: record 1 is bad"]);
    let (own, other) = (Namespace::new("ns1")?, Namespace::new("global")?);
    let guise = recorded(&mut pair, &own, &other)?;
    let set = TlsSet::of(pair.provider.root())?;
    let listener = TcpListener::bind(cvp_pair::pair::configured_p2p(pair.provider.root())?)?;
    pair.receiver.start()?;

    let (_, damaged) = guise.chains.get(&own).context("ns1")?;
    let (_, whole) = guise.chains.get(&other).context("global")?;
    let good = damaged.first().context("ns1 has no block")?;
    let flips = flips(good)?;
    ensure!(whole.len() > flips.len(), "{} blocks of {other}", whole.len());
    for (index, (place, at, part)) in flips.into_iter().enumerate() {
        let what = || format!("a flipped bit in {place}");
        let mut online = Online::accept(&listener, &set, &guise).with_context(what)?;
        ensure!(online.asked(&own)? == 1, "{}: blocks are held", what());
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x08;
        online.records(&own, bytes.into())?;
        let refusal = online.halted(&own).with_context(what)?;
        let named = refusal.text.contains(&format!("record 1 is bad: {part}"));
        ensure!(refusal.code == "bad-record" && named, "{}: {refusal}", what());

        // The other namespace goes on in the same session.
        let lacks = online.asked(&other)?;
        ensure!(lacks == index as u64 + 1, "{other} lacks {lacks} at {index}");
        online.records(&other, whole[index].clone())?;
        online.acked(&other, lacks).with_context(what)?;
        pair.receiver.wait_status(&what(), SOON, |s| {
            let mut reasons = s["reasons"].as_array().into_iter().flatten();
            reasons.any(|r| {
                r["code"] == "refused-bad-record"
                    && r["message"]
                        .as_str()
                        .is_some_and(|text| text.contains(part) && text.contains(own.as_str()))
            })
        })?;
        pair.receiver.wait_log(&format!("record 1 is bad: {part}"), SOON)?;
        shows_nothing(&pair.receiver, &own).with_context(what)?;
        let rpc = pair.receiver.rpc();
        cvp_pair::wait::until("the other namespace is visible", SOON, || {
            let height = rpc.height()?;
            Ok(if height == lacks {
                Ok(())
            } else {
                Err(height.to_string())
            })
        })?;
    }

    // The same records undamaged are taken: the fault was the bits', not the chain's.
    let mut online = Online::accept(&listener, &set, &guise)?;
    for (namespace, records) in [(&own, damaged), (&other, whole)] {
        let first = online.asked(namespace)?;
        let rest = records.get(first as usize - 1..).context("it lacks nothing")?;
        online.records(namespace, rest.concat().into())?;
        online.acked(namespace, records.len() as u64)?;
    }
    drop(online);
    ensure!(!pair.receiver.log().contains("panicked"));
    pair.receiver.verify()
}
