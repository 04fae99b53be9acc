//! What an actor must know of the kind it runs: where its default is, and which part of its events is the view that a fresh instance needs.

use cvp_core::strategy::{ChainSync, ConfigSync, IndexCheck, MqSync};
use cvp_core::types::strategy::{chain_sync, config_sync, index_check, mq_sync};
use cvp_strategy::{Component, World};

use super::Strategies;

/// A kind that the node runs.
pub trait Hosted: World {
    /// What a strategy of it needs to know: whole, without history.
    type View: Clone + Send + 'static;

    /// The embedded default.
    fn default_of(strategies: &Strategies) -> &Component<Self>;

    /// Takes from an event what a fresh instance must be told; `stored` when the event says what was stored.
    fn remember(event: &Self::Event, view: &mut Option<Self::View>, stored: &mut Vec<u8>);

    /// The event that opens an instance.
    fn opened(view: Self::View, stored: Vec<u8>) -> Self::Event;

    /// Whether the event opens an instance.
    fn is_opened(event: &Self::Event) -> bool;

    /// What an action asks to be stored.
    fn stores(action: &Self::Action) -> Option<&Vec<u8>>;
}

impl Hosted for ChainSync {
    type View = chain_sync::View;

    fn default_of(strategies: &Strategies) -> &Component<Self> {
        &strategies.chain_sync
    }

    fn remember(event: &chain_sync::Event, kept: &mut Option<chain_sync::View>, kept_stored: &mut Vec<u8>) {
        use chain_sync::Event;
        match event {
            Event::Opened { view, stored } => {
                *kept = Some(view.clone());
                kept_stored.clone_from(stored);
            }
            Event::Progress(view) | Event::Tick(view) | Event::Stall { view, .. } => *kept = Some(view.clone()),
            Event::Message(_) | Event::Fault(_) | Event::Other(..) => {}
        }
    }

    fn opened(view: chain_sync::View, stored: Vec<u8>) -> chain_sync::Event {
        chain_sync::Event::Opened { view, stored }
    }

    fn is_opened(event: &chain_sync::Event) -> bool {
        matches!(event, chain_sync::Event::Opened { .. })
    }

    fn stores(action: &chain_sync::Action) -> Option<&Vec<u8>> {
        match action {
            chain_sync::Action::Store(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl Hosted for ConfigSync {
    type View = config_sync::View;

    fn default_of(strategies: &Strategies) -> &Component<Self> {
        &strategies.config_sync
    }

    fn remember(event: &config_sync::Event, kept: &mut Option<config_sync::View>, kept_stored: &mut Vec<u8>) {
        use config_sync::Event;
        match event {
            Event::Opened { view, stored } => {
                *kept = Some(view.clone());
                kept_stored.clone_from(stored);
            }
            Event::Inventories(view) => *kept = Some(view.clone()),
            Event::Tick(now) => {
                if let Some(view) = kept {
                    view.now = *now;
                }
            }
            Event::Edit(_) | Event::Message(_) | Event::Fault(_) | Event::Other(..) => {}
        }
    }

    fn opened(view: config_sync::View, stored: Vec<u8>) -> config_sync::Event {
        config_sync::Event::Opened { view, stored }
    }

    fn is_opened(event: &config_sync::Event) -> bool {
        matches!(event, config_sync::Event::Opened { .. })
    }

    fn stores(action: &config_sync::Action) -> Option<&Vec<u8>> {
        match action {
            config_sync::Action::Store(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl Hosted for IndexCheck {
    type View = index_check::View;

    fn default_of(strategies: &Strategies) -> &Component<Self> {
        &strategies.index_check
    }

    fn remember(event: &index_check::Event, kept: &mut Option<index_check::View>, kept_stored: &mut Vec<u8>) {
        use index_check::Event;
        match event {
            Event::Opened { view, stored } => {
                *kept = Some(view.clone());
                kept_stored.clone_from(stored);
            }
            Event::State(view) => *kept = Some(view.clone()),
            Event::Tick(now) => {
                if let Some(view) = kept {
                    view.now = *now;
                }
            }
            Event::Message(_) | Event::Fault(_) | Event::Other(..) => {}
        }
    }

    fn opened(view: index_check::View, stored: Vec<u8>) -> index_check::Event {
        index_check::Event::Opened { view, stored }
    }

    fn is_opened(event: &index_check::Event) -> bool {
        matches!(event, index_check::Event::Opened { .. })
    }

    fn stores(action: &index_check::Action) -> Option<&Vec<u8>> {
        match action {
            index_check::Action::Store(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl Hosted for MqSync {
    type View = mq_sync::View;

    fn default_of(strategies: &Strategies) -> &Component<Self> {
        &strategies.mq_sync
    }

    fn remember(event: &mq_sync::Event, kept: &mut Option<mq_sync::View>, kept_stored: &mut Vec<u8>) {
        use mq_sync::Event;
        match event {
            Event::Opened { view, stored } => {
                *kept = Some(view.clone());
                kept_stored.clone_from(stored);
            }
            Event::Inventories(view) | Event::Broker(view) => *kept = Some(view.clone()),
            Event::Tick(now) => {
                if let Some(view) = kept {
                    view.now = *now;
                }
            }
            Event::Registered(_) | Event::Unregistered(_) => {}
            Event::Message(_) | Event::Fault(_) | Event::Other(..) => {}
        }
    }

    fn opened(view: mq_sync::View, stored: Vec<u8>) -> mq_sync::Event {
        mq_sync::Event::Opened { view, stored }
    }

    fn is_opened(event: &mq_sync::Event) -> bool {
        matches!(event, mq_sync::Event::Opened { .. })
    }

    fn stores(action: &mq_sync::Action) -> Option<&Vec<u8>> {
        match action {
            mq_sync::Action::Store(bytes) => Some(bytes),
            _ => None,
        }
    }
}
