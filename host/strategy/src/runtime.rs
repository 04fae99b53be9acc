//! The engine, its one epoch ticker, and the load pipeline.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config, Engine, Store};

use cvp_core::strategy::{ChainSync, ConfigSync, IndexCheck, Kind, MqSync};
use cvp_core::types::strategy::Descriptor;

use crate::component::{About, AnyComponent, Component};
use crate::error::LoadError;
use crate::plugin::{Manifest, Plugin};
use crate::sandbox::{Sandbox, allowed, hint};
use crate::world::World;

/// Largest component taken, bytes.
pub const COMPONENT_BYTES_MAX: u64 = 8 << 20;

/// Between two ticks of the epoch: the grain of every deadline.
const EPOCH: Duration = Duration::from_millis(20);

/// Epochs a call of `handle` may see: 100 ms, and the one that has begun.
pub(crate) const CALL_EPOCHS: u64 = 6;

/// Epochs construction, description and the settings check may see: 2 s.
pub(crate) const OPEN_EPOCHS: u64 = 101;

/// Compiles and links components. One a process; cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    linker: Arc<Linker<Sandbox>>,
}

/// A component whose imports are allowed. What it says of itself is not known yet.
struct Compiled {
    component: wasmtime::component::Component,
    about: About,
}

impl Runtime {
    /// Starts the engine and its ticker. Compiled code is cached in `cache`, when given; a cache that cannot be used is done without.
    pub fn new(cache: Option<&Path>) -> Result<Self, LoadError> {
        let failed = |e: wasmtime::Error| LoadError::Engine(format!("{e:#}"));
        let mut config = Config::new();
        config.epoch_interruption(true);
        config.max_wasm_stack(512 << 10);
        // A component's memory is capped at 32 MiB: no need to reserve 4 GiB of addresses for each of hundreds of instances.
        config.memory_reservation(64 << 20);
        if let Some(directory) = cache {
            match open_cache(directory) {
                Ok(cache) => {
                    config.cache(Some(cache));
                }
                Err(e) => tracing::warn!(
                    directory = %directory.display(),
                    error = format!("{e:#}"),
                    "compile strategies without a cache"
                ),
            }
        }
        let engine = Engine::new(&config).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).map_err(failed)?;
        start_ticker(&engine)?;
        Ok(Self {
            engine,
            linker: Arc::new(linker),
        })
    }

    /// Loads the component of a plugin directory, and checks that it is of kind `K` and what its manifest says.
    pub fn load_plugin<K: World>(&self, plugin: &Plugin) -> Result<Component<K>, LoadError> {
        // Said of the manifest first: a component of another kind would only be said not to export what it must.
        same("kind", &plugin.manifest.kind, K::NAME)?;
        let component = self.load(&checked_bytes(plugin)?)?;
        is_as_named(component.descriptor(), &plugin.manifest)?;
        Ok(component)
    }

    /// As [`Runtime::load_plugin`], of whatever kind it is.
    pub fn load_any_plugin(&self, plugin: &Plugin) -> Result<AnyComponent, LoadError> {
        let component = self.load_any(&checked_bytes(plugin)?)?;
        is_as_named(&component.about().descriptor, &plugin.manifest)?;
        Ok(component)
    }

    /// Loads a component of kind `K` from its bytes: compile, imports, link, describe. Takes tens of milliseconds: never on the hot path.
    pub fn load<K: World>(&self, bytes: &[u8]) -> Result<Component<K>, LoadError> {
        self.link(self.compile(bytes)?)
    }

    /// As [`Runtime::load`], of whatever kind it is: which, its exports say.
    pub fn load_any(&self, bytes: &[u8]) -> Result<AnyComponent, LoadError> {
        let compiled = self.compile(bytes)?;
        let exports: Vec<String> = compiled
            .component
            .component_type()
            .exports(&self.engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        let is_of = |kind: &str| {
            let interface = format!("cvp:{kind}/{kind}@");
            exports.iter().any(|name| name.starts_with(&interface))
        };
        if is_of(ChainSync::NAME) {
            self.link(compiled).map(AnyComponent::ChainSync)
        } else if is_of(ConfigSync::NAME) {
            self.link(compiled).map(AnyComponent::ConfigSync)
        } else if is_of(IndexCheck::NAME) {
            self.link(compiled).map(AnyComponent::IndexCheck)
        } else if is_of(MqSync::NAME) {
            self.link(compiled).map(AnyComponent::MqSync)
        } else {
            let kinds = AnyComponent::KINDS.join(", ");
            let text = format!("it exports the interface of no kind ({kinds}), but {exports:?}");
            Err(LoadError::Contract(text))
        }
    }

    fn compile(&self, bytes: &[u8]) -> Result<Compiled, LoadError> {
        if bytes.len() as u64 > COMPONENT_BYTES_MAX {
            return Err(LoadError::TooLarge {
                bytes: bytes.len() as u64,
                bytes_max: COMPONENT_BYTES_MAX,
            });
        }
        let component = wasmtime::component::Component::from_binary(&self.engine, bytes)
            .map_err(|e| LoadError::Compile(format!("{e:#}")))?;
        let imports: Vec<String> = component
            .component_type()
            .imports(&self.engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        if let Some(name) = imports.iter().find(|name| !allowed(name)) {
            return Err(LoadError::ForbiddenImport {
                name: name.clone(),
                hint: hint(name),
            });
        }
        let about = About {
            descriptor: Descriptor::default(),
            imports,
            bytes: bytes.len(),
            sha256: Sha256::digest(bytes).into(),
        };
        Ok(Compiled { component, about })
    }

    fn link<K: World>(&self, compiled: Compiled) -> Result<Component<K>, LoadError> {
        let contract = |e: wasmtime::Error| LoadError::Contract(format!("{e:#}"));
        let linked = self.linker.instantiate_pre(&compiled.component).map_err(contract)?;
        let pre = K::bind(linked).map_err(contract)?;
        Component::describe(self.clone(), pre, compiled.about)
    }

    /// A fresh store with the deadline of construction.
    pub(crate) fn store(&self) -> Store<Sandbox> {
        let mut store = Sandbox::store(&self.engine);
        store.set_epoch_deadline(OPEN_EPOCHS);
        store
    }
}

/// The component's bytes, which are the ones the manifest names.
fn checked_bytes(plugin: &Plugin) -> Result<Vec<u8>, LoadError> {
    let bytes = plugin.read_component()?;
    let found = hex::encode(Sha256::digest(&bytes));
    let expected = plugin.manifest.sha256.to_ascii_lowercase();
    if found == expected {
        Ok(bytes)
    } else {
        Err(LoadError::WrongDigest { expected, found })
    }
}

fn is_as_named(it: &Descriptor, manifest: &Manifest) -> Result<(), LoadError> {
    same("id", &it.id, &manifest.id)?;
    same("kind", &it.kind, &manifest.kind)?;
    same("version", &it.version, &manifest.version)
}

fn same(field: &'static str, found: &str, expected: &str) -> Result<(), LoadError> {
    if found == expected {
        return Ok(());
    }
    Err(LoadError::Mismatch {
        field,
        found: found.to_owned(),
        expected: expected.to_owned(),
    })
}

fn open_cache(directory: &Path) -> wasmtime::Result<Cache> {
    std::fs::create_dir_all(directory)?;
    let directory = directory.canonicalize()?;
    let mut config = CacheConfig::new();
    config.with_directory(directory);
    Cache::new(config)
}

/// One thread for all deadlines; ends with the engine.
#[expect(clippy::disallowed_methods, reason = "this thread's only work is to tick")]
fn start_ticker(engine: &Engine) -> Result<(), LoadError> {
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("strategy-epoch".into())
        .stack_size(64 << 10)
        .spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(EPOCH);
            }
        })
        .map(drop)
        .map_err(|e| LoadError::Engine(format!("no thread for deadlines: {e}")))
}
