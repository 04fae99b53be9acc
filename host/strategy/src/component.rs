//! A loaded component: what it says of itself, its settings check, and instances of it.

use cvp_core::strategy::{ChainSync, ConfigSync, IndexCheck, Kind, MqSync};
use cvp_core::types::strategy::{Descriptor, Fault, Problem, Role, SETTINGS_BYTES_MAX};
use wasmtime::Store;

use crate::error::LoadError;
use crate::instance::{Instance, fault_of};
use crate::runtime::Runtime;
use crate::sandbox::Sandbox;
use crate::world::World;

/// What is known of a loaded component, whatever its kind.
#[derive(Clone, Debug)]
pub struct About {
    /// What it says of itself.
    pub descriptor: Descriptor,
    /// Everything it imports.
    pub imports: Vec<String>,
    /// Its size, bytes.
    pub bytes: usize,
    /// Of its bytes.
    pub sha256: [u8; 32],
}

/// A compiled and linked strategy of kind `K`. Cheap to clone; instances start in microseconds.
#[derive(Clone)]
pub struct Component<K: World = ChainSync> {
    runtime: Runtime,
    pre: K::Pre,
    about: About,
}

impl<K: World> std::fmt::Debug for Component<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("descriptor", &self.about.descriptor)
            .field("sha256", &hex::encode(self.about.sha256))
            .finish_non_exhaustive()
    }
}

impl<K: World> Component<K> {
    /// The last steps of loading: asks the component what it is. Of `about` all but the descriptor is known.
    pub(crate) fn describe(runtime: Runtime, pre: K::Pre, about: About) -> Result<Self, LoadError> {
        let mut it = Self { runtime, pre, about };
        let mut store = it.runtime.store();
        it.about.descriptor = it
            .instantiate(&mut store)
            .and_then(|exports| K::describe(&exports, &mut store))
            .map_err(|e| LoadError::Failed {
                what: "description",
                reason: fault_of(&store, &e).to_string(),
            })?;
        if it.about.descriptor.kind != K::NAME {
            return Err(LoadError::Mismatch {
                field: "kind",
                found: it.about.descriptor.kind,
                expected: K::NAME.into(),
            });
        }
        Ok(it)
    }

    fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<K::Exports> {
        K::instantiate(&self.pre, store)
    }

    /// What is known of it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// What it says of itself.
    pub fn descriptor(&self) -> &Descriptor {
        &self.about.descriptor
    }

    /// Its size, bytes.
    pub fn bytes(&self) -> usize {
        self.about.bytes
    }

    /// Of its bytes.
    pub fn sha256(&self) -> [u8; 32] {
        self.about.sha256
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
        self.instantiate(&mut store)
            .and_then(|exports| K::check_settings(&exports, &mut store, settings))
            .map_err(|e| LoadError::Failed {
                what: "settings check",
                reason: fault_of(&store, &e).to_string(),
            })
    }

    /// A fresh instance for one end of one namespace. Fails with the strategy's own fault, or with `trap`, `deadline` or `memory`.
    pub fn open(&self, role: Role, namespace: &str, settings: &str) -> Result<Instance<K>, Fault> {
        let mut store = self.runtime.store();
        let opened = self.instantiate(&mut store).and_then(|exports| {
            let answer = K::open(&exports, &mut store, role, namespace, settings)?;
            Ok((exports, answer))
        });
        match opened {
            Ok((exports, Ok(strategy))) => Ok(Instance::new(store, exports, strategy)),
            Ok((_, Err(fault))) => Err(fault),
            Err(e) => Err(fault_of(&store, &e)),
        }
    }
}

/// A component whose kind was found out by loading it.
#[derive(Clone, Debug)]
pub enum AnyComponent {
    /// Of kind chain-sync.
    ChainSync(Component<ChainSync>),
    /// Of kind config-sync.
    ConfigSync(Component<ConfigSync>),
    /// Of kind index-check.
    IndexCheck(Component<IndexCheck>),
    /// Of kind mq-sync.
    MqSync(Component<MqSync>),
}

impl AnyComponent {
    /// The kinds that this release serves.
    pub const KINDS: [&'static str; 4] = [ChainSync::NAME, ConfigSync::NAME, IndexCheck::NAME, MqSync::NAME];

    /// What is known of it.
    pub fn about(&self) -> &About {
        match self {
            AnyComponent::ChainSync(it) => it.about(),
            AnyComponent::ConfigSync(it) => it.about(),
            AnyComponent::IndexCheck(it) => it.about(),
            AnyComponent::MqSync(it) => it.about(),
        }
    }

    /// What is wrong with a settings text; see [`Component::check_settings`].
    pub fn check_settings(&self, settings: &str) -> Result<Vec<Problem>, LoadError> {
        match self {
            AnyComponent::ChainSync(it) => it.check_settings(settings),
            AnyComponent::ConfigSync(it) => it.check_settings(settings),
            AnyComponent::IndexCheck(it) => it.check_settings(settings),
            AnyComponent::MqSync(it) => it.check_settings(settings),
        }
    }
}
