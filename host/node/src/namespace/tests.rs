//! A chain with the real executor and verifier over a ledger in memory: blocks, roles, duplicates, failures.

use std::sync::Arc;
use std::time::Duration;

use cvp_core::chain::genesis::{Genesis, genesis};
use cvp_core::chain::sign::{Signer, Transfer};
use cvp_core::chain::takeover_delta;
use cvp_core::ledger::{Ledger, MemoryLedger};
use cvp_core::record::{Delta, check_span, namespace_digest, parse};
use cvp_core::types::{Height, Hostname, Incarnation, Namespace, NodeRole, Refusal};
use serde_json::Value;

use super::chain::wall_clock;
use super::{Chain, ChainOptions, ChainState, Verifier};

pub const ONE: Incarnation = Incarnation { number: 1, id: [1; 16] };
const WAIT: Duration = Duration::from_secs(20);

/// A chain and what signs on it.
pub struct Fixture {
    pub chain: Arc<Chain>,
    pub ledger: Arc<MemoryLedger>,
    pub rich: Signer,
    nonce: std::sync::atomic::AtomicU64,
}

pub fn namespace() -> Namespace {
    Namespace::new("global").unwrap()
}

pub fn hostname(name: &str) -> Hostname {
    Hostname::new(name).unwrap()
}

impl Fixture {
    /// A follower; its genesis funds `rich` with 1,000.
    pub fn follower(options: impl FnOnce(&mut ChainOptions)) -> Self {
        let rich = Signer::ec([7; 32]).unwrap();
        let content = Genesis {
            ca_mode: "None".into(),
            alloc: [(rich.address(), "1000".to_owned())].into(),
            ..Genesis::default()
        };
        let record = genesis(&namespace(), &content).unwrap();
        let ledger = Arc::new(MemoryLedger::open(&namespace(), record).unwrap());
        let mut chosen = ChainOptions::new(namespace(), NodeRole::Vp);
        chosen.order.batch_timeout = Duration::from_millis(5);
        options(&mut chosen);
        let verifier = Verifier::start(2).unwrap();
        let chain = Chain::open(chosen, Arc::clone(&ledger) as Arc<dyn Ledger>, verifier).unwrap();
        Self {
            chain,
            ledger,
            rich,
            nonce: std::sync::atomic::AtomicU64::new(1),
        }
    }

    /// A chain that makes blocks as `node1`.
    pub fn maker() -> Self {
        let fixture = Self::follower(|_| ());
        fixture.chain.begin_making(hostname("node1"), ONE, None).unwrap();
        fixture
    }

    /// A signed transfer, new each time.
    pub fn transfer(&self, signer: &Signer, value: u64, extra: &str) -> Value {
        let nonce = self.nonce.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        signer.transfer(&Transfer {
            to: [9; 20],
            value,
            extra,
            timestamp: wall_clock(),
            nonce,
        })
    }

    /// Sends and waits until it is applied.
    pub async fn send(&self, signer: &Signer, value: u64, extra: &str) -> [u8; 32] {
        let hash = self.chain.submit(&self.transfer(signer, value, extra)).await.unwrap();
        let place = loop {
            match self.ledger.find_transaction(&hash).unwrap() {
                Some(place) => break place,
                None => tokio::task::yield_now().await,
            }
        };
        self.applied(place.height).await;
        hash
    }

    pub async fn applied(&self, height: Height) {
        let mut tips = self.chain.watch_tips();
        let reached = tips.wait_for(|tips| tips.applied.height >= height);
        tokio::time::timeout(WAIT, reached)
            .await
            .expect("applied in time")
            .unwrap();
    }

    /// Copies every record to `other`, as replication would.
    pub fn copy_to(&self, other: &Fixture) {
        let parent = other.ledger.tips().appended;
        let run = self.ledger.read(parent.height + 1, u64::MAX, usize::MAX).unwrap();
        let span = check_span(&namespace_digest(&namespace()), parent, run.bytes).unwrap();
        other.ledger.append(span).unwrap();
        other.ledger.sync().unwrap();
        other.chain.synced();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_becomes_a_block_and_times_never_decrease() {
    let fixture = Fixture::maker();
    for _ in 0..3 {
        fixture.send(&fixture.rich, 1, "").await;
    }
    let tip = fixture.chain.tips().applied.height;
    assert!(tip >= 1);
    let mut before = 0;
    for height in 0..=tip {
        let bytes = fixture.ledger.record(height).unwrap().unwrap();
        let header = parse(&bytes).unwrap().header().clone();
        assert!(header.time >= before);
        assert!(height == 0 || header.valid > 0, "no empty blocks");
        before = header.time;
    }
    fixture.chain.close();
    assert_eq!(fixture.chain.state(), ChainState::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_transaction_is_refused_in_the_pool_and_in_the_ledger() {
    let fixture = Fixture::maker();
    let transfer = fixture.transfer(&fixture.rich, 1, "once");
    let hash = fixture.chain.submit(&transfer).await.unwrap();
    assert_eq!(fixture.chain.submit(&transfer).await.unwrap_err().code, -32007);
    while fixture.ledger.find_transaction(&hash).unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    fixture.applied(1).await;
    assert_eq!(fixture.chain.submit(&transfer).await.unwrap_err().code, -32007);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_verified_and_transactions_admitted_while_the_maker_stands_still() {
    let fixture = Fixture::maker();
    fixture.send(&fixture.rich, 1, "").await;
    fixture.ledger.set_full(true);
    let height = fixture.chain.tips().applied.height;
    for nonce in 0..20 {
        let transfer = fixture.transfer(&fixture.rich, 1, &format!("{nonce}"));
        let admitted = tokio::time::timeout(WAIT, fixture.chain.submit(&transfer)).await;
        admitted.expect("admitted without a block").unwrap();
    }
    assert_eq!(fixture.chain.tips().applied.height, height);
    fixture.ledger.set_full(false);
    fixture.applied(height + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_is_busy_and_a_bad_request_has_its_code() {
    let fixture = Fixture::follower(|options| {
        options.order.pool_size = 2;
        options.order.batch_timeout = Duration::from_secs(3600);
    });
    fixture.chain.begin_making(hostname("node1"), ONE, None).unwrap();
    for _ in 0..2 {
        let transfer = fixture.transfer(&fixture.rich, 1, "");
        fixture.chain.submit(&transfer).await.unwrap();
    }
    let third = fixture.transfer(&fixture.rich, 1, "");
    let busy = fixture.chain.submit(&third).await.unwrap_err();
    assert_eq!((busy.code, busy.message.as_str()), (-32006, "system is too busy"));
    assert_eq!(fixture.chain.submit(&Value::from(7)).await.unwrap_err().code, -32602);
    let fresh = Fixture::maker();
    let mut forged = fresh.transfer(&fresh.rich, 1, "");
    forged["value"] = Value::from(2);
    assert_eq!(fresh.chain.submit(&forged).await.unwrap_err().code, -32003);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_changes_in_place_and_the_takeover_block_is_empty() {
    let provider = Fixture::maker();
    provider.send(&provider.rich, 5, "").await;
    let receiver = Fixture::follower(|_| ());
    let refused = receiver.chain.submit(&provider.transfer(&provider.rich, 1, "")).await;
    assert_eq!(refused.unwrap_err().code, -32024);
    provider.copy_to(&receiver);
    let height = provider.chain.tips().applied.height;
    receiver.applied(height).await;
    assert_eq!(receiver.chain.tips().applied, provider.chain.tips().applied);
    let two = Incarnation { number: 2, id: [2; 16] };
    let delta = Delta(takeover_delta(ONE, two, height));
    let tip = receiver
        .chain
        .begin_making(hostname("node1"), two, Some(delta))
        .unwrap();
    assert_eq!(tip.height, height + 1);
    let bytes = receiver.ledger.record(tip.height).unwrap().unwrap();
    let header = parse(&bytes).unwrap().header().clone();
    assert_eq!((header.valid, header.invalid, header.incarnation), (0, 0, two));
    receiver.send(&provider.rich, 1, "after").await;
    assert!(
        receiver.chain.begin_making(hostname("node1"), two, None).is_err(),
        "makes already"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_disk_stops_the_namespace_with_its_reason() {
    let fixture = Fixture::maker();
    fixture.send(&fixture.rich, 1, "").await;
    fixture.ledger.fail_next_sync();
    let transfer = fixture.transfer(&fixture.rich, 1, "");
    fixture.chain.submit(&transfer).await.unwrap();
    let mut state = fixture.chain.watch_state();
    let failed = state.wait_for(|state| matches!(state, ChainState::Failed(_)));
    tokio::time::timeout(WAIT, failed)
        .await
        .expect("fails in time")
        .unwrap();
    let refused = fixture
        .chain
        .submit(&fixture.transfer(&fixture.rich, 1, ""))
        .await
        .unwrap_err();
    assert_eq!(refused.code, -32024);
    assert!(refused.message.contains("planted"), "{refused}");
    fixture.chain.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_chain_makes_no_more_blocks() {
    let fixture = Fixture::maker();
    fixture.send(&fixture.rich, 1, "").await;
    fixture
        .chain
        .fence(Refusal::new("fenced", "cvp took over as node1", ""));
    let refused = fixture
        .chain
        .submit(&fixture.transfer(&fixture.rich, 1, ""))
        .await
        .unwrap_err();
    assert_eq!(refused.code, -32024);
    assert!(refused.message.contains("took over"), "{refused}");
    let again = fixture.chain.begin_making(hostname("node1"), ONE, None);
    assert!(again.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_becomes_the_maker_goes_by_what_it_was_told_last() {
    let fixture = Fixture::follower(|options| {
        options.order.batch_timeout = Duration::from_secs(3_600);
        options.role = NodeRole::Cvp;
        options.index.enable = true;
    });
    let mut options = ChainOptions::new(namespace(), NodeRole::Vp);
    options.order.batch_timeout = Duration::from_millis(5);
    fixture.chain.set_options(options);
    fixture.chain.begin_making(hostname("node1"), ONE, None).unwrap();
    // Waits for its block.
    fixture.send(&fixture.rich, 1, "").await;
    let options = fixture.chain.options();
    assert!(
        options.role == NodeRole::Vp && options.index.enable,
        "the index stays as it runs"
    );
}
