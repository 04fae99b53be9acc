//! The promoted tree, of a standby made from the defaults.

use cvp_core::config::Loaded;
use cvp_core::promotion::{CopyState, PlannedNamespace};
use cvp_core::replication::{FileChange, file_digest};
use cvp_core::types::{Digest, Hostname, Incarnation, Namespace, NodeId, NodeRole, Position};

use super::super::promoted::load_copy;
use super::*;

fn load(root: &Root, files: &ControlFiles, plan: Option<&Plan>) -> Result<Loaded, Refusal> {
    Trees::read(root, files)?.load(plan)
}

fn copy_state(root: &Root, files: &ControlFiles) -> CopyState {
    Trees::read(root, files).map_or_else(|refusal| CopyState::Missing(refusal.text), |trees| trees.state())
}

fn plan() -> Plan {
    Plan {
        node_id: NodeId([1; 16]),
        hostname: Hostname::new("node1").unwrap(),
        own_hostname: Hostname::new("cvp").unwrap(),
        old: Incarnation { number: 1, id: [1; 16] },
        new: Incarnation { number: 2, id: [2; 16] },
        old_addresses: Vec::new(),
        namespaces: vec![PlannedNamespace {
            name: Namespace::new("global").unwrap(),
            role: NodeRole::Vp,
            durable: Position {
                height: 7,
                hash: Digest::of(b"tip"),
            },
        }],
        held: Vec::new(),
        late: false,
        uncopied: Default::default(),
        signature: Vec::new(),
    }
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A standby with a copy, both made from the defaults.
fn standby() -> (tempfile::TempDir, Root, ControlFiles) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::new(directory.path());
    let texts = [
        ("system.toml", include_str!("../../../../../configuration/system.toml")),
        (
            "dynamic.toml",
            include_str!("../../../../../configuration/dynamic.toml"),
        ),
        (
            "global/ns_static.toml",
            include_str!("../../../../../configuration/global/ns_static.toml"),
        ),
        (
            "global/ns_dynamic.toml",
            include_str!("../../../../../configuration/global/ns_dynamic.toml"),
        ),
        (
            "global/ns_genesis.toml",
            include_str!("../../../../../configuration/global/ns_genesis.toml"),
        ),
    ];
    let copy = root.system().join("configuration_vp");
    for (name, text) in texts {
        write(&copy.join(name), text);
        let own = text
            .replace("node_type = \"provider\"", "node_type = \"receiver\"")
            .replace("hostname = \"node1\"", "hostname = \"cvp\"")
            .replace("self = \"node1\"", "self = \"cvp\"")
            .replace("type = \"vp\"", "type = \"cvp\"")
            .replace("jsonrpc = 8081", "jsonrpc = 9999");
        write(&root.configuration().join(name), &own);
    }
    write(
        &copy.join("dynamic.toml"),
        &texts[1].1.replace("max_rate = 0", "max_rate = 4096"),
    );
    write(&copy.join("global/extra.txt"), "kept as it is");
    write(
        &directory.path().join("namespaces/global/system/cvp/CA/root.ca"),
        "the provider's",
    );
    let files = ControlFiles::new(root.system());
    files.write_copy(Some(&Places::copy(&root).scan())).unwrap();
    (directory, root, files)
}

#[test]
fn the_providers_tree_takes_the_place_with_the_own_ports_and_again_the_same() {
    let (directory, root, files) = standby();
    assert_eq!(copy_state(&root, &files), CopyState::Whole(None));
    load(&root, &files, Some(&plan())).unwrap().whole().unwrap();
    load_copy(&root, &files).unwrap().whole().unwrap();
    let own = read_tree(&root.configuration()).unwrap();
    take_over(&root, &files, &plan()).unwrap();
    let after = Places::own(&root).scan();
    let loaded = root.load().unwrap().config;
    assert_eq!(loaded.dynamic.hostname.as_str(), "node1");
    assert_eq!((loaded.dynamic.jsonrpc_port, loaded.dynamic.cvp.max_rate), (9999, 4096));
    assert!(root.configuration().join("global/extra.txt").is_file());
    assert_eq!(
        std::fs::read_to_string(directory.path().join("namespaces/global/certs/CA/root.ca")).unwrap(),
        "the provider's"
    );
    assert_eq!(read_tree(&root.system().join("configuration_cvp")).unwrap(), own);
    take_over(&root, &files, &plan()).unwrap();
    assert_eq!(Places::own(&root).scan(), after);
    assert_eq!(read_tree(&root.system().join("configuration_cvp")).unwrap(), own);
}

#[test]
fn what_was_never_copied_does_not_start() {
    let (_directory, root, files) = standby();
    let path = root.system().join("configuration_vp/dynamic.toml");
    let text = config::put_namespace(&std::fs::read_to_string(&path).unwrap(), "ns9", true).unwrap();
    std::fs::write(&path, text).unwrap();
    assert!(Trees::read(&root, &files).unwrap().started().unwrap().contains("ns9"));
    load(&root, &files, Some(&plan())).unwrap().whole().unwrap();
    take_over(&root, &files, &plan()).unwrap();
    let text = std::fs::read_to_string(root.configuration().join("dynamic.toml")).unwrap();
    let entries = config::namespace_entries(&text).unwrap();
    assert_eq!(entries, [("global".to_owned(), true), ("ns9".to_owned(), false)]);
}

/// The plan writes names and roles over what stands in the files: what the provider itself could not start with is seen before that.
#[test]
fn a_role_that_is_none_is_seen_before_the_plan_writes_over_it() {
    let (_directory, root, files) = standby();
    let copy = root.system().join("configuration_vp");
    let list = std::fs::read_to_string(copy.join("dynamic.toml")).unwrap();
    write(
        &copy.join("dynamic.toml"),
        &config::put_namespace(&list, "ns1", true).unwrap(),
    );
    for kind in ["ns_static", "ns_dynamic", "ns_genesis"] {
        let text = std::fs::read_to_string(copy.join(format!("global/{kind}.toml"))).unwrap();
        write(
            &copy.join(format!("ns1/{kind}.toml")),
            &text.replace("type = \"vp\"", "type = \"king\""),
        );
    }
    let ns1 = Namespace::new("ns1").unwrap();
    let planned = || {
        let mut plan = plan();
        let global = plan.namespaces[0].clone();
        plan.namespaces.push(PlannedNamespace {
            name: ns1.clone(),
            ..global
        });
        plan
    };
    let held = load_copy(&root, &files).unwrap().held;
    assert_eq!(
        held[&ns1]
            .iter()
            .map(|problem| problem.key.as_str())
            .collect::<Vec<_>>(),
        ["self.type"]
    );
    // The judgement may not wait for the plan's own tree: there the role is right.
    assert!(load(&root, &files, Some(&planned())).unwrap().held.is_empty());
    let text = std::fs::read_to_string(copy.join("global/ns_dynamic.toml")).unwrap();
    write(
        &copy.join("global/ns_dynamic.toml"),
        &text.replace("type = \"vp\"", "type = \"king\""),
    );
    let refused = load_copy(&root, &files).unwrap_err();
    assert!(
        refused.text.contains("self.type") && refused.text.contains("king"),
        "{refused}"
    );
}

#[test]
fn a_staged_change_rolls_forward() {
    let (_directory, root, files) = standby();
    let text = std::fs::read_to_string(root.system().join("configuration_vp/dynamic.toml")).unwrap();
    let change = FileChange {
        path: "configuration/dynamic.toml".into(),
        old: Some(file_digest(text.as_bytes())),
        content: text.replace("4096", "8192").into(),
    };
    let staged = cvp_core::replication::Change {
        id: cvp_core::replication::ChangeId {
            incarnation: [1; 16],
            sequence: 1,
        },
        kind: "config".into(),
        body: change.encode().into(),
    };
    files.write_staged(&staged).unwrap();
    assert_eq!(copy_state(&root, &files), CopyState::Whole(Some(change.path)));
    take_over(&root, &files, &plan()).unwrap();
    assert_eq!(root.load().unwrap().config.dynamic.cvp.max_rate, 8192);
    assert!(files.staged().unwrap().is_none());
}

#[test]
fn a_broken_file_of_the_own_tree_is_named_where_it_lies() {
    let (_directory, root, files) = standby();
    let dynamic = root.configuration().join("dynamic.toml");
    let text = std::fs::read_to_string(&dynamic).unwrap();
    write(&dynamic, &format!("{text}broken [\n"));
    let refused = load_copy(&root, &files).unwrap_err();
    assert!(
        refused.text.contains(&dynamic.display().to_string()) && !refused.text.contains("configuration_cvp"),
        "{refused}"
    );
}

#[test]
fn what_the_copy_lacks_is_kept_with_its_record() {
    let (_directory, root, files) = standby();
    assert_eq!(files.lacking(), None);
    let copied = files.copy().unwrap().unwrap();
    assert_eq!(files.last_told(), copied);
    let mut told = copied.clone();
    told.files.retain(|file| file.path != "configuration/global/extra.txt");
    files.write_told(Some(&told)).unwrap();
    let again = ControlFiles::new(root.system());
    assert!(again.lacking().unwrap().contains("configuration/global/extra.txt"));
    assert_eq!(again.last_told(), told);
    files.write_told(None).unwrap();
    assert_eq!(files.lacking(), None);
}

#[test]
fn without_a_whole_copy_nothing_is_taken_over() {
    let (_directory, root, files) = standby();
    files.write_copy(None).unwrap();
    assert_eq!(copy_state(&root, &files), CopyState::Whole(None));
    std::fs::remove_dir_all(root.system().join("configuration_vp")).unwrap();
    assert!(matches!(copy_state(&root, &files), CopyState::Missing(_)));
    let before = Places::own(&root).scan();
    assert!(load_copy(&root, &files).is_err());
    assert!(take_over(&root, &files, &plan()).is_err());
    assert_eq!(Places::own(&root).scan(), before);
}

#[test]
fn what_is_mounted_in_the_own_tree_is_found_and_links_are_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("below")).unwrap();
    std::os::unix::fs::symlink("/proc", directory.path().join("below/link")).unwrap();
    assert_eq!(mounted(directory.path()), None);
    assert_eq!(mounted(Path::new("/proc")), Some("/proc".into()));
}
