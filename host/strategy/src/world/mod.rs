//! What the runtime must know of a kind: its world's exports, and how events and actions cross. One file a kind; here what they share.

mod chain_sync;
mod config_sync;
mod index_check;
mod mq_sync;

use cvp_core::strategy::Kind;
use cvp_core::types::strategy as types;
use wasmtime::Store;
use wasmtime::component::{InstancePre, ResourceAny};

use crate::bindings::shared;
use crate::sandbox::Sandbox;

/// A kind whose world is bound: load, run and limits are written once over it. Each call fails with a trap, or with what the strategy says.
pub trait World: Kind {
    /// A linked component, ready to be instantiated.
    #[doc(hidden)]
    type Pre: Clone + Send + Sync;
    /// An instantiated one.
    #[doc(hidden)]
    type Exports: Send;

    /// Fails when the component does not export what the kind must.
    #[doc(hidden)]
    fn bind(linked: InstancePre<Sandbox>) -> wasmtime::Result<Self::Pre>;

    #[doc(hidden)]
    fn instantiate(pre: &Self::Pre, store: &mut Store<Sandbox>) -> wasmtime::Result<Self::Exports>;

    #[doc(hidden)]
    fn describe(exports: &Self::Exports, store: &mut Store<Sandbox>) -> wasmtime::Result<types::Descriptor>;

    #[doc(hidden)]
    fn check_settings(
        exports: &Self::Exports,
        store: &mut Store<Sandbox>,
        settings: &str,
    ) -> wasmtime::Result<Vec<types::Problem>>;

    #[doc(hidden)]
    fn open(
        exports: &Self::Exports,
        store: &mut Store<Sandbox>,
        role: types::Role,
        namespace: &str,
        settings: &str,
    ) -> wasmtime::Result<Result<ResourceAny, types::Fault>>;

    #[doc(hidden)]
    fn handle(
        exports: &Self::Exports,
        store: &mut Store<Sandbox>,
        strategy: ResourceAny,
        events: Vec<Self::Event>,
    ) -> wasmtime::Result<Result<Vec<Self::Action>, types::Fault>>;

    /// Name, size and greatest size of each part of an action that has one.
    #[doc(hidden)]
    fn sizes(action: &Self::Action) -> Vec<(&'static str, usize, usize)>;
}

/// Writes the calls of a [`World`] by the names `bindgen!` gave them: the bindings' module, both types of the world, and the accessor of its
/// interface. Events and actions cross by the `lower_event` and `lift_action` of the kind's file.
macro_rules! calls_of {
    ($bindings:ident, $pre:ident, $exports:ident, $interface:ident) => {
        type Pre = $bindings::$pre<Sandbox>;
        type Exports = $bindings::$exports;

        fn bind(linked: InstancePre<Sandbox>) -> wasmtime::Result<Self::Pre> {
            $bindings::$pre::new(linked)
        }

        fn instantiate(pre: &Self::Pre, store: &mut Store<Sandbox>) -> wasmtime::Result<Self::Exports> {
            pre.instantiate(store)
        }

        fn describe(exports: &Self::Exports, store: &mut Store<Sandbox>) -> wasmtime::Result<types::Descriptor> {
            exports.$interface().call_describe(store).map(lift_descriptor)
        }

        fn check_settings(
            exports: &Self::Exports,
            store: &mut Store<Sandbox>,
            settings: &str,
        ) -> wasmtime::Result<Vec<types::Problem>> {
            exports
                .$interface()
                .call_check_settings(store, settings)
                .map(lift_problems)
        }

        fn open(
            exports: &Self::Exports,
            store: &mut Store<Sandbox>,
            role: types::Role,
            namespace: &str,
            settings: &str,
        ) -> wasmtime::Result<Result<ResourceAny, types::Fault>> {
            let strategies = exports.$interface().strategy();
            let answer = strategies.call_open(store, lower_role(role), namespace, settings)?;
            Ok(answer.map_err(lift_fault))
        }

        fn handle(
            exports: &Self::Exports,
            store: &mut Store<Sandbox>,
            strategy: ResourceAny,
            events: Vec<Self::Event>,
        ) -> wasmtime::Result<Result<Vec<Self::Action>, types::Fault>> {
            let events: Vec<_> = events.into_iter().map(lower_event).collect();
            let answer = exports
                .$interface()
                .strategy()
                .call_handle(store, strategy, &events)?;
            Ok(match answer {
                Ok(actions) => Ok(actions.into_iter().map(lift_action).collect()),
                Err(fault) => Err(lift_fault(fault)),
            })
        }
    };
}
use calls_of;

fn lower_role(role: types::Role) -> shared::Role {
    match role {
        types::Role::Provider => shared::Role::Provider,
        types::Role::Receiver => shared::Role::Receiver,
    }
}

fn lift_descriptor(it: shared::Descriptor) -> types::Descriptor {
    types::Descriptor {
        id: it.id,
        kind: it.kind,
        version: it.version,
        settings_schema: it.settings_schema,
        extra: it.extra,
    }
}

fn lift_problems(answer: Result<(), Vec<shared::Problem>>) -> Vec<types::Problem> {
    let lift = |it: shared::Problem| types::Problem {
        path: it.path,
        message: it.message,
    };
    answer.err().unwrap_or_default().into_iter().map(lift).collect()
}

fn lift_fault(it: shared::Fault) -> types::Fault {
    types::Fault::new(it.code, it.text)
}

fn lower_fault(it: types::Fault) -> shared::Fault {
    shared::Fault {
        code: it.code,
        text: it.text,
    }
}

fn lift_level(level: shared::Level) -> types::Level {
    match level {
        shared::Level::Debug => types::Level::Debug,
        shared::Level::Info => types::Level::Info,
        shared::Level::Warn => types::Level::Warn,
    }
}

fn lower_digest(digest: [u8; 32]) -> shared::Digest {
    let word = |n: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[n * 8..n * 8 + 8]);
        u64::from_be_bytes(bytes)
    };
    (word(0), word(1), word(2), word(3))
}
