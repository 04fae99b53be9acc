//! kill -9 of a process that writes: what it said is durable is there, and the chain goes on.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use cvp_core::ledger::Ledger;
use cvp_core::ledger::contract::ChainMaker;

use super::{on, open_in};

const DIRECTORY: &str = "CVP_LEDGER_TEST_CHILD";

/// Not a test of its own: the process that the test below kills. Appends, syncs, applies, and prints each durable height.
#[test]
#[ignore = "the child of killed_at_any_moment"]
fn child_that_writes() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let maker = ChainMaker::new("global", 16);
    let store = open_in(directory.as_ref(), &maker).unwrap();
    loop {
        maker.extend(&store, 3, 2, 9_000);
        println!("durable {}", store.sync().unwrap().height);
        if store.tips().durable.height.is_multiple_of(2) {
            store.apply().unwrap();
        }
    }
}

#[test]
fn killed_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let maker = ChainMaker::new("global", 16);
    let mut reached = 0;
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::crash::child_that_writes", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = 0;
        let durable = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok());
        for height in durable.take(5 + (round * 37 % 50) as usize) {
            told = height;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            told > reached,
            "round {round}: the child went on from {reached}, and told {told}"
        );
        let store = open_in(directory.path(), &maker).unwrap();
        let tips = store.tips();
        assert!(
            tips.durable.height >= told,
            "round {round}: {told} was durable, {} is there",
            tips.durable.height
        );
        assert_eq!((tips.appended, tips.applied), (tips.durable, tips.durable));
        let report = store.verify(0, u64::MAX, &mut on).unwrap();
        assert_eq!(report.first_bad, None, "round {round}");
        assert!(report.state_checked && report.state_chain_checked);
        reached = tips.durable.height;
    }
}
