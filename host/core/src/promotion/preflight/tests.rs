//! Verdicts of the preflight.

use super::super::target::ProbeAnswer;
use super::*;
use crate::mq::Missing;
use crate::promotion::TargetProbe;
use crate::session::CopyBehind;
use crate::types::{Digest, Hostname, NodeRole, Position};

pub(in super::super) fn healthy() -> PreflightView {
    let strategy = StrategyView {
        kind: "chain-sync".into(),
        id: "default".into(),
        version: "0.1.0".into(),
        sha256: "aa".into(),
    };
    PreflightView {
        copy: CopyState::Whole(None),
        lacking: None,
        provider: Some(Hostname::new("node1").unwrap()),
        unreadable: None,
        target_is_down: false,
        allow_missing_keys: false,
        begin_anew: false,
        heartbeat_ms: 500,
        last_heard_ms_ago: Some(4_000),
        probes: vec![TargetProbe {
            target: "link node1 127.0.0.1:1".into(),
            answer: ProbeAnswer::Refused,
        }],
        namespaces: vec![NamespaceView {
            name: Namespace::new("global").unwrap(),
            role: NodeRole::Vp,
            chain: Ok(Position {
                height: 120,
                hash: Digest::of(b"tip"),
            }),
            provider_tip: Some(120),
            history_from: 0,
            fills_to: None,
            waits_seconds: 0,
            untold: Vec::new(),
            staged: None,
            queues_unreadable: None,
            keys: KeyState::Match,
            provider_strategies: vec![strategy.clone()],
            own_strategies: vec![strategy],
        }],
        behind: Vec::new(),
        tls_name: TlsNameView::Names(vec!["cvp".into(), "node1".into()]),
        tls_override: None,
        config: Ok(()),
        unfit: Vec::new(),
        uninstalled: Vec::new(),
        ports: vec![PortView {
            key: "port.grpc".into(),
            address: "127.0.0.1:50015".into(),
            state: PortState::Ours,
        }],
        indexes: Ok(vec![index((false, false), Ok(()))]),
    }
}

fn index(switch: (bool, bool), backend: Result<(), String>) -> IndexView {
    IndexView {
        namespace: Namespace::new("global").unwrap(),
        switch,
        address: "127.0.0.1:27017".into(),
        backend,
    }
}

/// The verdict of `id` after `change`.
fn after(id: &str, change: impl FnOnce(&mut PreflightView)) -> Verdict {
    let mut view = healthy();
    change(&mut view);
    preflight(&view)
        .into_iter()
        .find(|check| check.id == id)
        .unwrap()
        .verdict
}

#[test]
fn a_healthy_receiver_passes_every_check_of_the_page() {
    let checks = preflight(&healthy());
    let ids: Vec<_> = checks.iter().map(|check| check.id).collect();
    assert_eq!(
        ids.join(" "),
        "target-unreachable last-heard backup-complete chain-verified history-complete keys-match tls-name \
         config-valid ports-free index-health plugins-present"
    );
    assert!(
        checks.iter().all(|c| c.verdict == Verdict::Pass && c.hint.is_empty()),
        "{checks:?}"
    );
    assert!(allowed(&checks));
}

#[test]
fn an_upgrade_that_ends_the_filling_in_of_history_says_so_and_where_it_begins() {
    let said = |fills_to| {
        let mut view = healthy();
        (view.namespaces[0].history_from, view.namespaces[0].fills_to) = (61, fills_to);
        let checks = preflight(&view);
        let check = checks.iter().find(|check| check.id == "history-complete").unwrap();
        assert_eq!(check.verdict, Verdict::Warn);
        (
            check.message.clone(),
            check.hint.contains("ends the filling-in for good"),
        )
    };
    assert_eq!(said(None), ("global begins at 61".to_owned(), false));
    let filling = "global begins at 61 (being filled in down to 3)";
    assert_eq!(said(Some(3)), (filling.to_owned(), true));
    let mut view = healthy();
    (view.namespaces[0].history_from, view.namespaces[0].waits_seconds) = (61, 298);
    let checks = preflight(&view);
    let check = checks.iter().find(|check| check.id == "history-complete").unwrap();
    assert!(
        check
            .message
            .starts_with("global begins at 61 and takes no transaction for 298 s"),
        "{}",
        check.message
    );
}

#[test]
fn queues_that_wait_for_blocks_that_are_not_here_are_named() {
    let mut view = healthy();
    view.namespaces[0].history_from = 61;
    view.namespaces[0].untold = (0..10)
        .map(|n| Missing {
            queue: format!("q{n}"),
            first: 4,
            last: 60,
        })
        .collect();
    let checks = preflight(&view);
    let check = checks.iter().find(|check| check.id == "history-complete").unwrap();
    assert_eq!(check.verdict, Verdict::Warn);
    let named = check.message.contains("global begins at 61") && check.message.contains("queue q0 of global: 4 to 60");
    assert!(named && check.message.ends_with("2 more queues of global"), "{check:?}");
    assert!(check.hint.contains("fill them in"), "{check:?}");
}

#[test]
fn a_chain_of_which_nothing_was_copied_is_not_taken_for_a_whole_one() {
    let empty = |tip: Option<u64>, staged: Option<(u64, u64)>| {
        move |view: &mut PreflightView| {
            view.namespaces[0].chain = Ok(Position {
                height: 0,
                hash: Digest::of(b"genesis"),
            });
            (view.namespaces[0].provider_tip, view.namespaces[0].staged) = (tip, staged);
        }
    };
    let of = |change: &dyn Fn(&mut PreflightView)| {
        let mut view = healthy();
        change(&mut view);
        let checks = preflight(&view);
        let check = checks.iter().find(|check| check.id == "history-complete").unwrap();
        (check.clone(), allowed(&checks))
    };
    let (check, may) = of(&empty(Some(2000), Some((21, 63))));
    assert!(!may && check.message.contains("none of the 2000 blocks of global is here"));
    assert!(check.message.contains("21 of 63 bytes of a snapshot") && check.hint.contains("--begin-anew"));
    // After a restart nothing is known of the provider's tip, but what is staged.
    assert!(!of(&empty(None, Some((0, 63)))).1);
    let anew = |view: &mut PreflightView| {
        empty(Some(2000), None)(view);
        view.begin_anew = true;
    };
    let (check, may) = of(&anew);
    assert!(may && check.verdict == Verdict::Warn, "{check:?}");
    // A chain that is empty at the provider, too.
    assert_eq!(of(&empty(Some(0), None)).0.verdict, Verdict::Pass);
}

#[test]
fn queues_that_cannot_be_read_are_named() {
    let mut view = healthy();
    view.namespaces[0].queues_unreadable = Some("data/mq/registry is damaged".into());
    let checks = preflight(&view);
    let check = checks.iter().find(|check| check.id == "backup-complete").unwrap();
    assert_eq!(check.verdict, Verdict::Warn);
    assert!(
        check.message.ends_with("message queues: data/mq/registry is damaged") && check.hint.contains("attach"),
        "{check:?}"
    );
}

#[test]
fn each_check_sees_what_is_wrong() {
    use Verdict::{Fail, Pass, Warn};
    assert_eq!(after("last-heard", |v| v.last_heard_ms_ago = None), Warn);
    assert_eq!(after("last-heard", |v| v.namespaces[0].provider_tip = Some(121)), Warn);
    let stopped = |v: &mut PreflightView| {
        v.behind.push(CopyBehind {
            namespace: Namespace::new("ns1").unwrap(),
            copied: 7,
            stopped_at: 20,
        });
    };
    assert_eq!(after("last-heard", stopped), Warn);
    let mut unheard = healthy();
    stopped(&mut unheard);
    unheard.last_heard_ms_ago = None;
    let said = preflight(&unheard).swap_remove(1);
    assert!(
        said.message.contains("namespace ns1 is stopped on node1 at block 20"),
        "{said:?}"
    );
    assert_eq!(after("backup-complete", |v| v.provider = None), Fail);
    assert_eq!(after("backup-complete", |v| v.namespaces.clear()), Fail);
    let unreadable = |v: &mut PreflightView| v.unreadable = Some("binding is damaged".into());
    assert_eq!(after("backup-complete", unreadable), Fail);
    assert_eq!(
        after("backup-complete", |v| v.namespaces[0].chain = Err("disk failed".into())),
        Fail
    );
    assert_eq!(
        after("chain-verified", |v| v.namespaces[0].chain = Err("disk failed".into())),
        Fail
    );
    assert_eq!(after("history-complete", |v| v.namespaces[0].history_from = 9), Warn);
    assert_eq!(
        after("keys-match", |v| v.namespaces[0].keys =
            KeyState::Bad("another key".into())),
        Fail
    );
    assert_eq!(
        after("tls-name", |v| v.tls_name = TlsNameView::Names(vec!["cvp".into()])),
        Warn
    );
    assert_eq!(
        after("tls-name", |v| v.tls_name = TlsNameView::Unreadable("no file".into())),
        Fail
    );
    assert_eq!(
        after("config-valid", |v| v.config = Err("dynamic.toml: line 3".into())),
        Fail
    );
    assert_eq!(
        after("ports-free", |v| v.ports[0].state = PortState::Taken("in use".into())),
        Fail
    );
    assert_eq!(after("config-valid", |v| v.unfit = vec!["no directory".into()]), Warn);
    let metrics = after("ports-free", |v| {
        v.ports[0].key = "metrics.port".into();
        v.ports[0].state = PortState::Taken("in use".into());
    });
    assert_eq!(metrics, Warn);
    assert_eq!(
        after("plugins-present", |v| v.uninstalled =
            vec!["global: chain-sync mine".into()]),
        Warn
    );
    let indexed =
        |switch, backend: Result<(), String>| after("index-health", |v| v.indexes = Ok(vec![index(switch, backend)]));
    assert_eq!(indexed((true, true), Ok(())), Pass);
    assert_eq!(indexed((true, true), Err("refused".into())), Warn);
    assert_eq!(indexed((false, true), Ok(())), Warn);
    assert_eq!(indexed((true, false), Err("refused".into())), Warn);
    assert_eq!(indexed((false, false), Err("refused".into())), Pass);
    assert_eq!(
        after("plugins-present", |v| v.namespaces[0].own_strategies.clear()),
        Warn
    );
}

/// A namespace beside `global` that cannot be taken over.
fn broken(view: &PreflightView) -> NamespaceView {
    NamespaceView {
        name: Namespace::new("ns1").unwrap(),
        chain: Err("its disk failed".into()),
        keys: KeyState::Missing("key.priv".into()),
        ..view.namespaces[0].clone()
    }
}

#[test]
fn one_namespace_that_is_not_usable_is_held_and_keeps_no_other() {
    let mut view = healthy();
    view.namespaces.push(broken(&view));
    let checks = preflight(&view);
    assert!(allowed(&checks), "{checks:?}");
    let named = |id: &str| checks.iter().find(|check| check.id == id).unwrap();
    for id in ["backup-complete", "chain-verified"] {
        assert_eq!(named(id).verdict, Verdict::Warn, "{id}");
    }
    assert!(named("backup-complete").message.contains("ns1: its disk failed"));
    // What is held needs no key yet.
    assert_eq!(named("keys-match").verdict, Verdict::Pass);
    // A change that rolls forward is named beside it.
    view.copy = CopyState::Whole(Some("queue orders of global registered".into()));
    let checks = preflight(&view);
    let backup = checks.iter().find(|check| check.id == "backup-complete").unwrap();
    assert!(
        backup.message.contains("queue orders of global registered"),
        "{backup:?}"
    );
}

#[test]
fn what_was_held_is_judged_again_alone() {
    let (view, mut held) = (healthy(), Vec::new());
    held.push(broken(&view));
    let verdicts = |held: &[NamespaceView]| -> Vec<Verdict> {
        preflight_of_held(held, false)
            .iter()
            .map(|check| check.verdict)
            .collect()
    };
    assert_eq!(verdicts(&held), [Verdict::Fail, Verdict::Pass]);
    held.push(view.namespaces[0].clone());
    assert_eq!(verdicts(&held), [Verdict::Warn, Verdict::Pass]);
    held.remove(0);
    assert_eq!(verdicts(&held), [Verdict::Pass, Verdict::Pass]);
    held[0].keys = KeyState::Missing("key.priv".into());
    assert_eq!(verdicts(&held), [Verdict::Pass, Verdict::Fail]);
}

#[test]
fn every_key_that_is_wrong_or_missing_is_named_in_the_order_of_namespaces() {
    let mut view = healthy();
    let states = [
        ("ns3", KeyState::Missing("c/key.priv".into())),
        ("ns1", KeyState::Missing("a/key.priv".into())),
        ("ns2", KeyState::Bad("another's".into())),
    ];
    for (name, keys) in states {
        view.namespaces.push(NamespaceView {
            name: Namespace::new(name).unwrap(),
            keys,
            ..view.namespaces[0].clone()
        });
    }
    let keys = |view: &PreflightView| {
        let mut checks = preflight(view).into_iter();
        checks.find(|check| check.id == "keys-match").unwrap()
    };
    let check = keys(&view);
    assert_eq!(
        (check.verdict, check.message.as_str()),
        (
            Verdict::Fail,
            "ns1: a/key.priv is missing; ns2: another's; ns3: c/key.priv is missing"
        )
    );
    // The operator's word lifts the wrong as well as the missing ones.
    view.allow_missing_keys = true;
    let lifted = keys(&view);
    assert_eq!((lifted.verdict, lifted.message), (Verdict::Warn, check.message));
}

#[test]
fn overrides_turn_a_refusal_into_a_warning_and_no_more() {
    let missing = |v: &mut PreflightView| v.namespaces[0].keys = KeyState::Missing("key.priv".into());
    assert_eq!(after("keys-match", missing), Verdict::Fail);
    let warned = after("keys-match", |v| {
        missing(v);
        v.allow_missing_keys = true;
    });
    assert_eq!(warned, Verdict::Warn);
    let shared = after("tls-name", |v| {
        v.tls_name = TlsNameView::Names(vec!["hyperchain.cn".into()]);
        v.tls_override = Some("hyperchain.cn".into());
    });
    assert_eq!(shared, Verdict::Pass);
}

#[test]
fn what_the_copy_lacks_is_a_warning_beside_whatever_else_is_said() {
    let mut view = healthy();
    view.lacking = Some("1 file(s) are not here: a.toml".into());
    let check = |view: &PreflightView| {
        preflight(view)
            .into_iter()
            .find(|check| check.id == "backup-complete")
            .unwrap()
    };
    let found = check(&view);
    assert_eq!(found.verdict, Verdict::Warn);
    assert!(
        found.message.contains("bound to node1")
            && found.message.contains("a.toml")
            && found.hint.contains("goes on with the version"),
        "{found:?}"
    );
    view.copy = CopyState::Whole(Some("dynamic.toml".into()));
    let found = check(&view);
    assert!(
        found.message.contains("a change was staged")
            && found.message.contains("a.toml")
            && found.hint.contains("the upgrade applies it"),
        "{found:?}"
    );
    view.copy = CopyState::Missing("nothing".into());
    assert_eq!(check(&view).verdict, Verdict::Fail);
}
