//! The files with which a standby starts a namespace that its provider runs: its own prepared ones, and in the place of those that are
//! missing the provider's from the copy, made a standby's.

use cvp_core::config::{self, NsConfig, Value};
use cvp_core::types::strategy::Role;
use cvp_core::types::{Hostname, Namespace, NodeRole, Refusal};

use super::chains::{bad_files_here, genesis_hash};
use super::namespaces::{FILES, LIST};
use crate::config::{Places, Root, read_tree};
use crate::durable;

fn bad(text: String) -> Refusal {
    Refusal::new(
        "bad-configuration",
        text,
        "correct it on the provider, or put the standby's own files into its configuration",
    )
}

/// Writes what is missing of the namespace into the standby's own configuration, durably, its entry last. Doing it again changes nothing.
///
/// # Errors
/// A file is on neither node, the namespace cannot run with them, its genesis is not the provider's; the disk. The entry is not written then.
pub(super) fn prepare(root: &Root, name: &Namespace, own: &Hostname, provider: &Hostname) -> Result<NsConfig, Refusal> {
    fill(root, name, own, provider)?;
    let mut files = read_tree(&root.configuration()).map_err(|failure| failure.to_refusal())?;
    let list = files.get(LIST).cloned().unwrap_or_default();
    let list = config::put_namespace(&list, name.as_str(), true).map_err(|error| bad(format!("{LIST}: {error}")))?;
    files.insert(LIST.to_owned(), list);
    let mut loaded = config::load(&files).map_err(|problems| bad_files_here(&problems))?;
    let ns = loaded
        .config
        .namespaces
        .remove(name)
        .ok_or_else(|| bad_files_here(&loaded.held.remove(name).unwrap_or_default()))?;
    check_genesis(root, name, &ns, files)?;
    root.rewrite(LIST, |text| config::put_namespace(text, name.as_str(), true))
        .map_err(|failure| failure.to_refusal())?;
    Ok(ns)
}

/// What this standby has not prepared is the provider's.
fn fill(root: &Root, name: &Namespace, own: &Hostname, provider: &Hostname) -> Result<(), Refusal> {
    let directory = root.configuration().join(name.as_str());
    let copy = Places::copy(root).configuration().join(name.as_str());
    let disk = |error: durable::DurableError| Refusal::new("disk-failed", error.to_string(), "check the disk");
    let mut made = Vec::new();
    for file in FILES.into_iter().filter(|file| !directory.join(file).is_file()) {
        let theirs = std::fs::read_to_string(copy.join(file)).map_err(|error| {
            bad(format!(
                "{file} is neither in {} nor in {} ({error})",
                directory.display(),
                copy.display()
            ))
        })?;
        let text = as_standby(file, &theirs, own, provider).map_err(|error| bad(format!("{file}: {error}")))?;
        // What this node keeps for itself has no value here yet.
        let path = format!("{name}/{file}");
        let text = config::keep_local(&path, &text, "", &[]).map_err(|error| bad(format!("{path}: {error}")))?;
        made.push((file, text));
    }
    if made.is_empty() {
        return Ok(());
    }
    durable::create_directories(&directory).map_err(disk)?;
    for (file, text) in made {
        durable::replace(&directory.join(file), text.as_bytes(), 0o600).map_err(disk)?;
    }
    Ok(())
}

fn as_standby(file: &str, text: &str, own: &Hostname, provider: &Hostname) -> Result<String, config::EditError> {
    if file != "ns_dynamic.toml" {
        return Ok(text.to_owned());
    }
    let text = config::edit(text, "self.hostname", Value::Text(own.to_string()))?;
    let text = config::edit(&text, "self.type", Value::Text(NodeRole::Cvp.as_str().to_owned()))?;
    let text = config::edit(&text, "self.n", Value::Number(1))?;
    config::put_only_node(&text, provider.as_str())
}

/// A prepared genesis that is not the provider's would only be refused by the next handshake, and the whole pair with it.
fn check_genesis(
    root: &Root,
    name: &Namespace,
    ns: &NsConfig,
    mut files: std::collections::BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let file = format!("{name}/ns_genesis.toml");
    let Ok(theirs) = std::fs::read_to_string(Places::copy(root).configuration().join(&file)) else {
        return Ok(());
    };
    files.insert(file, theirs);
    let loaded = config::load(&files).map_err(|problems| bad_files_here(&problems))?;
    let Some(theirs) = loaded.config.namespaces.get(name) else {
        return Ok(());
    };
    let hash = |ns: &NsConfig| genesis_hash(name, ns).map_err(|failure| failure.to_refusal());
    let (ours, theirs) = (hash(ns)?, hash(theirs)?);
    if ours == theirs {
        return Ok(());
    }
    Err(Refusal::new(
        "genesis",
        format!(
            "genesis {ours} in this {}'s configuration/{name}, {theirs} on the provider",
            Role::Receiver.as_str()
        ),
        "give both nodes the same ns_genesis.toml",
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A standby `cvp` of `node1`, whose copy holds the further namespace ns1.
    fn standby() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        for (name, text) in [
            ("system.toml", include_str!("../../../../configuration/system.toml")),
            ("dynamic.toml", include_str!("../../../../configuration/dynamic.toml")),
            (
                "ns_static.toml",
                include_str!("../../../../configuration/global/ns_static.toml"),
            ),
            (
                "ns_dynamic.toml",
                include_str!("../../../../configuration/global/ns_dynamic.toml"),
            ),
            (
                "ns_genesis.toml",
                include_str!("../../../../configuration/global/ns_genesis.toml"),
            ),
        ] {
            let own = text
                .replace("node_type = \"provider\"", "node_type = \"receiver\"")
                .replace("hostname = \"node1\"", "hostname = \"cvp\"")
                .replace("self = \"node1\"", "self = \"cvp\"")
                .replace("type = \"vp\"", "type = \"cvp\"");
            let below = if name.starts_with("ns_") {
                format!("global/{name}")
            } else {
                name.to_owned()
            };
            write(&root.configuration().join(below), &own);
            write(&root.system().join("configuration_vp/ns1").join(name), text);
        }
        (directory, root)
    }

    fn prepared(root: &Root) -> Result<NsConfig, Refusal> {
        let host = |name: &str| Hostname::new(name).unwrap();
        prepare(root, &Namespace::new("ns1").unwrap(), &host("cvp"), &host("node1"))
    }

    #[test]
    fn the_providers_files_become_a_standbys() {
        let (_directory, root) = standby();
        let ns = prepared(&root).unwrap();
        assert_eq!((ns.dynamic.role, ns.dynamic.hostname.as_str()), (NodeRole::Cvp, "cvp"));
        let text = std::fs::read_to_string(root.configuration().join("ns1/ns_dynamic.toml")).unwrap();
        assert!(
            text.contains("hostname = \"node1\"") && text.contains("# SOLO"),
            "{text}"
        );
        let loaded = root.load_whole().unwrap().config;
        assert_eq!(loaded.namespaces.len(), 2);
        // Again, and with one of its own.
        prepared(&root).unwrap();
        let own = text.replace("batch_size = 500", "batch_size = 7");
        write(&root.configuration().join("ns1/ns_dynamic.toml"), &own);
        assert_eq!(prepared(&root).unwrap().dynamic.batch_size, 7);
    }

    #[test]
    fn what_cannot_run_is_said_and_has_no_entry() {
        let (_directory, root) = standby();
        let copy = root.system().join("configuration_vp/ns1");
        let genesis = std::fs::read_to_string(copy.join("ns_genesis.toml")).unwrap();
        write(
            &root.configuration().join("ns1/ns_genesis.toml"),
            &genesis.replace(
                "alloc]",
                "alloc]\n\"0x00000000000000000000000000000000000000aa\" = \"1\"",
            ),
        );
        let refused = prepared(&root).unwrap_err();
        assert_eq!(refused.code, "genesis", "{refused}");
        std::fs::remove_file(root.configuration().join("ns1/ns_genesis.toml")).unwrap();
        std::fs::remove_file(copy.join("ns_genesis.toml")).unwrap();
        assert!(
            prepared(&root)
                .unwrap_err()
                .text
                .contains("ns_genesis.toml is neither in")
        );
        write(&copy.join("ns_genesis.toml"), "odd = [");
        assert_eq!(prepared(&root).unwrap_err().code, "bad-configuration");
        assert_eq!(root.load_whole().unwrap().config.namespaces.len(), 1);
    }
}
