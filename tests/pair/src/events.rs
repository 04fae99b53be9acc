//! A reader of a queue's server-sent events, on a thread of its own.

use std::io::{BufRead, BufReader};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its `id`.
    pub id: String,
    /// Its `event`: the routing key.
    pub key: String,
    /// Its `data`: the envelope.
    pub data: Value,
}

impl Event {
    /// Height of an `MQBlock`.
    pub fn height(&self) -> Result<u64> {
        let number = self.data["body"]["number"].as_str();
        Ok(number.with_context(|| format!("no block: {self:?}"))?.parse()?)
    }
}

/// An open stream.
pub struct Events(Receiver<Event>);

impl Events {
    /// Opens `GET /mq/<namespace>/<queue>` at the JSON-RPC address, after the event `last` where given.
    pub fn open(address: &str, namespace: &str, queue: &str, last: Option<&str>) -> Result<Self> {
        let mut request = agent().get(format!("http://{address}/mq/{namespace}/{queue}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.call()?;
        ensure!(response.status() == 200, "{} for a stream of events", response.status());
        let kind = response
            .headers()
            .get("content-type")
            .and_then(|kind| kind.to_str().ok());
        ensure!(kind == Some("text/event-stream"), "content type {kind:?}");
        let (send, receive) = mpsc::channel();
        let mut lines = BufReader::new(response.into_body().into_reader()).lines();
        std::thread::spawn(move || {
            let (mut id, mut key) = (String::new(), String::new());
            while let Some(Ok(line)) = lines.next() {
                match line.split_once(": ") {
                    Some(("id", value)) => value.clone_into(&mut id),
                    Some(("event", value)) => value.clone_into(&mut key),
                    Some(("data", value)) => {
                        let data = serde_json::from_str(value).unwrap_or(Value::Null);
                        let (id, key) = (id.clone(), key.clone());
                        if send.send(Event { id, key, data }).is_err() {
                            return;
                        }
                    }
                    _ => {}
                }
            }
        });
        Ok(Self(receive))
    }

    /// Status and body of a stream that is refused.
    pub fn refused(address: &str, namespace: &str, queue: &str, last: Option<&str>) -> Result<(u16, Value)> {
        let mut request = agent().get(format!("http://{address}/mq/{namespace}/{queue}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let mut response = request.call()?;
        let status = response.status().as_u16();
        ensure!(status != 200, "the stream of {queue} was opened");
        Ok((status, serde_json::from_str(&response.body_mut().read_to_string()?)?))
    }

    /// The next event.
    pub fn next(&self, within: Duration) -> Result<Event> {
        match self.0.recv_timeout(within) {
            Ok(event) => Ok(event),
            Err(RecvTimeoutError::Timeout) => bail!("no event within {within:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the stream ended"),
        }
    }

    /// Waits for the end of the stream, passing over what still comes.
    pub fn end(&self, within: Duration) -> Result<()> {
        loop {
            match self.0.recv_timeout(within) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => bail!("the stream did not end within {within:?}"),
            }
        }
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}
