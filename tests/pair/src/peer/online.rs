//! A peer in the place of the online node: answers a receiver's hello, beats, and sends the records that it is told to send.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use cvp_core::frame::{Frame, Kind, NamespaceTag};
use cvp_core::record::parse;
use cvp_core::session::{Beat, Echo, Heartbeat, Hello};
use cvp_core::types::{Digest, Namespace, Position, Reader, Refusal};

use super::bad;
use super::wire::{Heard, TlsSet, Wire};

/// Longest wait for anything a receiver does.
const SOON: Duration = Duration::from_secs(20);
/// As the nodes beat.
const BEAT_EVERY: Duration = Duration::from_millis(400);

/// Whom it plays: a provider's hello, and its chains from genesis on.
pub struct Guise {
    /// As the provider said it.
    pub hello: Hello,
    /// Every namespace: position of genesis, then one record a height.
    pub chains: BTreeMap<Namespace, (Position, Vec<Bytes>)>,
}

impl Guise {
    /// Position at `height`.
    fn position(&self, namespace: &Namespace, height: u64) -> Result<Position> {
        let (genesis, records) = self.chains.get(namespace).context("no such namespace")?;
        match height.checked_sub(1) {
            None => Ok(*genesis),
            Some(index) => {
                let record = records.get(usize::try_from(index)?).context("above the chain")?;
                Ok(parse(record).map_err(bad)?.position())
            }
        }
    }

    fn tip(&self, namespace: &Namespace) -> Result<Position> {
        let count = self.chains.get(namespace).map_or(0, |(_, records)| records.len());
        self.position(namespace, count as u64)
    }
}

/// A session with a receiver.
pub struct Online<'a> {
    wire: Wire,
    guise: &'a Guise,
    /// Streams the receiver opened: number and first height.
    streams: BTreeMap<NamespaceTag, (u32, u64)>,
    acked: BTreeMap<NamespaceTag, u64>,
    halted: BTreeMap<NamespaceTag, Refusal>,
    beats: u64,
    beat_at: Instant,
}

impl<'a> Online<'a> {
    /// Waits for the receiver's dial at `listener` and goes through the handshake.
    pub fn accept(listener: &TcpListener, set: &TlsSet, guise: &'a Guise) -> Result<Self> {
        let mut wire = Wire::accept(listener, set)?;
        let theirs = loop {
            match wire.turn()? {
                Heard::Frame(frame) if frame.kind == Kind::Hello => {
                    break Hello::decode(&frame.payload).map_err(bad)?;
                }
                Heard::Nothing => {}
                other => bail!("{other:?} in place of a hello"),
            }
        };
        let mut reply = guise.hello.clone();
        reply.nonce = theirs.nonce;
        for offer in &mut reply.namespaces {
            let asked = theirs
                .offer(&offer.namespace)
                .context("the receiver lacks a namespace")?;
            offer.tip = guise.tip(&offer.namespace)?;
            offer.at_peer_tip = Some(hash_at(guise, &offer.namespace, asked.tip.height)?);
            offer.strategies.clone_from(&asked.strategies);
        }
        wire.send(&Frame::node(Kind::Hello, reply.encode()))?;
        let mut online = Self {
            wire,
            guise,
            streams: BTreeMap::new(),
            acked: BTreeMap::new(),
            halted: BTreeMap::new(),
            beats: 0,
            beat_at: Instant::now(),
        };
        online.until("the receiver's verdict", |_, heard| heard == Some(Kind::Verdict))?;
        Ok(online)
    }

    /// Waits until the receiver asked for `namespace`, and answers the first height it lacks.
    pub fn asked(&mut self, namespace: &Namespace) -> Result<u64> {
        let tag = NamespaceTag::of(namespace);
        self.until(&format!("a fetch of {namespace}"), |it, _| {
            it.streams.contains_key(&tag)
        })?;
        let (_, first) = self.streams.get(&tag).context("no stream")?;
        Ok(*first)
    }

    /// Sends `bytes` as records of the stream that the receiver opened for `namespace`.
    pub fn records(&mut self, namespace: &Namespace, bytes: Bytes) -> Result<()> {
        let tag = NamespaceTag::of(namespace);
        let (stream, _) = self.streams.get(&tag).context("nobody asked")?;
        self.wire.send(&Frame::of(Kind::Records, tag, *stream, bytes))
    }

    /// Waits until the receiver halts the stream of `namespace`; answers why.
    pub fn halted(&mut self, namespace: &Namespace) -> Result<Refusal> {
        let tag = NamespaceTag::of(namespace);
        self.until(&format!("a halt of {namespace}"), |it, _| it.halted.contains_key(&tag))?;
        self.halted.remove(&tag).context("no halt")
    }

    /// Waits until the receiver acknowledged `height` of `namespace`.
    pub fn acked(&mut self, namespace: &Namespace, height: u64) -> Result<()> {
        let tag = NamespaceTag::of(namespace);
        self.until(&format!("an ack of {height} of {namespace}"), |it, _| {
            it.acked.get(&tag).is_some_and(|acked| *acked >= height)
        })
    }

    /// The link, for what no provider says.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Sends a frame of the whole node.
    pub fn say(&mut self, kind: Kind, payload: Vec<u8>) -> Result<()> {
        self.wire.send(&Frame::node(kind, payload))
    }

    /// Waits for a frame of this kind; answers its payload.
    pub fn hear(&mut self, kind: Kind) -> Result<Bytes> {
        let begun = Instant::now();
        loop {
            ensure!(begun.elapsed() < SOON, "waited {SOON:?} for a frame {kind:?}");
            match self.frame()? {
                Some(frame) if frame.kind == kind => return Ok(frame.payload),
                _ => {}
            }
        }
    }

    /// Goes on until the receiver has ended the link; answers its goodbye, if it said one.
    pub fn ended(&mut self) -> Result<Option<Refusal>> {
        let begun = Instant::now();
        let mut last = None;
        loop {
            ensure!(begun.elapsed() < SOON, "the link still stands; goodbye: {last:?}");
            if self.beat_at.elapsed() >= BEAT_EVERY && self.beat().is_err() {
                return Ok(last);
            }
            match self.wire.turn()? {
                Heard::End => return Ok(last),
                Heard::Frame(frame) if frame.kind == Kind::Goodbye => {
                    last = Some(Refusal::read(&mut Reader::new(&frame.payload)).map_err(bad)?);
                }
                Heard::Frame(_) | Heard::Nothing => {}
            }
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self, Option<Kind>) -> bool) -> Result<()> {
        let begun = Instant::now();
        let mut heard = None;
        while !done(self, heard) {
            ensure!(begun.elapsed() < SOON, "waited {SOON:?} for {what}");
            heard = self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<Option<Kind>> {
        Ok(self.frame()?.map(|frame| frame.kind))
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        if self.beat_at.elapsed() >= BEAT_EVERY && self.beats > 0 {
            self.beat()?;
        }
        let frame = match self.wire.turn()? {
            Heard::Nothing => return Ok(None),
            Heard::End => bail!("the receiver ended the link"),
            Heard::Frame(frame) => frame,
        };
        let mut input = Reader::new(&frame.payload);
        match frame.kind {
            // The session stands: beats may go out.
            Kind::Verdict => self.beat()?,
            Kind::Fetch => {
                self.streams
                    .insert(frame.namespace, (frame.stream, input.u64().map_err(bad)?));
            }
            Kind::Ack => {
                self.acked.insert(frame.namespace, input.u64().map_err(bad)?);
            }
            Kind::Halt => {
                self.halted
                    .insert(frame.namespace, Refusal::read(&mut input).map_err(bad)?);
                self.streams.remove(&frame.namespace);
            }
            Kind::Goodbye => bail!("the receiver left: {:?}", Refusal::read(&mut input)),
            _ => {}
        }
        Ok(Some(frame))
    }

    fn beat(&mut self) -> Result<()> {
        self.beat_at = Instant::now();
        self.beats += 1;
        let mut beats = Vec::new();
        for namespace in self.guise.chains.keys() {
            let durable = self.guise.tip(namespace)?;
            beats.push(Beat {
                namespace: NamespaceTag::of(namespace),
                durable,
                applied: durable.height,
            });
        }
        let beat = Heartbeat {
            sequence: self.beats,
            echo: Echo::default(),
            beats,
            reasons: Vec::new(),
            held_back: Vec::new(),
        };
        self.wire.send(&Frame::node(Kind::Heartbeat, beat.encode()))
    }
}

fn hash_at(guise: &Guise, namespace: &Namespace, height: u64) -> Result<Digest> {
    Ok(guise.position(namespace, height)?.hash)
}
