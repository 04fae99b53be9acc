//! What becomes of contents that were fetched, and when the copy is looked at again.

use super::*;

#[test]
fn contents_that_no_swap_uses_are_forgotten() {
    let copy = Inventory::new(vec![file("configuration/system.toml", b"1")], Vec::new());
    let mut with_more = copy.clone();
    with_more.put(file("configuration/large", b"2"));
    let mut taker = Taker::new(copy.clone());
    let settled = |taker: &mut Taker, requested: &[&str]| {
        let advice = FileAdvice {
            requested: requested.iter().map(|path| (*path).to_owned()).collect(),
            ..FileAdvice::default()
        };
        let told = taker.settle(0, &advice);
        if told.iter().any(|told| matches!(told, TakeDo::Scan { .. })) {
            taker.on_scanned(copy.clone());
            return [told, taker.settle(0, &advice)].concat();
        }
        told
    };
    taker.on_inventory(1, with_more);
    let asked = settled(&mut taker, &["configuration/large"]);
    assert!(
        asked.contains(&TakeDo::Ask(1, "configuration/large".into())),
        "{asked:?}"
    );
    let content = Bytes::from_static(b"2");
    let (digest, _) = taker.on_file(1, "configuration/large", Some(content)).unwrap().unwrap();
    let full = Refusal::new("disk-full", "no room", "");
    taker.on_staged(digest, Err(full), 0);
    // It goes at the provider.
    taker.on_inventory(2, copy.clone());
    let told = settled(&mut taker, &[]);
    assert!(
        told.contains(&TakeDo::Forget) && told.contains(&TakeDo::Held(2, None)),
        "{told:?}"
    );
    assert!(!settled(&mut taker, &[]).contains(&TakeDo::Forget), "once");
}

fn file(path: &str, content: &[u8]) -> TreeFile {
    TreeFile {
        path: path.to_owned(),
        bytes: content.len() as u64,
        digest: file_digest(content),
    }
}

/// A copy that is looked at whenever it asks for that, and what it does beside.
fn settled(taker: &mut Taker, now: Millis, copy: &Inventory) -> (Option<bool>, Vec<TakeDo>) {
    let mut done = taker.settle(now, &FileAdvice::default());
    let looked = done.iter().find_map(|it| match it {
        TakeDo::Scan { whole } => Some(*whole),
        _ => None,
    });
    if looked.is_some() {
        taker.on_scanned(copy.clone());
        done.extend(taker.settle(now, &FileAdvice::default()));
    }
    (looked, done)
}

#[test]
fn a_copy_that_somebody_made_what_it_was_to_become_is_recorded_as_ours() {
    let sent = Inventory::new(vec![file("configuration/system.toml", b"1")], Vec::new());
    let now = Inventory::new(vec![file("configuration/system.toml", b"2")], Vec::new());
    let mut taker = Taker::new(sent);
    taker.on_inventory(1, now.clone());
    let (_, done) = settled(&mut taker, 0, &now);
    assert!(done.contains(&TakeDo::Swap(now.clone())), "{done:?}");
    taker.on_swapped(now.clone(), Ok(()), 0);
    let (_, done) = settled(&mut taker, 0, &now);
    assert_eq!(done, [TakeDo::Held(1, None)]);
    assert!(taker.edited().is_empty());
}

#[test]
fn a_swap_that_met_a_hand_in_the_copy_is_tried_again_soon_after_a_whole_look() {
    for (code, pause) in [(CHANGED, CHANGED_RETRY_MS), ("disk-full", RETRY_MS)] {
        let sent = Inventory::new(vec![file("configuration/system.toml", b"1")], Vec::new());
        let now = Inventory::new(vec![file("configuration/system.toml", b"2")], Vec::new());
        let mut taker = Taker::new(sent);
        taker.on_inventory(1, now.clone());
        settled(&mut taker, 0, &now);
        taker.on_swapped(now.clone(), Err(Refusal::new(code, "", "")), 100);
        let (looked, _) = settled(&mut taker, 100, &now);
        assert_eq!(looked, Some(code == CHANGED));
        let (_, done) = settled(&mut taker, 100 + pause - 1, &now);
        assert!(!done.iter().any(|it| matches!(it, TakeDo::Swap(_))), "{done:?}");
        assert!(taker.may_settle(100 + pause));
        let (_, done) = settled(&mut taker, 100 + pause, &now);
        assert!(done.contains(&TakeDo::Swap(now.clone())), "{code}: {done:?}");
        // The provider goes back to what the record said, which may be gone.
        taker.on_swapped(now.clone(), Err(Refusal::new(code, "", "")), 200);
        let back = taker.written.clone();
        taker.on_inventory(2, back.clone());
        let (_, done) = settled(&mut taker, 300, &back);
        assert!(done.contains(&TakeDo::Swap(back.clone())), "{code}: {done:?}");
        taker.on_swapped(back.clone(), Ok(()), 400);
        assert_eq!(settled(&mut taker, 400, &back).1, [TakeDo::Held(2, None)]);
    }
}
