//! Traces of both kinds: read back, cut anywhere, and not taken for one another.

use super::super::contract::{self, Suite};
use super::super::{ChainSync, ConfigSync, IndexCheck, Kind, MqSync};
use super::*;
use crate::types::strategy::{Level, chain_sync, config_sync, index_check, mq_sync};

fn opening(kind: &str) -> Opening {
    Opening {
        kind: kind.into(),
        role: Role::Receiver,
        namespace: "global".into(),
        settings: "{}".into(),
        id: "default".into(),
        version: "1.0.0".into(),
        sha256: [7; 32],
    }
}

/// Every event of the script, each call answered with every action there is, and a fault last.
fn calls<K: Suite>(role: Role, actions: &[K::Action]) -> Vec<Call<K>> {
    let mut calls: Vec<Call<K>> = contract::script::<K>(role)
        .into_iter()
        .map(|events| Call {
            events,
            answer: Ok(actions.to_vec()),
        })
        .collect();
    calls.push(Call {
        events: Vec::new(),
        answer: Err(Fault::new("code", "text")),
    });
    calls
}

fn survives_any_cut<K: Kind>(calls: &[Call<K>]) {
    let mut bytes = opening(K::NAME).encode();
    let head = bytes.len();
    for call in calls {
        bytes.extend(call.encode());
    }
    assert_eq!(read::<K>(&bytes).unwrap(), (opening(K::NAME), calls.to_vec()));
    for end in head..bytes.len() {
        let (_, whole) = read::<K>(&bytes[..end]).unwrap();
        assert!(whole.len() < calls.len() && calls.starts_with(&whole), "cut at {end}");
    }
    assert!(read::<K>(&bytes[..head - 1]).is_err());
}

#[test]
fn a_trace_of_chain_sync_is_read_back_and_may_be_cut_anywhere() {
    use chain_sync::Action;
    let actions = [
        Action::Window(1),
        Action::Pause("p".into()),
        Action::Bootstrap(2),
        Action::VerifyEvery(3),
        Action::Throttle(4),
        Action::Refuse("r".into()),
        Action::Store(vec![1, 2]),
        Action::Send(vec![3]),
        Action::Log(Level::Warn, "w".into()),
        Action::Metric("m".into(), -5),
        Action::Other("o".into(), vec![6]),
    ];
    survives_any_cut::<ChainSync>(&calls(Role::Receiver, &actions));
}

#[test]
fn a_trace_of_config_sync_is_read_back_and_may_be_cut_anywhere() {
    use config_sync::Action;
    let actions = [
        Action::Request(vec!["a".into(), "b/c".into()]),
        Action::Delete(vec!["d".into()]),
        Action::Weigh { edit: 9, strong: true },
        Action::KeepLocal {
            file: "dynamic.toml".into(),
            key: "port".into(),
        },
        Action::Refuse("r".into()),
        Action::Store(vec![1, 2]),
        Action::Send(vec![3]),
        Action::Log(Level::Debug, "w".into()),
        Action::Metric("m".into(), -5),
        Action::Other("o".into(), vec![6]),
    ];
    for role in [Role::Receiver, Role::Provider] {
        survives_any_cut::<ConfigSync>(&calls(role, &actions));
    }
}

#[test]
fn a_trace_of_index_check_is_read_back_and_may_be_cut_anywhere() {
    use index_check::Action;
    let actions = [
        Action::Accept,
        Action::Refuse("r".into()),
        Action::Warn("w".into()),
        Action::Store(vec![1, 2]),
        Action::Send(vec![3]),
        Action::Log(Level::Info, "l".into()),
        Action::Metric("m".into(), -5),
        Action::Other("o".into(), vec![6]),
    ];
    for role in [Role::Receiver, Role::Provider] {
        survives_any_cut::<IndexCheck>(&calls(role, &actions));
    }
}

#[test]
fn a_trace_of_mq_sync_is_read_back_and_may_be_cut_anywhere() {
    use mq_sync::Action;
    let actions = [
        Action::Replicate(1),
        Action::Hold(2),
        Action::Refuse {
            change: 3,
            reason: "r".into(),
        },
        Action::Apply(vec!["a".into(), "b".into()]),
        Action::Drop(vec!["c".into()]),
        Action::Warn("w".into()),
        Action::Store(vec![1, 2]),
        Action::Send(vec![3]),
        Action::Log(Level::Info, "l".into()),
        Action::Metric("m".into(), -5),
        Action::Other("o".into(), vec![6]),
    ];
    for role in [Role::Receiver, Role::Provider] {
        survives_any_cut::<MqSync>(&calls(role, &actions));
    }
}

#[test]
fn what_is_no_trace_or_one_of_another_kind_is_refused() {
    assert!(read::<ChainSync>(b"something else entirely").is_err());
    let bytes = opening(ConfigSync::NAME).encode();
    assert!(read::<ChainSync>(&bytes).unwrap_err().what.contains("config-sync"));
    assert_eq!(Opening::read(&mut Reader::new(&bytes)).unwrap().kind, "config-sync");
}

#[test]
fn an_inventory_is_bounded_before_it_is_allocated() {
    let mut view = config_sync::View::new(Role::Receiver, "global");
    let entry = |number: usize| config_sync::FileEntry {
        path: format!("{number}.toml"),
        size: 1,
        digest: [1; 32],
    };
    view.local = (0..=config_sync::FILES_MAX).map(entry).collect();
    let call: Call<ConfigSync> = Call {
        events: vec![config_sync::Event::Inventories(view)],
        answer: Ok(Vec::new()),
    };
    let bytes = [opening(ConfigSync::NAME).encode(), call.encode()].concat();
    assert_eq!(read::<ConfigSync>(&bytes).unwrap().1, []);
}
