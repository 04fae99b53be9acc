//! Builds the default strategies as components and hands their paths to the node, which embeds them.
//!
//! A nested cargo in a target directory of its own under OUT_DIR: with the outer one it would wait for the lock this very build holds.
//! What the outer build was told (flags, targets) is for the host, not for WebAssembly, and is cleared.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

const TARGET: &str = "wasm32-wasip2";

/// Of each default strategy: its package, its component, and the variable that names the component's path to the node.
const STRATEGIES: [(&str, &str, &str); 4] = [
    ("cvp-chain-sync", "cvp_chain_sync.wasm", "CVP_CHAIN_SYNC_WASM"),
    ("cvp-config-sync", "cvp_config_sync.wasm", "CVP_CONFIG_SYNC_WASM"),
    ("cvp-index-check", "cvp_index_check.wasm", "CVP_INDEX_CHECK_WASM"),
    ("cvp-mq-sync", "cvp_mq_sync.wasm", "CVP_MQ_SYNC_WASM"),
];

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../plugins");
    println!("cargo::rerun-if-changed=../../wit");
    match build() {
        Ok(release) => {
            for (_, file, variable) in STRATEGIES {
                println!("cargo::rustc-env={variable}={}", release.join(file).display());
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

/// Builds all of them, and answers the directory they lie in.
fn build() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"));
    let target = PathBuf::from(variable("OUT_DIR")?).join("strategies");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../.."))
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(STRATEGIES.iter().flat_map(|(package, ..)| ["-p", package]))
        .arg("--target-dir")
        .arg(&target);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let inherited = text.starts_with("CARGO_TARGET_")
            || text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_BUILD_")
            || text.ends_with("RUSTFLAGS")
            || text.ends_with("RUSTC_WRAPPER")
            || text.ends_with("RUSTC_WORKSPACE_WRAPPER");
        if inherited {
            cargo.env_remove(&name);
        }
    }
    cargo
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "true")
        .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "false")
        .env("CARGO_PROFILE_RELEASE_LTO", "true")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    let output = cargo
        .output()
        .map_err(|e| format!("the nested cargo does not start: {e}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        for line in text.lines() {
            eprintln!("{line}");
        }
        return Err(
            if text.contains("may not be installed") || text.contains("can't find crate for `core`") {
                format!("the target {TARGET} is missing: run `rustup target add {TARGET}`")
            } else {
                format!("the default strategies do not build for {TARGET} (see above)")
            },
        );
    }
    let release = target.join(TARGET).join("release");
    for (_, file, _) in STRATEGIES {
        if !release.join(file).is_file() {
            return Err(format!("the nested cargo made no {file} in {}", release.display()));
        }
    }
    Ok(release)
}
