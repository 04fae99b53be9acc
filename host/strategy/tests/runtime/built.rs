//! The components under test and the runtime they run in, made once a test run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use cvp_strategy::Runtime;

/// Builds all components once a test run, in a target directory of their own (the outer one is locked by this very cargo).
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("components");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
            .args(["build", "--release", "--locked", "--target", "wasm32-wasip2"])
            .args(["-p", "cvp-chain-sync", "-p", "cvp-example-strategy"])
            .args(["-p", "cvp-config-sync", "-p", "cvp-example-config-strategy"])
            .args(["-p", "cvp-index-check", "-p", "cvp-example-index-strategy"])
            .args(["-p", "cvp-mq-sync", "-p", "cvp-example-mq-strategy"])
            .arg("--target-dir")
            .arg(&target)
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_STRIP", "true");
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.ends_with("RUSTFLAGS") || text.starts_with("CARGO_TARGET_") {
                cargo.env_remove(&name);
            }
        }
        assert!(cargo.status().unwrap().success(), "the components do not build");
        target.join("wasm32-wasip2/release")
    })
}

pub fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(built().join(name)).unwrap()
}

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new(None).unwrap())
}
