//! One running instance: a deadline before every call, bounds on every answer; after a fault it is spent.

use cvp_core::strategy::Strategy;
use cvp_core::types::strategy::chain_sync::{Action, Event};
use cvp_core::types::strategy::{ACTIONS_MAX, Fault, SEND_BYTES_MAX, STORE_BYTES_MAX, TEXT_BYTES_MAX};
use wasmtime::component::ResourceAny;
use wasmtime::{Store, Trap};

use crate::bindings::ChainSyncStrategy;
use crate::convert;
use crate::runtime::CALL_EPOCHS;
use crate::sandbox::Sandbox;

/// A strategy at work, in its own store.
pub struct Instance {
    store: Store<Sandbox>,
    world: ChainSyncStrategy,
    strategy: ResourceAny,
    spent: bool,
}

impl Instance {
    pub(crate) fn new(store: Store<Sandbox>, world: ChainSyncStrategy, strategy: ResourceAny) -> Self {
        Self {
            store,
            world,
            strategy,
            spent: false,
        }
    }

    fn call(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        let events: Vec<_> = events.into_iter().map(convert::lower_event).collect();
        self.store.set_epoch_deadline(CALL_EPOCHS);
        let answer = self
            .world
            .cvp_chain_sync_chain_sync()
            .strategy()
            .call_handle(&mut self.store, self.strategy, &events)
            .map_err(|e| fault_of(&self.store, &e))?
            .map_err(convert::fault)?;
        if answer.len() > ACTIONS_MAX {
            return Err(Fault::new(
                "too-many-actions",
                format!("{} actions in one answer, at most {ACTIONS_MAX}", answer.len()),
            ));
        }
        let actions: Vec<_> = answer.into_iter().map(convert::action).collect();
        actions.iter().try_for_each(bounded)?;
        Ok(actions)
    }
}

impl Strategy for Instance {
    type Event = Event;
    type Action = Action;

    fn handle(&mut self, events: Vec<Event>) -> Result<Vec<Action>, Fault> {
        if self.spent {
            return Err(Fault::new("spent", "this instance ended with an earlier fault"));
        }
        let answer = self.call(events);
        self.spent = answer.is_err();
        answer
    }
}

fn bounded(action: &Action) -> Result<(), Fault> {
    let (what, bytes, bytes_max) = match action {
        Action::Store(bytes) => ("store", bytes.len(), STORE_BYTES_MAX),
        Action::Send(bytes) => ("send", bytes.len(), SEND_BYTES_MAX),
        Action::Pause(text) => ("pause", text.len(), TEXT_BYTES_MAX),
        Action::Refuse(text) => ("refuse", text.len(), TEXT_BYTES_MAX),
        Action::Log(_, text) => ("log", text.len(), TEXT_BYTES_MAX),
        Action::Metric(name, _) => ("metric", name.len(), TEXT_BYTES_MAX),
        Action::Other(name, bytes) => ("other", name.len().max(bytes.len()), TEXT_BYTES_MAX),
        _ => return Ok(()),
    };
    if bytes <= bytes_max {
        Ok(())
    } else {
        Err(Fault::new(
            "oversize-action",
            format!("action {what} with {bytes} bytes, at most {bytes_max}"),
        ))
    }
}

/// What a failed call was: the deadline, memory, a trap; with the panic's message where there is one.
pub(crate) fn fault_of(store: &Store<Sandbox>, error: &wasmtime::Error) -> Fault {
    let sandbox = store.data();
    let trap = error.downcast_ref::<Trap>();
    let (code, what) = match trap {
        Some(Trap::Interrupt) => ("deadline", "it took longer than it may".to_owned()),
        _ if sandbox.memory_denied() => ("memory", "it asked for more memory than it may have".to_owned()),
        Some(trap) => ("trap", trap.to_string()),
        None => ("trap", format!("{:#}", error.root_cause())),
    };
    let text = match sandbox.last_words() {
        Some(words) => format!("{what}: {words}"),
        None => what,
    };
    Fault::new(code, text)
}
