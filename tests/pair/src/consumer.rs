//! A client that reads queues of a RabbitMQ with another library: `consumer.py`, by pika.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::broker::{Broker, PASSWORD, USER};
use crate::wait;

/// Time it gets to end.
const WITHIN: Duration = Duration::from_secs(60);

/// The place in the id of an event: what stands before who took over.
pub fn place(id: &str) -> &str {
    id.split_once('@').map_or(id, |(place, _)| place)
}

/// `tests/pair/consumer.py` at work.
pub struct Consumer {
    process: Child,
    out: PathBuf,
}

impl Consumer {
    /// Reads `queues` from now on, and writes what comes to `out`.
    pub fn start(broker: &Broker, out: PathBuf, queues: &[String]) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("consumer.py");
        // Debian's own: that is where its pika is.
        let process = Command::new("/usr/bin/python3")
            .arg(script)
            .args(["127.0.0.1", &broker.port().to_string(), USER, PASSWORD])
            .arg(&out)
            .args(queues)
            .stdin(Stdio::piped())
            .spawn()
            .context("python3 does not start; run: apt-get install -y python3-pika")?;
        Ok(Self { process, out })
    }

    /// What came so far, by queue.
    pub fn seen(&self) -> Result<BTreeMap<String, Vec<Value>>> {
        let text = std::fs::read_to_string(&self.out).unwrap_or_default();
        let mut seen = BTreeMap::<String, Vec<Value>>::new();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let line: Value = serde_json::from_str(line)?;
            let queue = line["queue"].as_str().context("a line without a queue")?;
            seen.entry(queue.to_owned()).or_default().push(line.clone());
        }
        Ok(seen)
    }

    /// Waits until each of `queues` was told of `height`.
    pub fn wait(&self, queues: &[String], height: u64, within: Duration) -> Result<()> {
        let text = height.to_string();
        wait::until(&format!("block {height} in {} queues", queues.len()), within, || {
            let seen = self.seen()?;
            let has = |queue: &&String| {
                let lines = seen.get(*queue);
                // Above a take-over an id says whose the block is, too.
                let is = |line: &Value| line["id"].as_str().is_some_and(|id| place(id) == text);
                lines.is_some_and(|lines| lines.iter().any(is))
            };
            let left = queues.iter().filter(|queue| !has(queue)).count();
            Ok(if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} are not there yet"))
            })
        })
    }

    /// Ends it in order.
    pub fn stop(mut self) -> Result<()> {
        drop(self.process.stdin.take());
        wait::until("the consumer ends", WITHIN, || {
            Ok(self.process.try_wait()?.map(|_| ()).ok_or_else(|| "it runs".to_owned()))
        })
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
