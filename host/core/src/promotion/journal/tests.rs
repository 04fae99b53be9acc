//! A journal that is cut, torn, or goes on: what is read of it.

use super::super::run::tests::plan;
use super::super::step::next_step;
use super::*;

fn write(file: &mut Vec<u8>, append: &Append) {
    let end = append.offset as usize + append.bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[append.offset as usize..end].copy_from_slice(&append.bytes);
}

fn full() -> (Vec<u8>, Vec<usize>) {
    let mut file = vec![0; 4096];
    let mut journal = Journal::empty();
    let mut ends = Vec::new();
    for step in Step::ALL {
        let entry = match step {
            Step::Fence => Entry::Begin(plan()),
            later => Entry::Finished(later),
        };
        let append = journal.append(&entry).unwrap();
        write(&mut file, &append);
        journal.appended(entry, &append);
        ends.push(journal.end);
    }
    (file, ends)
}

#[test]
fn a_cut_at_any_byte_leaves_the_entries_before_it() {
    let (file, ends) = full();
    for cut in 0..=ends[6] {
        let mut torn = file[..cut].to_vec();
        torn.resize(4096, 0);
        let journal = Journal::read(&torn).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(
            journal.finished(),
            whole.checked_sub(1).map(|i| Step::ALL[i]),
            "cut {cut}"
        );
        assert_eq!(Journal::read(&file[..cut]).unwrap(), journal, "short file, cut {cut}");
    }
}

#[test]
fn a_flipped_bit_ends_the_journal_there() {
    let (file, ends) = full();
    for at in MAGIC.len()..ends[6] {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        let whole = ends.iter().filter(|end| **end <= at).count();
        let finished = Journal::read(&bad).unwrap().finished();
        assert_eq!(finished, whole.checked_sub(1).map(|i| Step::ALL[i]), "byte {at}");
    }
}

#[test]
fn the_rest_of_a_torn_entry_never_passes_for_a_new_one() {
    let (file, ends) = full();
    let mut torn = file.clone();
    torn[ends[0] + 5] ^= 1;
    let mut journal = Journal::read(&torn).unwrap();
    assert_eq!(next_step(&journal), Some(Step::Identity));
    let entry = Entry::Finished(Step::Identity);
    let append = journal.append(&entry).unwrap();
    write(&mut torn, &append);
    journal.appended(entry, &append);
    assert_eq!(torn[..ends[1]], file[..ends[1]]);
    // Written again with the same bytes, the old chain is whole again: each of its entries was durable and true.
    assert_eq!(Journal::read(&torn).unwrap().finished(), Some(Step::Done));
}

#[test]
fn one_file_holds_several_promotions() {
    let (mut file, _) = full();
    let mut journal = Journal::read(&file).unwrap();
    assert_eq!(next_step(&journal), None);
    let mut second = plan();
    second.old = second.new;
    second.new.number += 1;
    let entry = Entry::Begin(second.clone());
    let append = journal.append(&entry).unwrap();
    write(&mut file, &append);
    journal.appended(entry, &append);
    assert_eq!(Journal::read(&file).unwrap(), journal);
    assert_eq!((journal.plan(), journal.promotions()), (Some(&second), 2));
    assert_eq!(next_step(&journal), Some(Step::Identity));
}

fn held(name: &str, reason: &str) -> HeldNamespace {
    HeldNamespace::new(Namespace::new(name).unwrap(), crate::types::NodeRole::Vp, reason)
}

#[test]
fn what_was_held_is_remembered_until_it_is_taken_over_or_released() {
    let (mut file, mut journal) = (vec![0; 8192], Journal::empty());
    let mut put = |journal: &mut Journal, entry: Entry| {
        let append = journal.append(&entry)?;
        write(&mut file, &append);
        journal.appended(entry, &append);
        assert_eq!(&Journal::read(&file).unwrap(), journal);
        Ok::<(), JournalError>(())
    };
    assert!(put(&mut journal, Entry::Held(held("ns1", "too early"))).is_err());
    let mut first = plan();
    first.held = vec![held("ns1", "it is not open"), held("ns2", "its files are bad")];
    put(&mut journal, Entry::Begin(first.clone())).unwrap();
    put(&mut journal, Entry::Held(held("ns3", &"x".repeat(500)))).unwrap();
    assert_eq!(journal.held().len(), 3);
    for step in &Step::ALL[1..] {
        put(&mut journal, Entry::Finished(*step)).unwrap();
    }
    put(&mut journal, Entry::Released(Namespace::new("ns2").unwrap())).unwrap();
    let names = |journal: &Journal| journal.held().keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (names(&journal), next_step(&journal)),
        (vec!["ns1".into(), "ns3".into()], None)
    );
    let late = first.late(plan().namespaces, vec![held("ns3", "still")]);
    put(&mut journal, Entry::Begin(late)).unwrap();
    assert_eq!(
        (names(&journal), next_step(&journal)),
        (vec!["ns3".into()], Some(Step::Identity))
    );
}

#[test]
fn what_was_never_copied_is_remembered_until_the_operator_decides() {
    let (mut file, mut journal) = (vec![0; 8192], Journal::empty());
    let mut put = |journal: &mut Journal, entry: Entry| {
        let append = journal.append(&entry).unwrap();
        write(&mut file, &append);
        journal.appended(entry, &append);
        assert_eq!(&Journal::read(&file).unwrap(), journal);
    };
    let name = |name: &str| Namespace::new(name).unwrap();
    let mut first = plan();
    first.uncopied = ["ns1", "ns2", "ns3"].map(name).into();
    first.held = vec![held("ns4", "its files are bad")];
    put(&mut journal, Entry::Begin(first.clone()));
    for step in &Step::ALL[1..] {
        put(&mut journal, Entry::Finished(*step));
    }
    assert_eq!(journal.uncopied().names, first.uncopied);
    assert_eq!(journal.uncopied().from, "node1 127.0.0.1:50011");
    put(&mut journal, Entry::Released(name("ns2")));
    assert!(journal.knows(&name("ns1")) && journal.knows(&name("ns4")) && !journal.knows(&name("ns2")));
    // A late plan is drawn from the first one: it brings nothing back.
    put(&mut journal, Entry::Begin(first.late(plan().namespaces, Vec::new())));
    assert_eq!(journal.uncopied().names, ["ns1", "ns3"].map(name).into());
    for step in &Step::ALL[1..] {
        put(&mut journal, Entry::Finished(*step));
    }
    // Another promotion of this node was another's standby before: what it never copied counts.
    let mut second = plan();
    second.old = second.new;
    second.new.number += 1;
    second.uncopied = [name("ns5")].into();
    put(&mut journal, Entry::Begin(second));
    assert_eq!(journal.uncopied().names, [name("ns5")].into());
}

#[test]
fn a_plan_of_before_namespaces_could_be_held_is_read() {
    let mut out = Writer::new();
    plan().write(&mut out);
    let bytes = out.into_bytes();
    // Without the count of what is held and the flag behind it.
    let older = &bytes[..bytes.len() - 9];
    assert_eq!(Plan::read(&mut Reader::new(older)).unwrap(), plan());
    // And without the count of what was never copied.
    let older = &bytes[..bytes.len() - 4];
    assert_eq!(Plan::read(&mut Reader::new(older)).unwrap(), plan());
}

#[test]
fn only_the_first_entry_of_a_file_has_a_head() {
    let mut journal = Journal::empty();
    let first = journal.append(&Entry::Begin(plan())).unwrap();
    assert_eq!(first.head(), Some(MAGIC.as_slice()));
    // The head is durable, and the entry behind it in any pages but the first, or torn: the promotion has not begun.
    let mut torn = first.bytes.clone();
    torn[MAGIC.len()..100].fill(0);
    assert_eq!(Journal::read(&torn).unwrap().plan(), None);
    let again = Journal::read(&torn).unwrap().append(&Entry::Begin(plan())).unwrap();
    assert_eq!((again.offset, again.head()), (MAGIC.len() as u64, None));
    journal.appended(Entry::Begin(plan()), &first);
    assert_eq!(journal.append(&Entry::Finished(Step::Identity)).unwrap().head(), None);
}

#[test]
fn order_bounds_and_strangers_are_refused() {
    let journal = Journal::empty();
    assert!(matches!(
        journal.append(&Entry::Finished(Step::Identity)),
        Err(JournalError::Order {
            from: "nothing",
            to: "identity"
        })
    ));
    let mut backwards = plan();
    backwards.new.number = backwards.old.number;
    assert!(matches!(
        journal.append(&Entry::Begin(backwards)),
        Err(JournalError::Plan(_))
    ));
    assert!(Journal::read(b"something else entirely").is_err());
    assert!(Journal::read(&[]).unwrap().plan().is_none());
    assert!(Journal::read(&[0; 64]).unwrap().plan().is_none());
}
