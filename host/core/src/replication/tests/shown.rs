//! Who is told of what moved in the trees.

use super::*;
use crate::frame::{Frame, Kind};
use crate::types::Writer;
use crate::types::strategy::config_sync;

const NAMES: [&str; 3] = ["global", "ns1", "ns2"];

fn file(path: &str, content: &str) -> TreeFile {
    TreeFile {
        path: path.into(),
        bytes: content.len() as u64,
        digest: file_digest(content.as_bytes()),
    }
}

fn tree(edited: &[(&str, &str)]) -> Inventory {
    let mut tree = Inventory::new(
        ["dynamic.toml", "ns1/ns_static.toml", "ns2/ns_static.toml", "ns3/x.toml"]
            .map(|path| file(&format!("configuration/{path}"), "as it was"))
            .to_vec(),
        Vec::new(),
    );
    for (path, content) in edited {
        tree.put(file(path, content));
    }
    tree
}

/// A provider of three namespaces whose tree was looked at.
fn provider() -> Pair {
    let mut setup = setup(Role::Provider);
    let one = setup.namespaces[0].clone();
    setup.namespaces = NAMES
        .iter()
        .map(|name| NamespaceSetup {
            namespace: Namespace::new(name).unwrap(),
            ..one.clone()
        })
        .collect();
    let mut pair = Pair::new(setup);
    assert_eq!(owed_after(&mut pair, tree(&[])), NAMES, "nobody was told anything");
    pair
}

/// The namespaces whose strategies are owed a word after a look that found this; they are told it.
fn owed_after(pair: &mut Pair, inventory: Inventory) -> Vec<String> {
    pair.giver.on_scanned(0, inventory);
    owed_now(pair)
}

fn owed_now(pair: &mut Pair) -> Vec<String> {
    pair.shown.moved();
    pair.owe_moved();
    let lanes = pair.lanes.iter_mut();
    lanes
        .filter_map(|lane| {
            let owes = std::mem::take(&mut lane.files.owes_inventories);
            owes.then(|| lane.setup.namespace.to_string())
        })
        .collect()
}

#[test]
fn those_are_told_whose_files_moved() {
    let mut pair = provider();
    let none: [&str; 0] = [];
    assert_eq!(owed_after(&mut pair, tree(&[])), none, "all is as it was");
    let edited = ("configuration/ns2/ns_static.toml", "edited");
    assert_eq!(owed_after(&mut pair, tree(&[edited])), ["ns2"]);
    assert_eq!(owed_after(&mut pair, tree(&[edited])), none);
    // A certificate that was not there, and an edit that is taken back.
    let certificate = ("certificates/ns1/certs/node1.cert", "new");
    assert_eq!(owed_after(&mut pair, tree(&[certificate])), ["ns1", "ns2"]);
    // What is the whole node's, and what is of a namespace that does not run, is told to global.
    for path in [
        "configuration/dynamic.toml",
        "configuration/ns3/x.toml",
        "configuration/new/y.toml",
    ] {
        assert_eq!(
            owed_after(&mut pair, tree(&[certificate, (path, "edited")])),
            ["global"]
        );
        assert_eq!(owed_after(&mut pair, tree(&[certificate])), ["global"]);
    }
}

#[test]
fn the_other_ends_tree_counts_as_the_own_one_does() {
    let mut pair = provider();
    let none: [&str; 0] = [];
    let whole = tree(&[]);
    assert_eq!(pair.giver.settle(true, 0).len(), 1, "it is told");
    pair.giver.on_held(1, None).unwrap();
    assert_eq!(owed_after(&mut pair, whole.clone()), NAMES, "the first word of it");
    assert_eq!(owed_after(&mut pair, whole.clone()), none);
    // A change of ours is looked at anew: what did not move is not told again.
    pair.giver.changed();
    assert_eq!(owed_now(&mut pair), none);
    let edited = || tree(&[("configuration/ns1/ns_static.toml", "edited")]);
    pair.giver.on_scanned(1, edited());
    assert_eq!(owed_now(&mut pair), ["ns1"]);
    // Detached, and attached again: nobody was told anything.
    pair.giver.on_scanned(1, tree(&[]));
    pair.shown = Default::default();
    assert_eq!(owed_now(&mut pair), NAMES);
}

/// What an instance asked for is forgotten with it, also what was fetched for it: the next one asks for all of it.
#[test]
fn an_instance_that_is_opened_in_the_middle_of_a_copy_sees_all_that_is_missing() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(600);
    let files = &mut ends.trees[PROVIDER].files;
    files.insert("configuration/new.toml".into(), Bytes::from("new"));
    files.remove("configuration/system.toml");
    ends.queue.push_back((PROVIDER, Event::Tree(TreeEvent::Touched)));
    // It asks for what is new, and does not say that what is gone may go: the copy waits for that.
    while let Some((end, event)) = ends.queue.pop_front() {
        for action in ends.pairs[end].step(ends.now * 1000, event).now {
            match action {
                Action::ConfigStrategy { ns, events } if end == RECEIVER => {
                    let mut said = super::tree::mirror(&events);
                    said.retain(|said| !matches!(said, config_sync::Action::Delete(_)));
                    ends.queue
                        .push_back((end, Event::ConfigStrategy { ns, result: Ok(said) }));
                }
                action => ends.act(end, action),
            }
        }
    }
    let (fetched, _) = ends.pairs[RECEIVER]
        .taker
        .fetched(vec!["configuration/new.toml".into()]);
    assert_eq!(fetched.len(), 1);
    for run in [StrategyRun::Restarting, StrategyRun::Running] {
        let event = Event::StrategyState {
            ns: namespace(),
            id: super::tree::strategy(),
            run,
            faults: 1,
            configured: "default".into(),
            problem: String::new(),
        };
        ends.queue.push_back((RECEIVER, event));
    }
    ends.run(600);
    assert_eq!(ends.trees[RECEIVER].files, ends.trees[PROVIDER].files);
}

#[test]
fn every_file_is_read_every_five_seconds_however_often_the_tree_is_touched() {
    let mut pair = Pair::new(setup(Role::Provider));
    let mut whole_at = Vec::new();
    for now in (0..16_000).step_by(100) {
        let looks = pair.step(now * 1000, Event::Tree(TreeEvent::Touched)).now;
        for action in looks {
            let Action::Tree(TreeWork::Scan { generation, whole }) = action else {
                continue;
            };
            whole_at.extend(whole.then_some(now));
            let inventory = tree(&[]);
            let found = TreeEvent::Scanned { generation, inventory };
            let _ = pair.step(now * 1000, Event::Tree(found));
        }
    }
    assert_eq!(whole_at, [0, 5_000, 10_000, 15_000]);
}

/// What has another name in the copy is not fetched, and so is not under way: a strategy that bounds what is would wait for ever.
#[test]
fn files_that_change_their_names_are_not_under_way() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(600);
    let contents = (0..5).map(|number| (number, Bytes::from(format!("content {number}"))));
    let contents: Vec<_> = contents.collect();
    for name in ["before", "after"] {
        let files = &mut ends.trees[PROVIDER].files;
        files.retain(|path, _| !path.contains("before"));
        for (number, content) in &contents {
            files.insert(format!("configuration/{name}-{number}.txt"), content.clone());
        }
        ends.queue.push_back((PROVIDER, Event::Tree(TreeEvent::Touched)));
        while let Some((end, event)) = ends.queue.pop_front() {
            for action in ends.pairs[end].step(ends.now * 1000, event).now {
                match action {
                    // Two at a time.
                    Action::ConfigStrategy { ns, events } if end == RECEIVER => {
                        let under_way = events.iter().find_map(|event| match event {
                            config_sync::Event::Inventories(view) => Some(view.requested.clone()),
                            _ => None,
                        });
                        let mut said = super::tree::mirror(&events);
                        for said in &mut said {
                            if let (config_sync::Action::Request(paths), Some(under_way)) = (said, &under_way) {
                                paths.retain(|path| !under_way.contains(path));
                                paths.truncate(2_usize.saturating_sub(under_way.len()));
                            }
                        }
                        let empty = |said: &config_sync::Action| matches!(said, config_sync::Action::Request(paths) if paths.is_empty());
                        said.retain(|said| !empty(said));
                        ends.queue
                            .push_back((end, Event::ConfigStrategy { ns, result: Ok(said) }));
                    }
                    action => ends.act(end, action),
                }
            }
        }
        assert_eq!(ends.trees[RECEIVER].files, ends.trees[PROVIDER].files, "{name}");
    }
}

/// After a commit nobody knows what the provider has, until it says so again: also the same.
#[test]
fn who_was_told_of_nothing_is_told_when_the_provider_says_again_what_it_has() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(600);
    let pair = &mut ends.pairs[RECEIVER];
    let inventory = pair.taker.theirs().unwrap().clone();
    let again = |pair: &mut Pair| {
        let mut out = Writer::new();
        out.u64(9);
        inventory.write(&mut out);
        pair.on_tree_frame(&Frame::node(Kind::Inventory, out.into_bytes()))
            .unwrap();
        owed_now(pair).len()
    };
    let tell = |pair: &mut Pair, said: Vec<config_sync::Action>| {
        pair.pump_files(0);
        pair.on_file_advice(0, Ok(said));
    };
    assert_eq!(again(pair), 0, "nothing is another");
    for (opened, owes) in [(false, true), (true, false), (false, false)] {
        pair.lanes[0].files.owes_inventories = true;
        tell(pair, Vec::new());
        pair.taker.on_commit();
        let files = &mut pair.lanes[0].files;
        (files.desk.owes_opened, files.owes_inventories) = (opened, owes);
        tell(pair, Vec::new());
        assert_eq!(again(pair), usize::from(opened || owes));
    }
    // It asked for what has come meanwhile.
    pair.lanes[0].files.owes_inventories = true;
    let asked = config_sync::Action::Request(vec!["configuration/system.toml".into()]);
    tell(pair, vec![asked]);
    pair.taker.on_commit();
    assert_eq!(again(pair), 1);
}
