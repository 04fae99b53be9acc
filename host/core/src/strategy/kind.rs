//! The kinds of strategies, as types: what is the same for every kind is written once, over [`Kind`].

use std::fmt::Debug;

use super::codec::Coded;
use crate::types::strategy::{chain_sync, config_sync, index_check, mq_sync};

/// A kind of strategy: what its strategies are told, and what they decide.
pub trait Kind: Clone + PartialEq + Debug + Send + Sync + 'static {
    /// As configuration, descriptors and frames spell it.
    const NAME: &'static str;
    /// What its strategies are told.
    type Event: Coded + Clone + PartialEq + Debug + Send + 'static;
    /// What they decide.
    type Action: Coded + Clone + PartialEq + Debug + Send + 'static;
}

/// Kind chain-sync: which blocks the receiver fetches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainSync {}

impl Kind for ChainSync {
    const NAME: &'static str = chain_sync::KIND;
    type Event = chain_sync::Event;
    type Action = chain_sync::Action;
}

/// Kind config-sync: which configuration files the receiver fetches, and which changes are strong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigSync {}

impl Kind for ConfigSync {
    const NAME: &'static str = config_sync::KIND;
    type Event = config_sync::Event;
    type Action = config_sync::Action;
}

/// Kind index-check: whether two nodes with their index settings may be a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexCheck {}

impl Kind for IndexCheck {
    const NAME: &'static str = index_check::KIND;
    type Event = index_check::Event;
    type Action = index_check::Action;
}

/// Kind mq-sync: whether a queue is registered, and how the receiver's queues become the provider's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MqSync {}

impl Kind for MqSync {
    const NAME: &'static str = mq_sync::KIND;
    type Event = mq_sync::Event;
    type Action = mq_sync::Action;
}
