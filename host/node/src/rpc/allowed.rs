//! What a CVP answers over JSON-RPC: one list. Everything else is refused with -32023.

/// Families answered whole: their queries read the applied chain or the node's own facts.
const FAMILIES: [&str; 6] = [
    "block_",
    "tx_get",
    "account_get",
    "node_get",
    "version_get",
    "contract_get",
];
/// Single methods beside the families.
const METHODS: [&str; 2] = ["did_getChainID", "mq_getAllQueueNames"];
/// Whether a CVP answers `method`. Methods are matched exactly: clients spell them one way.
pub fn receiver_answers(method: &str) -> bool {
    METHODS.contains(&method) || FAMILIES.iter().any(|family| method.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_open_and_everything_that_changes_or_runs_something_is_closed() {
        for open in [
            "block_latestBlock",
            "block_getBlocksByTime",
            "tx_getTransactionReceipt",
            "tx_getGasPrice",
            "account_getBalance",
            "node_getNodes",
            "node_getConfig",
            "version_getVersions",
            "contract_getDeployedList",
            "did_getChainID",
            "mq_getAllQueueNames",
        ] {
            assert!(receiver_answers(open), "{open}");
        }
        for closed in [
            "tx_sendTransaction",
            "contract_invokeContract",
            "contract_deployContract",
            "simulate_invokeContract",
            "version_setSupportedVersion",
            "node_setConfig",
            "mq_register",
            "did_getDIDDocument",
            "archive_listSnapshot",
            "",
            "nonsense",
        ] {
            assert!(!receiver_answers(closed), "{closed}");
        }
    }
}
