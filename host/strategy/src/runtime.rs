//! The engine, its one epoch ticker, and the load pipeline.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config, Engine, Store};

use crate::bindings::ChainSyncStrategyPre;
use crate::component::Component;
use crate::error::LoadError;
use crate::plugin::Plugin;
use crate::sandbox::{Sandbox, allowed, hint};

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

    /// Loads the component of a plugin directory, and checks that it is what its manifest says.
    pub fn load_plugin(&self, plugin: &Plugin) -> Result<Component, LoadError> {
        let bytes = plugin.read_component()?;
        let found = hex::encode(Sha256::digest(&bytes));
        let expected = plugin.manifest.sha256.to_ascii_lowercase();
        if found != expected {
            return Err(LoadError::WrongDigest { expected, found });
        }
        let component = self.load(&bytes)?;
        let it = component.descriptor();
        for (field, found, expected) in [
            ("id", &it.id, &plugin.manifest.id),
            ("kind", &it.kind, &plugin.manifest.kind),
            ("version", &it.version, &plugin.manifest.version),
        ] {
            if found != expected {
                return Err(LoadError::Mismatch {
                    field,
                    found: found.clone(),
                    expected: expected.clone(),
                });
            }
        }
        Ok(component)
    }

    /// Loads a component from its bytes: compile, imports, link, describe. Takes tens of milliseconds: never on the hot path.
    pub fn load(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        if bytes.len() as u64 > COMPONENT_BYTES_MAX {
            return Err(LoadError::TooLarge {
                bytes: bytes.len() as u64,
                bytes_max: COMPONENT_BYTES_MAX,
            });
        }
        let compiled = wasmtime::component::Component::from_binary(&self.engine, bytes)
            .map_err(|e| LoadError::Compile(format!("{e:#}")))?;
        let imports: Vec<String> = compiled
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
        let contract = |e: wasmtime::Error| LoadError::Contract(format!("{e:#}"));
        let linked = self.linker.instantiate_pre(&compiled).map_err(contract)?;
        let pre = ChainSyncStrategyPre::new(linked).map_err(contract)?;
        let sha256 = Sha256::digest(bytes).into();
        Component::describe(self.clone(), pre, imports, bytes.len(), sha256)
    }

    /// A fresh store with the deadline of construction.
    pub(crate) fn store(&self) -> Store<Sandbox> {
        let mut store = Sandbox::store(&self.engine);
        store.set_epoch_deadline(OPEN_EPOCHS);
        store
    }
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
