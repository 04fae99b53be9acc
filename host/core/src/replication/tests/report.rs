//! What the status says: that a silence lasts, who was refused, which strategy does not run, and no standstill where nothing is owed.

use super::*;
use crate::session::LastHeld;

fn reason(status: &PairStatus, code: &str) -> Option<String> {
    let found = status.reasons.iter().find(|reason| reason.code == code);
    found.map(|reason| format!("{}; {}", reason.text, reason.hint))
}

#[test]
fn a_silence_grows_before_and_after_the_end_of_its_session() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(1_000);
    let provider = &mut ends.pairs[PROVIDER];
    let mut said = Vec::new();
    for now in (1_050..12_000).step_by(50) {
        let _ = provider.step(now * 1_000, Event::Tick);
        let text = reason(&provider.status(now), "receiver-silent");
        said.extend(text.map(|text| (now, text)));
    }
    assert!(provider.session.is_none(), "a dead session is over");
    assert_eq!(said.first().map(|(now, _)| *now), Some(2_500));
    for (now, text) in said {
        let expected = format!("the receiver has said nothing for {} ms; ", now - 1_000);
        assert!(text.starts_with(&expected), "{now}: {text}");
    }
}

#[test]
fn who_is_in_the_middle_of_a_frame_is_neither_silent_nor_stalled() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(1_000);
    let receiver = &mut ends.pairs[RECEIVER];
    let mut asked = 0;
    for now in (1_050..12_000).step_by(50) {
        let _ = receiver.step(now * 1_000, Event::Arriving(CONN));
        let out = receiver.step(now * 1_000, Event::Tick).now;
        let stalls = |told: &Told| matches!(told, Told::Stall { .. });
        asked += out
            .iter()
            .filter(|action| matches!(action, Action::Strategy { events, .. } if events.iter().any(stalls)))
            .count();
        assert_eq!(reason(&receiver.status(now), "provider-silent"), None, "{now}");
    }
    assert!(receiver.session.is_some(), "its session lives");
    assert_eq!(asked, 0, "nothing is asked for again");
}

#[test]
fn a_receiver_that_pauses_on_purpose_is_not_stalled() {
    let mut ends = Ends::attached(|_: &[Told]| Ok(Vec::new()));
    ends.grow(5);
    ends.run(3_000);
    assert!(reason(&ends.status(PROVIDER), "stream-stalled").is_some());
    let say = |ends: &mut Ends<_>, text: &'static str| {
        let session = ends.pairs[PROVIDER].session.as_mut().unwrap();
        session.peer_reasons = vec![Refusal::new("bootstrap-again", text, "")];
        let status = ends.status(PROVIDER);
        assert!(reason(&status, "bootstrap-again").is_some());
        reason(&status, "stream-stalled").is_some()
    };
    assert!(!say(&mut ends, "global: began from a snapshot 4 times in a row"));
    assert!(say(&mut ends, "globals: began from a snapshot 4 times in a row"));
}

#[test]
fn nobody_catches_up_with_nothing() {
    let mut ends = Ends::apart([setup(Role::Provider), setup(Role::Receiver)], fetch_all);
    for _ in 0..40 {
        ends.run(50);
        for end in [PROVIDER, RECEIVER] {
            let status = ends.status(end);
            assert_eq!(reason(&status, "catching-up"), None, "{status:?}");
        }
    }
    assert!(ends.status(PROVIDER).normal && ends.status(RECEIVER).normal);
}

#[test]
fn the_last_refused_dial_is_named_where_it_was_refused() {
    let mut ends = Ends::attached(fetch_all);
    assert_eq!(ends.status(PROVIDER).refused, None);
    let mut other = setup(Role::Receiver);
    other.hostname = Hostname::new("cvp2").unwrap();
    other.identity.node_id = NodeId([9; 16]);
    let mut second = Pair::new(other);
    let peer = PeerTls {
        address: "10.0.0.2:1".into(),
        tls: true,
        names: vec!["cvp2".into()],
        ..PeerTls::default()
    };
    let _ = second.step(0, Event::Tick);
    let dialed = Event::Dialed {
        conn: 7,
        purpose: DialPurpose::Session,
        peer: peer.clone(),
    };
    let hello = second.step(0, dialed).now.into_iter().find_map(|action| match action {
        Action::Send { frame, .. } => Some(frame),
        _ => None,
    });
    let provider = &mut ends.pairs[PROVIDER];
    let _ = provider.step(50_000, Event::Accepted { conn: 7, peer });
    let _ = provider.step(
        60_000,
        Event::Frame {
            conn: 7,
            frame: hello.unwrap(),
        },
    );
    let refused = provider.status(60).refused.unwrap();
    assert_eq!(refused.hostname, Some(Hostname::new("cvp2").unwrap()));
    assert_eq!((refused.refusal.code.as_ref(), refused.at), ("second-standby", 60));
    assert!(provider.status(60).peer.is_some(), "the first one goes on");
    // What TLS refused before the machine saw it.
    let turned = |code: &'static str| Event::Turned {
        address: "10.0.0.3:1".into(),
        refusal: Refusal::new(code, "text", ""),
    };
    let _ = provider.step(70_000, turned("certificate-untrusted"));
    let _ = provider.step(80_000, turned("superseded"));
    let refused = provider.status(80).refused.unwrap();
    assert_eq!((refused.address.as_str(), refused.at), ("10.0.0.3:1", 70));
}

#[test]
fn a_strategy_that_does_not_run_is_named_with_its_reason() {
    let mut ends = Ends::attached(fetch_all);
    let mut tell = |offered: &str, problem: &str| {
        let id = StrategyId {
            id: offered.to_owned(),
            ..strategy("1")
        };
        let event = Event::StrategyState {
            ns: namespace(),
            id,
            run: StrategyRun::Quarantined,
            faults: 0,
            configured: "mine".into(),
            problem: problem.into(),
        };
        ends.queue.push_back((RECEIVER, event));
        ends.run(600);
        let status = ends.status(RECEIVER);
        let text = reason(&status, "strategy-quarantined").unwrap();
        assert_eq!(status.namespaces[0].strategies[0].id.id, "mine");
        if offered == "default" {
            assert!(status.namespaces[0].warnings.is_empty(), "the reason says it");
        }
        let warnings = ends.status(PROVIDER).namespaces[0].warnings.join("; ");
        let why = match offered {
            "default" => "what is configured on the other end cannot be loaded",
            _ => "mine 1 on the other end is quarantined",
        };
        let expected = format!("strategies-differ: strategy mine 1 here, {why}: both run the embedded default");
        assert_eq!(warnings, expected);
        let heard = reason(&ends.status(PROVIDER), "strategy-quarantined").unwrap();
        assert_eq!(heard, format!("receiver: {text}"));
        text
    };
    let text = tell("default", "cannot read plugins/mine/plugin.toml: No such file");
    assert!(
        text.starts_with("global: strategy mine cannot be loaded (cannot read plugins/mine/plugin.toml: No such file), the default runs; correct plugins/mine"),
        "{text}"
    );
    let text = tell("mine", "trap: unreachable");
    assert!(
        text.starts_with("global: strategy mine faulted too often (the last time: trap: unreachable), the default runs; correct it, then run `cvp plugin reset mine`"),
        "{text}"
    );
}

fn held(file: Option<ControlFile>) -> Option<(LastHeld, Height)> {
    match file? {
        ControlFile::LastHeld(held) => Some((held.clone(), held.namespaces[0].at.height)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_provider_that_starts_again_says_what_its_absent_standby_held() {
    let mut ends = Ends::attached(fetch_all);
    ends.grow(5);
    ends.run(1_000);
    let unnoted = |ends: &Ends<_>| held(ends.pairs[PROVIDER].unnoted()).map(|(_, height)| height);
    assert_eq!(
        unnoted(&ends),
        Some(5),
        "noted at the beginning, and no block makes a write"
    );
    ends.run(10_000);
    assert_eq!(unnoted(&ends), None);
    ends.grow(7);
    ends.run(1_000);
    let (last_held, height) = held(ends.pairs[PROVIDER].unnoted()).expect("not noted yet");
    assert_eq!(height, 7);
    let closed = Event::Closed {
        conn: CONN,
        reason: None,
    };
    let written = ends.pairs[PROVIDER].step(ends.now * 1_000, closed);
    let written = written.now.into_iter().find_map(|action| match action {
        Action::Persist { token, what } => Some((token, what)),
        _ => None,
    });
    let (token, what) = written.expect("written at the end of the session");
    assert_eq!(what, ControlFile::LastHeld(last_held.clone()));
    assert_eq!(unnoted(&ends), None);

    // A disk that refuses it costs no session: it is tried again.
    let full = Refusal::new("disk-full", "full", "");
    let _ = ends.pairs[PROVIDER].step(ends.now * 1_000, Event::PersistFailed(token, full));
    assert!(ends.pairs[PROVIDER].control_failed.is_none());
    assert_eq!(unnoted(&ends), Some(7));

    let mut again = setup(Role::Provider);
    (again.namespaces[0].durable, again.namespaces[0].applied) = (at(9), 9);
    again
        .last_receiver
        .clone_from(&ends.pairs[PROVIDER].setup.last_receiver);
    again.last_held = Some(last_held);
    let shown = |setup: &Setup| {
        let status = Pair::new(setup.clone()).status(1);
        let ns = &status.namespaces[0];
        let text = reason(&status, "receiver-unreachable").unwrap_or_default();
        (
            ns.durable,
            ns.lag_blocks,
            ns.durable_before,
            text.contains("as it was last noted"),
        )
    };
    assert_eq!(shown(&again), (7, 2, true, true));
    let mut started = Pair::new(again.clone());
    let _ = started.step(1_000, Event::Tick);
    let age = started.status(5_001).namespaces[0].lag_ms;
    assert_eq!(age, 5_000, "it lacks two blocks for as long as is known here");
    let mut other = again.clone();
    other.last_receiver.as_mut().unwrap().node_id = NodeId([9; 16]);
    assert_eq!(shown(&other), (0, 9, false, false), "another node stands by since");
    let mut restored = again.clone();
    (restored.namespaces[0].durable, restored.namespaces[0].applied) = (at(6), 6);
    assert_eq!(shown(&restored), (0, 6, false, false), "this node lost what was held");
    again.namespaces[0].genesis = at(1).hash;
    assert_eq!(shown(&again), (0, 9, false, false), "another chain of that name");
}

/// Blocks come one by one, and a byte takes a second.
#[test]
fn what_the_rate_holds_back_is_not_stalled_and_says_so_on_both_ends() {
    let (mut slow, mut receiver) = (setup(Role::Provider), setup(Role::Receiver));
    slow.limits.max_rate = 1;
    // The other end hears of it before its next heartbeat.
    (slow.limits.heartbeat_ms, receiver.limits.heartbeat_ms) = (4_000, 4_000);
    let mut ends = Ends::apart([slow, receiver], fetch_all);
    ends.run(0);
    let stalls = |ends: &Ends<_>| {
        ends.told
            .iter()
            .flatten()
            .filter(|told| matches!(told, Told::Stall { .. }))
            .count()
    };
    for height in 1..4 {
        ends.grow(height);
        ends.run(50);
    }
    let mut said = [false; 2];
    for _ in 0..120 {
        ends.run(50);
        for (end, said) in [PROVIDER, RECEIVER].into_iter().zip(&mut said) {
            let status = ends.status(end);
            assert_eq!(reason(&status, "stream-stalled"), None, "{status:?}");
            *said |=
                reason(&status, "rate-limited").is_some_and(|text| text.contains("cvp.max_rate (1 bytes a second)"));
        }
    }
    assert_eq!((said, stalls(&ends)), ([true; 2], 0));
    assert!(ends.appended < 3, "{}", ends.appended);
    // A limit that is gone is no word of a stall either.
    let limits = Limits {
        heartbeat_ms: 4_000,
        ..Limits::default()
    };
    ends.queue.push_back((PROVIDER, Event::SetLimits(limits)));
    ends.run(5_000);
    assert_eq!((ends.appended, stalls(&ends)), (3, 0));
    for end in [PROVIDER, RECEIVER] {
        assert_eq!(
            reason(&ends.status(end), "rate-limited"),
            None,
            "{:?}",
            ends.status(end)
        );
    }
}

/// The rate excuses what it holds back alone.
#[test]
fn what_nobody_asks_for_is_stalled_under_a_rate_too() {
    let mut slow = setup(Role::Provider);
    slow.limits.max_rate = 1;
    let mut ends = Ends::apart([slow, setup(Role::Receiver)], |_: &[Told]| Ok(Vec::new()));
    ends.run(0);
    ends.grow(5);
    ends.run(3_000);
    for end in [PROVIDER, RECEIVER] {
        let status = ends.status(end);
        assert!(reason(&status, "stream-stalled").is_some(), "{status:?}");
        assert_eq!(reason(&status, "rate-limited"), None, "{status:?}");
    }
}

/// Both processes begin with a chain that one of them has.
#[test]
fn a_block_from_before_the_start_is_as_old_as_it_says_itself_on_both_ends() {
    let mut long = setup(Role::Provider);
    (long.namespaces[0].durable, long.namespaces[0].applied) = (at(50), 50);
    let mut ends = Ends::apart([long, setup(Role::Receiver)], |_: &[Told]| Ok(Vec::new()));
    ends.tip = 50;
    ends.archives.age = Some(3_600_000);
    ends.run(8_000);
    for end in [PROVIDER, RECEIVER] {
        let lag = ends.status(end).namespaces[0].lag_ms;
        assert!((3_600_000..3_612_000).contains(&lag), "{end}: {lag}");
    }
    // What it lacks first is younger now; what came since is as old as it is known here.
    ends.archives.age = Some(5_000);
    ends.run(0);
    ends.pairs[PROVIDER].lanes[0].survey.held = 0;
    ends.grow(51);
    ends.run(5_000);
    for end in [PROVIDER, RECEIVER] {
        let lag = ends.status(end).namespaces[0].lag_ms;
        assert!((5_000..25_000).contains(&lag), "{end}: {lag}");
    }
}

#[test]
fn a_busy_line_excuses_those_alone_whose_frames_wait_for_it() {
    let mut ends = Ends::attached(|_: &[Told]| Ok(Vec::new()));
    ends.grow(5);
    for _ in 0..60 {
        ends.queue.push_back((PROVIDER, Event::Leaving(CONN, true)));
        ends.run(50);
    }
    assert!(reason(&ends.status(PROVIDER), "stream-stalled").is_some());
}

#[test]
fn a_read_that_waits_for_the_line_is_no_disk_that_hangs() {
    let mut ends = Ends::attached(fetch_all);
    ends.run(1_000);
    let provider = &mut ends.pairs[PROVIDER];
    let tip = Event::LocalTip {
        ns: namespace(),
        durable: at(3),
        applied: 3,
    };
    let out = provider.step(1_000_000, tip).now;
    assert!(
        out.iter().any(|action| matches!(action, Action::Read { .. })),
        "{out:?}"
    );
    let mut said = [false; 2];
    for (at, said) in said.iter_mut().enumerate() {
        for now in (1_050..7_000).step_by(50) {
            let now = now + 6_000 * at as Millis;
            if at == 0 {
                let _ = provider.step(now * 1_000, Event::Leaving(CONN, true));
            }
            // The session lives.
            let _ = provider.step(now * 1_000, Event::Arriving(CONN));
            let _ = provider.step(now * 1_000, Event::Tick);
            *said |= reason(&provider.status(now), "disk-stalled").is_some();
        }
    }
    assert_eq!(said, [false, true], "once the line is free it is the disk");
}
