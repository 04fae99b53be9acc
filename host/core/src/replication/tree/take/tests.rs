//! What becomes of contents that were fetched, and when the copy is looked at again.

use super::*;

#[test]
fn contents_that_no_swap_uses_are_forgotten() {
    let file = |path: &str, content: &[u8]| TreeFile {
        path: path.to_owned(),
        bytes: content.len() as u64,
        digest: file_digest(content),
    };
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
