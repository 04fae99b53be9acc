//! A loaded component: what it says of itself, its settings check, and instances of it.

use cvp_core::types::strategy::{Descriptor, Fault, Problem, Role, SETTINGS_BYTES_MAX, chain_sync};
use wasmtime::Store;

use crate::bindings::{ChainSyncStrategy, ChainSyncStrategyPre};
use crate::convert;
use crate::error::LoadError;
use crate::instance::{Instance, fault_of};
use crate::runtime::Runtime;
use crate::sandbox::Sandbox;

/// A compiled and linked strategy. Cheap to clone; instances start in microseconds.
#[derive(Clone)]
pub struct Component {
    runtime: Runtime,
    pre: ChainSyncStrategyPre<Sandbox>,
    descriptor: Descriptor,
    imports: Vec<String>,
    bytes: usize,
    sha256: [u8; 32],
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("descriptor", &self.descriptor)
            .field("sha256", &hex::encode(self.sha256))
            .finish_non_exhaustive()
    }
}

impl Component {
    /// The last steps of loading: asks the component what it is.
    pub(crate) fn describe(
        runtime: Runtime,
        pre: ChainSyncStrategyPre<Sandbox>,
        imports: Vec<String>,
        bytes: usize,
        sha256: [u8; 32],
    ) -> Result<Self, LoadError> {
        let mut it = Self {
            runtime,
            pre,
            descriptor: Descriptor::default(),
            imports,
            bytes,
            sha256,
        };
        let mut store = it.runtime.store();
        let descriptor = it
            .instantiate(&mut store)
            .and_then(|world| world.cvp_chain_sync_chain_sync().call_describe(&mut store))
            .map_err(|e| LoadError::Failed {
                what: "description",
                reason: fault_of(&store, &e).to_string(),
            })?;
        it.descriptor = convert::descriptor(descriptor);
        if it.descriptor.kind != chain_sync::KIND {
            return Err(LoadError::Mismatch {
                field: "kind",
                found: it.descriptor.kind,
                expected: chain_sync::KIND.into(),
            });
        }
        Ok(it)
    }

    fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<ChainSyncStrategy> {
        self.pre.instantiate(store)
    }

    /// What it says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Everything it imports.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// Its size, bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of its bytes.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// What is wrong with a settings text; empty when nothing is. Fails when the component traps over it.
    pub fn check_settings(&self, settings: &str) -> Result<Vec<Problem>, LoadError> {
        if settings.len() > SETTINGS_BYTES_MAX {
            return Ok(vec![Problem {
                path: String::new(),
                message: format!("longer than {SETTINGS_BYTES_MAX} bytes"),
            }]);
        }
        let mut store = self.runtime.store();
        let answer = self
            .instantiate(&mut store)
            .and_then(|world| {
                world
                    .cvp_chain_sync_chain_sync()
                    .call_check_settings(&mut store, settings)
            })
            .map_err(|e| LoadError::Failed {
                what: "settings check",
                reason: fault_of(&store, &e).to_string(),
            })?;
        Ok(match answer {
            Ok(()) => Vec::new(),
            Err(problems) => problems.into_iter().map(convert::problem).collect(),
        })
    }

    /// A fresh instance for one end of one namespace. Fails with the strategy's own fault, or with `trap`, `deadline` or `memory`.
    pub fn open(&self, role: Role, namespace: &str, settings: &str) -> Result<Instance, Fault> {
        let mut store = self.runtime.store();
        let world = match self.instantiate(&mut store) {
            Ok(world) => world,
            Err(e) => return Err(fault_of(&store, &e)),
        };
        let answer = world.cvp_chain_sync_chain_sync().strategy().call_open(
            &mut store,
            convert::lower_role(role),
            namespace,
            settings,
        );
        match answer {
            Ok(Ok(strategy)) => Ok(Instance::new(store, world, strategy)),
            Ok(Err(fault)) => Err(convert::fault(fault)),
            Err(e) => Err(fault_of(&store, &e)),
        }
    }
}
