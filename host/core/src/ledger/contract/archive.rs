//! What every ledger does with history and state as a whole.

use std::ops::ControlFlow;

use crate::ledger::{Ledger, LedgerError, Manifest, Snapshot};
use crate::record::{BadPart, HEADER_REGION, check_headers, check_span, namespace_digest, parse};
use crate::types::Height;

use super::{ChainMaker, Factory, key, keys_of, must};

pub(super) fn run_all(factory: Factory<'_>) {
    old_history_goes_and_the_chain_goes_on(factory);
    a_snapshot_is_taken_in_and_the_chain_goes_on(factory);
    history_is_put_before_a_snapshot(factory);
    a_damaged_snapshot_leaves_what_was_there(factory);
    headers_lead_from_any_record_to_the_tip(factory);
    what_cannot_be_staged_is_refused(factory);
    a_snapshot_goes_on_where_it_was(factory);
    staging_again_goes_on_behind_what_is_durable(factory);
}

/// Copies a snapshot's bytes from `from` on, `step` at a time, and makes them durable.
pub fn copy_snapshot(snapshot: &dyn Snapshot, into: &dyn Ledger, mut from: u64, step: usize) {
    while from < snapshot.manifest().bytes() {
        let bytes = must(snapshot.read(from, step));
        must(into.write_staged(from, &bytes));
        from += bytes.len() as u64;
    }
    assert_eq!(must(into.sync_staged()), from);
}

fn settle(ledger: &dyn Ledger) {
    must(ledger.sync());
    must(ledger.apply());
}

/// A chain of `blocks` blocks of about 200 KiB, durable and visible.
fn chain(factory: Factory<'_>, maker: &ChainMaker, blocks: usize) -> Box<dyn Ledger> {
    let ledger = factory(&maker.namespace, maker.genesis.clone());
    maker.extend(&*ledger, blocks, 2, 100_000);
    settle(&*ledger);
    ledger
}

/// Brings `standby` up to the provider's tip by records.
fn stream(maker: &ChainMaker, provider: &dyn Ledger, standby: &dyn Ledger) {
    let digest = namespace_digest(&maker.namespace);
    while standby.tips().appended.height < provider.tips().durable.height {
        let tip = standby.tips().appended;
        let run = must(provider.read(tip.height + 1, Height::MAX, 1 << 20));
        must(standby.append(must(check_span(&digest, tip, run.bytes))));
    }
    settle(standby);
    assert_eq!(standby.tips(), provider.tips());
}

fn is_sound(ledger: &dyn Ledger, records: u64, from_genesis: bool) {
    let report = must(ledger.verify(0, u64::MAX, &mut |_| ControlFlow::Continue(())));
    assert_eq!((report.checked, report.first_bad), (records, None));
    assert!(report.state_checked);
    assert_eq!(report.state_chain_checked, from_genesis);
}

fn staging_again_goes_on_behind_what_is_durable(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let provider = chain(factory, &maker, 30);
    let snapshot = must(provider.make_snapshot());
    let manifest = snapshot.manifest().clone();
    let standby = chain(factory, &maker, 4);
    assert_eq!(must(standby.stage(&manifest)), 0);
    let part = |from: u64, bytes: usize| must(snapshot.read(from, bytes));
    must(standby.write_staged(0, &part(0, 100)));
    assert_eq!(must(standby.sync_staged()), 100);
    // Of a session that ended before its next fsync.
    must(standby.write_staged(100, &part(100, 50)));
    assert_eq!(must(standby.stage(&manifest)), 100);
    assert!(standby.write_staged(150, &part(150, 10)).is_err());
    copy_snapshot(&*snapshot, &*standby, 100, 1_000);
    assert_eq!(must(standby.adopt()), manifest.at);
    is_sound(&*standby, 1, false);
}

fn old_history_goes_and_the_chain_goes_on(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let ledger = chain(factory, &maker, 40);
    assert_eq!((ledger.history_from(), must(ledger.prune(0))), (0, 0));
    let whole = ledger.kept();
    let hash = must(ledger.hash_at(20));
    let from = must(ledger.prune(21));
    assert!((2..=21).contains(&from), "{from}");
    assert_eq!((ledger.history_from(), ledger.kept().history_from), (from, from));
    assert!(ledger.kept().log_bytes < whole.log_bytes);
    assert_eq!(ledger.bytes_above(from - 1), ledger.kept().log_bytes);
    assert_eq!(ledger.bytes_above(40), 0);
    assert!(matches!(
        ledger.read(from - 1, 40, 1),
        Err(LedgerError::NotFound { height, from: begins, to: 40 }) if (height, begins) == (from - 1, from)
    ));
    assert!(matches!(ledger.record(from - 1), Err(LedgerError::NotFound { .. })));
    assert!(must(ledger.record(from)).is_some());
    assert_eq!(must(ledger.read(from, from, 1)).last.height, from);
    assert!(must(ledger.hash_at(from - 1)).is_some(), "the link of the first record");
    assert_eq!(must(ledger.hash_at(from - 2)), None);
    assert_eq!(must(ledger.hash_at(20)), hash.filter(|_| from <= 21));
    assert!(
        must(ledger.knows_text(&keys_of(1, 0).1)),
        "no transaction is taken twice"
    );
    assert_eq!((must(ledger.prune(from)), ledger.known_since()), (from, 0), "again");
    maker.extend(&*ledger, 5, 2, 100);
    settle(&*ledger);
    is_sound(&*ledger, 46 - from, false);
    assert!(must(ledger.prune(u64::MAX)) <= 45, "the tip stays");
    assert_eq!(ledger.tips().applied.height, 45);
}

fn a_snapshot_is_taken_in_and_the_chain_goes_on(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let provider = chain(factory, &maker, 30);
    assert!(provider.snapshot().is_none());
    let snapshot = must(provider.make_snapshot());
    let manifest = snapshot.manifest().clone();
    assert_eq!(manifest.at, provider.tips().applied);
    maker.extend(&*provider, 10, 2, 100);
    settle(&*provider);
    let standby = chain(factory, &maker, 4);
    assert_eq!(must(standby.stage(&manifest)), 0);
    assert_eq!(standby.tips().appended.height, 4, "nothing counts yet");
    copy_snapshot(&*snapshot, &*standby, 0, 1_000);
    assert_eq!(must(standby.adopt()), manifest.at);
    let tips = standby.tips();
    assert_eq!(
        (tips.appended, tips.durable, tips.applied),
        (manifest.at, manifest.at, manifest.at)
    );
    assert_eq!((standby.history_from(), standby.staged()), (30, None));
    // The maker's clock: a microsecond a block.
    assert_eq!((standby.known_since(), provider.known_since()), (30_000, 0));
    assert_eq!(standby.genesis(), provider.genesis());
    assert!(must(standby.find_transaction(&keys_of(30, 1).0)).is_some());
    stream(&maker, &*provider, &*standby);
    for number in (0..16).chain(1_000..1_042) {
        let ours = must(standby.state_applied(&key(number)));
        assert_eq!(ours, must(provider.state_applied(&key(number))), "key {number}");
    }
    is_sound(&*standby, 11, false);
    provider.drop_snapshot();
    assert!(provider.snapshot().is_none());
}

fn history_is_put_before_a_snapshot(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let provider = chain(factory, &maker, 30);
    let standby = factory(&maker.namespace, maker.genesis.clone());
    let snapshot = must(provider.make_snapshot());
    must(standby.stage(snapshot.manifest()));
    copy_snapshot(&*snapshot, &*standby, 0, 1 << 20);
    must(standby.adopt());
    let wrong = must(provider.read_back(20, 1 << 20));
    assert!(matches!(standby.prepend(wrong.bytes), Err(LedgerError::Order { .. })));
    // Another chain's records at the right heights.
    let other = factory(&maker.namespace, maker.genesis.clone());
    maker.extend(&*other, 29, 1, 100);
    settle(&*other);
    let forked = must(other.read_back(29, 1 << 20));
    assert!(matches!(
        standby.prepend(forked.bytes),
        Err(LedgerError::Diverged { height: 29, .. })
    ));
    let mut rounds = 0;
    while standby.history_from() > 0 {
        let from = standby.history_from();
        let run = must(provider.read_back(from - 1, 700_000));
        assert_eq!(run.last.height, from - 1);
        let begins = must(standby.prepend(run.bytes));
        assert!(begins < from);
        assert_eq!(standby.known_since(), begins * 1_000);
        rounds += 1;
        if rounds == 2 {
            maker.extend(&*provider, 3, 2, 100);
            settle(&*provider);
            stream(&maker, &*provider, &*standby);
        }
    }
    assert!(rounds > 2, "{rounds}");
    assert_eq!(standby.known_since(), 0);
    is_sound(&*standby, 34, true);
    assert!(must(standby.find_transaction(&keys_of(2, 1).0)).is_some());
    assert_eq!(must(standby.record(7)), must(provider.record(7)));
    assert!(matches!(
        standby.prepend(must(provider.read_back(3, 1)).bytes),
        Err(LedgerError::Order { .. })
    ));
}

fn a_damaged_snapshot_leaves_what_was_there(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let provider = chain(factory, &maker, 12);
    let snapshot = must(provider.make_snapshot());
    let manifest = snapshot.manifest();
    let standby = chain(factory, &maker, 4);
    let whole = must(snapshot.read(0, usize::MAX));
    assert_eq!(whole.len() as u64, manifest.bytes());
    // Where a key or a value is: the rest may be padding, or what says how the file was made.
    let value = 12u64.to_be_bytes();
    let at = whole.windows(value.len()).position(|window| window == value);
    let at = at.unwrap_or(whole.len() / 3);
    let mut damaged = whole.to_vec();
    damaged[at + 7] ^= 1;
    must(standby.stage(manifest));
    must(standby.write_staged(0, &damaged));
    assert!(
        matches!(standby.adopt(), Err(LedgerError::Order { .. })),
        "not durable yet"
    );
    must(standby.sync_staged());
    let refused = standby.adopt();
    assert!(
        matches!(
            refused,
            Err(LedgerError::Refused(_) | LedgerError::StateMismatch { .. })
        ),
        "{refused:?}"
    );
    assert_eq!((standby.staged(), standby.tips().applied.height), (None, 4));
    is_sound(&*standby, 5, true);
    must(standby.stage(manifest));
    copy_snapshot(&*snapshot, &*standby, 0, usize::MAX);
    assert_eq!(must(standby.adopt()), manifest.at);
}

fn headers_lead_from_any_record_to_the_tip(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let ledger = chain(factory, &maker, 12);
    let digest = namespace_digest(&maker.namespace);
    let place = |height| must(parse(&must(ledger.read(height, height, 1)).bytes)).position();
    let headers = must(ledger.headers(5, 12));
    assert_eq!(check_headers(&digest, place(4), &headers), Ok(place(12)));
    assert_eq!(
        must(ledger.headers(12, 99)).len(),
        HEADER_REGION.len(),
        "the durable tip"
    );
    for (from, what) in [(3, "a gap"), (5, "what is there already")] {
        let bad = check_headers(&digest, place(from), &headers).map_err(|bad| bad.part);
        assert_eq!(bad, Err(BadPart::Link), "{what}");
    }
    let mut damaged = headers.to_vec();
    damaged[HEADER_REGION.len() * 3 + 100] ^= 1;
    assert!(check_headers(&digest, place(4), &damaged).is_err());
    assert!(check_headers(&digest, place(4), &headers[1..]).is_err());
    let other = namespace_digest(&ChainMaker::new("other", 16).namespace);
    assert!(check_headers(&other, place(4), &headers).is_err());
    for (first, last) in [(13, 20), (6, 5)] {
        assert!(matches!(ledger.headers(first, last), Err(LedgerError::NotFound { .. })));
    }
}

fn what_cannot_be_staged_is_refused(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let provider = chain(factory, &maker, 12);
    let snapshot = must(provider.make_snapshot());
    let manifest = snapshot.manifest();
    let ahead = chain(factory, &maker, 12);
    assert!(
        matches!(ahead.stage(manifest), Err(LedgerError::Refused(_))),
        "at its own tip"
    );
    let standby = chain(factory, &maker, 4);
    let of_another = Manifest {
        record: must(provider.read(11, 11, 1)).bytes,
        ..manifest.clone()
    };
    assert!(matches!(standby.stage(&of_another), Err(LedgerError::Refused(_))));
    assert!(matches!(standby.write_staged(0, &[1]), Err(LedgerError::Order { .. })));
    assert!(matches!(standby.sync_staged(), Err(LedgerError::Order { .. })));
    assert!(matches!(standby.adopt(), Err(LedgerError::Order { .. })));
    must(standby.stage(manifest));
    assert!(
        matches!(standby.write_staged(1, &[1]), Err(LedgerError::Order { .. })),
        "a hole"
    );
    let beyond = vec![0; manifest.bytes() as usize + 1];
    assert!(matches!(
        standby.write_staged(0, &beyond),
        Err(LedgerError::Order { .. })
    ));
    must(standby.drop_staged());
    assert_eq!(standby.staged(), None);
}

fn a_snapshot_goes_on_where_it_was(factory: Factory<'_>) {
    let maker = ChainMaker::new("global", 16);
    let provider = chain(factory, &maker, 12);
    let snapshot = must(provider.make_snapshot());
    let standby = factory(&maker.namespace, maker.genesis.clone());
    must(standby.stage(snapshot.manifest()));
    must(standby.write_staged(0, &must(snapshot.read(0, 100))));
    must(standby.sync_staged());
    assert_eq!(must(standby.stage(snapshot.manifest())), 100, "the same one again");
    // The tip has moved: this one is still whole.
    maker.extend(&*provider, 9, 2, 100);
    settle(&*provider);
    copy_snapshot(&*snapshot, &*standby, 100, 333);
    must(standby.adopt());
    stream(&maker, &*provider, &*standby);
    // A newer one takes an older one's place.
    let newer = must(provider.make_snapshot());
    assert_eq!(newer.manifest().at, provider.tips().applied);
    assert_ne!(newer.manifest().id(), snapshot.manifest().id());
}
