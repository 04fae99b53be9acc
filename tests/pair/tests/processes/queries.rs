//! Provider and receiver answer every documented query byte for byte alike, at every height of a mixed chain.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cvp_core::chain::Kind;
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{
    RECEIVER, ec, ed25519, now, send, send_by, set_chain_id, settled, sm2, transaction, transfer, wait_shown,
};
use serde_json::{Value, json};

/// What the documentation says of the JSON-RPC surface.
const PAGE: &str = include_str!("../../../../docs/json-rpc.md");
/// A funded account of the development genesis.
const FUNDED: &str = "0x52ca039c10121c19b785b953c4f1169fcc126ab7";
/// The payer has this much at most.
const TOO_MUCH: u64 = u64::MAX;

/// One question with the code that its answer must have, on both ends.
struct Ask {
    method: &'static str,
    params: Value,
    code: i64,
}

fn ask(method: &'static str, params: Value) -> Ask {
    refused(method, params, 0)
}

fn refused(method: &'static str, params: Value, code: i64) -> Ask {
    Ask { method, params, code }
}

/// A transaction of the chain, and the code that its receipt answers with.
struct Sent {
    hash: String,
    code: i64,
}

/// All signature kinds and all kinds of transaction that are executed, failed ones of each among them, several to a block.
fn mixed_chain(rpc: &Rpc) -> Result<Vec<Sent>> {
    let (ec, sm2, ed) = (ec()?, sm2()?, ed25519()?);
    let invoke = "contract_invokeContract";
    let mut sent = Vec::new();
    for round in 0..4_u64 {
        let evm = |signer, value, extra| transaction(signer, Kind::Evm, &[], RECEIVER, value, extra);
        let group = [
            ("tx_sendTransaction", 0, transfer(&ec, round, "")),
            (
                "tx_sendTransaction",
                0,
                transfer(&sm2, 1, "evidence: käse & 存证 = <ok>"),
            ),
            (
                "tx_sendTransaction",
                0,
                transfer(&ed, 0, "evidence of an account without funds"),
            ),
            (
                "tx_sendTransaction",
                -32002,
                transfer(&ed, 1_000 + round, "this one cannot pay"),
            ),
            ("tx_sendTransaction", -32002, transfer(&ec, TOO_MUCH, "")),
            ("tx_sendTransaction", 0, transfer(&ec, 2, &"long ".repeat(200))),
            ("tx_sendTransaction", 0, evm(&ec, 3 + round, "")),
            (invoke, 0, evm(&sm2, 0, "EVM-typed evidence")),
            (invoke, -32002, evm(&sm2, TOO_MUCH, "EVM-typed, and cannot pay")),
            // Once it is set; later ones, and those of others, are executed and say no.
            (invoke, 0, set_chain_id(&sm2, "mixed")),
            (invoke, 0, set_chain_id(&ed, "other")),
        ];
        for (method, code, params) in group {
            let hash = send_by(rpc, method, params)?;
            sent.push(Sent { hash, code });
        }
        if let Some(last) = sent.last() {
            settled(rpc, &last.hash)?;
        }
    }
    for it in &sent {
        let answer = settled(rpc, &it.hash)?;
        ensure!(answer["code"] == it.code, "{}: {answer}", it.hash);
    }
    Ok(sent)
}

/// Every query that names a block. `valid` is how many transactions it lists, `failed` whether the chain holds failed ones.
fn by_block(number: u64, hash: &str, valid: u64, tip: u64) -> Vec<Ask> {
    let hex = format!("0x{number:x}");
    let range = json!([{"from": number, "to": tip}]);
    let page = json!([{"blkNumber": number, "txIndex": 0, "minBlkNumber": 0, "maxBlkNumber": tip, "separated": 0,
                       "pageSize": 3, "containCurrent": true}]);
    let first = if valid > 0 { 0 } else { -32602 };
    let receiver = format!("0x{}", hex::encode(RECEIVER));
    let mut asks = vec![
        ask("block_getBlockByNumber", json!([number, false])),
        ask("block_getBlockByNumber", json!([hex, true])),
        ask("block_getBlockByHash", json!([hash, false])),
        ask("block_getBlockByHash", json!([hash, true])),
        ask(
            "block_getBlocks",
            json!([{"from": number, "to": number, "isPlain": true}]),
        ),
        ask(
            "block_getBlocksWithLimit",
            json!([{"from": number, "to": tip, "isPlain": false, "metadata": {"pagesize": 2}}]),
        ),
        ask(
            "block_getBatchBlocksByNumber",
            json!([{"numbers": [number, tip], "isPlain": false}]),
        ),
        ask(
            "block_getBatchBlocksByHash",
            json!([{"hashes": [hash], "isPlain": true}]),
        ),
        refused("tx_getTransactionByBlockHashAndIndex", json!([hash, 0]), first),
        refused("tx_getTransactionByBlockNumberAndIndex", json!([number, 0]), first),
        refused("tx_getTransactionByBlockNumberAndIndex", json!([number, 9999]), -32602),
        ask("tx_getBlockTransactionCountByHash", json!([hash])),
        ask("tx_getBlockTransactionCountByNumber", json!([number])),
        ask("tx_getInvalidTransactionsByBlockHash", json!([hash])),
        ask("tx_getInvalidTransactionsByBlockNumber", json!([number])),
        ask(
            "tx_getTransactionsWithLimit",
            json!([{"from": number, "to": tip, "metadata": {"pagesize": 2}}]),
        ),
        ask(
            "tx_getTransactionsCountByContractAddr",
            json!([{"from": number, "to": tip, "address": receiver, "txExtra": false}]),
        ),
        ask(
            "tx_getTransactionsCountByContractName",
            json!([{"from": number, "to": tip, "cname": "no.contract", "txExtra": false}]),
        ),
    ];
    for method in [
        "block_getAvgGenerateTimeByBlockNumber",
        "tx_getTxAvgTimeByBlockNumber",
        "tx_getTransactions",
        "tx_getDiscardTransactions",
        "tx_getInvalidTransactionsWithLimit",
    ] {
        asks.push(ask(method, range.clone()));
    }
    for method in [
        "tx_getNextPageTransactions",
        "tx_getPrevPageTransactions",
        "tx_getNextPageInvalidTransactions",
        "tx_getPrevPageInvalidTransactions",
    ] {
        asks.push(ask(method, page.clone()));
    }
    asks
}

/// Every query of a span of time.
fn by_time(from: u64, to: u64) -> Vec<Ask> {
    let plain = json!([{"startTime": from, "endTime": to}]);
    let paged = json!([{"startTime": from, "endTime": to, "metadata": {"pagesize": 3}}]);
    let mut asks: Vec<Ask> = [
        "block_getBlocksByTime",
        "block_queryTPS",
        "tx_getTransactionsByTime",
        "tx_getDiscardTransactionsByTime",
        "tx_getTransactionsCountByTime",
        "tx_getInvalidTransactionsCountByTime",
    ]
    .into_iter()
    .map(|method| ask(method, plain.clone()))
    .collect();
    asks.push(ask("tx_getTransactionsByTimeWithLimit", paged.clone()));
    asks.push(ask("tx_getInvalidTransactionsByTimeWithLimit", paged));
    asks
}

/// Every query that names a transaction.
fn by_transaction(sent: &Sent) -> Vec<Ask> {
    let hash = &sent.hash;
    let unknown = format!("0x{}", "1".repeat(64));
    vec![
        ask("tx_getTransactionByHash", json!([hash])),
        refused("tx_getTransactionReceipt", json!([hash]), sent.code),
        refused("tx_getConfirmedTransactionReceipt", json!([hash]), sent.code),
        refused("tx_getTransactionReceiptWithGas", json!([hash]), sent.code),
        refused("tx_getTransactionReceiptWithSignature", json!([hash]), sent.code),
        ask("tx_getBatchTransactions", json!([{"hashes": [hash, hash]}])),
        refused("tx_getBatchTransactions", json!([{"hashes": [hash, unknown]}]), -32001),
        ask("tx_getBatchReceipt", json!([{"hashes": [hash, unknown]}])),
    ]
}

/// Queries of the whole chain, of accounts and contracts, and questions that have no answer.
fn of_chain() -> Vec<Ask> {
    let account = format!("0x{}", hex::encode(RECEIVER));
    let unknown = format!("0x{}", "1".repeat(64));
    let nobody = format!("0x{}", "01".repeat(20));
    vec![
        ask("block_latestBlock", json!([])),
        ask("block_getChainHeight", json!([])),
        ask("block_getGenesisBlock", json!([])),
        ask("block_getBlockByNumber", json!(["latest", false])),
        refused("block_getBlockByNumber", json!([1_000_000, false]), -32602),
        refused("block_getBlockByNumber", json!(["no number", false]), -32602),
        refused("block_getBlockByHash", json!(["0x00", false]), -32602),
        refused("block_getBlockByHash", json!([unknown, false]), -32001),
        refused("tx_getTransactionByHash", json!([unknown]), -32001),
        refused("tx_getTransactionReceipt", json!([unknown]), -32001),
        ask("tx_getTransactionsCount", json!([])),
        ask("tx_getInvalidTransactionsCount", json!([])),
        ask("tx_getTransactionsVersion", json!([])),
        ask("tx_getGasPrice", json!([])),
        ask("account_getBalance", json!([account])),
        ask("account_getBalance", json!([FUNDED])),
        ask("account_getRoles", json!([FUNDED])),
        ask("account_getAccountsByRole", json!(["admin"])),
        ask("account_getStatus", json!([FUNDED])),
        refused("account_getStatus", json!([nobody]), -32009),
        ask("version_getVersions", json!([])),
        ask("version_getHyperchainVersionFromBin", json!(["2.11.0"])),
        refused("version_getHyperchainVersionFromBin", json!(["9.9.9"]), -32001),
        ask("version_getSupportedVersionByHostname", json!(["node1"])),
        refused("version_getSupportedVersionByHostname", json!(["node9"]), -32001),
        ask("contract_getContractCountByAddr", json!([FUNDED])),
        ask("contract_getDeployedList", json!([FUNDED])),
        ask("contract_getCode", json!([account])),
        ask("contract_getStatus", json!([account])),
        ask("contract_getStatusByCName", json!(["no.contract"])),
        // This release runs no contract, so nobody made one.
        refused("contract_getCreator", json!([account]), -32001),
        refused("contract_getCreateTime", json!([account]), -32001),
        refused("contract_getCreatorByCName", json!(["no.contract"]), -32001),
        refused("contract_getCreateTimeByCName", json!(["no.contract"]), -32001),
        ask("did_getChainID", json!([])),
        ask("mq_getAllQueueNames", json!([])),
        refused("tx_getNothing", json!([]), -32601),
    ]
}

/// The queries in the page's table of methods, `node_*` apart: those say what a node is.
fn documented() -> Result<BTreeSet<String>> {
    let (_, table) = PAGE
        .split_once("| family | methods |")
        .context("the page has no table of methods")?;
    let mut methods = BTreeSet::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let mut cells = row.split('|').skip(1);
        let (family, names) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        let prefix = family
            .split([',', ' '])
            .find(|word| !word.is_empty())
            .context("a row without family")?;
        for name in names.split('`').skip(1).step_by(2) {
            methods.insert(if name.contains('_') {
                name.to_owned()
            } else {
                format!("{prefix}_{name}")
            });
        }
    }
    methods.retain(|method| !method.starts_with("node_"));
    ensure!(methods.len() > 60, "only {} methods in the table", methods.len());
    Ok(methods)
}

/// Both ends of a pair, and what they were asked.
struct Both {
    ours: Rpc,
    theirs: Rpc,
    asked: BTreeSet<&'static str>,
}

impl Both {
    fn compare(&mut self, asks: Vec<Ask>) -> Result<()> {
        for Ask { method, params, code } in asks {
            let (a, b) = (
                self.ours.text(method, &params, 7)?,
                self.theirs.text(method, &params, 7)?,
            );
            if a != b {
                bail!("{method} {params}:\nprovider {a}\nreceiver {b}");
            }
            let answer: Value = serde_json::from_str(&a)?;
            ensure!(answer["code"] == code, "{method} {params}: code {code} expected in {a}");
            self.asked.insert(method);
        }
        Ok(())
    }
}

#[test]
fn both_ends_answer_alike_at_every_height() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let began = now() - 1;
    let ours = pair.provider.rpc();
    let sent = mixed_chain(&ours)?;
    let tip = ours.height()?;
    pair.wait_durable("global", tip)?;
    let theirs = pair.receiver.rpc();
    wait_shown(&theirs, tip, Duration::from_secs(10))?;

    let mut both = Both {
        ours: ours.clone(),
        theirs: theirs.clone(),
        asked: BTreeSet::new(),
    };
    for number in 0..=tip {
        let block = ours.call("block_getBlockByNumber", json!([number, false]))?;
        let hash = block["hash"].as_str().context("a block without hash")?;
        let transactions = block["transactions"].as_array().context("a block without list")?;
        both.compare(by_block(number, hash, transactions.len() as u64, tip))?;
        if let Some(time) = transactions.first().and_then(|it| it["blockTimestamp"].as_u64()) {
            both.compare(by_time(time, now()))?;
            both.compare(by_time(began, time))?;
        }
    }
    for it in &sent {
        both.compare(by_transaction(it))?;
    }
    both.compare(by_time(1, 2))?;
    both.compare(of_chain())?;
    let missing: Vec<String> = documented()?
        .into_iter()
        .filter(|method| !both.asked.contains(method.as_str()))
        .collect();
    ensure!(missing.is_empty(), "documented and not asked: {missing:?}");
    // A standby refuses what is not a query, whatever its shape.
    let refused = theirs.refused("tx_sendTransaction", json!([transfer(&ec()?, 1, "")]))?;
    ensure!(refused == -32023, "a receiver answered a send with {refused}");
    Ok(())
}

#[test]
fn a_simulation_moves_nothing() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provider.start()?;
    let rpc = pair.provider.rpc();
    let account = format!("0x{}", hex::encode(RECEIVER));
    for method in ["tx_sendTransaction", "contract_invokeContract"] {
        let mut params = transfer(&ec()?, 5, "");
        params["simulate"] = true.into();
        let answer = rpc.answer(method, json!([params]))?;
        ensure!(answer["code"] == -32602, "{answer}");
        ensure!(
            answer["message"]
                .as_str()
                .is_some_and(|text| text.contains("simulation is not supported yet")),
            "{answer}"
        );
        // The same transaction goes through when it is meant: it was not kept.
        params["simulate"] = false.into();
        settled(&rpc, &send(&rpc, params)?)?;
    }
    ensure!(rpc.call("account_getBalance", json!([account]))? == "0xa");
    Ok(())
}
