//! Provider and receiver answer every chain query byte for byte alike, at every height of a mixed chain.

use anyhow::{Context, Result, ensure};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::rpc::Rpc;
use cvp_pair::signer::{RECEIVER, ec, ed25519, send, settled, sm2, transfer};
use serde_json::{Value, json};

/// All signature kinds, failed transactions (nothing to pay with) and evidence; answers the hashes.
fn mixed_chain(rpc: &Rpc) -> Result<Vec<String>> {
    let (ec, sm2, ed) = (ec()?, sm2()?, ed25519()?);
    let mut hashes = Vec::new();
    for round in 0..4u64 {
        let group = [
            transfer(&ec, round, ""),
            transfer(&sm2, 1, "evidence: käse & 存证 = <ok>"),
            transfer(&ed, 0, "evidence of an account without funds"),
            transfer(&ed, 1_000 + round, "this one cannot pay"),
            transfer(&ec, 2, &"long ".repeat(200)),
        ];
        for params in group {
            hashes.push(send(rpc, params)?);
        }
        if let Some(last) = hashes.last() {
            settled(rpc, last)?;
        }
    }
    for hash in &hashes {
        settled(rpc, hash)?;
    }
    Ok(hashes)
}

/// Every query that names a block.
fn by_block(number: u64, hash: &str, tip: u64) -> Vec<(&'static str, Value)> {
    let hex = format!("0x{number:x}");
    let range = json!({"from": number, "to": tip});
    let page = json!({"blkNumber": number, "txIndex": 0, "minBlkNumber": 0, "maxBlkNumber": tip, "separated": 0,
                      "pageSize": 3, "containCurrent": true});
    vec![
        ("block_getBlockByNumber", json!([number, false])),
        ("block_getBlockByNumber", json!([hex, true])),
        ("block_getBlockByHash", json!([hash, false])),
        ("block_getBlockByHash", json!([hash, true])),
        (
            "block_getBlocksWithLimit",
            json!([{"from": number, "to": tip, "isPlain": false, "metadata": {"pagesize": 2}}]),
        ),
        (
            "block_getBlocks",
            json!([{"from": number, "to": number, "isPlain": true}]),
        ),
        (
            "block_getBatchBlocksByNumber",
            json!([{"numbers": [number, tip], "isPlain": false}]),
        ),
        (
            "block_getBatchBlocksByHash",
            json!([{"hashes": [hash], "isPlain": true}]),
        ),
        ("block_getAvgGenerateTimeByBlockNumber", json!([range])),
        ("tx_getTransactionByBlockHashAndIndex", json!([hash, 0])),
        ("tx_getTransactionByBlockNumberAndIndex", json!([number, 0])),
        ("tx_getTransactionByBlockNumberAndIndex", json!([number, 9999])),
        ("tx_getTxAvgTimeByBlockNumber", json!([range])),
        ("tx_getBlockTransactionCountByHash", json!([hash])),
        ("tx_getBlockTransactionCountByNumber", json!([number])),
        (
            "tx_getTransactionsWithLimit",
            json!([{"from": number, "to": tip, "metadata": {"pagesize": 2}}]),
        ),
        (
            "tx_getInvalidTransactionsWithLimit",
            json!([{"from": number, "to": tip}]),
        ),
        ("tx_getInvalidTransactionsByBlockHash", json!([hash])),
        ("tx_getInvalidTransactionsByBlockNumber", json!([number])),
        ("tx_getTransactions", json!([range])),
        ("tx_getDiscardTransactions", json!([range])),
        ("tx_getNextPageTransactions", json!([page])),
        ("tx_getPrevPageTransactions", json!([page])),
        ("tx_getNextPageInvalidTransactions", json!([page])),
        ("tx_getPrevPageInvalidTransactions", json!([page])),
        (
            "tx_getTransactionsCountByContractAddr",
            json!([{"from": number, "to": tip, "address": format!("0x{}", hex::encode(RECEIVER)), "txExtra": false}]),
        ),
    ]
}

/// Every query that names a transaction.
fn by_transaction(hash: &str) -> Vec<(&'static str, Value)> {
    vec![
        ("tx_getTransactionByHash", json!([hash])),
        ("tx_getTransactionReceipt", json!([hash])),
        ("tx_getConfirmedTransactionReceipt", json!([hash])),
        ("tx_getTransactionReceiptWithGas", json!([hash])),
        ("tx_getBatchTransactions", json!([{"hashes": [hash, "0x00"]}])),
        (
            "tx_getBatchReceipt",
            json!([{"hashes": [hash, format!("0x{}", "1".repeat(64))]}]),
        ),
    ]
}

/// Queries of the whole chain and of accounts.
fn of_chain(from: u64, to: u64) -> Vec<(&'static str, Value)> {
    let time = json!([{"startTime": from, "endTime": to}]);
    let account = format!("0x{}", hex::encode(RECEIVER));
    let funded = "0x52ca039c10121c19b785b953c4f1169fcc126ab7";
    vec![
        ("block_latestBlock", json!([])),
        ("block_getChainHeight", json!([])),
        ("block_getGenesisBlock", json!([])),
        ("block_getBlocksByTime", time.clone()),
        ("block_getBlockByNumber", json!(["latest", false])),
        ("block_getBlockByNumber", json!([1_000_000, false])),
        ("block_getBlockByHash", json!(["0x00", false])),
        ("tx_getTransactionsByTime", time.clone()),
        ("tx_getDiscardTransactionsByTime", time.clone()),
        ("tx_getTransactionsByTimeWithLimit", time.clone()),
        ("tx_getTransactionsCountByTime", time.clone()),
        ("tx_getInvalidTransactionsCountByTime", time),
        ("tx_getTransactionsVersion", json!([])),
        ("tx_getGasPrice", json!([])),
        ("account_getBalance", json!([account])),
        ("account_getBalance", json!([funded])),
        ("account_getRoles", json!([funded])),
        ("account_getAccountsByRole", json!(["admin"])),
        ("account_getStatus", json!([funded])),
        ("version_getVersions", json!([])),
        ("version_getHyperchainVersionFromBin", json!(["2.11.0"])),
        ("version_getSupportedVersionByHostname", json!(["node1"])),
        ("contract_getContractCountByAddr", json!([funded])),
        ("contract_getDeployedList", json!([funded])),
        ("contract_getCode", json!([account])),
        ("contract_getStatus", json!([account])),
        ("contract_getCreator", json!([account])),
        ("did_getChainID", json!([])),
        ("block_getBlockByNumber", json!(["no number", false])),
    ]
}

fn same(ours: &Rpc, theirs: &Rpc, method: &str, params: &Value) -> Result<()> {
    let (a, b) = (ours.text(method, params, 7)?, theirs.text(method, params, 7)?);
    ensure!(a == b, "{method} {params}:\nprovider {a}\nreceiver {b}");
    Ok(())
}

#[test]
fn both_ends_answer_alike_at_every_height() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let began = cvp_pair::signer::now();
    let ours = pair.provider.rpc();
    let hashes = mixed_chain(&ours)?;
    let tip = ours.height()?;
    pair.wait_durable("global", tip)?;
    let theirs = pair.receiver.rpc();
    cvp_pair::wait::until("the receiver shows the tip", std::time::Duration::from_secs(10), || {
        let height = theirs.height()?;
        Ok(if height == tip {
            Ok(())
        } else {
            Err(format!("height {height}"))
        })
    })?;

    let mut asked = 0;
    for number in 0..=tip {
        let block = ours.call("block_getBlockByNumber", json!([number, true]))?;
        let hash = block["hash"].as_str().context("a block without hash")?.to_owned();
        for (method, params) in by_block(number, &hash, tip) {
            same(&ours, &theirs, method, &params)?;
            asked += 1;
        }
    }
    for (method, params) in hashes.iter().flat_map(|hash| by_transaction(hash)) {
        same(&ours, &theirs, method, &params)?;
        asked += 1;
    }
    for (method, params) in of_chain(began - 1, cvp_pair::signer::now()) {
        same(&ours, &theirs, method, &params)?;
        asked += 1;
    }
    ensure!(asked > 200, "only {asked} queries were compared");
    // A standby refuses what is not a query, whatever its shape.
    let refused = theirs.refused("tx_sendTransaction", json!([transfer(&ec()?, 1, "")]))?;
    ensure!(refused == -32023, "a receiver answered a send with {refused}");
    Ok(())
}
