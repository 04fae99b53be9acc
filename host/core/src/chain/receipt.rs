//! What executing a transaction gave: a result, or a code and message of failure.

use super::{Address, Kind};
use crate::types::{Malformed, Reader, Writer};

const ENCODING: u8 = 1;
const RET_BYTES_MAX: usize = 8 << 20;
const LOGS_MAX: usize = 1 << 16;
const TOPICS_MAX: usize = 4;
const MESSAGE_BYTES_MAX: usize = 4096;

/// An event that a contract logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The contract.
    pub address: Address,
    /// Up to four topics.
    pub topics: Vec<[u8; 32]>,
    /// Data.
    pub data: Vec<u8>,
}

/// Outcome of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// 0, or the JSON-RPC code of the failure.
    pub code: i64,
    /// What failed; empty for a success.
    pub message: String,
    /// Kind of the transaction.
    pub kind: Kind,
    /// Contract made or called, where there is one.
    pub contract: Option<Address>,
    /// Returned bytes.
    pub ret: Vec<u8>,
    /// Gas used.
    pub gas_used: u64,
    /// Logs.
    pub logs: Vec<Log>,
}

impl Receipt {
    /// A success that returns nothing.
    pub fn success(kind: Kind) -> Self {
        Self {
            code: 0,
            message: String::new(),
            kind,
            contract: None,
            ret: Vec::new(),
            gas_used: 0,
            logs: Vec::new(),
        }
    }

    /// A failure.
    pub fn failure(kind: Kind, code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            ..Self::success(kind)
        }
    }

    /// The encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(64 + self.ret.len());
        out.u8(ENCODING);
        out.raw(&self.code.to_le_bytes());
        out.text(&self.message);
        out.u8(self.kind as u8);
        out.option(self.contract.as_ref(), |w, a| w.raw(&a.0));
        out.bytes(&self.ret);
        out.u64(self.gas_used);
        out.u32(self.logs.len() as u32);
        for log in &self.logs {
            out.raw(&log.address.0);
            out.u32(log.topics.len() as u32);
            log.topics.iter().for_each(|topic| out.raw(topic));
            out.bytes(&log.data);
        }
        out.into_bytes()
    }

    /// Reads the whole of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let encoding = input.u8()?;
        if encoding != ENCODING {
            return Err(Malformed::new(format!("receipt encoding {encoding}")));
        }
        let code = i64::from_le_bytes(input.array()?);
        let message = input.text(MESSAGE_BYTES_MAX)?.to_owned();
        let number = input.u8()?;
        let kind = Kind::from_number(number).ok_or_else(|| Malformed::new(format!("receipt kind {number}")))?;
        let contract = input.option(|r| r.array().map(Address))?;
        let ret = input.bytes(RET_BYTES_MAX)?.to_vec();
        let gas_used = input.u64()?;
        let count = input.count(LOGS_MAX, 28)?;
        let mut logs = Vec::with_capacity(count);
        for _ in 0..count {
            let address = Address(input.array()?);
            let topics = input.count(TOPICS_MAX, 32)?;
            let topics = (0..topics).map(|_| input.array()).collect::<Result<Vec<_>, _>>()?;
            logs.push(Log {
                address,
                topics,
                data: input.bytes(RET_BYTES_MAX)?.to_vec(),
            });
        }
        input.finish()?;
        Ok(Self {
            code,
            message,
            kind,
            contract,
            ret,
            gas_used,
            logs,
        })
    }
}
