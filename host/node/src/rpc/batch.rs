//! The answer of an array of requests: one text, in the requests' order, within a budget.
//!
//! A body of 100 KiB can ask for thousands of pages; what does not fit is answered with a code, and what comes behind it is not begun.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::envelope::{Call, Outcome, Unreadable, render};
use super::error::RpcError;
use super::{Caller, Rpc, Running, configuration, send};

/// Bytes of one body's answer, at most, but for the first entry, which goes in whatever its size, and for short ones.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// An entry so short always goes in: what was sent is answered with its hash, come what may.
const SHORT_BYTES: usize = 2 << 10;
/// Queries of one body under way at a time: their answers wait in memory for those before them.
const QUERIES_AT_ONCE: usize = 8;

/// The text as it grows.
struct Answers {
    text: String,
    bytes_max: usize,
    full: bool,
}

impl Answers {
    fn new(bytes_max: usize) -> Self {
        Self {
            text: "[".to_owned(),
            bytes_max,
            full: false,
        }
    }

    fn push(&mut self, namespace: Option<&str>, id: Option<&RawValue>, outcome: &Outcome) {
        let mut entry = render(namespace, id, outcome);
        let first = self.text.len() == 1;
        if !first && entry.len() > SHORT_BYTES && self.text.len() + entry.len() > self.bytes_max {
            self.full = true;
            entry = render(namespace, id, &Err(over_budget(self.bytes_max)));
        }
        if !first {
            self.text.push(',');
        }
        self.text.push_str(&entry);
    }

    fn finish(mut self) -> String {
        self.text.push(']');
        self.text
    }
}

fn over_budget(bytes_max: usize) -> RpcError {
    RpcError::request(format!(
        "the answers of this batch are over {bytes_max} bytes: send this request again in another body"
    ))
}

fn alone() -> RpcError {
    RpcError::request(format!(
        "{} is taken in a request of its own, not in an array",
        configuration::SET
    ))
}

/// Answers `calls` in order: sends run side by side, queries a few at a time, and none is begun once the budget is spent.
pub async fn answer(rpc: &Arc<Rpc>, calls: Vec<Result<Call, Unreadable>>, caller: &Arc<Caller>) -> String {
    let mut answers = Answers::new(ANSWER_BYTES_MAX);
    let mut waiting = calls.into_iter().peekable();
    let mut running: VecDeque<(bool, Running)> = VecDeque::new();
    let mut queries = 0;
    loop {
        let may_begin = |call: &Result<Call, Unreadable>| queries < QUERIES_AT_ONCE || !is_query(call);
        if let Some(call) = waiting.next_if(may_begin) {
            let query = is_query(&call);
            queries += usize::from(query);
            let begun = match call {
                Ok(call) if answers.full && query => Running::refused(call, over_budget(ANSWER_BYTES_MAX)),
                // Side by side nobody could say which of two changes comes last.
                Ok(call) if call.method == configuration::SET => Running::refused(call, alone()),
                call => rpc.begin(call, caller),
            };
            running.push_back((query, begun));
            continue;
        }
        let Some((query, first)) = running.pop_front() else {
            break;
        };
        queries -= usize::from(query);
        let (namespace, id, outcome) = first.finish().await;
        answers.push(namespace.as_deref(), id.as_deref(), &outcome);
    }
    answers.finish()
}

fn is_query(call: &Result<Call, Unreadable>) -> bool {
    call.as_ref().is_ok_and(|call| !send::is_send(&call.method))
}

#[cfg(test)]
mod tests {
    use super::super::envelope::json;
    use super::*;

    fn codes(text: &str) -> Vec<i64> {
        let answers: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
        answers.iter().map(|answer| answer["code"].as_i64().unwrap()).collect()
    }

    #[test]
    fn entries_go_in_until_the_budget_is_spent_and_short_ones_always() {
        let mut answers = Answers::new(10_000);
        let (long, short) = (json(&"x".repeat(4_000)), json(&"0x1"));
        for outcome in [&long, &long, &long, &short, &long] {
            answers.push(Some("global"), None, outcome);
        }
        assert!(answers.full);
        let text = answers.finish();
        assert!(text.len() < 10_000 + 2 * SHORT_BYTES);
        assert_eq!(codes(&text), [0, 0, -32600, 0, -32600]);
        assert!(text.contains("over 10000 bytes"), "{text:.200}");

        let mut answers = Answers::new(1_000);
        answers.push(None, None, &long);
        assert!(!answers.full);
        assert_eq!(codes(&answers.finish()), [0]);
    }
}
