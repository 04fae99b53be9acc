//! The pair at work: sessions, streams and strategies. The only room that knows link, ledger and strategy together.

pub mod strategies;
