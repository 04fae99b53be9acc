//! `cvp upgrade`: makes a receiver the provider, or lists what that would meet.

use serde_json::Value;

use super::output::{Context, decode, print_line};
use crate::ipc::{Exit, Failure, Request};
use crate::promotion::view::{UpgradeLine, UpgradeView};

/// Arguments of `upgrade`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Only list the preflight and the steps that would follow; nothing is changed.
    #[arg(long)]
    dry_run: bool,
    /// Go on without the provider's private keys, or with wrong ones.
    #[arg(long)]
    allow_missing_keys: bool,
    /// A target that accepts connections and stays silent is really down.
    #[arg(long)]
    target_is_down: bool,
    /// Go on although nothing of a chain was copied yet: that chain begins anew at block 1.
    #[arg(long)]
    begin_anew: bool,
}

/// Runs `upgrade`. Exit codes: 0 done, 1 a step failed, 4 refused (nothing changed), 6 a check failed in a dry run.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let request = Request::Upgrade {
        dry_run: arguments.dry_run,
        allow_missing_keys: arguments.allow_missing_keys,
        target_is_down: arguments.target_is_down,
        begin_anew: arguments.begin_anew,
    };
    let mut shown = Vec::new();
    let answer = context.call(&request, |line: Value| {
        if let (false, Ok(line)) = (context.json, serde_json::from_value::<UpgradeLine>(line)) {
            print_line(&line.to_string());
            shown.push(line);
        }
    })?;
    let answer: UpgradeView = decode(answer)?;
    if context.json {
        context.print(&answer, |_| String::new());
    } else {
        // A dry run tells nothing on the way, and lines of progress may be dropped.
        let missed = answer.lines().filter(|line| !shown.contains(line));
        missed.for_each(|line| print_line(&line.to_string()));
        print_line(&summary(&answer, arguments.dry_run));
    }
    Ok(exit(&answer, arguments.dry_run))
}

fn exit(answer: &UpgradeView, dry_run: bool) -> Exit {
    match (answer.refused(), dry_run) {
        (true, true) => Exit::CheckFailed,
        (true, false) => Exit::Refused,
        (false, _) if answer.failed_step().is_some() => Exit::Failed,
        (false, _) => Exit::Done,
    }
}

fn summary(answer: &UpgradeView, dry_run: bool) -> String {
    if answer.refused() {
        return "an upgrade is refused; nothing was changed".to_owned();
    }
    if dry_run && answer.checks.is_empty() {
        return "an upgrade was interrupted; `cvp upgrade` goes on with these steps; nothing was changed now"
            .to_owned();
    }
    if dry_run {
        return "an upgrade is possible; nothing was changed".to_owned();
    }
    if let Some(step) = answer.failed_step() {
        return format!(
            "step {} failed: {}; correct the cause and repeat `cvp upgrade`: it goes on from there",
            step.id, step.message
        );
    }
    let Some(serving) = &answer.serving else {
        return "done".to_owned();
    };
    let heights: Vec<String> = serving
        .namespaces
        .iter()
        .map(|(name, tip)| format!("{name} at {}", tip.height))
        .collect();
    let mut text = format!("this node serves as {} ({})", serving.hostname, heights.join(", "));
    if !answer.held.is_empty() {
        let held: Vec<String> = answer
            .held
            .iter()
            .map(|(name, why)| format!("  {name}: {why}"))
            .collect();
        text.push_str(&format!(
            "\nnot taken over, and held until the cause is gone and `cvp upgrade` is repeated:\n{}",
            held.join("\n")
        ));
    }
    if let (Some(probes), Some(rest)) = (answer.probe_milliseconds, answer.milliseconds) {
        text.push_str(&format!(
            "\nnetwork probes {probes:.1} ms, then {rest:.1} ms to the first new block"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(verdict: &str, state: &str) -> UpgradeView {
        decode(serde_json::json!({
            "checks": [{"id": "tls-name", "verdict": verdict, "message": "m", "help": "h"}],
            "steps": [{"id": "fence", "state": state}],
            "serving": {"hostname": "node1", "namespaces": {"global": {"height": 120}}},
        }))
        .unwrap()
    }

    #[test]
    fn each_outcome_has_its_exit_code() {
        let code = |verdict, state, dry| exit(&view(verdict, state), dry).code();
        assert_eq!(code("warn", "done", false), 0);
        assert_eq!(code("pass", "planned", true), 0);
        assert_eq!(code("pass", "failed", false), 1);
        assert_eq!(code("fail", "done", false), 4);
        assert_eq!(code("fail", "done", true), 6);
    }

    #[test]
    fn the_last_lines_say_what_serves_and_how_long_it_took() {
        let mut answer = view("pass", "done");
        assert_eq!(summary(&answer, false), "this node serves as node1 (global at 120)");
        (answer.probe_milliseconds, answer.milliseconds) = (Some(3.2), Some(41.7));
        let text = summary(&answer, false);
        assert_eq!(
            text.lines().last(),
            Some("network probes 3.2 ms, then 41.7 ms to the first new block")
        );
        answer.held.insert("ns7".into(), "its disk failed".into());
        let text = summary(&answer, false);
        assert!(
            text.contains("`cvp upgrade` is repeated:\n  ns7: its disk failed\n"),
            "{text}"
        );
        answer.checks.clear();
        assert!(summary(&answer, true).starts_with("an upgrade was interrupted"));
    }
}
