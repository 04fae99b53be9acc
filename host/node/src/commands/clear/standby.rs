//! The configuration of a node that becomes a standby: which one may, and the edits, all of them checked before the first is written.

use std::collections::BTreeMap;

use cvp_core::config::{self, PairRole, Remote};
use cvp_core::promotion::standby_edits;
use cvp_core::types::Namespace;

use crate::config::{Root, read_tree};
use crate::ipc::Failure;
use crate::replication::ControlFiles;

/// Makes the files of `root` those of a standby of `remote`. Each file is replaced as a whole, dynamic.toml last.
///
/// # Errors
/// The node is a provider that nobody replaced, or its files would be no valid configuration; nothing was changed then.
pub(super) fn configure(root: &Root, remote: &Remote) -> Result<(), Failure> {
    // An earlier run that ended half-way left files that name different roles.
    let config = root.load_in_upgrade()?.config;
    if config.role() == PairRole::Provider {
        refuse_unreplaced(root)?;
    }
    let before = read_tree(&root.configuration())?;
    let present = |name: &Namespace| before.contains_key(&format!("{name}/ns_dynamic.toml"));
    let names = config.dynamic.namespaces.iter().map(|entry| entry.name.clone());
    let names: Vec<Namespace> = names.filter(present).collect();
    // Where this node followed another one, its list names that; a standby's names its provider.
    let named_otherwise = |name: &&Namespace| {
        let ns = config.namespaces.get(*name);
        ns.is_some_and(|ns| ns.dynamic.nodes != [remote.hostname.clone()])
    };
    let renamed: Vec<&Namespace> = names.iter().filter(named_otherwise).collect();
    let (changed, order) = edited(&before, &names, &renamed, remote)?;
    for file in order {
        let text = changed.get(&file).cloned().unwrap_or_default();
        root.rewrite(&file, |_| Ok(text))?;
    }
    Ok(())
}

/// The whole tree after the edits, and the files they touch, in order.
fn edited(
    before: &BTreeMap<String, String>,
    names: &[Namespace],
    renamed: &[&Namespace],
    remote: &Remote,
) -> Result<(BTreeMap<String, String>, Vec<String>), Failure> {
    let (mut files, mut order) = (before.clone(), Vec::new());
    for name in renamed {
        let file = format!("{name}/ns_dynamic.toml");
        let text = files.get(&file).map_or("", String::as_str);
        let text = config::put_only_node(text, remote.hostname.as_str())
            .map_err(|error| bad(format!("configuration/{file}: nodes: {error}")))?;
        // Its role follows in the same file, below.
        files.insert(file, text);
    }
    for edit in standby_edits(names, remote) {
        let text = files.get(&edit.file).map_or("", String::as_str);
        let text = config::edit(text, edit.key, edit.value)
            .map_err(|error| bad(format!("configuration/{}: {}: {error}", edit.file, edit.key)))?;
        files.insert(edit.file.clone(), text);
        if order.last() != Some(&edit.file) {
            order.push(edit.file);
        }
    }
    config::load(&files)
        .and_then(config::Loaded::whole)
        .map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            bad(lines.join("\n       "))
        })?;
    Ok((files, order))
}

fn bad(what: String) -> Failure {
    Failure::failed("bad-configuration", what, "correct it and repeat; nothing was changed")
}

/// A provider's chain may be the only one: it goes only where the node knows that it was replaced, or where it is another node's copy.
fn refuse_unreplaced(root: &Root) -> Result<(), Failure> {
    let files = ControlFiles::new(root.system());
    let unreadable = |error: crate::replication::FileError| {
        let refusal = error.refusal();
        Failure::failed(&refusal.code, refusal.text, refusal.hint)
    };
    if files.fenced().map_err(unreadable)?.is_some() || files.binding().map_err(unreadable)?.is_some() {
        return Ok(());
    }
    Err(Failure::refused(
        "not-replaced",
        "this node is a provider, and it does not know of another node that took its place: its chain may be the only one",
        "start it while the promoted node runs, until `cvp status` says fenced; then stop it and repeat",
    ))
}
