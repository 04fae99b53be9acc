//! What a namespace has at a broker that nobody answers at: whose a name is, and until when.

use cvp_core::config::BrokerUrl;
use cvp_core::types::Namespace;

use super::*;
use crate::mq::names::place_of;

#[tokio::test(flavor = "multi_thread")]
async fn what_another_namespace_has_at_the_broker_is_not_removed_there() {
    // Nobody answers there.
    let url = BrokerUrl::new("amqp://127.0.0.1:1/");
    let mut bench = Bench::new();
    bench.broker = Broker::Rabbit(url.clone());
    let queues = bench.open();
    for name in ["own", "taken"] {
        let (_, exchanger) = queues.register(registration(name, json!({}))).await.unwrap();
        let queue = queues.registry().get(name).unwrap().clone();
        queues.makes(vec![queue]).await.unwrap();
        queues.unregister(name, &exchanger).await.unwrap();
    }
    let due = |due: crate::mq::leaving::Due| due.queues.into_iter().map(|(_, name, stands)| (name, stands));
    let both = |taken| [("own".to_owned(), true), ("taken".to_owned(), taken)];
    assert!(due(queues.leaving().await).eq(both(true)));
    queues.close().await;
    drop(queues);
    // A node on which another namespace registered the name meanwhile.
    bench.names = BrokerNames::default();
    let other = Namespace::new("ns1").unwrap();
    bench.names.take(&place_of(&url), "taken", &other).unwrap();
    let queues = bench.open();
    assert!(due(queues.leaving().await).eq(both(false)));
    queues.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_goes_when_the_registry_says_that_its_queue_is_gone_and_not_before() {
    let url = BrokerUrl::new("amqp://127.0.0.1:1/");
    let mut bench = Bench::new();
    bench.broker = Broker::Rabbit(url.clone());
    let queues = bench.open();
    let mut gone = Vec::new();
    for name in ["one", "two"] {
        let (_, exchanger) = queues.register(registration(name, json!({}))).await.unwrap();
        let queue = queues.registry().get(name).unwrap().clone();
        queues.makes(vec![queue.clone()]).await.unwrap();
        queues.unregister(name, &exchanger).await.unwrap();
        gone.push((queue.number, name.to_owned()));
    }
    let other = Namespace::new("ns1").unwrap();
    let is_free = |name: &str| bench.names.take(&place_of(&url), name, &other).is_ok();
    bench.holds.store(true, Ordering::SeqCst);
    queues.left_broker(&gone[..1]).await.unwrap();
    until(|| bench.held.load(Ordering::SeqCst) > 0).await;
    assert!(!is_free("one"), "who takes this node's place would remove it still");
    bench.holds.store(false, Ordering::SeqCst);
    until(|| is_free("one")).await;
    assert!(queues.registry().leaving().has(gone[1].0) && !is_free("two"));
    // What was removed, and could not be struck out before the node ended, is when it opens again.
    bench.holds.store(true, Ordering::SeqCst);
    queues.left_broker(&gone[1..]).await.unwrap();
    queues.close().await;
    drop(queues);
    let is_noted = || bench.files().read().unwrap().0.unwrap().leaving().has(gone[1].0);
    assert!(is_noted());
    bench.holds.store(false, Ordering::SeqCst);
    let queues = bench.open();
    until(|| !is_noted()).await;
    queues.close().await;
}

async fn until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(WAIT, holds).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_goes_where_it_was_made_also_when_the_node_itself_carries_the_messages_now() {
    let [here, elsewhere] = ["amqp://127.0.0.1:1/", "amqp://127.0.0.1:1/other"].map(BrokerUrl::new);
    let mut bench = Bench::new();
    bench.broker = Broker::Rabbit(here.clone());
    let queues = bench.open();
    for name in ["made", "never"] {
        queues.register(registration(name, json!({}))).await.unwrap();
    }
    let made = queues.registry().get("made").unwrap().clone();
    queues.makes(vec![made.clone()]).await.unwrap();
    queues.close().await;
    drop(queues);
    bench.broker = Broker::Embedded;
    let queues = bench.open();
    let exchanger = queues.registry().exchanger().to_owned();
    for name in ["made", "never"] {
        queues.unregister(name, &exchanger).await.unwrap();
    }
    assert!(
        queues.registry().leaving().has(made.number),
        "for who takes the node's place"
    );
    queues.close().await;
    drop(queues);
    for (broker, due) in [
        (elsewhere, vec![]),
        (here, vec![(made.number, "made".to_owned(), true)]),
    ] {
        bench.broker = Broker::Rabbit(broker);
        let queues = bench.open();
        assert_eq!(queues.leaving().await.queues, due);
        queues.close().await;
    }
}
