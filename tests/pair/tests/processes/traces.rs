//! What nodes record of their strategies replays to the same actions, natively and in WASM.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use cvp_core::strategy::trace::{self, Opening};
use cvp_core::strategy::{
    ChainSync, ChainSyncStrategy, ConfigSync, ConfigSyncStrategy, IndexCheck, IndexCheckStrategy, Native,
};
use cvp_core::types::strategy::chain_sync::{Action, Event};
use cvp_core::types::strategy::{Fault, Role, config_sync, index_check};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::plugins::{default_config_strategy, default_index_strategy, default_strategy, edit};
use cvp_pair::signer::{Load, ec, send_many};
use cvp_strategy::{Component, Runtime};
use toml_edit::value;

pub fn traces(root: &Path, namespace: &str) -> Result<Vec<PathBuf>> {
    let directory = root.join("logs/strategies").join(namespace);
    let entries = std::fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let mut files: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

/// What was replayed, over all traces.
#[derive(Default)]
struct Seen {
    calls: usize,
    views: usize,
    fetches: usize,
    /// Views of a provider, and of a receiver, that tell a round trip.
    measured: [usize; 2],
    roles: Vec<(String, Role)>,
}

fn replay(file: &Path, component: &Component, seen: &mut Seen) -> Result<Opening> {
    let (opening, calls) =
        trace::read::<ChainSync>(&std::fs::read(file)?).map_err(|e| anyhow!("{}: {e}", file.display()))?;
    let fault = |fault: Fault| anyhow!("{}: {fault}", file.display());
    let native = Native::<cvp_chain_sync::Default>::open(opening.role, &opening.namespace, &opening.settings);
    let wasm = component.open(opening.role, &opening.namespace, &opening.settings);
    let players: [(&str, ChainSyncStrategy); 2] = [
        ("native", Box::new(native.map_err(fault)?)),
        ("WASM", Box::new(wasm.map_err(fault)?)),
    ];
    for (world, mut strategy) in players {
        trace::replay(&calls, &mut strategy).map_err(|other| anyhow!("{} in {world}: {other}", file.display()))?;
    }
    // A trace that says anything else is seen: what was fetched from is changed by one.
    let mut changed = calls.clone();
    let fetch = changed.iter_mut().find_map(|call| {
        let actions = call.answer.as_mut().ok()?.iter_mut();
        actions
            .filter_map(|action| {
                if let Action::Fetch(fetch) = action {
                    Some(fetch)
                } else {
                    None
                }
            })
            .next()
    });
    if let Some(fetch) = fetch {
        fetch.first += 1;
        let again = component
            .open(opening.role, &opening.namespace, &opening.settings)
            .map_err(fault)?;
        let mut again: ChainSyncStrategy = Box::new(again);
        ensure!(
            trace::replay(&changed, &mut again).is_err(),
            "a changed action was not seen"
        );
        seen.fetches += 1;
    }
    seen.calls += calls.len();
    for event in calls.iter().flat_map(|call| &call.events) {
        let view = match event {
            Event::Opened { view, .. } | Event::Progress(view) | Event::Stall { view, .. } | Event::Tick(view) => view,
            Event::Message(_) | Event::Fault(_) | Event::Other(..) => continue,
        };
        ensure!(view.history_from == 0, "all history is kept: {view:?}");
        seen.views += 1;
        let measured = view.round_trip_micros > 0;
        seen.measured[usize::from(opening.role == Role::Receiver)] += usize::from(measured);
    }
    seen.roles.push((opening.namespace.clone(), opening.role));
    Ok(opening)
}

/// Answers how many calls a trace of a config-sync strategy holds, and how many files they asked for.
fn replay_config(file: &Path, component: &Component<ConfigSync>) -> Result<(usize, usize)> {
    let (opening, calls) =
        trace::read::<ConfigSync>(&std::fs::read(file)?).map_err(|e| anyhow!("{}: {e}", file.display()))?;
    let fault = |fault: Fault| anyhow!("{}: {fault}", file.display());
    let native =
        Native::<cvp_config_sync::Default, ConfigSync>::open(opening.role, &opening.namespace, &opening.settings);
    let wasm = component.open(opening.role, &opening.namespace, &opening.settings);
    let players: [(&str, ConfigSyncStrategy); 2] = [
        ("native", Box::new(native.map_err(fault)?)),
        ("WASM", Box::new(wasm.map_err(fault)?)),
    ];
    for (world, mut strategy) in players {
        trace::replay(&calls, &mut strategy).map_err(|other| anyhow!("{} in {world}: {other}", file.display()))?;
    }
    let said = calls.iter().filter_map(|call| call.answer.as_ref().ok()).flatten();
    let asked = said.map(|action| match action {
        config_sync::Action::Request(paths) => paths.len(),
        _ => 0,
    });
    Ok((calls.len(), asked.sum()))
}

/// Answers how often a trace of an index-check strategy accepts.
fn replay_index(file: &Path, component: &Component<IndexCheck>) -> Result<usize> {
    let (opening, calls) =
        trace::read::<IndexCheck>(&std::fs::read(file)?).map_err(|e| anyhow!("{}: {e}", file.display()))?;
    let fault = |fault: Fault| anyhow!("{}: {fault}", file.display());
    let native =
        Native::<cvp_index_check::Default, IndexCheck>::open(opening.role, &opening.namespace, &opening.settings);
    let wasm = component.open(opening.role, &opening.namespace, &opening.settings);
    let players: [(&str, IndexCheckStrategy); 2] = [
        ("native", Box::new(native.map_err(fault)?)),
        ("WASM", Box::new(wasm.map_err(fault)?)),
    ];
    for (world, mut strategy) in players {
        trace::replay(&calls, &mut strategy).map_err(|other| anyhow!("{} in {world}: {other}", file.display()))?;
    }
    let said = calls.iter().filter_map(|call| call.answer.as_ref().ok()).flatten();
    Ok(said
        .filter(|action| matches!(action, index_check::Action::Accept))
        .count())
}

#[test]
fn what_nodes_record_replays_to_the_same_actions() -> Result<()> {
    let mut pair = Pair::init(&Setup {
        namespaces: &["ns1"],
        ..Setup::default()
    })?;
    for node in [&pair.provider, &pair.receiver] {
        for namespace in ["global", "ns1"] {
            edit(node.root(), namespace, |strategy| strategy["trace"] = value("8mb"))?;
        }
    }
    pair.provider.start()?;
    pair.receiver.start()?;
    let (rpc, ns1) = (pair.provider.rpc(), pair.provider.rpc().namespace("ns1"));
    let load = Load::start(rpc.clone())?;
    let signer = ec()?;
    for _ in 0..8 {
        send_many(&ns1, &signer, 2)?;
    }
    // A receiver that ends in the middle of a call leaves a torn trace; the next one catches up.
    pair.receiver.kill()?;
    send_many(&ns1, &signer, 2)?;
    pair.receiver.start()?;
    for _ in 0..8 {
        send_many(&ns1, &signer, 2)?;
    }
    ensure!(!load.stop().is_empty(), "no load");
    pair.wait_durable("global", rpc.height()?)?;
    pair.wait_durable("ns1", ns1.height()?)?;
    pair.receiver.stop()?;
    pair.provider.stop()?;

    let component = Runtime::new(None)?.load(&std::fs::read(default_strategy()?)?)?;
    let mut seen = Seen::default();
    let mut digests = Vec::new();
    for (node, role) in [(&pair.provider, Role::Provider), (&pair.receiver, Role::Receiver)] {
        for namespace in ["global", "ns1"] {
            for file in traces(node.root(), namespace)? {
                let opening = replay(&file, &component, &mut seen)?;
                ensure!(opening.role == role && opening.namespace == namespace, "{opening:?}");
                ensure!(opening.id == "default" && opening.version == "1.0.0", "{opening:?}");
                digests.push(opening.sha256);
            }
        }
    }
    let component: Component<ConfigSync> = Runtime::new(None)?.load(&std::fs::read(default_config_strategy()?)?)?;
    let mut config = (0, 0);
    for node in [&pair.provider, &pair.receiver] {
        for namespace in ["global/config-sync", "ns1/config-sync"] {
            for file in traces(node.root(), namespace)? {
                let (calls, asked) = replay_config(&file, &component)?;
                config = (config.0 + calls, config.1 + asked);
            }
        }
    }
    ensure!(config.0 > 8 && config.1 >= 8, "calls and files asked for: {config:?}");
    let component: Component<IndexCheck> = Runtime::new(None)?.load(&std::fs::read(default_index_strategy()?)?)?;
    let mut accepted = 0;
    for node in [&pair.provider, &pair.receiver] {
        for namespace in ["global/index-check", "ns1/index-check"] {
            for file in traces(node.root(), namespace)? {
                accepted += replay_index(&file, &component)?;
            }
        }
    }
    ensure!(
        accepted >= 6,
        "two sessions, two nodes, two namespaces: accepted {accepted} times"
    );
    digests.dedup();
    ensure!(digests.len() == 1, "both ends embed one component: {digests:?}");
    ensure!(
        seen.roles.len() >= 6,
        "an instance each, and two of the receiver killed: {:?}",
        seen.roles
    );
    ensure!(
        seen.measured.iter().all(|views| *views > 3),
        "{:?} views tell a round trip",
        seen.measured
    );
    ensure!(
        seen.fetches >= 4 && seen.calls > 40 && seen.views > 40,
        "{} calls, {} views",
        seen.calls,
        seen.views
    );
    Ok(())
}
