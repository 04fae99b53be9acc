//! Every method over a small chain made by the real executor, on the node that made it and on one that copied its records.

use std::sync::Arc;

use bytes::Bytes;
use cvp_core::chain::sign::Signer;
use serde_json::{Value, json};

use super::{NodeFacts, Rpc};
use crate::mq::QueueSet;
use crate::namespace::ChainSet;
use crate::namespace::tests::{Fixture, hostname, namespace};

/// A mixed chain: evidence, values, three signature kinds, a failed transfer.
struct Mixed {
    maker: Fixture,
    hashes: Vec<String>,
    failed: String,
}

async fn mixed() -> Mixed {
    let maker = Fixture::maker();
    let mut hashes = Vec::new();
    for (value, extra) in [(5, ""), (0, "evidence \u{e4} & = \"x\"")] {
        hashes.push(super::shape::bytes(&maker.send(&maker.rich, value, extra).await));
    }
    for poor in [Signer::sm2([3; 32]).unwrap(), Signer::ed25519([4; 32])] {
        hashes.push(super::shape::bytes(&maker.send(&poor, 0, "free").await));
    }
    let poor = Signer::ec([5; 32]).unwrap();
    let failed = super::shape::bytes(&maker.send(&poor, 77, "").await);
    Mixed { maker, hashes, failed }
}

fn rpc(fixture: &Fixture, name: &str, receiver: bool) -> Arc<Rpc> {
    let chains = ChainSet::new();
    chains.insert(Arc::clone(&fixture.chain));
    let facts = NodeFacts {
        roles: Default::default(),
        vps: Default::default(),
        hostname: hostname(name),
        ip: "127.0.0.1".into(),
        p2p_port: 50011,
        receiver,
    };
    Rpc::new(chains, QueueSet::default(), facts)
}

async fn ask(rpc: &Arc<Rpc>, method: &str, params: Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "namespace": "global", "method": method, "params": params, "id": 1});
    let answer = rpc.answer(Bytes::from(request.to_string()), &Arc::default()).await;
    serde_json::from_str(&answer).unwrap()
}

async fn result(rpc: &Arc<Rpc>, method: &str, params: Value) -> Value {
    let answer = ask(rpc, method, params.clone()).await;
    assert_eq!(answer["code"], 0, "{method} {params}: {answer}");
    answer["result"].clone()
}

/// Every query of the chain, at `height` with `hash` of a block and `tx` of a transaction.
fn queries(height: u64, hash: &str, tx: &str, account: &str) -> Vec<(&'static str, Value)> {
    let range = json!([{"from": 1, "to": height}]);
    let times = json!([{"startTime": 1, "endTime": 9_000_000_000_000_000_000_u64}]);
    let page = json!([{"blkNumber": "1", "txIndex": "0", "minBlkNumber": "1", "maxBlkNumber": height.to_string(),
        "separated": "0", "pageSize": "10", "containCurrent": true}]);
    let mut all = vec![
        ("block_latestBlock", json!([])),
        ("block_getBlockByHash", json!([hash, false])),
        ("block_getBlockByNumber", json!([height, true])),
        ("block_getBlockByNumber", json!([format!("0x{height:x}"), false])),
        ("block_getBlocks", json!([{"from": 1, "to": height, "isPlain": true}])),
        (
            "block_getBlocksWithLimit",
            json!([{"from": "1", "to": "latest", "isPlain": false, "metadata": {"pagesize": 2}}]),
        ),
        (
            "block_getBatchBlocksByHash",
            json!([{"hashes": [hash], "isPlain": true}]),
        ),
        (
            "block_getBatchBlocksByNumber",
            json!([{"numbers": [1, "latest"], "isPlain": true}]),
        ),
        ("block_getChainHeight", json!([])),
        ("block_getGenesisBlock", json!([])),
        ("tx_getTransactionByHash", json!([tx])),
        ("tx_getTransactionReceipt", json!([tx])),
        ("tx_getConfirmedTransactionReceipt", json!([tx])),
        ("tx_getTransactionReceiptWithGas", json!([tx])),
        ("tx_getTransactionReceiptWithSignature", json!([tx])),
        ("tx_getTransactionByBlockHashAndIndex", json!([hash, 0])),
        ("tx_getTransactionByBlockNumberAndIndex", json!([height, "0x0"])),
        ("tx_getBlockTransactionCountByHash", json!([hash])),
        ("tx_getBlockTransactionCountByNumber", json!([height.to_string()])),
        ("tx_getInvalidTransactionsByBlockHash", json!([hash])),
        ("tx_getInvalidTransactionsByBlockNumber", json!([height.to_string()])),
        (
            "tx_getBatchReceipt",
            json!([{"hashes": [tx, format!("0x{}", "ab".repeat(32))]}]),
        ),
        ("tx_getBatchTransactions", json!([{"hashes": [tx]}])),
        ("tx_getTransactionsCount", json!([])),
        ("tx_getInvalidTransactionsCount", json!([])),
        ("tx_getTransactionsVersion", json!([])),
        ("tx_getGasPrice", json!([])),
        (
            "tx_getTransactionsByTimeWithLimit",
            json!([{"startTime": 1, "endTime": u64::MAX, "metaData": {"pageSize": 2}}]),
        ),
        (
            "tx_getTransactionsCountByContractAddr",
            json!([{"from": 1, "to": height, "address": account}]),
        ),
        ("account_getBalance", json!([account])),
        ("account_getRoles", json!([account])),
        ("account_getStatus", json!([account])),
        ("account_getAccountsByRole", json!(["admin"])),
        ("contract_getContractCountByAddr", json!([account])),
        ("contract_getDeployedList", json!([account])),
        ("contract_getStatus", json!([account])),
        ("contract_getCode", json!([account])),
        ("version_getVersions", json!([])),
        ("version_getHyperchainVersionFromBin", json!(["2.11.0"])),
        ("version_getSupportedVersionByHostname", json!(["node1"])),
        ("mq_getAllQueueNames", json!([])),
    ];
    for method in [
        "block_getAvgGenerateTimeByBlockNumber",
        "tx_getTxAvgTimeByBlockNumber",
        "tx_getTransactions",
    ] {
        all.push((method, range.clone()));
    }
    for method in ["tx_getTransactionsWithLimit", "tx_getInvalidTransactionsWithLimit"] {
        all.push((method, range.clone()));
    }
    for method in [
        "block_getBlocksByTime",
        "block_queryTPS",
        "tx_getTransactionsCountByTime",
        "tx_getInvalidTransactionsCountByTime",
        "tx_getTransactionsByTime",
        "tx_getDiscardTransactionsByTime",
    ] {
        all.push((method, times.clone()));
    }
    for method in [
        "tx_getNextPageTransactions",
        "tx_getPrevPageTransactions",
        "tx_getNextPageInvalidTransactions",
        "tx_getPrevPageInvalidTransactions",
    ] {
        all.push((method, page.clone()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_and_receiver_answer_every_query_with_the_same_bytes() {
    let mixed = mixed().await;
    let copy = Fixture::follower(|_| ());
    mixed.maker.copy_to(&copy);
    let tip = mixed.maker.chain.tips().applied.height;
    copy.applied(tip).await;
    let (provider, receiver) = (rpc(&mixed.maker, "node1", false), rpc(&copy, "cvp", true));
    let account = format!("0x{}", hex::encode(mixed.maker.rich.address()));
    for height in 1..=tip {
        let block = result(&provider, "block_getBlockByNumber", json!([height, true])).await;
        let hash = block["hash"].as_str().unwrap();
        let tx = &mixed.hashes[usize::try_from(height - 1).unwrap().min(mixed.hashes.len() - 1)];
        for (method, params) in queries(height, hash, tx, &account) {
            let text = json!({"method": method, "params": params, "id": "x"}).to_string();
            let ours = provider.answer(Bytes::from(text.clone()), &Arc::default()).await;
            let theirs = receiver.answer(Bytes::from(text), &Arc::default()).await;
            assert_eq!(ours, theirs, "{method}");
            assert!(!ours.contains("-32000") && !ours.contains("-32601"), "{method}: {ours}");
        }
    }
    for method in ["tx_sendTransaction", "contract_invokeContract", "nonsense"] {
        assert_eq!(ask(&receiver, method, json!([{}])).await["code"], -32023, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_and_transactions_have_the_platforms_shape() {
    let mixed = mixed().await;
    let rpc = rpc(&mixed.maker, "node1", false);
    let first = result(&rpc, "block_getBlockByNumber", json!(["0x1", false])).await;
    assert_eq!(first["number"], "0x1");
    assert_eq!(first["txcounts"], "0x1");
    assert!(first["writeTime"].is_u64() && first["avgTime"].as_str().unwrap().starts_with("0x"));
    assert!(first["hash"].as_str().unwrap().starts_with("0x0000000000000001"));
    let genesis = result(&rpc, "block_getBlockByNumber", json!([0, true])).await;
    assert_eq!(first["parentHash"], genesis["hash"]);
    assert!(genesis.get("transactions").is_none(), "plain");
    let tx = &first["transactions"][0];
    for text in [
        "blockNumber",
        "txIndex",
        "amount",
        "executeTime",
        "from",
        "to",
        "extra",
        "payload",
    ] {
        assert!(tx[text].is_string(), "{text}: {tx}");
    }
    assert_eq!(
        (&tx["amount"], &tx["payload"], &tx["vmType"]),
        (&json!("0x5"), &json!("0x0"), &json!("TRANSFER"))
    );
    assert!(tx["timestamp"].is_u64() && tx["nonce"].is_u64() && tx["blockTimestamp"].is_u64());
    let receipt = result(&rpc, "tx_getTransactionReceipt", json!([mixed.hashes[0]])).await;
    assert_eq!(
        (&receipt["ret"], &receipt["log"], &receipt["valid"]),
        (&json!("0x0"), &json!([]), &json!(true))
    );
    assert_eq!(receipt["contractAddress"].as_str().unwrap().len(), 42);
    let evidence = result(&rpc, "tx_getTransactionByHash", json!([mixed.hashes[1]])).await;
    assert_eq!(evidence["extra"], "evidence \u{e4} & = \"x\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_transaction_has_no_receipt_and_no_place_but_is_found() {
    let mixed = mixed().await;
    let rpc = rpc(&mixed.maker, "node1", false);
    assert_eq!(
        ask(&rpc, "tx_getTransactionReceipt", json!([mixed.failed])).await["code"],
        -32002
    );
    let found = result(&rpc, "tx_getTransactionByHash", json!([mixed.failed])).await;
    assert_eq!(found["invalid"], true);
    assert!(found["invalidMsg"].as_str().unwrap().contains("OUTOFBALANCE"));
    assert!(found.get("blockNumber").is_none());
    let discarded = result(&rpc, "tx_getDiscardTransactions", json!([])).await;
    assert_eq!(discarded.as_array().unwrap().len(), 1);
    let pages = result(
        &rpc,
        "tx_getInvalidTransactionsWithLimit",
        json!([{"from": "1", "to": "latest"}]),
    )
    .await;
    assert_eq!(
        (&pages["hasmore"], pages["data"].as_array().unwrap().len()),
        (&json!(false), 1)
    );
    let counts = result(&rpc, "tx_getTransactionsCount", json!([])).await;
    assert_eq!(counts["count"], "0x4");
    let invalid = result(&rpc, "tx_getInvalidTransactionsCount", json!([])).await;
    assert_eq!(invalid["count"], "0x1");
    let batch = result(
        &rpc,
        "tx_getBatchReceipt",
        json!([{"hashes": [mixed.hashes[0], mixed.failed, format!("0x{}", "00".repeat(32))]}]),
    )
    .await;
    let valid: Vec<&Value> = batch.as_array().unwrap().iter().map(|entry| &entry["valid"]).collect();
    assert_eq!(valid, [true, false, false]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_walk_the_chain_in_both_directions_without_a_gap() {
    let mixed = mixed().await;
    let rpc = rpc(&mixed.maker, "node1", false);
    for backward in [false, true] {
        let mut seen = Vec::new();
        let mut bookmark = Value::Null;
        loop {
            let metadata = json!({"pagesize": 1, "bookmark": bookmark, "backward": backward});
            let page = result(
                &rpc,
                "tx_getTransactionsWithLimit",
                json!([{"from": 1, "to": "latest", "metadata": metadata}]),
            )
            .await;
            for item in page["data"].as_array().unwrap() {
                seen.push(item["hash"].as_str().unwrap().to_owned());
                let number = u64::from_str_radix(&item["blockNumber"].as_str().unwrap()[2..], 16).unwrap();
                let index = u64::from_str_radix(&item["txIndex"].as_str().unwrap()[2..], 16).unwrap();
                bookmark = json!({"blkNum": number, "txIndex": index});
            }
            if page["hasmore"] == false {
                break;
            }
        }
        if !backward {
            seen.reverse();
        }
        assert_eq!(seen, mixed.hashes);
    }
    let next = json!([{"blkNumber": "1", "txIndex": "0", "minBlkNumber": "1", "maxBlkNumber": "4", "separated": "1",
        "pageSize": "1", "containCurrent": false}]);
    let next = result(&rpc, "tx_getNextPageTransactions", next).await;
    assert_eq!(next[0]["hash"], json!(mixed.hashes[2]));
    let before = json!([{"blkNumber": 4, "txIndex": 0, "minBlkNumber": 1, "maxBlkNumber": 4, "separated": 0,
        "pageSize": 2, "containCurrent": false}]);
    let before = result(&rpc, "tx_getPrevPageTransactions", before).await;
    assert_eq!(
        (&before[0]["hash"], &before[1]["hash"]),
        (&json!(mixed.hashes[1]), &json!(mixed.hashes[2]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn times_find_blocks_by_binary_search() {
    let mixed = mixed().await;
    let rpc = rpc(&mixed.maker, "node1", false);
    let tip = mixed.maker.chain.tips().applied.height;
    let mut times = Vec::new();
    for height in 1..=tip {
        let block = result(&rpc, "block_getBlockByNumber", json!([height, false])).await;
        times.push(block["transactions"][0]["blockTimestamp"].as_u64());
    }
    let (second, third) = (times[1].unwrap(), times[2].unwrap());
    let found = result(
        &rpc,
        "block_getBlocksByTime",
        json!([{"startTime": second, "endTime": third}]),
    )
    .await;
    assert_eq!(
        found,
        json!({"sumOfBlocks": "0x2", "startBlock": "0x2", "endBlock": "0x3"})
    );
    let none = result(&rpc, "block_getBlocksByTime", json!([{"startTime": 1, "endTime": 2}])).await;
    assert_eq!(
        none,
        json!({"sumOfBlocks": "0x0", "startBlock": null, "endBlock": null})
    );
    let count = result(
        &rpc,
        "tx_getTransactionsCountByTime",
        json!([{"startTime": second, "endTime": third}]),
    )
    .await;
    assert_eq!(count, "0x2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_has_the_documented_code() {
    let mixed = mixed().await;
    let provider = rpc(&mixed.maker, "node1", false);
    let no_hash = format!("0x{}", "ff".repeat(32));
    let nobody = format!("0x{}", "01".repeat(20));
    for (method, params, code) in [
        ("tx_test", json!([]), -32601),
        ("nothing", json!([]), -32601),
        ("tx_getTransactionReceipt", json!([no_hash]), -32001),
        ("tx_getTransactionByHash", json!([no_hash]), -32001),
        ("block_getBlockByHash", json!([no_hash]), -32001),
        ("block_getBlockByNumber", json!([99]), -32602),
        ("block_getBlockByNumber", json!(["x"]), -32602),
        ("block_getBlockByNumber", json!([]), -32602),
        ("tx_getTransactionByBlockNumberAndIndex", json!([1, 1]), -32602),
        ("block_getBlocksWithLimit", json!([{"from": 3, "to": 1}]), -32602),
        ("account_getStatus", json!([nobody]), -32009),
        ("contract_getCreator", json!([nobody]), -32001),
        ("did_getChainID", json!([]), -32022),
    ] {
        let answer = ask(&provider, method, params).await;
        assert_eq!(answer["code"], code, "{method}: {answer}");
        assert!(answer.get("result").is_none());
    }
    let unknown = provider
        .answer(
            Bytes::from_static(br#"{"namespace":"ns9","method":"tx_getGasPrice","id":4}"#),
            &Arc::default(),
        )
        .await;
    assert!(
        unknown.contains(r#""namespace":"ns9","id":4,"code":-32010"#),
        "{unknown}"
    );
    let empty = rpc(&Fixture::follower(|_| ()), "cvp", true);
    assert_eq!(ask(&empty, "block_latestBlock", json!([])).await["code"], -32011);
    assert_eq!(ask(&empty, "block_getChainHeight", json!([])).await["result"], "0x0");
    assert_eq!(
        result(&provider, "node_getNodeHash", json!([])).await,
        "fa34664ec14727c34943045bcaba9ef05d2c48e06d294c15effc900a5b4b663a"
    );
    assert_eq!(namespace().as_str(), "global");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_order_and_sends_go_through_it() {
    let fixture = Fixture::maker();
    let rpc = rpc(&fixture, "node1", false);
    let sends: Vec<Value> = (0..5)
        .map(|id| json!({"method": "tx_sendTransaction", "params": [fixture.transfer(&fixture.rich, 1, "")], "id": id}))
        .collect();
    let answers = rpc
        .answer(Bytes::from(Value::from(sends).to_string()), &Arc::default())
        .await;
    let answers: Value = serde_json::from_str(&answers).unwrap();
    for (at, answer) in answers.as_array().unwrap().iter().enumerate() {
        assert_eq!((&answer["id"], &answer["code"]), (&json!(at), &json!(0)), "{answer}");
        assert_eq!(answer["result"].as_str().unwrap().len(), 66);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_method_is_an_answer() {
    let running = super::Running {
        namespace: None,
        id: None,
        task: Ok(tokio::spawn(async { panic!("planted") })),
    };
    let (_, _, outcome) = running.finish().await;
    assert_eq!(outcome.unwrap_err().code, -32000);
}
