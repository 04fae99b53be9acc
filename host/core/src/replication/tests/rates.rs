//! Who sends what of a rate that all share.

use super::*;
use crate::replication::budget::Cargo;

/// Bytes a second of all.
const RATE: u64 = 300_000;
/// Of a backlog's records: with twenty namespaces, forty seconds of one's share.
const RECORD: u64 = 600_000;

/// A provider of so many namespaces, and the rate.
fn provider(namespaces: usize) -> Pair {
    let mut setup = setup(Role::Provider);
    let first = setup.namespaces[0].clone();
    setup.namespaces = (0..namespaces)
        .map(|number| NamespaceSetup {
            namespace: Namespace::new(&format!("ns{number}")).unwrap(),
            ..first.clone()
        })
        .collect();
    setup.limits.max_rate = RATE;
    let mut pair = Pair::new(setup);
    let _ = pair.step(1_000_000, Event::Tick);
    pair
}

/// Each namespace that may begins a read, in the order of their numbers, and the reads before end.
struct Line {
    pair: Pair,
    reading: Vec<(usize, u64)>,
    sent: Vec<u64>,
}

impl Line {
    fn of(namespaces: usize) -> Self {
        let (pair, reading) = (provider(namespaces), Vec::new());
        let sent = vec![0; namespaces];
        Self { pair, reading, sent }
    }

    /// Whether it may; what it brings is known in the next look.
    fn ask(&mut self, lane: usize, cargo: Cargo, record: u64) -> bool {
        if self.reading.iter().any(|(reads, _)| *reads == lane) {
            return false;
        }
        let Some(piece) = self.pair.piece(lane, cargo) else {
            return false;
        };
        self.pair.pay_ahead(lane, cargo, piece.min(record) as usize);
        self.reading.push((lane, record));
        true
    }

    fn look(&mut self, millis: Millis) {
        (self.pair.now, self.pair.now_micros) = (millis, millis * 1_000);
        for (lane, bytes) in std::mem::take(&mut self.reading) {
            self.pair.spend(lane, bytes);
            self.sent[lane] += bytes;
        }
    }
}

#[test]
fn the_newest_blocks_of_one_wait_for_no_backlog_and_the_backlogs_go_in_order() {
    let mut line = Line::of(20);
    let (tail, mut waited, mut longest) = (19, 0, 0);
    for millis in (2_000..242_000).step_by(50) {
        line.look(millis);
        (0..tail).for_each(|lane| _ = line.ask(lane, Cargo::Backlog, RECORD));
        if millis % 1_000 == 0 || waited > 0 {
            waited = if line.ask(tail, Cargo::Tail, 1_000) {
                0
            } else {
                waited + 50
            };
            longest = longest.max(waited);
        }
    }
    assert_eq!(longest, 0, "milliseconds that a block of a kilobyte waited");
    assert_eq!(line.sent[tail], 240_000);
    let (least, most) = (
        line.sent[..tail].iter().min().unwrap(),
        line.sent[..tail].iter().max().unwrap(),
    );
    assert!(most - least <= RECORD, "{:?}", line.sent);
    // One record more at most than the rate has room for.
    let sum: u64 = line.sent.iter().sum();
    assert!((70_000_000..=72_000_000 + 2 * RECORD).contains(&sum), "{sum}");
}

#[test]
fn no_more_than_one_record_is_sent_at_once() {
    let mut line = Line::of(20);
    for lane in &mut line.pair.lanes {
        lane.record_bytes_16 = 16 * RECORD;
    }
    for millis in (2_000..62_000).step_by(50) {
        line.look(millis);
        let asked: Vec<bool> = (0..20).map(|lane| line.ask(lane, Cargo::Backlog, RECORD)).collect();
        assert!(asked.iter().filter(|began| **began).count() <= 1, "{millis}: {asked:?}");
    }
}

#[test]
fn older_history_goes_when_nobody_else_waits() {
    let mut line = Line::of(3);
    for millis in (2_000..32_000).step_by(50) {
        line.look(millis);
        line.ask(0, Cargo::History, 20_000);
        if millis < 22_000 {
            (1..3).for_each(|lane| _ = line.ask(lane, Cargo::Backlog, 20_000));
        }
        if millis == 21_950 {
            // It began before the others had to wait.
            assert!(line.sent[0] <= 20_000 && line.sent[1] > 2_000_000, "{:?}", line.sent);
        }
    }
    assert!(line.sent[0] > 2_000_000, "{:?}", line.sent);
}

#[test]
fn who_sent_much_alone_has_no_less_of_the_rate_later() {
    let mut line = Line::of(2);
    for millis in (2_000..62_000).step_by(50) {
        line.look(millis);
        line.ask(0, Cargo::Backlog, 20_000);
        if millis >= 32_000 {
            line.ask(1, Cargo::Backlog, 20_000);
        }
    }
    let (first, second) = (line.sent[0], line.sent[1]);
    assert!(
        (13_000_000..14_000_000).contains(&first) && (4_000_000..5_000_000).contains(&second),
        "{:?}",
        line.sent
    );
}

#[test]
fn whom_its_own_strategy_holds_back_keeps_nobody_waiting() {
    let mut line = Line::of(2);
    line.pair.lanes[0].budget.set(1, 1_000_000);
    for millis in (2_000..32_000).step_by(50) {
        line.look(millis);
        (0..2).for_each(|lane| _ = line.ask(lane, Cargo::Backlog, 20_000));
    }
    assert_eq!(line.sent[0], 20_000);
    assert!(line.sent[1] > 8_500_000, "{:?}", line.sent);
    let mut reasons = Vec::new();
    for lane in &mut line.pair.lanes {
        // Both lack something.
        (lane.peer, lane.peer_seen, lane.local) = (Some(at(1)), Some(at(1)), at(5));
    }
    line.pair.rate_reasons(32_000, &mut reasons);
    let said: Vec<&str> = reasons.iter().map(|reason| reason.text.as_ref()).collect();
    assert!(
        said.iter()
            .any(|text| text.contains("strategy allows (1 bytes a second) holds the copy of ns0 back")),
        "{said:?}"
    );
}

#[test]
fn a_rate_that_is_lifted_holds_nobody_back_any_more() {
    let mut line = Line::of(2);
    for millis in (2_000..3_000).step_by(50) {
        line.look(millis);
        (0..2).for_each(|lane| _ = line.ask(lane, Cargo::Backlog, RECORD));
    }
    assert!(line.pair.rate_binds(), "turns would stand in its way");
    let _ = line.pair.step(3_000_000, Event::SetLimits(Limits::default()));
    assert!(!line.pair.rate_binds(), "the turns begin at once");
}

#[test]
fn who_follows_the_tip_beyond_its_share_starves_no_backlog() {
    let mut line = Line::of(2);
    for millis in (2_000..62_000).step_by(50) {
        line.look(millis);
        line.ask(1, Cargo::Tail, 20_000);
        line.ask(0, Cargo::Backlog, 20_000);
    }
    let sum: u64 = line.sent.iter().sum();
    assert!((17_000_000..19_000_000).contains(&sum), "{:?}", line.sent);
    assert!(line.sent[0] > 4_000_000, "{:?}", line.sent);
}

#[test]
fn what_was_paid_for_a_read_that_came_to_nothing_is_given_back() {
    let mut pair = provider(2);
    (pair.now, pair.now_micros) = (2_000, 2_000_000);
    pair.pay_ahead(0, Cargo::Backlog, 3_000_000);
    assert_eq!(pair.piece(1, Cargo::Backlog), None, "ten seconds are paid for");
    pair.detach_lane(0);
    assert!(pair.piece(1, Cargo::Backlog).is_some());
    // Its strategy's rate is given back as well.
    pair.lanes[0].budget.set(1_000, 2_000_000);
    pair.pay_ahead(0, Cargo::Backlog, 1_000_000);
    assert_eq!(pair.own_piece(0), None);
    pair.on_store_failed(0, Refusal::new("disk-failed", "failed", ""));
    assert!(pair.own_piece(0).is_some());
}
