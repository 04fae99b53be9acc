//! A strategy linked into this process as plain Rust: the simulator's and the tests'.

use std::marker::PhantomData;

use super::{ChainSync, ConfigSync, IndexCheck, Kind, MqSync, Strategy};
use crate::types::strategy::{Fault, Role, chain_sync, config_sync, index_check, mq_sync};

/// A strategy `S` of kind `K`, run as it is.
pub struct Native<S, K = ChainSync>(S, PhantomData<fn() -> K>);

impl<S: chain_sync::ChainSync> Native<S, ChainSync> {
    /// Opens it for one end of one namespace.
    ///
    /// # Errors
    /// The strategy's own fault: its settings are not what it accepts.
    pub fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault> {
        Ok(Self(S::open(role, namespace, settings)?, PhantomData))
    }
}

impl<S: chain_sync::ChainSync> Strategy for Native<S, ChainSync> {
    type Event = <ChainSync as Kind>::Event;
    type Action = <ChainSync as Kind>::Action;

    fn handle(&mut self, events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault> {
        self.0.handle(events)
    }
}

impl<S: config_sync::ConfigSync> Native<S, ConfigSync> {
    /// Opens it for one end of one namespace.
    ///
    /// # Errors
    /// The strategy's own fault: its settings are not what it accepts.
    pub fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault> {
        Ok(Self(S::open(role, namespace, settings)?, PhantomData))
    }
}

impl<S: config_sync::ConfigSync> Strategy for Native<S, ConfigSync> {
    type Event = <ConfigSync as Kind>::Event;
    type Action = <ConfigSync as Kind>::Action;

    fn handle(&mut self, events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault> {
        self.0.handle(events)
    }
}

impl<S: index_check::IndexCheck> Native<S, IndexCheck> {
    /// Opens it for one end of one namespace.
    ///
    /// # Errors
    /// The strategy's own fault: its settings are not what it accepts.
    pub fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault> {
        Ok(Self(S::open(role, namespace, settings)?, PhantomData))
    }
}

impl<S: index_check::IndexCheck> Strategy for Native<S, IndexCheck> {
    type Event = <IndexCheck as Kind>::Event;
    type Action = <IndexCheck as Kind>::Action;

    fn handle(&mut self, events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault> {
        self.0.handle(events)
    }
}

impl<S: mq_sync::MqSync> Native<S, MqSync> {
    /// Opens it for one end of one namespace.
    ///
    /// # Errors
    /// The strategy's own fault: its settings are not what it accepts.
    pub fn open(role: Role, namespace: &str, settings: &str) -> Result<Self, Fault> {
        Ok(Self(S::open(role, namespace, settings)?, PhantomData))
    }
}

impl<S: mq_sync::MqSync> Strategy for Native<S, MqSync> {
    type Event = <MqSync as Kind>::Event;
    type Action = <MqSync as Kind>::Action;

    fn handle(&mut self, events: Vec<Self::Event>) -> Result<Vec<Self::Action>, Fault> {
        self.0.handle(events)
    }
}
