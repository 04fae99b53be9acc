//! Standbys with good certificates that misuse the copy of the configuration and strong changes: cut off or ignored, and the provider, its
//! files and its namespaces are untouched.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use cvp_core::frame::{Frame, Kind};
use cvp_core::types::{Reader, Refusal, Writer};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::peer::{Heard, Standby, TlsSet, hello};
use cvp_pair::signer::{ec, send_many};
use cvp_pair::wait;

use crate::configuration::{files, wait_equal};
use crate::hostile_tree::{EVIL, NEW, body, change};

const SOON: Duration = Duration::from_secs(15);

/// What a standby does wrong, and the code of the goodbye; `""`: it is cut off, and the goodbye may be lost in what it
/// still sends; none: it is ignored.
type Fault = (&'static str, fn(&mut Standby, u64) -> Result<()>, Option<&'static str>);

fn request(version: u64, path: &str) -> Vec<u8> {
    let mut out = Writer::new();
    out.u64(version);
    out.text(path);
    out.into_bytes()
}

fn held(version: u64) -> Vec<u8> {
    let mut out = Writer::new();
    out.u64(version);
    out.flag(false);
    out.into_bytes()
}

fn say(standby: &mut Standby, kind: Kind, payload: Vec<u8>) -> Result<()> {
    standby.wire().send(&Frame::node(kind, payload))
}

const FAULTS: [Fault; 19] = [
    (
        "a path that is in no inventory",
        |it, v| say(it, Kind::FileRequest, request(v, NEW)),
        Some("protocol"),
    ),
    (
        "a path that leaves the tree",
        |it, v| say(it, Kind::FileRequest, request(v, "configuration/../tls/tls_peer.priv")),
        Some("protocol"),
    ),
    (
        "an absolute path",
        |it, v| say(it, Kind::FileRequest, request(v, "/etc/passwd")),
        Some("protocol"),
    ),
    (
        "a private key",
        |it, v| say(it, Kind::FileRequest, request(v, "certificates/global/certs/key.priv")),
        Some("protocol"),
    ),
    (
        "a later version",
        |it, v| say(it, Kind::FileRequest, request(v + 1, "configuration/dynamic.toml")),
        Some("protocol"),
    ),
    (
        "an earlier version",
        |it, _| say(it, Kind::FileRequest, request(0, "configuration/dynamic.toml")),
        None,
    ),
    (
        "a request that is none",
        |it, _| say(it, Kind::FileRequest, vec![0xff; 40]),
        Some("malformed"),
    ),
    (
        "more requests than anybody needs",
        |it, v| {
            let one = Frame::node(Kind::FileRequest, request(v, "configuration/large.bin"));
            let bytes = [&one.encode_header(false)[..], &one.payload].concat();
            // It may be cut off before the end.
            let _ = it.wire().say(&bytes.repeat(20_000));
            Ok(())
        },
        Some(""),
    ),
    (
        "a tree that it was never told of",
        |it, v| say(it, Kind::TreeHeld, held(v + 1)),
        Some("protocol"),
    ),
    (
        "a word on its copy that is none",
        |it, _| say(it, Kind::TreeHeld, vec![0xff; 40]),
        Some("malformed"),
    ),
    (
        "staged garbage",
        |it, _| say(it, Kind::Staged, vec![0xff; 25]),
        Some("malformed"),
    ),
    (
        "staged, and more",
        |it, _| say(it, Kind::Staged, vec![1; 40]),
        Some("malformed"),
    ),
    (
        "a staged change of nobody",
        |it, _| say(it, Kind::Staged, vec![1; 25]),
        None,
    ),
    (
        "prepared garbage",
        |it, _| say(it, Kind::Prepared, vec![0xff; 3]),
        Some("malformed"),
    ),
    (
        "a prepared change of nobody",
        |it, _| say(it, Kind::Prepared, vec![7; 24]),
        None,
    ),
    (
        "an aborted change of nobody",
        |it, _| say(it, Kind::Aborted, [&[7; 24][..], &[0]].concat()),
        None,
    ),
    (
        "aborted garbage",
        |it, _| say(it, Kind::Aborted, vec![0xff; 40]),
        Some("malformed"),
    ),
    (
        "a provider's inventory",
        |it, _| say(it, Kind::Inventory, vec![0; 16]),
        Some(""),
    ),
    (
        "a provider's change",
        |it, _| {
            say(
                it,
                Kind::Prepare,
                change(1, "config", body("configuration/dynamic.toml", EVIL)).encode(),
            )
        },
        Some("protocol"),
    ),
];

#[test]
fn a_standby_that_misuses_the_tree_touches_nothing_of_the_provider() -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    pair.provider
        .provokes(&["(malformed)", "(malformed-frame)", "(protocol)"]);
    std::fs::write(pair.provider.root().join("configuration/large.bin"), vec![7; 4 << 20])?;
    pair.provider.start()?;
    let set = TlsSet::of(pair.receiver.root())?;
    let tree = files(&pair.provider.root().join("configuration"))?;
    let ns1 = pair.provider.rpc().namespace("ns1");
    for (what, fault, code) in FAULTS {
        let own = hello(pair.receiver.root(), "cvp")?;
        let attached = Standby::attach(pair.provider.p2p(), "node1", &set, &own)?;
        let mut standby = attached.map_err(|refusal| anyhow!("{what}: {refusal}"))?;
        let version = told(&mut standby).context(what)?;
        fault(&mut standby, version).context(what)?;
        let goodbye = match code {
            Some(_) => ended(&mut standby).context(what)?,
            None => goes_on(&mut standby, version).context(what).map(|()| None)?,
        };
        let heard = goodbye.map(|refusal| refusal.code.into_owned());
        ensure!(code == Some("") || heard.as_deref() == code, "{what}: {heard:?}");
        drop(standby);
        ensure!(files(&pair.provider.root().join("configuration"))? == tree, "{what}");
        send_many(&ns1, &ec()?, 1).context(what)?;
    }
    untouched(&pair.provider)?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    pair.wait_durable("ns1", ns1.height()?)?;
    pair.receiver.verify()
}

fn untouched(provider: &Node) -> Result<()> {
    let system = provider.root().join("system/cvp");
    for name in ["staged", "staging", "configuration_vp", "copy"] {
        ensure!(!system.join(name).exists(), "{name} is on the provider");
    }
    ensure!(!provider.log().contains("panicked"));
    Ok(())
}

/// Says that nothing is staged, and waits for the inventory; its version.
fn told(standby: &mut Standby) -> Result<u64> {
    standby.wire().send(&Frame::node(Kind::Staged, vec![0]))?;
    wait::until("the inventory", SOON, || {
        Ok(match standby.turn()? {
            Heard::Frame(frame) if frame.kind == Kind::Inventory => {
                Ok(Reader::new(&frame.payload).u64().map_err(|error| anyhow!("{error}"))?)
            }
            heard => Err(format!("{heard:?}")),
        })
    })
}

/// The session stands: a file that is asked for comes.
fn goes_on(standby: &mut Standby, version: u64) -> Result<()> {
    say(
        standby,
        Kind::FileRequest,
        request(version, "configuration/dynamic.toml"),
    )?;
    wait::until("the file", SOON, || {
        Ok(match standby.turn()? {
            Heard::Frame(frame) if frame.kind == Kind::File => Ok(()),
            Heard::End => anyhow::bail!("the link ended"),
            heard => Err(format!("{:?}", std::mem::discriminant(&heard))),
        })
    })
}

/// Goes on until the provider has ended the link; its goodbye.
fn ended(standby: &mut Standby) -> Result<Option<Refusal>> {
    let mut goodbye = None;
    wait::until("the provider ends the link", SOON, || {
        Ok(match standby.turn() {
            Ok(Heard::End) | Err(_) => Ok(()),
            Ok(Heard::Frame(frame)) if frame.kind == Kind::Goodbye => {
                goodbye = Refusal::read(&mut Reader::new(&frame.payload)).ok();
                Err("goodbye".to_owned())
            }
            Ok(_) => Err("it stands".to_owned()),
        })
    })?;
    Ok(goodbye)
}
