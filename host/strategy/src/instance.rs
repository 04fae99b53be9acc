//! One running instance: a deadline before every call, bounds on every answer; after a fault it is spent.

use cvp_core::strategy::{ChainSync, Strategy};
use cvp_core::types::strategy::{ACTIONS_MAX, Fault};
use wasmtime::component::ResourceAny;
use wasmtime::{Store, Trap};

use crate::runtime::CALL_EPOCHS;
use crate::sandbox::Sandbox;
use crate::world::World;

/// A strategy of kind `K` at work, in its own store.
pub struct Instance<K: World = ChainSync> {
    store: Store<Sandbox>,
    exports: K::Exports,
    strategy: ResourceAny,
    spent: bool,
}

impl<K: World> Instance<K> {
    pub(crate) fn new(store: Store<Sandbox>, exports: K::Exports, strategy: ResourceAny) -> Self {
        Self {
            store,
            exports,
            strategy,
            spent: false,
        }
    }

    fn call(&mut self, events: Vec<K::Event>) -> Result<Vec<K::Action>, Fault> {
        self.store.set_epoch_deadline(CALL_EPOCHS);
        let actions = K::handle(&self.exports, &mut self.store, self.strategy, events)
            .map_err(|e| fault_of(&self.store, &e))??;
        if actions.len() > ACTIONS_MAX {
            return Err(Fault::new(
                "too-many-actions",
                format!("{} actions in one answer, at most {ACTIONS_MAX}", actions.len()),
            ));
        }
        actions.iter().flat_map(K::sizes).try_for_each(bounded)?;
        Ok(actions)
    }
}

impl<K: World> Strategy for Instance<K> {
    type Event = K::Event;
    type Action = K::Action;

    fn handle(&mut self, events: Vec<K::Event>) -> Result<Vec<K::Action>, Fault> {
        if self.spent {
            return Err(Fault::new("spent", "this instance ended with an earlier fault"));
        }
        let answer = self.call(events);
        self.spent = answer.is_err();
        answer
    }
}

fn bounded((what, size, size_max): (&'static str, usize, usize)) -> Result<(), Fault> {
    if size <= size_max {
        return Ok(());
    }
    Err(Fault::new(
        "oversize-action",
        format!("action {what} of size {size}, at most {size_max}"),
    ))
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
