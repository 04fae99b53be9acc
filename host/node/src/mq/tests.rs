//! A chain's queues over real files: what is registered, told and acknowledged outlives everything; what fails changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cvp_core::config::Broker;
use cvp_core::mq::{Event, EventId, Registration};
use cvp_core::types::Refusal;
use serde_json::{Value, json};

use super::*;
use crate::namespace::tests::{Fixture, ONE, hostname};

mod broker;

const WAIT: Duration = Duration::from_secs(20);

struct Bench {
    fixture: Fixture,
    directory: tempfile::TempDir,
    lineage: Vec<Reign>,
    /// A change is made, and nobody says so: the pair went on with another machine.
    unanswered: bool,
    /// No change is made.
    holds: Arc<AtomicBool>,
    /// Changes that were refused for it.
    held: Arc<AtomicUsize>,
    broker: Broker,
    names: BrokerNames,
}

impl Bench {
    fn new() -> Self {
        Self {
            fixture: Fixture::maker(),
            directory: tempfile::tempdir().unwrap(),
            lineage: Vec::new(),
            unanswered: false,
            holds: Arc::default(),
            held: Arc::default(),
            broker: Broker::Embedded,
            names: BrokerNames::default(),
        }
    }

    fn files(&self) -> QueueFiles {
        QueueFiles::new(self.directory.path().join("mq"))
    }

    fn open(&self) -> Arc<Queues> {
        let chain = Arc::clone(&self.fixture.chain);
        let (files, unanswered, holds) = (self.files(), self.unanswered, Arc::clone(&self.holds));
        let held = Arc::clone(&self.held);
        let around = Surroundings {
            hostname: hostname("node1"),
            broker: self.broker.clone(),
            // A node without a standby, whose changes are its own.
            commit: Arc::new(move |change, _, _| {
                if holds.load(Ordering::SeqCst) {
                    held.fetch_add(1, Ordering::SeqCst);
                    let refusal = Refusal::new("held", "the standby is not well", "");
                    return Box::pin(async { Err(QueuesError::NotMade(refusal)) });
                }
                let written = files.write_registry(&change.registry);
                let lost = || QueuesError::Undecided(Refusal::new("strong-undecided", "nobody answered", ""));
                Box::pin(async move {
                    written.map_err(|error| QueuesError::Disk(error.to_string()))?;
                    if unanswered { Err(lost()) } else { Ok(()) }
                })
            }),
            moved: Arc::default(),
            incarnation: self.lineage.last().map_or(ONE, |reign| reign.incarnation),
            lineage: self.lineage.clone(),
            names: self.names.clone(),
            standby: QueueSet::default().watch_standby(),
            awaited: Arc::default(),
        };
        Queues::open(chain, self.files(), around, &tokio::runtime::Handle::current()).unwrap()
    }

    async fn block(&self) -> u64 {
        self.fixture.send(&self.fixture.rich, 1, "").await;
        self.fixture.chain.tips().applied.height
    }
}

fn registration(name: &str, more: Value) -> Registration {
    let mut object = json!({"queueName": name, "routingKeys": ["MQBlock"]});
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    Registration::from_json(&object).unwrap()
}

async fn window(feed: &mut Feed) -> Vec<Event> {
    let window = tokio::time::timeout(WAIT, feed.window()).await;
    let events = window.expect("events in time").unwrap();
    feed.confirmed();
    events
}

/// Acknowledges; how far the queue is then, and whether the event was lost.
async fn acknowledge(queues: &Queues, name: &str, id: &str) -> String {
    let done = queues.acknowledge(name, id.parse().unwrap()).await.unwrap();
    format!("{}{}", done.cursor, if done.lost { " lost" } else { "" })
}

fn ids(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.after.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_nobody_answered_counts_as_the_disk_has_it() {
    let mut bench = Bench::new();
    bench.unanswered = true;
    let queues = bench.open();
    let lost = queues.register(registration("q", json!({}))).await.unwrap_err();
    assert!(matches!(lost, QueuesError::Undecided(_)), "{lost}");
    assert!(queues.registry().get("q").is_ok(), "it is on the disk");
    let again = queues.register(registration("q", json!({}))).await.unwrap_err();
    assert!(matches!(again, QueuesError::Refused(_)), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_comes_again_also_after_a_restart() {
    let bench = Bench::new();
    let queues = bench.open();
    let exchanger = queues.registry().exchanger().to_owned();
    queues
        .register(registration("q", json!({"fromBlock": 1})))
        .await
        .unwrap();
    while bench.block().await < 3 {}
    let mut feed = queues.feed("q", None).unwrap();
    let mut seen = ids(&window(&mut feed).await);
    while seen.len() < 3 {
        seen.extend(ids(&window(&mut feed).await));
    }
    assert_eq!(seen[..3], ["1", "2", "3"]);
    assert_eq!(ids(&window(&mut queues.feed("q", None).unwrap()).await)[0], "1");
    let resumed = queues.feed("q", Some("1".parse().unwrap()));
    assert_eq!(ids(&window(&mut resumed.unwrap()).await)[0], "2");
    assert_eq!(acknowledge(&queues, "q", "2").await, "2");
    // An older one changes nothing, one that was never told is refused.
    assert_eq!(acknowledge(&queues, "q", "1").await, "2");
    assert!(queues.acknowledge("q", "999".parse().unwrap()).await.is_err());
    queues.close().await;
    drop((feed, queues));

    let again = bench.open();
    assert_eq!(again.registry().exchanger(), exchanger);
    assert_eq!(again.rows()[0].cursor.to_string(), "2");
    assert_eq!(ids(&window(&mut again.feed("q", None).unwrap()).await)[0], "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_follows_the_chain_and_ends_with_its_queue() {
    let bench = Bench::new();
    let queues = bench.open();
    let (_, exchanger) = queues.register(registration("q", json!({}))).await.unwrap();
    let mut feed = queues.feed("q", None).unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(50), feed.window())
            .await
            .is_err(),
        "no block yet"
    );
    let height = bench.block().await;
    assert_eq!(ids(&window(&mut feed).await).last().unwrap(), &height.to_string());
    assert_eq!(
        queues.unregister("q", &exchanger).await.unwrap(),
        height,
        "nothing was acknowledged"
    );
    let end = tokio::time::timeout(WAIT, feed.window()).await.unwrap();
    assert!(end.unwrap_err().to_string().contains("unregistered"));
    queues.register(registration("q", json!({}))).await.unwrap();
    let mut other = queues.feed("q", None).unwrap();
    queues.close().await;
    assert!(tokio::time::timeout(WAIT, other.window()).await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delayed_queue_waits_for_an_attached_standby() {
    let bench = Bench::new();
    let queues = bench.open();
    queues
        .register(registration("slow", json!({"delay": true, "fromBlock": 1})))
        .await
        .unwrap();
    bench.fixture.chain.copy_holds(Some(0));
    let height = bench.block().await;
    let mut feed = queues.feed("slow", None).unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(50), feed.window())
            .await
            .is_err()
    );
    bench.fixture.chain.copy_holds(Some(1));
    assert_eq!(ids(&window(&mut feed).await), ["1"]);
    bench.fixture.chain.copy_holds(None);
    let next = bench.block().await;
    assert!(next > height);
    let mut last = ids(&window(&mut feed).await);
    while last.last() != Some(&next.to_string()) {
        last = ids(&window(&mut feed).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_or_failed_change_leaves_files_and_memory_as_they_were() {
    let bench = Bench::new();
    let queues = bench.open();
    queues.register(registration("q", json!({}))).await.unwrap();
    let path = bench.directory.path().join("mq/registry");
    let (before, bytes) = (queues.registry(), std::fs::read(&path).unwrap());
    assert!(queues.register(registration("q", json!({}))).await.is_err());
    assert!(queues.unregister("q", "global_fa34664e_1").await.is_err());
    assert!(queues.delete_exchanger(before.exchanger()).await.is_err());
    assert_eq!((&*queues.registry(), std::fs::read(&path).unwrap()), (&*before, bytes));
    // A disk that takes nothing: the directory is a file now.
    std::fs::rename(bench.directory.path().join("mq"), bench.directory.path().join("away")).unwrap();
    std::fs::write(bench.directory.path().join("mq"), "").unwrap();
    let failed = queues.register(registration("r", json!({}))).await.unwrap_err();
    assert!(matches!(failed, QueuesError::Disk(_)), "{failed}");
    assert_eq!(&*queues.registry(), &*before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_half_missing_file_is_an_error_and_never_an_empty_registry() {
    let bench = Bench::new();
    let queues = bench.open();
    queues.register(registration("q", json!({}))).await.unwrap();
    bench.block().await;
    queues.acknowledge("q", "1".parse().unwrap()).await.unwrap();
    queues.close().await;
    let path = bench.directory.path().join("mq/registry");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(bench.files().read().is_err());
    std::fs::remove_file(&path).unwrap();
    let lost = bench.files().read().unwrap_err().to_string();
    assert!(lost.contains("missing"), "{lost}");
    std::fs::write(&path, good).unwrap();
    assert!(bench.files().read().unwrap().0.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_nodes_place_goes_on_below_what_it_holds_and_says_so_once() {
    let mut bench = Bench::new();
    let queues = bench.open();
    for (name, more) in [
        ("q", json!({"fromBlock": 1})),
        ("over", json!({"fromBlock": 1, "toBlock": 2})),
        ("behind", json!({"fromBlock": 1})),
    ] {
        queues.register(registration(name, more)).await.unwrap();
    }
    while bench.block().await < 4 {}
    for (name, id) in [("q", "4"), ("over", "2"), ("behind", "1")] {
        queues.acknowledge(name, id.parse().unwrap()).await.unwrap();
    }
    queues.close().await;

    // Another node held blocks up to 2 alone, and goes on from there.
    bench.taken_over(2, 3);
    let queues = bench.open();
    let at = |queues: &Queues, name: &str| {
        let row = queues
            .rows()
            .into_iter()
            .find(|row| row.queue.registration.queue == name);
        row.unwrap().cursor.to_string()
    };
    assert_eq!(["q", "over", "behind"].map(|name| at(&queues, name)), ["2", "2", "1"]);
    let mut feed = queues.feed("q", None).unwrap();
    let events = window(&mut feed).await;
    assert_eq!(ids(&events[..2]), ["3.stateUpdate", "3"]);
    assert!(events[0].message.contains("stateUpdate") && events[1].message.contains("MQBlock"));
    // Who saw more of the node before is told all the same.
    let resumed = window(&mut queues.feed("q", Some("4".parse().unwrap())).unwrap()).await;
    assert_eq!(ids(&resumed[..1]), ["3.stateUpdate"]);
    queues.acknowledge("q", "3@2-02020202".parse().unwrap()).await.unwrap();
    queues.close().await;
    // Once, and not again after a restart.
    let queues = bench.open();
    assert_eq!(at(&queues, "q"), "3");
    let after = window(&mut queues.feed("q", Some("2".parse().unwrap())).unwrap()).await;
    assert!(after.iter().all(|event| !event.message.contains("stateUpdate")));
}

/// Ids of the events that come next, as a consumer sees them.
async fn told(feed: &mut Feed) -> Vec<String> {
    let events = window(feed).await;
    events.iter().map(|event| feed.id(event).to_string()).collect()
}

impl Bench {
    /// Under whom the queues are opened from now on: who took over at `first`, after all before.
    fn taken_over(&mut self, number: u64, first: u64) {
        let incarnation = cvp_core::types::Incarnation {
            number,
            id: [number as u8; 16],
        };
        self.lineage.push(Reign {
            incarnation,
            first: Some(first),
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_the_lost_node_skips_no_block_that_was_made_anew() {
    let mut bench = Bench::new();
    let queues = bench.open();
    for name in ["acker", "reader"] {
        let from = registration(name, json!({"fromBlock": 1}));
        queues.register(from).await.unwrap();
    }
    while bench.block().await < 6 {}
    queues.close().await;
    bench.taken_over(2, 4);
    let queues = bench.open();
    // A late word: 6 was told by the node before, and this chain has made it anew.
    assert_eq!(acknowledge(&queues, "acker", "6").await, "3 lost");
    assert_eq!(acknowledge(&queues, "acker", "999").await, "3 lost");
    let next = told(&mut queues.feed("acker", None).unwrap()).await;
    assert_eq!(next[..2], ["4.stateUpdate@2-02020202", "4@2-02020202"]);
    // One consumer is further, and another comes back with what it saw of the node before.
    assert_eq!(acknowledge(&queues, "acker", "6@2-02020202").await, "6@2-02020202");
    let events = window(&mut queues.feed("acker", Some("6".parse().unwrap())).unwrap()).await;
    assert!(events[0].message.contains("stateUpdate"), "{events:?}");
    assert_eq!(ids(&events)[..3], ["4.stateUpdate", "4", "5"]);
    // Nobody acknowledges, and a consumer goes on where it was.
    for (seen, next) in [
        ("2", "3"),
        ("3", "4.stateUpdate@2-02020202"),
        ("4.stateUpdate@2-02020202", "4@2-02020202"),
        ("4@2-02020202", "5@2-02020202"),
        ("5@2-02020202", "6@2-02020202"),
    ] {
        let mut feed = queues.feed("reader", Some(seen.parse().unwrap())).unwrap();
        assert_eq!(told(&mut feed).await[0], next, "after {seen}");
    }
    for unknown in ["6@7-07070707", "999@2-02020202"] {
        let id = unknown.parse().unwrap();
        assert!(queues.acknowledge("reader", id).await.is_err(), "{unknown}");
        assert!(queues.feed("reader", Some(id)).is_err(), "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_take_overs_in_a_row_are_both_announced() {
    let mut bench = Bench::new();
    let queues = bench.open();
    for name in ["silent", "reader", "half"] {
        let from = registration(name, json!({"fromBlock": 1}));
        queues.register(from).await.unwrap();
    }
    queues
        .register(registration("later", json!({"fromBlock": 100})))
        .await
        .unwrap();
    while bench.block().await < 8 {}
    queues.close().await;
    bench.taken_over(2, 4);
    let queues = bench.open();
    assert_eq!(acknowledge(&queues, "reader", "5@2-02020202").await, "5@2-02020202");
    let heard = "4.stateUpdate@2-02020202";
    assert_eq!(acknowledge(&queues, "half", heard).await, heard);
    queues.close().await;
    bench.taken_over(3, 7);
    let queues = bench.open();
    let first = |events: &[Event]| {
        events
            .iter()
            .find(|event| event.message.contains("stateUpdate"))
            .cloned()
    };
    let mut feed = queues.feed("silent", None).unwrap();
    let events = window(&mut feed).await;
    assert_eq!(
        first(&events).unwrap().after.to_string(),
        "4.stateUpdate",
        "one word for both"
    );
    assert!(first(&events).unwrap().message.contains("\"height\":4"));
    // The first one was told to this queue.
    let events = window(&mut queues.feed("reader", None).unwrap()).await;
    assert_eq!(ids(&events)[..3], ["6", "7.stateUpdate", "7"]);
    assert!(first(&events).unwrap().message.contains("\"height\":7"));
    // What the second node told is of a chain that ends at 6.
    assert_eq!(
        acknowledge(&queues, "silent", "8@2-02020202").await,
        "6@2-02020202 lost"
    );
    let events = window(&mut queues.feed("silent", None).unwrap()).await;
    assert_eq!(ids(&events)[..2], ["7.stateUpdate", "7"]);
    // A take-over was confirmed, and nothing behind it, when the next one came.
    let events = window(&mut queues.feed("half", None).unwrap()).await;
    assert_eq!(ids(&events)[..5], ["4", "5", "6", "7.stateUpdate", "7"]);
    let after = window(
        &mut queues
            .feed("half", Some("4.stateUpdate@2-02020202".parse().unwrap()))
            .unwrap(),
    )
    .await;
    assert_eq!(ids(&after), ids(&events));
    // What begins above all of it stays where it begins, and holds no block back.
    let rows = queues.rows();
    let later = rows.iter().find(|row| row.queue.registration.queue == "later");
    assert_eq!(later.unwrap().cursor.to_string(), "99");
    queues.close().await;
    assert_eq!(queues.needs_from(), Some(4), "half has 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_namespace_that_was_started_after_a_promotion_counts_after_the_next_one() {
    let mut bench = Bench::new();
    let queues = bench.open();
    queues
        .register(registration("q", json!({"fromBlock": 1})))
        .await
        .unwrap();
    while bench.block().await < 4 {}
    queues.close().await;
    // The namespace did not run when its node was promoted: the lineage does not say where it goes on, and the chain does.
    bench.taken_over(2, 5);
    bench.lineage.last_mut().unwrap().first = None;
    let queues = bench.open();
    let queue = queues.registry().get("q").unwrap().clone();
    assert_eq!(queue.first, 1);
    let id = queues.id("5".parse::<EventId>().unwrap().after).to_string();
    assert_eq!(id, "5@2-02020202");
    queues.close().await;
    while bench.block().await < 7 {}
    bench.taken_over(3, 7);
    let queues = bench.open();
    assert_eq!(acknowledge(&queues, "q", "4").await, "4");
    for of_second in ["4@2-02020202", "6@2-02020202"] {
        assert!(
            queues.feed("q", Some(of_second.parse().unwrap())).is_ok(),
            "{of_second}"
        );
        let id = of_second.parse().unwrap();
        assert!(queues.acknowledge("q", id).await.is_ok(), "{of_second}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_cursors_are_of_a_node_that_was_replaced_before_skips_nothing_of_what_came_between() {
    let mut bench = Bench::new();
    let queues = bench.open();
    queues
        .register(registration("q", json!({"fromBlock": 1})))
        .await
        .unwrap();
    while bench.block().await < 8 {}
    assert_eq!(acknowledge(&queues, "q", "6").await, "6");
    queues.close().await;
    // Another node took over at 4, and was lost before this one had heard of its cursors.
    bench.taken_over(2, 4);
    bench.taken_over(3, 7);
    let queues = bench.open();
    let events = window(&mut queues.feed("q", None).unwrap()).await;
    assert_eq!(ids(&events)[..3], ["4.stateUpdate", "4", "5"]);
}
