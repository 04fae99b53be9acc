//! Two nodes in one process: real links, chains and strategies, ledgers in memory.

use std::time::Duration;

use cvp_core::chain::{Genesis, genesis, takeover_delta};
use cvp_core::config::StrategyChoice;
use cvp_core::ledger::{Ledger, MemoryLedger};
use cvp_core::record::Delta;
use cvp_core::replication::{ChangesSetup, Inventory, Limits, NamespaceSetup, StrategySetup};
use cvp_core::session::{Identity, Lineage, NodeKey, SessionKind};
use cvp_core::strategy::{ChainSync, ConfigSync, IndexCheck, MqSync};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Hostname, Incarnation, NodeId, NodeRole, Position};

use super::strategies::Strategies;
use super::*;
use crate::config::Root;
use crate::link::Listener;
use crate::namespace::{ChainOptions, Verifier};

/// Longest wait for anything here.
const DEADLINE: Duration = Duration::from_secs(20);
const FIRST: Incarnation = Incarnation { number: 1, id: [5; 16] };

struct End {
    ledger: Arc<MemoryLedger>,
    chain: Arc<Chain>,
    replication: Replication,
    address: String,
    _listener: Listener,
    _dir: tempfile::TempDir,
}

fn hostname(role: Role) -> Hostname {
    Hostname::new(if role == Role::Provider { "node1" } else { "cvp" }).unwrap()
}

async fn end(role: Role, remotes: Vec<Remote>) -> End {
    let dir = tempfile::tempdir().unwrap();
    if role == Role::Provider {
        // Without a file of its own it would be no node.
        let configuration = dir.path().join("configuration");
        std::fs::create_dir_all(&configuration).unwrap();
        std::fs::write(configuration.join("system.toml"), "").unwrap();
    }
    let ns = Namespace::new("global").unwrap();
    let ledger = Arc::new(MemoryLedger::open(&ns, genesis(&ns, &Genesis::default()).unwrap()).unwrap());
    let provider = role == Role::Provider;
    let node_role = if provider { NodeRole::Vp } else { NodeRole::Cvp };
    let options = ChainOptions::new(ns.clone(), node_role);
    let chain = Chain::open(options, Arc::clone(&ledger) as _, Verifier::start(1).unwrap()).unwrap();
    let chains = ChainSet::new();
    chains.insert(Arc::clone(&chain));
    let strategies = Strategies::new(&dir.path().join("cache"), &dir.path().join("plugins")).unwrap();
    let choice = StrategyChoice {
        id: "default".into(),
        settings: "{}".into(),
    };
    let handles = NamespaceStrategies {
        chain_sync: strategies.start(&ns, role, &choice, 0).unwrap(),
        config_sync: strategies.start(&ns, role, &choice, 0).unwrap(),
        index_check: strategies.start(&ns, role, &choice, 0).unwrap(),
        mq_sync: strategies.start(&ns, role, &choice, 0).unwrap(),
    };
    let (send, accepted) = mpsc::channel(8);
    let listener = Listener::bind("127.0.0.1:0", None, send).await.unwrap();
    let setup = Setup {
        role,
        kind: SessionKind::Standby,
        hostname: hostname(role),
        identity: Identity {
            node_id: NodeId([1 + u8::from(provider); 16]),
            lineage: if provider {
                Lineage::begin(FIRST)
            } else {
                Lineage::default()
            },
        },
        binding: None,
        fenced: None,
        last_receiver: None,
        last_held: None,
        program: "test".into(),
        enabled: true,
        tls: false,
        node_key: NodeKey::default(),
        listen: listener.address().to_string(),
        self_section: vec![("global/self.type".into(), "\"vp\"".into())],
        namespaces: vec![NamespaceSetup {
            namespace: ns.clone(),
            role: node_role,
            genesis: ledger.genesis().hash,
            durable: ledger.tips().durable,
            applied: 0,
            history_from: 0,
            keep_blocks: 0,
            backfill: true,
            staged: None,
            chain_sync: StrategySetup {
                id: strategies.embedded::<ChainSync>(),
                stored: Vec::new(),
            },
            config_sync: StrategySetup {
                id: strategies.embedded::<ConfigSync>(),
                stored: Vec::new(),
            },
            index_check: StrategySetup {
                id: strategies.embedded::<IndexCheck>(),
                stored: Vec::new(),
            },
            mq_sync: StrategySetup {
                id: strategies.embedded::<MqSync>(),
                stored: Vec::new(),
            },
            index_enabled: false,
            kept_local: Vec::new(),
        }],
        ask: Vec::new(),
        notify: Vec::new(),
        copy: Inventory::default(),
        changes: ChangesSetup::default(),
        limits: Limits::default(),
        seed: 7,
    };
    let replication = Replication::start(Options {
        setup,
        chains,
        tls: None,
        remotes: Arc::new(move || Ok(remotes.clone())),
        known: Vec::new(),
        files: ControlFiles::new(dir.path().to_owned()),
        root: Root::new(dir.path()),
        strategies: HashMap::from([(ns, handles)]),
        queues: Default::default(),
        accepted,
    })
    .unwrap();
    End {
        ledger,
        chain,
        replication,
        address: listener.address().to_string(),
        _listener: listener,
        _dir: dir,
    }
}

/// A receiver of `provider`.
async fn receiver_of(provider: &End) -> End {
    let remote = Remote {
        hostname: hostname(Role::Provider),
        address: provider.address.clone(),
    };
    end(Role::Receiver, vec![remote]).await
}

/// The provider's first block, made once its pair allows it.
async fn first_block(provider: &End) -> Position {
    let mut standing = provider.replication.watch_standing();
    standing.wait_for(|standing| standing.may_make).await.unwrap();
    let chain = Arc::clone(&provider.chain);
    let before = Incarnation { number: 0, id: [0; 16] };
    let delta = Delta(takeover_delta(before, FIRST, 0));
    let making = move || {
        chain
            .begin_making(hostname(Role::Provider), FIRST, Some(delta))
            .unwrap()
    };
    tokio::task::spawn_blocking(making).await.unwrap()
}

/// Waits until the status of `end` satisfies `condition`.
async fn wait_status(end: &End, condition: impl Fn(&PairStatus) -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while !condition(&end.replication.status().await.unwrap().0) {
        ticks.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_copies_its_provider_and_both_are_normal() {
    let provider = end(Role::Provider, Vec::new()).await;
    let story = async {
        let receiver = receiver_of(&provider).await;
        let made = first_block(&provider).await;
        let mut tips = receiver.chain.watch_tips();
        let copied = tips.wait_for(|tips| tips.applied.height == 1).await.unwrap().applied;
        assert_eq!(copied, made);
        for end in [&provider, &receiver] {
            wait_status(end, |status| status.normal).await;
        }
        receiver.replication.quiesce().await;
        receiver.replication.shutdown().await;
        assert!(receiver.replication.status().await.is_none());
    };
    tokio::time::timeout(DEADLINE, story).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_fails_is_told_to_the_other_end() {
    let provider = end(Role::Provider, Vec::new()).await;
    let remote = Remote {
        hostname: hostname(Role::Provider),
        address: provider.address.clone(),
    };
    let receiver = end(Role::Receiver, vec![remote]).await;
    let story = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while receiver.replication.status().await.unwrap().0.peer.is_none() {
            ticks.tick().await;
        }
        provider.ledger.fail_next_sync();
        let chain = Arc::clone(&provider.chain);
        // Its take-over block is the first thing to be synced.
        let making = move || {
            let before = Incarnation { number: 0, id: [0; 16] };
            let delta = Delta(takeover_delta(before, FIRST, 0));
            chain.begin_making(hostname(Role::Provider), FIRST, Some(delta))
        };
        assert!(tokio::task::spawn_blocking(making).await.unwrap().is_err());
        provider.chain.synced();
        loop {
            let (status, _) = receiver.replication.status().await.unwrap();
            if status.reasons.iter().any(|reason| reason.code == "disk-failed") {
                return;
            }
            ticks.tick().await;
        }
    };
    tokio::time::timeout(DEADLINE, story).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_stopped_for_want_of_room_goes_on_by_itself() {
    let provider = end(Role::Provider, Vec::new()).await;
    let story = async {
        let receiver = receiver_of(&provider).await;
        receiver.ledger.set_full(true);
        let made = first_block(&provider).await;
        let code = |code: &'static str| move |status: &PairStatus| status.reasons.iter().any(|r| r.code == code);
        for end in [&receiver, &provider] {
            wait_status(end, code("disk-full")).await;
        }
        receiver.ledger.set_full(false);
        for end in [&provider, &receiver] {
            wait_status(end, |status| status.normal).await;
        }
        assert_eq!(receiver.ledger.tips().durable, made);
    };
    tokio::time::timeout(DEADLINE, story).await.unwrap();
}
