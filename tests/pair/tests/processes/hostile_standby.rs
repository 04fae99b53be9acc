//! Peers with good certificates that say what no standby says, to a provider under load: cut off or refused, and the producer goes on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_core::frame::{FLAG_OPTIONAL, Frame, HEADER_BYTES, Kind, NamespaceTag};
use cvp_core::types::{Digest, Namespace, Position};
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::peer::{Heard, Standby, TlsSet, Wire, hello};
use cvp_pair::signer::{Load, ec, send_many};
use cvp_pair::wait;

/// What the handshake waits for a silent peer, and some.
const SOON: Duration = Duration::from_secs(12);

/// Blocks are made and copied while nobody disturbs; answers the height then.
fn goes_on(provider: &Node, above: u64) -> Result<u64> {
    wait::until("the producer goes on", SOON, || {
        let height = provider.rpc().height()?;
        Ok(if height > above {
            Ok(height)
        } else {
            Err(height.to_string())
        })
    })
}

/// A header whose length is the largest that fits.
fn giant(kind: Kind) -> [u8; HEADER_BYTES] {
    let mut header = Frame::node(kind, Vec::new()).encode_header(false);
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    header
}

#[test]
fn authenticated_garbage_is_cut_off_and_the_pair_goes_on() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let codes = ["(busy)", "(certificate-name)", "(malformed-frame)", "(protocol)"];
    pair.provider.provokes(&codes);
    let set = TlsSet::of(pair.receiver.root())?;
    let dial = || Wire::dial(pair.provider.p2p(), "node1", &set);
    let load = Load::start(pair.provider.rpc())?;
    let mut height = 0;
    // More of them than the node takes, one with half a frame: the session that stands is not touched.
    let mut silent = (0..20).map(|_| dial()).collect::<Result<Vec<_>>>()?;
    let half = Frame::node(Kind::Hello, vec![0; 100]).encode_header(false);
    silent[0].say(&half[..20])?;
    for wire in &mut silent {
        wire.until_end(SOON).context("a silent peer")?;
    }
    height = goes_on(&pair.provider, height)?;

    let garbage: Vec<u8> = (0..4096_u32).map(|i| (i * 167 + 13) as u8).collect();
    let mut cases: Vec<(String, Vec<u8>)> = vec![("garbage".into(), garbage)];
    cases.extend((1..=19).map(|code| {
        let kind = Kind::from_code(code);
        (format!("a giant {kind:?}"), giant(kind).to_vec())
    }));
    let unknown = Frame::node(Kind::Unknown(200), vec![1; 100]);
    cases.push((
        "an unknown kind".into(),
        [&unknown.encode_header(false)[..], &[1; 100]].concat(),
    ));
    for (what, bytes) in &cases {
        let mut wire = dial()?;
        wire.say(bytes)?;
        let goodbye = wire.until_end(SOON).with_context(|| what.clone())?;
        ensure!(goodbye.is_none(), "{what}: {goodbye:?}");
    }
    height = goes_on(&pair.provider, height)?;
    pair.provider.wait_log("malformed-frame", SOON)?;

    for first in [
        Kind::Verdict,
        Kind::Ack,
        Kind::Fetch,
        Kind::Heartbeat,
        Kind::Halt,
        Kind::Answer,
    ] {
        let mut wire = dial()?;
        wire.send(&Frame::node(first, vec![0; 40]))?;
        let goodbye = wire.until_end(SOON).with_context(|| format!("{first:?} first"))?;
        ensure!(
            goodbye.as_ref().is_some_and(|why| why.code == "protocol"),
            "{first:?}: {goodbye:?}"
        );
    }
    height = goes_on(&pair.provider, height)?;

    // A kind of a later release that says it may be skipped is skipped: the hello behind it is answered.
    let mut wire = dial()?;
    let mut later = Frame::node(Kind::Unknown(200), vec![1; 100]);
    later.flags = FLAG_OPTIONAL;
    wire.send(&later)?;
    let intruder = hello(pair.receiver.root(), "cvp9")?;
    wire.send(&Frame::node(Kind::Hello, intruder.encode()))?;
    let goodbye = wire.until_end(SOON)?.context("the hello was not answered")?;
    ensure!(goodbye.code != "protocol" && goodbye.code != "malformed", "{goodbye}");

    goes_on(&pair.provider, height)?;
    ensure!(!load.stop().is_empty());
    let status = pair.provider.wait_normal()?;
    ensure!(status["peer"]["hostname"] == "cvp", "{status}");
    pair.wait_durable("global", pair.provider.rpc().height()?)?;
    ensure!(!pair.provider.log().contains("panicked"));
    Ok(())
}

/// What a standby does wrong.
type Fault = fn(&mut Standby, &Namespace) -> Result<()>;

fn far() -> Position {
    Position {
        height: 1_000_000,
        hash: Digest::of(b"nobody's"),
    }
}

#[test]
fn a_standby_that_breaks_the_protocol_is_refused_and_the_producer_goes_on() -> Result<()> {
    let cases: [(&str, Fault, &str); 9] = [
        ("an ack of a height never sent", |it, ns| it.ack(ns, far()), "protocol"),
        ("an ack of another record", other_record, "diverged"),
        (
            "a fetch beyond what it can lack",
            |it, ns| it.fetch(ns, 1, 1_000_000, 1 << 20),
            "protocol",
        ),
        ("a fetch that goes back", goes_back, "protocol"),
        (
            "heartbeats of heights it does not hold",
            |it, ns| {
                it.tips.insert(ns.clone(), far());
                Ok(())
            },
            "protocol",
        ),
        (
            "a second verdict",
            |it, _| it.wire().send(&Frame::node(Kind::Verdict, vec![7; 16])),
            "protocol",
        ),
        (
            "a namespace of nobody",
            |it, _| {
                it.wire()
                    .send(&Frame::of(Kind::Ack, NamespaceTag(9), 0, vec![0; 40].into()))
            },
            "protocol",
        ),
        (
            "a heartbeat that is none",
            |it, _| it.wire().send(&Frame::node(Kind::Heartbeat, vec![0xff; 64])),
            "malformed",
        ),
        ("nothing any more", |_, _| Ok(()), "silent"),
    ];
    let mut pair = Pair::init(&Setup::default())?;
    pair.provider.provokes(&["(diverged)", "(malformed)", "(protocol)"]);
    pair.provider.start()?;
    let set = TlsSet::of(pair.receiver.root())?;
    let namespace = Namespace::new("global")?;
    send_many(&pair.provider.rpc(), &ec()?, 3)?;
    let load = Load::start(pair.provider.rpc())?;
    let mut height = 0;
    for (what, fault, code) in cases {
        let own = hello(pair.receiver.root(), "cvp")?;
        let attached = Standby::attach(pair.provider.p2p(), "node1", &set, &own)?;
        let mut standby = attached.map_err(|refusal| anyhow::anyhow!("{what}: {refusal}"))?;
        fault(&mut standby, &namespace).context(what)?;
        let goodbye = ended(&mut standby, code != "silent").context(what)?;
        // A link that is given up for its silence is closed without a word.
        ensure!(
            goodbye.as_deref() == (code != "silent").then_some(code),
            "{what}: {goodbye:?}"
        );
        let shown = if code == "silent" {
            "receiver-silent".to_owned()
        } else {
            shown(code)
        };
        pair.provider
            .wait_status(&format!("{what}: reason {shown}"), SOON, |s| {
                s["reasons"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|r| r["code"] == *shown)
            })?;
        pair.provider.wait_log(code, SOON)?;
        height = goes_on(&pair.provider, height).context(what)?;
    }
    ensure!(!load.stop().is_empty());
    // The provider serves a right one as if nothing had been.
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    pair.wait_durable("global", pair.provider.rpc().height()?)?;
    ensure!(!pair.provider.log().contains("panicked"));
    pair.receiver.verify()
}

fn shown(code: &str) -> String {
    if code == "diverged" {
        code.to_owned()
    } else {
        format!("refused-{code}")
    }
}

/// Goes on, with heartbeats or without, until the provider has ended the link; answers the code of its goodbye.
fn ended(standby: &mut Standby, beats: bool) -> Result<Option<String>> {
    if !beats {
        return Ok(standby.wire().until_end(SOON)?.map(|refusal| refusal.code.into_owned()));
    }
    let mut code = None;
    wait::until("the provider ends the link", SOON, || {
        Ok(match standby.turn()? {
            Heard::End => Ok(()),
            Heard::Frame(frame) if frame.kind == Kind::Goodbye => {
                let refusal = cvp_core::types::Refusal::read(&mut cvp_core::types::Reader::new(&frame.payload));
                code = refusal.ok().map(|refusal| refusal.code.into_owned());
                Err(format!("goodbye {code:?}"))
            }
            heard => Err(format!("{heard:?}")),
        })
    })?;
    Ok(code)
}

fn other_record(standby: &mut Standby, namespace: &Namespace) -> Result<()> {
    standby.fetch(namespace, 1, 1, 1 << 20)?;
    let run = standby.records(namespace)?;
    let mut rest = &run[..];
    let mut last = None;
    while !rest.is_empty() {
        let record = cvp_core::record::parse(rest).map_err(|error| anyhow::anyhow!("{error}"))?;
        last = Some(record.header().height);
        rest = &rest[record.len()..];
    }
    standby.ack(
        namespace,
        Position {
            height: last.context("an empty run")?,
            hash: Digest::of(b"another"),
        },
    )
}

fn goes_back(standby: &mut Standby, namespace: &Namespace) -> Result<()> {
    standby.copy(namespace, 1)?;
    standby.fetch(namespace, 2, 1, 1 << 20)
}
