//! Paths of the copied trees: the rules that each must keep, and which files a node cannot go on without.

use crate::config::GLOBAL;
use crate::types::Malformed;

/// Longest path, bytes.
pub const PATH_BYTES_MAX: usize = 512;

/// Longest name in a path, bytes: what file systems take, less what a temporary name adds.
const NAME_BYTES_MAX: usize = 200;

/// Most names in a path.
const DEPTH_MAX: usize = 16;

/// First name of a path: the provider's `configuration/`.
pub const CONFIGURATION: &str = "configuration";

/// First name of a path: a namespace's certificates, `certificates/<namespace>/...`.
pub const CERTIFICATES: &str = "certificates";

/// Checks that a path stays inside the tree on any file system: relative, no `.` or `..`, no empty or over-long name, no control character.
///
/// # Errors
/// The rule that does not hold.
pub fn check_path(path: &str) -> Result<(), Malformed> {
    let bad = |what: &str| Err(Malformed::new(format!("path {path:?}: {what}")));
    if path.len() > PATH_BYTES_MAX {
        return Err(Malformed::new(format!("a path of {} bytes", path.len())));
    }
    let names: Vec<&str> = path.split('/').collect();
    if names.len() > DEPTH_MAX {
        return bad("too deep");
    }
    if names
        .iter()
        .any(|name| name.is_empty() || *name == "." || *name == "..")
    {
        return bad("it does not stay inside the tree");
    }
    if names.iter().any(|name| name.len() > NAME_BYTES_MAX) {
        return bad("a name is too long");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return bad("a name holds a character that no name may");
    }
    match names.as_slice() {
        [CONFIGURATION, _, ..] | [CERTIFICATES, _, _, ..] => Ok(()),
        _ => bad("it is of no tree that is copied"),
    }
}

/// Whether a file of this path may be copied: it stays inside the tree, and its name is neither a private key's nor one that is in use only
/// while a file is being replaced.
///
/// # Errors
/// The rule that does not hold.
pub fn check_copied(path: &str) -> Result<(), Malformed> {
    check_path(path)?;
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.to_ascii_lowercase().ends_with(".priv") {
        return Err(Malformed::new(format!("path {path:?}: the name of a private key")));
    }
    if is_temporary(name) {
        return Err(Malformed::new(format!(
            "path {path:?}: the name of a half-written file"
        )));
    }
    Ok(())
}

/// Whether a node, or a namespace of it, cannot go on without the file at this path.
pub(super) fn is_vital(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [CONFIGURATION, "system.toml" | "dynamic.toml"]
        | [
            CONFIGURATION,
            _,
            "ns_static.toml" | "ns_dynamic.toml" | "ns_genesis.toml",
        ] => true,
        [CERTIFICATES, _, "certs", file] => file.ends_with(".cert"),
        _ => false,
    }
}

/// Whether a file at this path can be of a node's own configuration: one of the two of the whole node, or of `global`, which every node runs.
pub(super) fn is_of_the_node(path: &str) -> bool {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        [CONFIGURATION, "system.toml" | "dynamic.toml"] => true,
        [CONFIGURATION, namespace, _, ..] => *namespace == GLOBAL,
        _ => false,
    }
}

/// Whether `path` is `place`, or lies in it.
pub(super) fn is_at_or_below(path: &str, place: &str) -> bool {
    let rest = path.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A name that an atomic replacement uses while it writes: `.<name>.<process>.new`.
pub fn is_temporary(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
    let process = inner
        .and_then(|inner| inner.rsplit_once('.'))
        .map(|(_, process)| process);
    process.is_some_and(|process| !process.is_empty() && process.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_tree() {
        for good in [
            "configuration/system.toml",
            "configuration/global/ns_static.toml",
            "certificates/global/CA/root.ca",
            "configuration/a b/\u{e4}.toml",
        ] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        let long = format!("configuration/{}", "n".repeat(201));
        let deep = format!("configuration{}", "/n".repeat(16));
        for bad in [
            "",
            "/etc/passwd",
            "configuration",
            "configuration/",
            "configuration/../tls/key",
            "configuration/./a",
            "configuration//a",
            "certificates/global",
            "tls/tls_peer.priv",
            "configuration/a\0b",
            "configuration/a\nb",
            "configuration\\a/b",
            &long,
            &deep,
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
