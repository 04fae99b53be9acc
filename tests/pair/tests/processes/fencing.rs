//! Who may fence a provider: the node that took its place, by the node key or by a certificate of its name, and nobody else.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use cvp_core::frame::{Frame, Kind};
use cvp_core::session::{Binding, Claim, Hello, Lineage, TakeOver};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Hostname, Incarnation, NodeId};
use cvp_pair::node::{Node, cvp_ok};
use cvp_pair::pair::{Pair, Setup, init_receiver};
use cvp_pair::peer::{Heard, TlsSet, Wire, hello};
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);

/// A certificate of the pair's CA for `names`, in a root of its own.
fn certificate(pair: &Pair, names: &[&str]) -> Result<std::path::PathBuf> {
    let made = pair.directory.path().join("tls");
    let mut arguments = vec!["certgen".to_owned(), made.to_string_lossy().into_owned()];
    for (flag, name) in ["--host", "--standby-for"].iter().zip(names) {
        arguments.extend([(*flag).to_owned(), (*name).to_owned()]);
    }
    arguments.extend(["--ip".to_owned(), "127.0.0.1".to_owned()]);
    cvp_ok(&arguments)?;
    let name = names.first().context("a certificate without name")?;
    let root = pair.directory.path().join(format!("{name}-root"));
    copy_set(&made.join(name), &root)?;
    Ok(root)
}

fn copy_set(from: &std::path::Path, root: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(root.join("tls"))?;
    for file in ["tlsca.ca", "tls_peer.cert", "tls_peer.priv"] {
        std::fs::copy(from.join(file), root.join("tls").join(file))?;
    }
    Ok(())
}

fn bytes16(text: &Value) -> Result<[u8; 16]> {
    let bytes = hex::decode(text.as_str().context("not a text")?)?;
    bytes.try_into().map_err(|_| anyhow!("{text} has not 16 bytes"))
}

/// What a status tells everybody: node-id and incarnation.
fn identity(status: &Value) -> Result<(NodeId, Incarnation)> {
    let incarnation = &status["incarnation"];
    Ok((
        NodeId(bytes16(&status["node_id"])?),
        Incarnation {
            number: incarnation["number"].as_u64().context("no incarnation")?,
            id: bytes16(&incarnation["id"])?,
        },
    ))
}

/// Sends one frame on a link of its own, and answers what came back.
fn ask(pair: &Pair, set: &TlsSet, frame: &Frame) -> Result<Result<Claim, String>> {
    let mut wire = Wire::dial(pair.provider.p2p(), "node1", set)?;
    wire.send(frame)?;
    let begun = std::time::Instant::now();
    while begun.elapsed() < SOON {
        match wire.turn()? {
            Heard::Frame(frame) if frame.kind == Kind::Answer => {
                return Ok(Ok(Claim::decode(&frame.payload).map_err(|error| anyhow!("{error}"))?));
            }
            Heard::Frame(frame) if frame.kind == Kind::Goodbye => {
                let refusal = cvp_core::types::Refusal::read(&mut cvp_core::types::Reader::new(&frame.payload));
                return Ok(Err(refusal.map_err(|error| anyhow!("{error}"))?.code.into_owned()));
            }
            Heard::Frame(frame) => bail!("{:?}", frame.kind),
            Heard::End => bail!("the link ended without a word"),
            Heard::Nothing => {}
        }
    }
    bail!("no answer")
}

#[test]
fn a_member_of_the_same_ca_learns_nothing_and_fences_nobody() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    pair.provider.provokes(&["(take-over-unproven)", "(certificate-name)"]);
    send_many(&pair.provider.rpc(), &ec()?, 3)?;
    let set = TlsSet::of(&certificate(&pair, &["cvp9"])?)?;
    let status = pair.provider.status()?;
    // The most that a stranger can know: what status and logs show.
    let (node_id, old) = identity(&status)?;
    let new = Incarnation {
        number: old.number + 1,
        id: [0x66; 16],
    };
    let forged = TakeOver {
        node_id,
        hostname: Hostname::new("node1")?,
        old,
        new,
        signature: vec![0x30; 71],
    };
    let claim = |hostname: &str, take_over: Option<TakeOver>| -> Result<Claim> {
        Ok(Claim {
            role: Role::Provider,
            hostname: Hostname::new(hostname)?,
            node_id: NodeId([9; 16]),
            incarnation: take_over.as_ref().map(|take_over| take_over.new),
            take_over,
            fenced: false,
        })
    };
    let frame = |kind: Kind, claim: &Claim| Frame::node(kind, claim.encode());

    let answer = ask(&pair, &set, &frame(Kind::Question, &claim("cvp9", None)?))?;
    let answer = answer.map_err(|code| anyhow!("the question is refused: {code}"))?;
    ensure!(
        answer.incarnation.is_none() && answer.take_over.is_none() && !answer.fenced,
        "{answer:?}"
    );
    for kind in [Kind::Notice, Kind::Question] {
        for (hostname, code) in [("cvp9", "take-over-unproven"), ("node1", "certificate-name")] {
            let told = frame(kind, &claim(hostname, Some(forged.clone()))?);
            let answer = ask(&pair, &set, &told)?;
            ensure!(answer == Err(code.to_owned()), "{kind:?} as {hostname}: {answer:?}");
            pair.provider.wait_log(code, SOON)?;
        }
    }
    // The same by the lineage that a standby says it has heard.
    let mut own = hello(pair.receiver.root(), "cvp9")?;
    let lineage = Lineage::begin(old).extended(new, Vec::new(), forged.signature.clone());
    own.binding = Some(Binding {
        node_id,
        hostname: forged.hostname.clone(),
        lineage: lineage.map_err(|error| anyhow!("{error}"))?,
        namespaces: Vec::new(),
    });
    let answer = ask(&pair, &set, &Frame::node(Kind::Hello, own.encode()))?;
    ensure!(answer == Err("take-over-unproven".to_owned()), "{answer:?}");
    // And a standby under another name than its certificate's.
    let other = Hello {
        hostname: Hostname::new("cvp")?,
        ..hello(pair.receiver.root(), "cvp9")?
    };
    let answer = ask(&pair, &set, &Frame::node(Kind::Hello, other.encode()))?;
    ensure!(answer == Err("certificate-name".to_owned()), "{answer:?}");

    send_many(&pair.provider.rpc(), &ec()?, 3)?;
    ensure!(!pair.provider.root().join("system/cvp/fenced").exists());
    let status = pair.provider.wait_normal()?;
    ensure!(status["peer"]["hostname"] == "cvp", "{status}");
    Ok(())
}

/// Upgrades the receiver after its provider was lost, starts the old provider again and waits until it is fenced.
fn old_provider_is_fenced(mut pair: Pair, flags: &[&str]) -> Result<Pair> {
    pair.provider.provokes(&["this node is fenced"]);
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    send_many(&pair.provider.rpc(), &ec()?, 3)?;
    let height = pair.provider.rpc().height()?;
    pair.wait_durable("global", height)?;
    pair.lose_provider()?;
    let (code, report) = pair.receiver.json(&[&["upgrade"], flags].concat())?;
    ensure!(code == 0, "{code} {report}");
    let _ = pair.provider.start();
    let what = "the old provider is fenced";
    let status = pair.provider.wait_status(what, SOON, |s| {
        s["reasons"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|r| r["code"] == "fenced")
    })?;
    ensure!(status["namespaces"][0]["tip"].as_u64() == Some(height), "{status}");
    Ok(pair)
}

#[test]
fn with_one_certificate_for_both_the_node_key_proves_a_take_over() -> Result<()> {
    let pair = Pair::init(&Setup::default())?;
    certificate(&pair, &["pair.example"])?;
    let shared = pair.directory.path().join("tls/pair.example");
    for node in [&pair.provider, &pair.receiver] {
        copy_set(&shared, node.root())?;
        let file = node.root().join("configuration/system.toml");
        let mut system: toml_edit::DocumentMut = std::fs::read_to_string(&file)?.parse()?;
        system["p2p"]["tlsServerHostOverride"] = toml_edit::value("pair.example");
        std::fs::write(&file, system.to_string())?;
    }
    let pair = old_provider_is_fenced(pair, &[])?;
    let status = pair.receiver.status()?;
    ensure!(status["role"] == "provider", "{status}");
    Ok(())
}

#[test]
fn without_the_node_key_a_certificate_of_the_name_proves_a_take_over() -> Result<()> {
    let pair = Pair::init(&Setup::default())?;
    pair.receiver.provokes(&["code=keys-missing"]);
    std::fs::remove_file(pair.receiver.root().join("namespaces/global/certs/certs/key.priv"))?;
    old_provider_is_fenced(pair, &["--allow-missing-keys"])?;
    Ok(())
}

#[test]
fn a_fenced_node_does_not_shadow_the_one_that_took_its_place() -> Result<()> {
    let pair = old_provider_is_fenced(Pair::init(&Setup::default())?, &[])?;
    let at = pair.directory.path();
    let tls = at.join("tls").to_string_lossy().into_owned();
    cvp_ok(&[
        "certgen",
        &tls,
        "--host",
        "cvp2",
        "--standby-for",
        "node1",
        "--ip",
        "127.0.0.1",
    ])?;
    let old = cvp_pair::pair::configured_p2p(pair.provider.root())?;
    let peer = format!("node1 {old}");
    let root = init_receiver(at, "cvp2", &peer, pair.receiver.root(), &Setup::default())?;
    let file = root.join("configuration/dynamic.toml");
    let mut dynamic: toml_edit::DocumentMut = std::fs::read_to_string(&file)?.parse()?;
    let both = [peer, format!("node1 {}", pair.receiver.p2p())];
    dynamic["cvp"]["remote"] = toml_edit::value(toml_edit::Array::from_iter(both));
    std::fs::write(&file, dynamic.to_string())?;
    let mut fresh = Node::new(root);
    fresh.provokes(&["(fenced)"]);
    fresh.start()?;
    wait::until(
        "the fresh standby attaches to the promoted node",
        Duration::from_secs(30),
        || {
            let status = pair.receiver.status()?;
            Ok(if status["normal"] == true {
                Ok(())
            } else {
                Err(status.to_string())
            })
        },
    )?;
    ensure!(fresh.status()?["peer"]["address"] == pair.receiver.p2p());
    Ok(())
}
