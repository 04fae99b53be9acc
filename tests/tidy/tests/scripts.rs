//! What start.sh and test.sh say on a machine where things are missing: all of it at once, as commands to copy.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// What the scripts use of an ordinary system.
const SYSTEM: [&str; 11] = [
    "bash", "sort", "head", "sed", "grep", "ls", "cut", "tr", "printf", "dirname", "cat",
];

/// A machine of one user: the system's own tools, and `stubs` (name, what it prints for any question).
fn machine(stubs: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in SYSTEM {
        let found = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
        let found = found.iter().find(|path| path.exists()).unwrap();
        symlink(found, directory.path().join(name)).unwrap();
    }
    for (name, says) in [&[("id", "echo 1000"), ("ldconfig", "true")], stubs].concat() {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{says}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    directory
}

/// Exit code, and what was said, of the checks that `test.sh` makes.
fn checked(machine: &tempfile::TempDir) -> (Option<i32>, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let script = "set -euo pipefail; . ./examples/environment.sh; has_libclang() { has libclang; }; \
                  need_for_build; need_for_lints; need_for_sdk; install_missing; echo all is there";
    let output = Command::new(machine.path().join("bash"))
        .args(["-c", script])
        .current_dir(root)
        .env_clear()
        .env("PATH", machine.path())
        .env("HOME", machine.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

const RUSTUP: &str = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --target wasm32-wasip2";
const GOOD: [(&str, &str); 5] = [
    ("c++", "true"),
    ("libclang", "true"),
    ("node", "echo v20.19.2"),
    ("npm", "true"),
    ("curl", "true"),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&GOOD[..], more].concat()
}

#[test]
fn everything_that_is_missing_stands_in_one_list() {
    let (code, said) = checked(&machine(&[("node", "echo v12.22.12"), ("npm", "true")]));
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("Error: ").count(), 1, "{said}");
    for line in [
        "  - Rust 1.95 or newer\n",
        "  - a C++ compiler\n",
        "  - libclang (RocksDB's bindings need it)\n",
        "  - Node.js 18 or newer, with npm\n",
        "  sudo apt-get update && sudo apt-get install -y -q curl ca-certificates g++ make libclang-dev nodejs npm\n",
        &format!("  {RUSTUP}\n  . \"$HOME/.cargo/env\"\n"),
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
}

#[test]
fn an_old_rust_of_the_system_is_not_enough() {
    let old = [("cargo", "echo cargo 1.85.0"), ("rustc", "echo rustc 1.85.0")];
    let (code, said) = checked(&machine(&with(&old)));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("Rust 1.95 or newer (this is 1.85.0, not of rustup)") && said.contains(RUSTUP),
        "{said}"
    );
    assert!(!said.contains("apt-get"), "{said}");
}

#[test]
fn a_new_rust_of_the_system_lacks_the_target_and_the_lints() {
    let rustc = "case $1 in --print) echo /nowhere;; *) echo rustc 1.97.0;; esac";
    let cargo = "case $1 in fmt|clippy) exit 1;; esac";
    let (code, said) = checked(&machine(&with(&[("cargo", cargo), ("rustc", rustc)])));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("only rustup brings") && said.contains("install -y -q rustfmt rust-clippy"),
        "{said}"
    );
}

#[test]
fn what_rustup_can_add_it_adds() {
    let rustc = "case $1 in --print) echo /nowhere;; *) echo rustc 1.97.0-nightly;; esac";
    let cargo = "case $1 in clippy) exit 1;; esac";
    let stubs = [
        ("cargo", cargo),
        ("rustc", rustc),
        ("rustup", "echo rustup is asked: $*"),
    ];
    let (code, said) = checked(&machine(&with(&stubs)));
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "asked: target add wasm32-wasip2",
        "asked: component add clippy",
        "all is there",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
}
