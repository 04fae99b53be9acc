//! Executes transactions in order against a view of the state. Deterministic: the same view, context and transactions give the same
//! receipts and changes on every node.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::state::{self, StateView};
use super::{Address, Kind, Receipt, Transaction, code};
use crate::types::{Height, Incarnation, UnixNanos, Writer};

/// New values by state key; none removes the key.
pub type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The built-in contract that holds the chain id.
pub const CHAIN_ID_CONTRACT: Address = {
    let mut address = [0; 20];
    address[17] = 0xff;
    address[18] = 0xff;
    address[19] = 0x06;
    Address(address)
};
/// Longest chain id, bytes.
const CHAIN_ID_BYTES_MAX: usize = 64;

/// What a block tells its transactions.
#[derive(Debug, Clone, Copy)]
pub struct BlockContext {
    /// Height of the block being made.
    pub height: Height,
    /// Its time.
    pub time: UnixNanos,
}

/// Outcome of a block.
#[derive(Debug, Default)]
pub struct Executed {
    /// Each transaction with its receipt: the successful ones in order, then the failed ones.
    pub ordered: Vec<(Transaction, Receipt)>,
    /// How many succeeded.
    pub valid: usize,
    /// State after, where it differs from before.
    pub changes: Changes,
}

/// Changes of the block so far over the state before it.
struct Overlay<'a, V: StateView + ?Sized> {
    view: &'a V,
    changes: Changes,
}

impl<V: StateView + ?Sized> Overlay<'_, V> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, V::Error> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.view.get(key),
        }
    }
}

/// Executes `transactions` in order. Fails only where the view does.
pub fn execute_block<V: StateView + ?Sized>(
    view: &V,
    _context: &BlockContext,
    transactions: Vec<Transaction>,
) -> Result<Executed, V::Error> {
    let mut overlay = Overlay {
        view,
        changes: Changes::new(),
    };
    let (mut valid, mut failed) = (Vec::with_capacity(transactions.len()), Vec::new());
    for transaction in transactions {
        let receipt = execute(&mut overlay, &transaction)?;
        let list = if receipt.code == 0 { &mut valid } else { &mut failed };
        list.push((transaction, receipt));
    }
    let count = valid.len();
    valid.append(&mut failed);
    Ok(Executed {
        ordered: valid,
        valid: count,
        changes: overlay.changes,
    })
}

fn execute<V: StateView + ?Sized>(
    overlay: &mut Overlay<'_, V>,
    transaction: &Transaction,
) -> Result<Receipt, V::Error> {
    match (transaction.kind, transaction.to) {
        (Kind::Transfer | Kind::Evm, Some(to)) => transfer(overlay, transaction, to),
        (Kind::Bvm, Some(CHAIN_ID_CONTRACT)) => set_chain_id(overlay, transaction),
        // Admission refuses these; a block made by a later version of the node may hold them.
        (kind, _) => Ok(Receipt::failure(kind, code::INVOKE_FAILED, unsupported(transaction))),
    }
}

/// What admission and execution say of a transaction no machine of this node can run.
pub(super) fn unsupported(transaction: &Transaction) -> String {
    format!(
        "{} transactions {} are not supported by this node; it executes TRANSFER, EVM without payload, and the BVM's SetChainID",
        transaction.kind.as_str(),
        if transaction.to.is_none() {
            "without a receiver"
        } else {
            "of this form"
        }
    )
}

fn transfer<V: StateView + ?Sized>(
    overlay: &mut Overlay<'_, V>,
    transaction: &Transaction,
    to: Address,
) -> Result<Receipt, V::Error> {
    let value = ruint::aliases::U256::from(transaction.value);
    let (from_key, to_key) = (state::balance_key(transaction.from), state::balance_key(to));
    if transaction.value == 0 {
        return Ok(Receipt::success(transaction.kind));
    }
    let before = state::balance(overlay.get(&from_key)?.as_deref());
    let Some(left) = before.checked_sub(value) else {
        let message = format!(
            "OUTOFBALANCE: {} has {before} and would pay {value}",
            transaction.from.to_hex()
        );
        return Ok(Receipt::failure(transaction.kind, code::OUT_OF_BALANCE, message));
    };
    if transaction.from == to {
        return Ok(Receipt::success(transaction.kind));
    }
    let receiver = state::balance(overlay.get(&to_key)?.as_deref());
    let Some(sum) = receiver.checked_add(value) else {
        return Ok(Receipt::failure(
            transaction.kind,
            code::INVOKE_FAILED,
            "the receiver's balance would overflow",
        ));
    };
    overlay.changes.insert(from_key, state::balance_value(left));
    overlay.changes.insert(to_key, state::balance_value(sum));
    Ok(Receipt::success(transaction.kind))
}

/// `SetChainID(text)`: once, by an account that genesis made an administrator.
fn set_chain_id<V: StateView + ?Sized>(
    overlay: &mut Overlay<'_, V>,
    transaction: &Transaction,
) -> Result<Receipt, V::Error> {
    let outcome = match chain_id_argument(&transaction.payload) {
        Err(message) => Err(message.to_owned()),
        Ok(_) if overlay.get(&state::chain_id_key())?.is_some() => Err("the chain id is set already".to_owned()),
        Ok(_) if !is_admin(overlay, transaction.from)? => Err("only an administrator sets the chain id".to_owned()),
        Ok(id) => {
            overlay.changes.insert(state::chain_id_key(), Some(id.clone()));
            Ok(id)
        }
    };
    let answer = match outcome {
        Ok(id) => serde_json::json!({"Success": true, "Err": "", "Ret": BASE64.encode(id)}),
        Err(message) => serde_json::json!({"Success": false, "Err": message, "Ret": ""}),
    };
    Ok(Receipt {
        contract: Some(CHAIN_ID_CONTRACT),
        ret: answer.to_string().into_bytes(),
        ..Receipt::success(Kind::Bvm)
    })
}

fn is_admin<V: StateView + ?Sized>(overlay: &Overlay<'_, V>, account: Address) -> Result<bool, V::Error> {
    let roles = overlay.get(&state::roles_key(account))?.unwrap_or_default();
    Ok(roles.split(|b| *b == b',').any(|role| role == state::ADMIN.as_bytes()))
}

/// Payload: length ++ "SetChainID" ++ count 1 ++ length ++ text; lengths and count are 4 bytes, big-endian.
fn chain_id_argument(payload: &[u8]) -> Result<Vec<u8>, &'static str> {
    const WRONG: &str = "the payload is not SetChainID with one argument";
    let mut rest = payload;
    let number = |rest: &mut &[u8]| -> Result<usize, &'static str> {
        let (head, tail) = rest.split_first_chunk::<4>().ok_or(WRONG)?;
        *rest = tail;
        Ok(u32::from_be_bytes(*head) as usize)
    };
    let length = number(&mut rest)?;
    let (method, tail) = rest.split_at_checked(length).ok_or(WRONG)?;
    rest = tail;
    if method != b"SetChainID" || number(&mut rest)? != 1 || number(&mut rest)? != rest.len() {
        return Err(WRONG);
    }
    if rest.is_empty() || rest.len() > CHAIN_ID_BYTES_MAX || std::str::from_utf8(rest).is_err() {
        return Err("a chain id is a text of 1 to 64 bytes");
    }
    Ok(rest.to_vec())
}

/// Whether this node can execute `transaction`; admission asks before it is pooled.
pub(super) fn is_supported(transaction: &Transaction) -> bool {
    // By name, the receiver is written as 40 zeros: the value would go to nobody.
    if !transaction.cname.is_empty() {
        return false;
    }
    match transaction.kind {
        Kind::Transfer | Kind::Evm => {
            transaction.to.is_some() && transaction.payload.is_empty() && transaction.opcode == 0
        }
        Kind::Bvm => transaction.to == Some(CHAIN_ID_CONTRACT) && chain_id_argument(&transaction.payload).is_ok(),
        _ => false,
    }
}

/// The changes of a take-over block: both incarnations and the last height that the new one had made durable before.
pub fn takeover_delta(old: Incarnation, new: Incarnation, last_durable: Height) -> Changes {
    let mut value = Writer::new();
    value.incarnation(&old);
    value.incarnation(&new);
    value.u64(last_durable);
    Changes::from([(state::takeover_key(new.number), Some(value.into_bytes()))])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use proptest::prelude::*;
    use ruint::aliases::U256;

    use super::*;
    use crate::types::Digest;

    #[derive(Default)]
    struct State(BTreeMap<Vec<u8>, Vec<u8>>);

    impl StateView for State {
        type Error = Infallible;
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Infallible> {
            Ok(self.0.get(key).cloned())
        }
    }

    impl State {
        fn funded(accounts: u8, each: u64) -> Self {
            let entry = |n: u8| {
                (
                    state::balance_key(Address([n; 20])),
                    U256::from(each).to_be_bytes::<32>().to_vec(),
                )
            };
            Self((0..accounts).map(entry).collect())
        }

        fn apply(&mut self, changes: Changes) {
            for (key, value) in changes {
                match value {
                    Some(value) => self.0.insert(key, value),
                    None => self.0.remove(&key),
                };
            }
        }

        fn sum(&self) -> U256 {
            self.0
                .values()
                .map(|value| state::balance(Some(value)))
                .fold(U256::ZERO, |a, b| a + b)
        }
    }

    fn transaction(from: u8, to: u8, value: u64) -> Transaction {
        Transaction {
            hash: [0; 32],
            text: Digest::ZERO,
            from: Address([from; 20]),
            to: Some(Address([to; 20])),
            kind: Kind::Transfer,
            value,
            payload: Vec::new(),
            timestamp: 1,
            nonce: 1,
            opcode: 0,
            extra: String::new(),
            extra_ids: String::new(),
            version: "3.0".into(),
            cname: String::new(),
            gas_price: 0,
            gas_limit: 0,
            expiration: 0,
            signature: vec![0],
        }
    }

    const CONTEXT: BlockContext = BlockContext { height: 1, time: 1 };

    proptest! {
        #[test]
        fn transfers_keep_the_sum(moves in prop::collection::vec((0u8..6, 0u8..6, 0u64..150), 0..60)) {
            let mut state = State::funded(4, 100);
            let before = state.sum();
            for block in moves.chunks(7) {
                let transactions = block.iter().map(|(f, t, v)| transaction(*f, *t, *v)).collect();
                let Ok(executed) = execute_block(&state, &CONTEXT, transactions);
                prop_assert!(executed.ordered[..executed.valid].iter().all(|(_, r)| r.code == 0));
                prop_assert!(executed.ordered[executed.valid..].iter().all(|(_, r)| r.code == code::OUT_OF_BALANCE));
                state.apply(executed.changes);
                prop_assert_eq!(state.sum(), before);
            }
        }
    }

    fn set_chain_id_call(text: &str) -> Vec<u8> {
        let part = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
        [part(b"SetChainID"), 1u32.to_be_bytes().to_vec(), part(text.as_bytes())].concat()
    }

    #[test]
    fn the_chain_id_is_set_once_by_an_administrator() {
        let mut state = State::default();
        state.0.insert(state::roles_key(Address([1; 20])), b"admin".to_vec());
        let mut call = |from: u8| {
            let mut transaction = transaction(from, 0, 0);
            (transaction.kind, transaction.to) = (Kind::Bvm, Some(CHAIN_ID_CONTRACT));
            transaction.payload = set_chain_id_call("hhppcc");
            let Ok(executed) = execute_block(&state, &CONTEXT, vec![transaction]);
            state.apply(executed.changes);
            let ret: serde_json::Value = serde_json::from_slice(&executed.ordered[0].1.ret).expect("JSON");
            ret["Success"] == true
        };
        assert!(!call(2), "not an administrator");
        assert!(call(1));
        assert!(!call(1), "set twice");
        assert_eq!(
            state.0.get(&state::chain_id_key()).map(Vec::as_slice),
            Some(b"hhppcc".as_slice())
        );
    }
}
