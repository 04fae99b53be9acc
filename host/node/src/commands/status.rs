//! `cvp status`: whether the pair is normal, and why not.

use std::fmt::Write;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration};

use super::output::{Context, decode, print_line};
use crate::ipc::{Exit, Failure, NamespaceView, PaceView, Request, StatusView};

/// Arguments of `status`.
#[derive(clap::Args, Debug, Default)]
pub struct Arguments {
    /// Shows it afresh every second.
    #[arg(long)]
    watch: bool,
}

/// Runs `status`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let mut connection = context.connect()?;
    let mut before: Option<(StatusView, Instant)> = None;
    loop {
        let mut view: StatusView = decode(connection.call(&Request::Status, |_| {})?)?;
        let now = Instant::now();
        if let Some((before, then)) = &before {
            pace(&mut view, before, now.saturating_duration_since(*then));
        }
        if arguments.watch && !context.json {
            print_line("\u{1b}[2J\u{1b}[H");
        }
        context.print(&view, human);
        if !arguments.watch {
            return Ok(if view.normal { Exit::Done } else { Exit::Abnormal });
        }
        before = Some((view, now));
        #[allow(clippy::disallowed_methods)]
        // The pace of a display, not a wait for a condition.
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The table an operator reads; its first line is what scripts look at.
fn human(view: &StatusView) -> String {
    let word = if view.normal { "normal" } else { "abnormal" };
    let mut out = format!("cvp is {word}");
    if view.role == "receiver" {
        let of = view.peer.as_ref().map_or("nobody yet", |p| &p.hostname);
        let _ = write!(out, " (receiver of {of})");
    }
    for reason in &view.reasons {
        let _ = write!(out, "\n  {}: {}", reason.code, reason.message);
    }
    let _ = write!(out, "\n\nnode       {}, {}", view.hostname, view.role);
    if let Some(incarnation) = &view.incarnation {
        let _ = write!(out, ", incarnation {}", incarnation.number);
    }
    if !view.enabled {
        out.push_str(", cvp is disabled");
    }
    match &view.peer {
        Some(peer) => {
            let _ = write!(out, "\npeer       {} at {}", peer.hostname, peer.address);
            match &peer.since {
                Some(since) => {
                    let link = if peer.tls { "TLS" } else { "plain" };
                    let _ = write!(out, ", {link}, since {since}");
                }
                None => out.push_str(", not connected"),
            }
        }
        None => out.push_str("\npeer       none"),
    }
    for (name, address, tls) in [("json-rpc", &view.jsonrpc, view.jsonrpc_tls), ("p2p", &view.p2p, false)] {
        let tls = if tls && address.is_some() { ", HTTPS" } else { "" };
        let _ = write!(out, "\n{name:<10} {}{tls}", address.as_deref().unwrap_or("closed"));
    }
    if let Some(copy) = &view.configuration {
        let word = match (copy.equal, copy.to_come) {
            (true, _) => "the same on both nodes".to_owned(),
            (false, 0) => "being compared".to_owned(),
            (false, files) => format!("being copied, {files} files differ"),
        };
        let _ = write!(out, "\nconfig     {} files, {word}", copy.files);
    }
    if let Some(refused) = &view.refused_dial {
        let who = if refused.who.is_empty() { "a dial" } else { &refused.who };
        let (address, at, code, message) = (&refused.address, &refused.at, &refused.code, &refused.message);
        let _ = write!(out, "\nrefused    {who} from {address} at {at} ({code}): {message}");
    }
    out.push('\n');
    table(&mut out, &view.namespaces);
    progress(&mut out, &view.namespaces);
    following(&mut out, view);
    kept(&mut out, &view.namespaces);
    for warning in &view.warnings {
        let _ = write!(out, "\nwarning {}: {}", warning.code, warning.message);
    }
    for namespace in &view.namespaces {
        for warning in &namespace.warnings {
            let _ = write!(
                out,
                "\nwarning {} ({}): {}",
                warning.code, namespace.name, warning.message
            );
        }
    }
    out.trim_end().to_owned()
}

/// How fast each copy grew since the look before.
fn pace(view: &mut StatusView, before: &StatusView, time: Duration) {
    let seconds = time.as_secs_f64().max(0.001);
    for now in &mut view.namespaces {
        let Some(then) = before.namespaces.iter().find(|then| then.name == now.name) else {
            continue;
        };
        let came = now.durable.saturating_sub(then.durable) as f64 / seconds;
        let shrinks = (then.lag_blocks as f64 - now.lag_blocks as f64) / seconds;
        now.pace = Some(PaceView {
            blocks_per_second: came,
            eta_seconds: (shrinks > 0.0 && now.lag_blocks > 0).then(|| now.lag_blocks as f64 / shrinks),
        });
    }
}

/// A line for each copy that is not level: a bar, how much there is, how fast it comes, and how long it will take.
fn progress(out: &mut String, namespaces: &[NamespaceView]) {
    for n in namespaces {
        if let Some(bootstrap) = &n.bootstrap {
            let (bytes, total) = (HumanBytes(bootstrap.bytes), HumanBytes(bootstrap.total));
            let bar = bar(bootstrap.bytes, bootstrap.total);
            let _ = write!(out, "\nsnapshot   {}: {bar} {bytes} of {total}", n.name);
            if bootstrap.bytes_per_second > 0.0 {
                let _ = write!(out, ", {}/s", HumanBytes(bootstrap.bytes_per_second as u64));
            }
            left(out, bootstrap.eta_seconds);
        } else if n.phase == "catch-up" && n.lag_blocks > 0 {
            let _ = write!(
                out,
                "\ncatch-up   {}: {} {} of {} blocks",
                n.name,
                bar(n.durable, n.tip),
                n.durable,
                n.tip
            );
            if let Some(pace) = &n.pace {
                let _ = write!(out, ", {:.0} blocks/s", pace.blocks_per_second);
                left(out, pace.eta_seconds);
            }
        }
        if let Some(backfill) = &n.backfill {
            let (from, to) = (backfill.from, backfill.to);
            let bar = bar(backfill.begun.saturating_sub(from), backfill.begun.saturating_sub(to));
            let whose = if n.role == "cvp" { "" } else { " of the standby" };
            let _ = write!(
                out,
                "\nbackfill   {}{whose}: {bar} from block {from} on, to come: down to {to}",
                n.name
            );
            if backfill.blocks_per_second > 0.0 {
                let digits = usize::from(backfill.blocks_per_second < 10.0);
                let _ = write!(out, ", {:.digits$} blocks/s", backfill.blocks_per_second);
            }
            left(out, backfill.eta_seconds);
        }
        // The backfill's line says it of a standby.
        if n.history_from > 0 && (n.backfill.is_none() || n.role != "cvp") {
            let _ = write!(out, "\nhistory    {}: from block {} on", n.name, n.history_from);
        }
    }
}

/// How much of a whole there is, in twenty places.
fn bar(part: u64, whole: u64) -> String {
    let places = (u128::from(part.min(whole)) * 20)
        .checked_div(u128::from(whole))
        .unwrap_or(0) as usize;
    let percent = (u128::from(part.min(whole)) * 100)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    format!("[{}{}] {percent} %,", "#".repeat(places), ".".repeat(20 - places))
}

fn left(out: &mut String, seconds: Option<f64>) {
    if let Some(seconds) = seconds.filter(|seconds| seconds.is_finite()) {
        let _ = write!(
            out,
            ", {} left",
            HumanDuration(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))
        );
    }
}

/// Whom this node follows, and who follows it.
fn following(out: &mut String, view: &StatusView) {
    for (namespace, follows) in view.namespaces.iter().filter_map(|n| Some((n, n.follows.as_ref()?))) {
        let (name, vp, address, phase) = (&namespace.name, &follows.hostname, &follows.address, &follows.phase);
        let _ = write!(
            out,
            "\nfollows    {name}: {vp} at {address}, {phase}, {} blocks behind",
            follows.lag_blocks
        );
    }
    for follower in &view.followers {
        let lags = follower.namespaces.iter();
        let lags: Vec<String> = lags.map(|n| format!("{} {} of {}", n.name, n.durable, n.tip)).collect();
        let (peer, lags) = (&follower.peer, lags.join(", "));
        let _ = write!(out, "\nfollower   {} at {}: {lags}", peer.hostname, peer.address);
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// What an upgrade keeps of this node's own in the provider's files.
fn kept(out: &mut String, namespaces: &[NamespaceView]) {
    let kept = namespaces
        .iter()
        .flat_map(|n| n.overrides.iter().map(move |text| (&n.name, text)));
    for (namespace, text) in kept {
        let _ = write!(out, "\nkeeps      {namespace}: {text}");
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
}

/// The age of a block: to a tenth of a second as long as that means something.
fn age(seconds: f64) -> String {
    match seconds {
        short if short < 120.0 => format!("{short:.1} s"),
        long => HumanDuration(Duration::from_secs_f64(long.min(1e10))).to_string(),
    }
}

fn table(out: &mut String, namespaces: &[NamespaceView]) {
    let mut rows = vec![["namespace", "role", "phase", "tip", "durable", "lag", "strategy"].map(str::to_owned)];
    for n in namespaces {
        let strategies = n.strategies.iter();
        let strategies = strategies.map(|s| format!("{}/{} {}", s.kind, s.id, s.state));
        let lag = match n.lag_blocks {
            0 => "0".to_owned(),
            blocks => format!("{blocks} blocks, {}", age(n.lag_seconds)),
        };
        rows.push([
            n.name.clone(),
            n.role.clone(),
            n.phase.clone(),
            n.tip.to_string(),
            format!(
                "{}{}",
                n.durable,
                if n.durable_before_start { " (before start)" } else { "" }
            ),
            lag,
            strategies.collect::<Vec<_>>().join(", "),
        ]);
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells.map(|(cell, w)| format!("{cell:<w$}")).collect();
        let _ = write!(out, "\n{}", line.join("  ").trim_end());
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use cvp_core::replication::BackfillStatus;

    use crate::ipc::{BackfillView, BootstrapView, PeerView, ReasonView, RefusedView};

    fn view() -> StatusView {
        StatusView {
            role: "receiver".to_owned(),
            hostname: "cvp".to_owned(),
            enabled: true,
            peer: Some(PeerView {
                hostname: "node1".to_owned(),
                address: "127.0.0.1:1".to_owned(),
                since: None,
                tls: true,
            }),
            reasons: vec![ReasonView::new("receiver-silent", "no message for 3 s")],
            namespaces: vec![NamespaceView {
                name: "global".to_owned(),
                role: "cvp".to_owned(),
                phase: "catch-up".to_owned(),
                tip: 120,
                durable: 7,
                lag_blocks: 113,
                lag_seconds: 1.5,
                warnings: vec![ReasonView::new("development-genesis", "public keys")],
                ..NamespaceView::default()
            }],
            ..StatusView::default()
        }
    }

    #[test]
    fn the_first_line_is_for_scripts() {
        let mut view = view();
        assert!(human(&view).starts_with("cvp is abnormal (receiver of node1)\n"));
        view.role = "provider".to_owned();
        view.normal = true;
        assert!(human(&view).starts_with("cvp is normal\n"));
    }

    #[test]
    fn a_lag_is_told_as_it_is_read() {
        let mut view = view();
        assert!(human(&view).contains("113 blocks, 1.5 s\n"), "{}", human(&view));
        view.namespaces[0].lag_seconds = 3.0 * 86_400.0;
        assert!(human(&view).contains("113 blocks, 3 days\n"), "{}", human(&view));
    }

    #[test]
    fn what_an_upgrade_keeps_of_the_own_is_listed() {
        let mut view = view();
        let kept = "dynamic.toml port.jsonrpc = 9081 (provider: 8081)";
        view.namespaces[0].overrides = vec![kept.to_owned()];
        let line = format!("\nkeeps      global: {kept}\n");
        assert!(human(&view).contains(&line), "{}", human(&view));
    }

    #[test]
    fn how_far_a_copy_is_is_shown_with_its_pace_and_its_end() {
        let (mut now, mut before) = (view(), view());
        (before.namespaces[0].durable, before.namespaces[0].lag_blocks) = (3, 117);
        pace(&mut now, &before, Duration::from_secs(2));
        let line = "catch-up   global: [#...................] 5 %, 7 of 120 blocks, 2 blocks/s, 57 seconds left";
        assert!(human(&now).contains(line), "{}", human(&now));
        now.namespaces[0].bootstrap = Some(BootstrapView {
            bytes: 512 << 20,
            total: 1 << 30,
            bytes_per_second: 1048576.0,
            eta_seconds: Some(512.0),
        });
        let line = "snapshot   global: [##########..........] 50 %, 512.00 MiB of 1.00 GiB, 1.00 MiB/s, 9 minutes left";
        assert!(human(&now).contains(line), "{}", human(&now));
    }

    #[test]
    fn how_far_older_history_is_filled_in_is_shown() {
        let mut view = view();
        view.namespaces[0].durable = 1_000;
        view.namespaces[0].backfill = Some(BackfillView::from(&BackfillStatus {
            from: 600,
            to: 200,
            begun: 1_000,
            before: 900,
            elapsed_ms: 3_000,
        }));
        let line = "backfill   global: [##########..........] 50 %, from block 600 on, to come: down to 200, 100 blocks/s, 4 seconds left";
        assert!(human(&view).contains(line), "{}", human(&view));
    }

    #[test]
    fn where_the_history_begins_is_shown_unless_it_is_all_there() {
        let mut view = view();
        assert!(!human(&view).contains("history"), "{}", human(&view));
        view.namespaces[0].history_from = 40;
        assert!(
            human(&view).contains("\nhistory    global: from block 40 on\n"),
            "{}",
            human(&view)
        );
    }

    #[test]
    fn the_last_refused_dial_is_shown() {
        let mut view = view();
        view.refused_dial = Some(RefusedView {
            who: "cvp2".to_owned(),
            address: "10.0.0.2:1".to_owned(),
            at: "2026-11-23T10:00:00Z".to_owned(),
            code: "second-standby".to_owned(),
            message: "one is served; stop it first".to_owned(),
        });
        let line = "\nrefused    cvp2 from 10.0.0.2:1 at 2026-11-23T10:00:00Z (second-standby): one is served; stop it first\n";
        assert!(human(&view).contains(line), "{}", human(&view));
    }

    #[test]
    fn reasons_and_lag_are_shown() {
        let text = human(&view());
        for part in [
            "receiver-silent: no message",
            "catch-up",
            "113 blocks, 1.5 s",
            "development-genesis",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
