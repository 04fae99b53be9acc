//! A node that works as it should writes no warning and no error: at night somebody reads them. What a test provokes it names.

use std::path::Path;
use std::sync::Mutex;

/// Passes the check by: a test that failed otherwise shows its own error then.
const UNCHECKED: &str = "CVP_TEST_LOGS_UNCHECKED";

/// What no test provokes and a machine that is busy with other tests may: a peer that got no processor for seconds.
const BUSY: [&str; 1] = ["code=silent"];

/// The last words of a node that ends on request, which its end may cut: the next start goes on in the same line.
const LAST_WORDS: &str = "cvp::crash_point abort on request of CVP_TEST_CRASH_AT";

/// What a node's log may hold.
#[derive(Default)]
pub(crate) struct Quiet {
    provoked: Mutex<Vec<String>>,
    /// It was started, and its lines went to the log.
    pub(crate) logs: bool,
}

impl Quiet {
    pub(crate) fn provokes(&self, parts: &[&str]) {
        if let Ok(mut provoked) = self.provoked.lock() {
            provoked.extend(parts.iter().map(|part| (*part).to_owned()));
        }
    }

    /// Fails the test for a line that it did not provoke. Called when the node is dropped, its process gone.
    pub(crate) fn check(&self, log: &Path) {
        if !self.logs || std::thread::panicking() || std::env::var_os(UNCHECKED).is_some() {
            return;
        }
        let Ok(bytes) = std::fs::read(log) else {
            panic!("{} was removed before the node was dropped", log.display());
        };
        let text = String::from_utf8_lossy(&bytes);
        let provoked = self
            .provoked
            .lock()
            .map(|provoked| provoked.clone())
            .unwrap_or_default();
        let unexpected = |line: &&str| is_unexpected(line, &provoked);
        let unexpected: Vec<&str> = text.lines().filter(unexpected).take(20).collect();
        assert!(
            unexpected.is_empty(),
            "{} holds what the test does not provoke (an error of the test itself is shown with {UNCHECKED}=1):\n{}",
            log.display(),
            unexpected.join("\n")
        );
    }
}

fn is_unexpected(line: &str, provoked: &[String]) -> bool {
    let loud = matches!(line.split(' ').nth(1), Some("WARNING" | "ERROR")) || line.contains("panicked at");
    let named = provoked.iter().map(String::as_str).chain(BUSY);
    loud && !is_cut(line) && !named.into_iter().any(|part| line.contains(part))
}

/// Whether these are the beginning of the last words, and the time of the next start.
fn is_cut(line: &str) -> bool {
    let Some((_, said)) = line.split_once(" ERROR ") else {
        return false;
    };
    let same = said.bytes().zip(LAST_WORDS.bytes()).take_while(|(a, b)| a == b).count();
    let time = said.get(same..).unwrap_or_default().get(..11).unwrap_or_default();
    same > 0 && time.ends_with('T') && time.starts_with("20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loud_line_is_unexpected_unless_it_is_provoked() {
        let provoked = ["link refused".to_owned()];
        for (line, unexpected) in [
            ("2026-11-24T10:00:00.000 NOTICE cvp::rpc WARNING is a word", false),
            ("2026-11-24T10:00:00.000 WARNING cvp::link link refused: x", false),
            ("2026-11-24T10:00:00.000 WARNING cvp::link other", true),
            ("2026-11-24T10:00:00.000 ERROR cvp::link other", true),
            ("thread 'tokio' panicked at x.rs:1", true),
            (
                "2026-11-24T10:00:00.000 ERROR cvp::cra2026-11-24T10:00:00.100 NOTICE cvp::rpc x",
                false,
            ),
            (
                "2026-11-24T10:00:00.000 ERROR cvp::link2026-11-24T10:00:00.100 NOTICE cvp::rpc x",
                true,
            ),
            ("Error: a start that was refused; do something", false),
        ] {
            assert_eq!(is_unexpected(line, &provoked), unexpected, "{line}");
        }
    }
}
