//! The whole configuration of a node, from the texts of its files.

use std::collections::BTreeMap;

use super::dynamic::{Dynamic, PairRole};
use super::keys::{Keys, Problem};
use super::ns_dynamic::NsDynamic;
use super::ns_genesis::NsGenesis;
use super::ns_static::NsStatic;
use super::system::System;
use crate::types::{Namespace, NodeRole};

/// One namespace's three files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NsConfig {
    /// `ns_static.toml`.
    pub fixed: NsStatic,
    /// `ns_dynamic.toml`.
    pub dynamic: NsDynamic,
    /// `ns_genesis.toml`.
    pub genesis: NsGenesis,
}

/// A node's whole configuration, typed and checked.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeConfig {
    /// `system.toml`.
    pub system: System,
    /// `dynamic.toml`.
    pub dynamic: Dynamic,
    /// Every namespace of `dynamic.toml` whose `start` is true.
    pub namespaces: BTreeMap<Namespace, NsConfig>,
}

impl NodeConfig {
    /// Which end of the pair this node is.
    pub fn role(&self) -> PairRole {
        self.dynamic.cvp.node_type
    }
}

/// What [`load`] found.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: NodeConfig,
    /// Keys that have no effect here, and other remarks; they do not stop the start.
    pub warnings: Vec<Problem>,
}

/// Reads the tree from its texts, named relative to `configuration/` (`system.toml`, `global/ns_static.toml`).
///
/// All problems of all files are answered at once, so that an operator corrects them in one go.
pub fn load(files: &BTreeMap<String, String>) -> Result<Loaded, Vec<Problem>> {
    load_tree(files, true)
}

/// As [`load`], without the checks of one file against another: in the middle of an upgrade some files name the new host and role and
/// some the old ones.
pub fn load_in_upgrade(files: &BTreeMap<String, String>) -> Result<Loaded, Vec<Problem>> {
    load_tree(files, false)
}

fn load_tree(files: &BTreeMap<String, String>, agree: bool) -> Result<Loaded, Vec<Problem>> {
    let mut reader = TreeReader {
        files,
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let dynamic = reader.file("dynamic.toml", |keys, _| Dynamic::read(keys));
    let standby = dynamic
        .as_ref()
        .is_some_and(|dynamic| dynamic.cvp.node_type == PairRole::Receiver);
    let system = reader.file("system.toml", |keys, _| System::read(keys, standby));
    let (Some(system), Some(dynamic)) = (system, dynamic) else {
        return Err(reader.problems);
    };
    let mut namespaces = BTreeMap::new();
    for entry in dynamic.namespaces.iter().filter(|entry| entry.start) {
        let file = |kind: &str| format!("{}/{kind}.toml", entry.name);
        let fixed = reader.file(&file("ns_static"), |keys, _| NsStatic::read(keys));
        let changing = reader.file(&file("ns_dynamic"), |keys, _| NsDynamic::read(keys));
        let genesis = reader.file(&file("ns_genesis"), NsGenesis::read);
        if let (Some(fixed), Some(changing), Some(genesis)) = (fixed, changing, genesis) {
            if agree {
                reader.check_namespace(&dynamic, &file("ns_dynamic"), &changing);
            }
            let config = NsConfig {
                fixed,
                dynamic: changing,
                genesis,
            };
            namespaces.insert(entry.name.clone(), config);
        }
    }
    if reader.problems.is_empty() {
        let config = NodeConfig {
            system,
            dynamic,
            namespaces,
        };
        Ok(Loaded {
            config,
            warnings: reader.warnings,
        })
    } else {
        Err(reader.problems)
    }
}

struct TreeReader<'a> {
    files: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl TreeReader<'_> {
    fn file<T>(&mut self, name: &str, read: impl FnOnce(&mut Keys, &str) -> T) -> Option<T> {
        let Some(text) = self.files.get(name) else {
            self.problems.push(Problem {
                file: name.to_owned(),
                key: String::new(),
                what: "the file is missing".to_owned(),
                help: "restore it, or write a root directory afresh with `cvp init`".to_owned(),
            });
            return None;
        };
        let mut keys = Keys::parse(name, text);
        let value = read(&mut keys, text);
        let broken = keys.is_broken();
        let (problems, warnings) = keys.finish();
        self.problems.extend(problems);
        self.warnings.extend(warnings);
        // What it would be checked against is unknown too.
        (!broken).then_some(value)
    }

    fn check_namespace(&mut self, dynamic: &Dynamic, file: &str, ns: &NsDynamic) {
        let mut problem = |key: &str, what: String, help: &str| {
            self.problems.push(Problem {
                file: file.to_owned(),
                key: key.to_owned(),
                what,
                help: help.to_owned(),
            });
        };
        if ns.hostname != dynamic.hostname {
            let what = format!(
                "{} differs from `self` of dynamic.toml, {}",
                ns.hostname, dynamic.hostname
            );
            problem("self.hostname", what, "write the same hostname in both files");
        }
        let receiver = dynamic.cvp.node_type == PairRole::Receiver;
        if let Some(remote) = dynamic.cvp.remote.first().filter(|_| receiver)
            && ns.nodes != [remote.hostname.clone()]
        {
            let named: Vec<&str> = ns.nodes.iter().map(|node| node.as_str()).collect();
            let what = format!(
                "a standby names its provider alone, {}, and here stands [{}]",
                remote.hostname,
                named.join(", ")
            );
            problem("nodes", what, "write one [[nodes]] with the hostname of cvp.remote");
        }
        if receiver && ns.role != NodeRole::Cvp {
            let what = format!("{} on a receiver", ns.role.as_str());
            problem(
                "self.type",
                what,
                "write \"cvp\", or cvp.node_type = \"provider\" in dynamic.toml",
            );
        }
        if !receiver && ns.role == NodeRole::Cvp {
            problem(
                "self.type",
                "cvp on a provider".to_owned(),
                "write \"vp\" or \"nvp\", or cvp.node_type = \"receiver\" in dynamic.toml",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration that `cvp init` starts from.
    fn defaults() -> BTreeMap<String, String> {
        [
            ("system.toml", include_str!("../../../../configuration/system.toml")),
            ("dynamic.toml", include_str!("../../../../configuration/dynamic.toml")),
            (
                "global/ns_static.toml",
                include_str!("../../../../configuration/global/ns_static.toml"),
            ),
            (
                "global/ns_dynamic.toml",
                include_str!("../../../../configuration/global/ns_dynamic.toml"),
            ),
            (
                "global/ns_genesis.toml",
                include_str!("../../../../configuration/global/ns_genesis.toml"),
            ),
        ]
        .map(|(file, text)| (file.to_owned(), text.to_owned()))
        .into()
    }

    #[test]
    fn our_defaults_load_and_hold_nothing_without_effect() {
        let loaded = load(&defaults()).unwrap();
        assert_eq!(loaded.warnings, []);
    }

    #[test]
    fn a_file_that_is_no_toml_is_one_problem() {
        for file in defaults().keys() {
            let mut files = defaults();
            // A receiver's: the defaults of a file that was not read would contradict it.
            let dynamic = files["dynamic.toml"].replace("\"provider\"", "\"receiver\"");
            files.insert(
                "dynamic.toml".to_owned(),
                dynamic.replace("self = \"node1\"", "self = \"cvp\""),
            );
            let other = files["global/ns_dynamic.toml"].replace("type = \"vp\"", "type = \"cvp\"");
            let other = other.replacen("hostname = \"node1\"", "hostname = \"cvp\"", 1);
            files.insert("global/ns_dynamic.toml".to_owned(), other);
            assert!(load(&files).is_ok());
            files.insert(file.clone(), format!("{}\nodd = [\n", files[file]));
            let problems = load(&files).unwrap_err();
            assert_eq!(problems.len(), 1, "{file}: {problems:?}");
            assert!(
                problems[0].file == *file && problems[0].what.starts_with("not valid TOML"),
                "{}",
                problems[0]
            );
        }
    }

    #[test]
    fn a_standby_names_its_provider_and_nobody_else() {
        let mut files = defaults();
        let standby = |text: &str| {
            text.replace("node_type = \"provider\"", "node_type = \"receiver\"")
                .replace("remote = [\"\"]", "remote = [\"node1 10.0.0.1:50011\"]")
                .replace("type = \"vp\"", "type = \"cvp\"")
        };
        files.values_mut().for_each(|text| *text = standby(text));
        assert!(load(&files).is_ok());
        let nodes = files.get_mut("global/ns_dynamic.toml").unwrap();
        *nodes = nodes.replace("[[nodes]]\nhostname = \"node1\"", "[[nodes]]\nhostname = \"node2\"");
        let problems = load(&files).unwrap_err();
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "nodes"), "{problems:?}");
        let nodes = files.get_mut("global/ns_dynamic.toml").unwrap();
        nodes.push_str("\n[[nodes]]\nhostname = \"node1\"\nscore = 10\n");
        assert!(load(&files).unwrap_err()[0].what.contains("[node2, node1]"));
    }

    #[test]
    fn what_our_comments_offer_loads_as_well() {
        let mut files = defaults();
        for text in files.values_mut() {
            *text = text
                .replace("# [log.module]\n# ", "[log.module]\n")
                .replace("# [strategy.chain-sync]\n# id", "[strategy.chain-sync]\nid")
                .replace("# tlsServerHostOverride", "tlsServerHostOverride");
        }
        let loaded = load(&files).unwrap();
        assert_eq!(loaded.warnings, []);
        let config = loaded.config;
        assert!(config.dynamic.log.modules.contains_key("cvp"));
        let ns = &config.namespaces[&Namespace::new("global").unwrap()];
        assert!(ns.dynamic.log_modules.contains_key("execmgr"));
        assert_eq!(ns.fixed.strategy("chain-sync").id, "my-strategy");
        assert!(config.system.p2p.tls_server_host_override.is_some());
    }
}
