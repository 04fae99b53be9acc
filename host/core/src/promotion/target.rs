//! Check `target-unreachable`: is the node that is to be replaced really gone? Rules of the contract, on answers of probes.

use super::preflight::{Check, PreflightView};

/// Longest any probe may take, milliseconds; all run in parallel.
pub const PROBE_MS_MAX: u64 = 2_000;

const ID: &str = "target-unreachable";

/// What one probe of one address found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeAnswer {
    /// It answered our hello, or its JSON-RPC answered: it lives. What it said, for the message.
    Answered(String),
    /// The port accepts, and nothing sensible came for [`PROBE_MS_MAX`].
    Silent,
    /// No answer to the connection request in time.
    TimedOut,
    /// Connection refused: the machine is there, the node is not.
    Refused,
    /// The probe could not be made (no route, a name that does not resolve); with the system's words.
    Unreached(String),
}

/// One probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetProbe {
    /// What was asked: `link node1 10.0.0.1:50011`, `json-rpc 10.0.0.1:8081`.
    pub target: String,
    /// What it found.
    pub answer: ProbeAnswer,
}

pub(super) fn target_unreachable(view: &PreflightView) -> Check {
    #[cfg(feature = "planted-faults")]
    if crate::planted::active(crate::planted::Fault::LiveTargetPassed) {
        return Check::pass(ID, "not asked");
    }
    let alive_ms = 3 * view.heartbeat_ms;
    if let Some(ago) = view.last_heard_ms_ago.filter(|ago| *ago < alive_ms) {
        return Check::fail(
            ID,
            format!("the provider was heard {ago} ms ago, within its last 3 heartbeats: it is alive"),
            "stop the provider first; two nodes must never make blocks under one name",
        );
    }
    if let Some((probe, what)) = view.probes.iter().find_map(|p| match &p.answer {
        ProbeAnswer::Answered(what) => Some((p, what)),
        _ => None,
    }) {
        return Check::fail(
            ID,
            format!("{} answered: {what}", probe.target),
            "stop the provider first; two nodes must never make blocks under one name",
        );
    }
    if let Some(probe) = view.probes.iter().find(|p| p.answer == ProbeAnswer::Silent) {
        let text = format!("{} accepts connections and stays silent", probe.target);
        return if view.target_is_down {
            Check::warn(ID, format!("{text}; --target-is-down was given"), "")
        } else {
            Check::fail(
                ID,
                text,
                "make sure that the provider is stopped, then repeat with --target-is-down",
            )
        };
    }
    let unsure = view.probes.iter().find_map(|p| match &p.answer {
        ProbeAnswer::TimedOut => Some(format!("{} does not answer", p.target)),
        ProbeAnswer::Unreached(text) => Some(format!("{} cannot be reached: {text}", p.target)),
        _ => None,
    });
    if let Some(text) = unsure {
        return Check::warn(
            ID,
            format!("{text}; a dead node cannot be told from a cut cable"),
            "confirm that the provider is powered off",
        );
    }
    if view.probes.is_empty() {
        return Check::warn(
            ID,
            "cvp.remote names no address to ask",
            "confirm that the provider is powered off",
        );
    }
    Check::pass(ID, format!("connection refused by {}", view.probes[0].target))
}

#[cfg(test)]
mod tests {
    use super::super::preflight::Verdict;
    use super::super::preflight::tests::healthy;
    use super::*;

    fn verdict(answers: &[ProbeAnswer], down: bool, heard: Option<u64>) -> Verdict {
        let mut view = healthy();
        view.probes = answers
            .iter()
            .map(|answer| TargetProbe {
                target: "link node1 127.0.0.1:1".into(),
                answer: answer.clone(),
            })
            .collect();
        view.target_is_down = down;
        view.last_heard_ms_ago = heard;
        target_unreachable(&view).verdict
    }

    #[test]
    fn the_worst_answer_counts() {
        use ProbeAnswer::*;
        let answered = Answered("hello of node1".into());
        assert_eq!(verdict(&[Refused], false, None), Verdict::Pass);
        assert_eq!(verdict(&[Refused, TimedOut], false, None), Verdict::Warn);
        assert_eq!(verdict(&[Unreached("no route".into())], false, None), Verdict::Warn);
        assert_eq!(verdict(&[], false, None), Verdict::Warn);
        assert_eq!(verdict(&[Refused, Silent], false, None), Verdict::Fail);
        assert_eq!(verdict(&[Refused, Silent], true, None), Verdict::Warn);
        assert_eq!(verdict(&[Silent, answered.clone()], true, None), Verdict::Fail);
        assert_eq!(verdict(&[Refused], true, Some(1_499)), Verdict::Fail);
        assert_eq!(verdict(&[Refused], false, Some(1_500)), Verdict::Pass);
    }
}
