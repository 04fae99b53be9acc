//! The house rules, read from the source as text.

use std::path::{Path, PathBuf};

/// Lines after which a file must be split.
const LINES_MAX: usize = 500;

/// Rooms of `host/core`, top first: a room imports only rooms below it.
const CORE_ROOMS: [&str; 12] = [
    "promotion",
    "replication",
    "session",
    "consensus",
    "mq",
    "chain",
    "ledger",
    "record",
    "strategy",
    "config",
    "frame",
    "types",
];
/// Rooms of `host/node`, top first. `telemetry` is imported by all and imports none; `main` wires commands.
const NODE_ROOMS: [&str; 13] = [
    "commands",
    "bench",
    "assembly",
    "ipc",
    "rpc",
    "promotion",
    "replication",
    "mq",
    "namespace",
    "index",
    "consensus",
    "link",
    "config",
];
/// What core must not know.
const CORE_BANS: [&str; 9] = [
    "use tokio",
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::time::Instant",
    "SystemTime",
    "use rand",
    "use wasmtime",
    "use rocksdb",
];
/// One word for one thing: the left is not used as a name of a room or type.
const BANNED_NAMES: [&str; 6] = ["Manager", "Helper", "Util", "Misc", "Common", "Handler"];
/// Released WIT packages and the BLAKE3 of their files, in order of name: never edited after a release. None is released yet.
const FROZEN_WIT: [(&str, &str); 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn visit(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // In a linked working tree `.git` is a file.
        if ["target", "node_modules", ".git"].contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            visit(&path, found);
        } else if path.is_file() {
            found.push(path);
        }
    }
}

fn files(under: &str, extension: &str) -> Vec<(String, String)> {
    let base = root();
    let mut found = Vec::new();
    visit(&base.join(under), &mut found);
    let mut files: Vec<(String, String)> = found
        .into_iter()
        .filter(|path| extension.is_empty() || path.extension().is_some_and(|e| e == extension))
        .filter_map(|path| {
            let text = std::fs::read_to_string(&path).ok()?;
            Some((path.strip_prefix(&base).ok()?.to_string_lossy().into_owned(), text))
        })
        .collect();
    files.sort();
    assert!(
        !files.is_empty(),
        "no {extension} file under {under:?}: the test looks in the wrong place"
    );
    files
}

/// The part of a file before its tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or(text)
}

#[test]
fn no_file_is_too_long() {
    for (file, text) in files("", "rs") {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{file} has {lines} lines: split it by meaning");
    }
}

#[test]
fn every_file_says_its_job() {
    for (file, text) in files("host", "rs").into_iter().chain(files("plugins", "rs")) {
        assert!(text.starts_with("//!"), "{file} has no head (//!)");
    }
}

fn check_arrows(under: &str, rooms: &[&str]) {
    for (file, text) in files(under, "rs") {
        let room = file
            .trim_start_matches(under)
            .trim_start_matches('/')
            .split(['/', '.'])
            .next()
            .unwrap_or_default();
        let Some(floor) = rooms.iter().position(|name| *name == room) else {
            continue;
        };
        for above in &rooms[..floor] {
            let arrow = format!("crate::{above}::");
            let found = code(&text)
                .lines()
                .find(|line| line.contains(&arrow) && !line.trim_start().starts_with("//"));
            assert!(
                found.is_none(),
                "{file}: the room {room} must not know {above}: {}",
                found.unwrap_or_default().trim()
            );
        }
    }
}

#[test]
fn arrows_in_core_point_down() {
    check_arrows("host/core/src", &CORE_ROOMS);
}

#[test]
fn arrows_in_the_node_point_down() {
    check_arrows("host/node/src", &NODE_ROOMS);
}

#[test]
fn core_touches_nothing() {
    let sources = files("host/core/src", "rs")
        .into_iter()
        .filter(|(file, _)| !file.ends_with("tests.rs"));
    for (file, text) in sources {
        for ban in CORE_BANS {
            let found = code(&text)
                .lines()
                .find(|line| line.contains(ban) && !line.trim_start().starts_with("//"));
            assert!(
                found.is_none(),
                "{file}: core must not know {ban:?}: {}",
                found.unwrap_or_default()
            );
        }
    }
}

#[test]
fn only_the_crates_meant_to_link_heavy_libraries() {
    let allowed = [
        ("rocksdb", "host/ledger"),
        ("wasmtime", "host/strategy"),
        ("tokio", "host/node"),
    ];
    for (file, text) in files("", "toml")
        .into_iter()
        .filter(|(file, _)| file.ends_with("Cargo.toml") && file != "Cargo.toml")
    {
        for (library, place) in allowed {
            let uses = text
                .lines()
                .any(|line| line.starts_with(&format!("{library}.")) || line.starts_with(&format!("{library} ")));
            assert!(
                !uses || file.starts_with(place),
                "{file} depends on {library}; only {place} may"
            );
        }
    }
}

#[test]
fn no_vague_names() {
    for (file, text) in files("host", "rs") {
        for line in code(&text).lines() {
            let declares = ["pub struct ", "pub enum ", "pub trait ", "struct ", "enum ", "trait "]
                .iter()
                .find_map(|word| line.strip_prefix(word));
            if let Some(name) = declares.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next()) {
                assert!(
                    !BANNED_NAMES.iter().any(|ban| name.ends_with(ban)),
                    "{file}: {name} says nothing of its job"
                );
            }
        }
    }
}

#[test]
fn the_repository_speaks_of_the_project_alone() {
    // Put together here, so that this file does not hold them itself.
    let banned = [
        ["/ro", "ot/"].concat(),
        ["/wo", "rk/"].concat(),
        ["regis", "try.npmjs"].concat(),
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
    ];
    for (file, text) in files("", "") {
        for word in &banned {
            assert!(!text.contains(word.as_str()), "{file} holds {word:?}");
        }
    }
}

#[test]
fn released_wit_is_frozen() {
    for (package, digest) in FROZEN_WIT {
        let mut hasher = blake3::Hasher::new();
        for (_, text) in files(package, "wit") {
            hasher.update(text.as_bytes());
        }
        assert_eq!(
            hasher.finalize().to_hex().as_str(),
            digest,
            "{package} was released: make a new major instead"
        );
    }
}
