//! Followers that are too many, too slow or hostile: the VP refuses them, leaves them, and goes on as if they were not there.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use cvp_core::frame::{Frame, Kind, NamespaceTag};
use cvp_core::session::{FOLLOWERS_MAX, Hello, Lineage, SessionKind};
use cvp_core::types::{Incarnation, Namespace, NodeId, Reader, Refusal, Writer};
use cvp_pair::chain::{Draft, Nodes};
use cvp_pair::node::Node;
use cvp_pair::pair::{configured_p2p, wait_durable};
use cvp_pair::peer::{Heard, Standby, TlsSet, hello};
use cvp_pair::signer::{ec, send, send_many, settled, transfer};
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(30);

/// A VP with its standby, and a node that follows it and is not started.
struct Scene {
    vp: Node,
    cvp: Node,
    nvp: Node,
    set: TlsSet,
    /// Their directory, which goes last.
    _nodes: Nodes,
}

impl Scene {
    fn start() -> Result<Scene> {
        let nodes = Nodes::new(&[("node1", None), ("node2", None), ("cvp", Some("node1"))])?;
        let mut vp = nodes.init(&Draft {
            hostname: "node1",
            ..Draft::default()
        })?;
        let nvp = nodes.init(&Draft {
            hostname: "node2",
            namespaces: &["global:nvp"],
            follow: &[("node1", configured_p2p(vp.root())?)],
            ..Draft::default()
        })?;
        let mut cvp = nodes.init(&Draft {
            hostname: "cvp",
            standby_of: Some(&vp),
            ..Draft::default()
        })?;
        vp.start()?;
        cvp.start()?;
        vp.wait_normal()?;
        let set = TlsSet::of(nvp.root())?;
        Ok(Scene {
            _nodes: nodes,
            vp,
            cvp,
            nvp,
            set,
        })
    }

    /// What a follower says first; `number` tells them apart.
    fn hello(&self, number: u8) -> Result<Hello> {
        let mut hello = hello(self.vp.root(), "node2")?;
        hello.kind = SessionKind::Follower;
        hello.node_id = NodeId([number; 16]);
        hello.lineage = Lineage::begin(Incarnation {
            number: 1,
            id: [number; 16],
        });
        for offer in &mut hello.namespaces {
            offer.strategies.clear();
        }
        Ok(hello)
    }

    fn attach(&self, number: u8) -> Result<Standby> {
        let attached = Standby::attach(self.vp.p2p(), "node1", &self.set, &self.hello(number)?)?;
        attached.map_err(|refusal| anyhow!("{refusal}"))
    }

    /// The pair is what it was, blocks are made, and the standby has them.
    fn goes_on(&self) -> Result<()> {
        let rpc = self.vp.rpc();
        let hash = send(&rpc, transfer(&ec()?, 1, ""))?;
        settled(&rpc, &hash)?;
        wait_durable(&self.cvp, "global", rpc.height()?)?;
        let status = self.vp.wait_normal()?;
        ensure!(status["commits_waited_on_link"] == 0, "{status}");
        Ok(())
    }
}

/// A follower that beats its heart and does nothing else, until it is told.
struct Idle {
    end: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

fn idle(mut follower: Standby) -> Idle {
    let end = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&end);
    let thread = spawn(move || {
        while !told.load(Ordering::Relaxed) {
            if let Heard::End = follower.turn()? {
                bail!("the session ended");
            }
        }
        Ok(())
    });
    Idle { end, thread }
}

impl Idle {
    fn end(self) -> Result<()> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a panic"))?
    }
}

fn reason(status: &Value) -> String {
    status["namespaces"][0]["follows"]["reason"].to_string()
}

#[test]
fn one_follower_too_many_is_refused_on_both_ends_and_the_standby_keeps_its_place() -> Result<()> {
    let mut scene = Scene::start()?;
    let mut idles = Vec::new();
    for number in 0..FOLLOWERS_MAX as u8 {
        idles.push(idle(scene.attach(100 + number)?));
    }
    let refused = Standby::attach(scene.vp.p2p(), "node1", &scene.set, &scene.hello(200)?)?;
    let refusal = refused.err().context("one too many was served")?;
    ensure!(
        refusal.code == "too-many-followers" && refusal.text.contains("16"),
        "{refusal:?}"
    );
    // A node says so, and so does the VP.
    scene.nvp.start()?;
    scene.nvp.wait_status("the node names the reason", WITHIN, |status| {
        reason(status).contains("16 followers")
    })?;
    let status = scene.vp.status()?;
    ensure!(status["refused_dial"]["code"] == "too-many-followers", "{status}");
    scene.goes_on()?;
    // The standby comes back into its place.
    scene.cvp.stop()?;
    scene.cvp.start()?;
    scene.goes_on()?;
    ensure!(idles.len() == FOLLOWERS_MAX);
    idles.pop().context("none")?.end()?;
    scene.nvp.wait_status("the node takes the place", WITHIN, |status| {
        status["namespaces"][0]["follows"]["phase"] == "live"
    })?;
    idles.into_iter().try_for_each(Idle::end)
}

#[test]
fn a_follower_that_stands_still_delays_nobody() -> Result<()> {
    let mut scene = Scene::start()?;
    scene.nvp.start()?;
    let live = |status: &Value| status["namespaces"][0]["follows"]["phase"] == "live";
    scene.nvp.wait_status("it follows", WITHIN, live)?;
    // One asks for everything and reads nothing, and one process stands still.
    let global = Namespace::new("global")?;
    send_many(&scene.vp.rpc(), &ec()?, 50)?;
    let mut greedy = scene.attach(77)?;
    greedy.fetch(&global, 1, 1, u64::MAX)?;
    scene.nvp.freeze()?;
    let begun = Instant::now();
    for _ in 0..10 {
        scene.goes_on()?;
    }
    ensure!(begun.elapsed() < WITHIN, "blocks took {:?}", begun.elapsed());
    scene.vp.wait_status("both are left", WITHIN, |status| {
        status["followers"] == serde_json::json!([])
    })?;
    scene.nvp.thaw()?;
    scene.nvp.wait_status("it follows again", WITHIN, live)?;
    scene.goes_on()
}

#[test]
fn what_a_follower_must_not_say_ends_its_session_alone() -> Result<()> {
    let scene = Scene::start()?;
    let global = Namespace::new("global")?;
    let tag = NamespaceTag::of(&global);
    let number = |number: u64, rest: &[u8]| {
        let mut out = Writer::new();
        out.u64(number);
        out.raw(rest);
        out.into_bytes()
    };
    let bad = [
        Frame::node(Kind::FileRequest, number(1, b"")),
        Frame::node(Kind::Staged, vec![0]),
        Frame::of(Kind::Ack, tag, 0, number(9, &[0; 32]).into()),
        Frame::of(Kind::Fetch, tag, 1, number(99, &[0; 24]).into()),
        Frame::of(Kind::PassOn, NamespaceTag(4711), 0, number(1, b"{}").into()),
        Frame::of(Kind::PassOn, tag, 0, vec![1, 2].into()),
        Frame::of(Kind::Passed, tag, 0, number(1, &[0; 33]).into()),
    ];
    for (at, frame) in bad.iter().enumerate() {
        let mut follower = scene.attach(at as u8 + 1)?;
        if let Err(error) = follower.wire().send(frame) {
            // The node may judge the header before the rest is written; what it has not read then resets the connection.
            let gone = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            let ended = [Some(ErrorKind::BrokenPipe), Some(ErrorKind::ConnectionReset)].contains(&gone);
            ensure!(ended, "{frame:?}: {error:#}");
        }
        // A length beyond the bound of its kind ends the link without a word.
        let ended = follower.wire().until_end(WITHIN)?;
        ensure!(
            ended.is_none_or(|refusal| refusal.code == "protocol" || refusal.code == "malformed"),
            "{frame:?}"
        );
        scene.goes_on()?;
    }
    // Transactions that are none are answered as a client's are, each with its number, as many as come.
    let mut follower = scene.attach(50)?;
    for one in 0..300 {
        let frame = Frame::of(Kind::PassOn, tag, 0, number(one, b"no json").into());
        follower.wire().send(&frame)?;
    }
    let mut answered = std::collections::BTreeSet::new();
    let begun = Instant::now();
    while answered.len() < 300 {
        ensure!(begun.elapsed() < WITHIN, "{} of 300 were answered", answered.len());
        let frame = match follower.turn()? {
            Heard::Frame(frame) => frame,
            Heard::Nothing => continue,
            Heard::End => bail!("the node left when it had answered {} of 300", answered.len()),
        };
        if frame.kind == Kind::Goodbye {
            bail!("the node says {:?}", Refusal::read(&mut Reader::new(&frame.payload)));
        }
        if frame.kind == Kind::Passed {
            let mut input = Reader::new(&frame.payload);
            let read = |error| anyhow!("{error}");
            let (number, taken) = (input.u64().map_err(read)?, input.flag().map_err(read)?);
            let code = input.u64().map_err(read)? as i64;
            ensure!(!taken && [-32602, -32006].contains(&code), "{number}: {code}");
            answered.insert(number);
        }
    }
    scene.goes_on()?;
    // Nothing of a follower is in the standby's place.
    let status = scene.vp.wait_normal()?;
    ensure!(status["peer"]["hostname"] == "cvp", "{status}");
    Ok(())
}
