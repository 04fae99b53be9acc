//! What a strategy has: bounded memory, a WASI that is empty, and nothing else.

use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxView, WasiView};

/// Linear memory of one instance, all its memories together, bytes.
pub const MEMORY_BYTES_MAX: usize = 32 << 20;

/// Table entries of one instance, all its tables together.
const TABLE_ELEMENTS_MAX: usize = 64 << 10;

/// What may be lifted out of one call, bytes: the largest message, and room for lists. Stops answers that name one string many times.
const LIFTED_BYTES_MAX: usize = 4 << 20;

/// What a strategy may write to stderr in its life, bytes: enough for a panic's message.
const STDERR_BYTES_MAX: usize = 64 << 10;

/// Imports a strategy may have: what the standard library of `wasm32-wasip2` pulls in, all of it empty or frozen here.
const ALLOWED: [&str; 20] = [
    "cvp:types/types",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/types",
    "wasi:filesystem/preopens",
    "wasi:random/random",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
];

/// Whether a strategy may import this interface (`package:name/interface@version`; the linker checks the version).
pub fn allowed(import: &str) -> bool {
    let name = import.split('@').next().unwrap_or(import);
    ALLOWED.contains(&name)
}

/// Why a well-known import is not there, for the error's text.
pub fn hint(import: &str) -> &'static str {
    if import.starts_with("wasi:clocks/monotonic-clock") {
        " (no Instant, no sleep: time comes in events)"
    } else if import.starts_with("wasi:sockets") || import.starts_with("wasi:http") {
        " (no network: talk to the other half with `send`)"
    } else {
        ""
    }
}

/// Data of one store.
pub struct Sandbox {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: Limits,
    stderr: MemoryOutputPipe,
}

#[derive(Default)]
struct Limits {
    memory_bytes: usize,
    table_elements: usize,
    denied: bool,
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if total > MEMORY_BYTES_MAX {
            self.denied = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS_MAX {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn memories(&self) -> usize {
        8
    }

    fn tables(&self) -> usize {
        16
    }

    fn instances(&self) -> usize {
        64
    }
}

impl WasiView for Sandbox {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Sandbox {
    /// A store for one instance: bounded, with an empty WASI.
    pub fn store(engine: &Engine) -> Store<Sandbox> {
        let stderr = MemoryOutputPipe::new(STDERR_BYTES_MAX);
        let wasi = WasiCtx::builder()
            .stderr(stderr.clone())
            .secure_random(Deterministic::new(vec![0]))
            .insecure_random(Deterministic::new(vec![0]))
            .insecure_random_seed(0)
            .max_random_size(64 << 10)
            .wall_clock(Frozen)
            .monotonic_clock(Frozen)
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        let sandbox = Sandbox {
            wasi,
            table: ResourceTable::new(),
            limits: Limits::default(),
            stderr,
        };
        let mut store = Store::new(engine, sandbox);
        store.limiter(|sandbox| &mut sandbox.limits);
        store.set_hostcall_fuel(LIFTED_BYTES_MAX);
        store
    }

    /// Whether it asked for more memory than it may have.
    pub fn memory_denied(&self) -> bool {
        self.limits.denied
    }

    /// The last line it wrote to stderr: a panic's message, as a rule.
    pub fn last_words(&self) -> Option<String> {
        let contents = self.stderr.contents();
        let text = String::from_utf8_lossy(&contents);
        let line = text
            .lines()
            .rfind(|l| !l.starts_with("note:") && !l.trim().is_empty())?;
        Some(line.chars().take(300).collect())
    }
}

struct Frozen;

impl HostWallClock for Frozen {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Frozen {
    fn resolution(&self) -> u64 {
        1_000_000_000
    }

    fn now(&self) -> u64 {
        0
    }
}
