//! A standby that attaches as the handshake says, and then does as it is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use cvp_core::frame::{Frame, Kind, NamespaceTag};
use cvp_core::record::{parse, record_length};
use cvp_core::session::{Beat, Echo, Heartbeat, Hello, Lineage, PROTOCOL, SessionKind};
use cvp_core::types::{Hostname, Namespace, NodeId, NodeRole, Position, Reader, Refusal, Writer};

use super::wire::{Heard, TlsSet, Wire};
use super::{bad, geneses, offer};

/// Longest wait for an answer.
const SOON: Duration = Duration::from_secs(10);
/// As the nodes beat.
const BEAT_EVERY: Duration = Duration::from_millis(400);

/// A standby whose session stands.
pub struct Standby {
    wire: Wire,
    /// The provider's own hello.
    pub provider: Hello,
    /// What it says that it holds, by namespace.
    pub tips: BTreeMap<Namespace, Position>,
    beats: u64,
    beat_at: Instant,
}

/// The hello of a fresh standby called `hostname`, for the chains that `root` (of either node) configures.
pub fn hello(root: &Path, hostname: &str) -> Result<Hello> {
    let geneses = geneses(root)?;
    let offers = geneses.iter();
    Ok(Hello {
        protocol: PROTOCOL,
        program: "a test".into(),
        features: Vec::new(),
        record_formats: vec![1],
        kind: SessionKind::Standby,
        hostname: Hostname::new(hostname)?,
        node_id: NodeId([0x5a; 16]),
        lineage: Lineage::default(),
        binding: None,
        tls: true,
        nonce: [7; 16],
        listen: String::new(),
        namespaces: offers
            .map(|(namespace, genesis)| offer(namespace, NodeRole::Cvp, *genesis, *genesis))
            .collect(),
        self_section: Vec::new(),
    })
}

impl Standby {
    /// Dials the provider `hostname` at `address` with the certificates of `root`, and attaches with `hello`. A refusal is an answer, too.
    pub fn attach(address: &str, hostname: &str, set: &TlsSet, hello: &Hello) -> Result<Result<Self, Refusal>> {
        let mut wire = Wire::dial(address, hostname, set)?;
        wire.send(&Frame::node(Kind::Hello, hello.encode()))?;
        let begun = Instant::now();
        let reply = loop {
            ensure!(begun.elapsed() < SOON, "no answer to the hello");
            match wire.turn()? {
                Heard::Frame(frame) if frame.kind == Kind::Hello => break frame,
                Heard::Frame(frame) if frame.kind == Kind::Goodbye => {
                    return Ok(Err(Refusal::read(&mut Reader::new(&frame.payload)).map_err(bad)?));
                }
                Heard::Frame(frame) => bail!("{:?} answers the hello", frame.kind),
                Heard::End => bail!("the link ended without a word"),
                Heard::Nothing => {}
            }
        };
        let provider = Hello::decode(&reply.payload).map_err(bad)?;
        wire.send(&Frame::node(Kind::Verdict, hello.nonce.to_vec()))?;
        let offers = hello.namespaces.iter();
        Ok(Ok(Self {
            wire,
            provider,
            tips: offers.map(|offer| (offer.namespace.clone(), offer.tip)).collect(),
            beats: 0,
            beat_at: begun,
        }))
    }

    /// The link, for what a standby does not say.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Asks for everything above what it holds of `namespace`, under `stream`.
    pub fn fetch(&mut self, namespace: &Namespace, stream: u32, first: u64, credit: u64) -> Result<()> {
        let mut out = Writer::new();
        out.u64(first);
        out.u64(u64::MAX);
        out.u64(credit);
        // Runs of any length.
        out.u64(0);
        let tag = NamespaceTag::of(namespace);
        self.wire
            .send(&Frame::of(Kind::Fetch, tag, stream, out.into_bytes().into()))
    }

    /// Acknowledges `position` of `namespace`.
    pub fn ack(&mut self, namespace: &Namespace, position: Position) -> Result<()> {
        let mut out = Writer::new();
        out.u64(position.height);
        out.digest(&position.hash);
        let tag = NamespaceTag::of(namespace);
        self.wire.send(&Frame::of(Kind::Ack, tag, 0, out.into_bytes().into()))
    }

    /// One frame, with a heartbeat when it is due.
    pub fn turn(&mut self) -> Result<Heard> {
        if self.beat_at.elapsed() >= BEAT_EVERY {
            self.beat_at = Instant::now();
            self.beats += 1;
            let beats = self.tips.iter();
            let beat = Heartbeat {
                sequence: self.beats,
                echo: Echo::default(),
                beats: beats
                    .map(|(namespace, tip)| Beat {
                        namespace: NamespaceTag::of(namespace),
                        durable: *tip,
                        applied: tip.height,
                    })
                    .collect(),
                reasons: Vec::new(),
                held_back: Vec::new(),
            };
            self.wire.send(&Frame::node(Kind::Heartbeat, beat.encode()))?;
        }
        self.wire.turn()
    }

    /// The next run of `namespace`.
    pub fn records(&mut self, namespace: &Namespace) -> Result<Bytes> {
        let tag = NamespaceTag::of(namespace);
        let begun = Instant::now();
        loop {
            ensure!(begun.elapsed() < SOON, "no records of {namespace}");
            match self.turn()? {
                Heard::Frame(frame) if frame.kind == Kind::Records && frame.namespace == tag => {
                    return Ok(frame.payload);
                }
                Heard::Frame(frame) if frame.kind == Kind::Goodbye => {
                    bail!(
                        "the provider left: {:?}",
                        Refusal::read(&mut Reader::new(&frame.payload))
                    );
                }
                Heard::End => bail!("the link ended"),
                Heard::Frame(_) | Heard::Nothing => {}
            }
        }
    }

    /// Copies `namespace` from block 1 up to `height`: one record each, as they came.
    pub fn copy(&mut self, namespace: &Namespace, height: u64) -> Result<Vec<Bytes>> {
        self.fetch(namespace, 1, 1, 1 << 20)?;
        let mut records = Vec::new();
        while (records.len() as u64) < height {
            let run = self.records(namespace)?;
            let before = records.len();
            split(&run, &mut records)?;
            ensure!(records.len() > before, "a run without record");
            let last = records.last().context("no record")?;
            let tip = parse(last).map_err(bad)?.position();
            self.ack(namespace, tip)?;
            self.tips.insert(namespace.clone(), tip);
        }
        Ok(records)
    }
}

/// Cuts a run into its records.
fn split(run: &Bytes, records: &mut Vec<Bytes>) -> Result<()> {
    let mut at = 0;
    while at < run.len() {
        let length = record_length(&run[at..]).map_err(bad)?.context("half a record")?;
        records.push(run.slice(at..at + length));
        at += length;
    }
    Ok(())
}
