//! The whole configuration of a node, from the texts of its files.

use std::collections::BTreeMap;

use super::dynamic::{Dynamic, PairRole, Remote};
use super::keys::{Keys, Problem};
use super::ns_dynamic::NsDynamic;
use super::ns_genesis::NsGenesis;
use super::ns_static::NsStatic;
use super::system::System;
use crate::types::{Hostname, Namespace, NodeRole};

/// The namespace that every node runs.
pub const GLOBAL: &str = "global";

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
    /// The VPs that each namespace may follow, in order: where this node is a provider and an nvp.
    pub fn followed(&self) -> Vec<(Namespace, Vec<Hostname>)> {
        let provider = self.role() == PairRole::Provider;
        let nvps = self.namespaces.iter();
        let nvps = nvps.filter(|(_, ns)| provider && ns.dynamic.role == NodeRole::Nvp);
        nvps.map(|(name, ns)| (name.clone(), candidates(&ns.dynamic))).collect()
    }

    /// Where the node `hostname` is reached: what the namespaces say, then what dynamic.toml says.
    pub fn addresses_of(&self, hostname: &Hostname) -> Vec<Remote> {
        let mut addresses: Vec<Remote> = Vec::new();
        let of_namespaces = self.namespaces.values().flat_map(|ns| &ns.dynamic.remote_hosts);
        for host in of_namespaces.chain(&self.dynamic.remote_hosts) {
            if host.hostname == *hostname && !addresses.contains(host) {
                addresses.push(host.clone());
            }
        }
        addresses
    }

    /// Which end of the pair this node is.
    pub fn role(&self) -> PairRole {
        self.dynamic.cvp.node_type
    }
}

/// Whom a namespace may follow: `[[nodes]]` without this node.
fn candidates(ns: &NsDynamic) -> Vec<Hostname> {
    let others = ns.nodes.iter().filter(|node| **node != ns.hostname);
    others.cloned().collect()
}

/// What [`load`] found.
#[derive(Clone, PartialEq, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: NodeConfig,
    /// Keys that have no effect here, and other remarks; they do not stop the start.
    pub warnings: Vec<Problem>,
    /// Namespaces that cannot start with these files, `global` never among them: the node and the others go on.
    pub held: BTreeMap<Namespace, Vec<Problem>>,
}

impl Loaded {
    /// The tree, unless a namespace of it cannot start.
    ///
    /// # Errors
    /// What keeps the namespaces from starting.
    pub fn whole(self) -> Result<Loaded, Vec<Problem>> {
        if self.held.is_empty() {
            return Ok(self);
        }
        Err(self.held.into_values().flatten().collect())
    }
}

/// Reads the tree from its texts, named relative to `configuration/` (`system.toml`, `global/ns_static.toml`).
///
/// All problems of all files are answered at once, so that an operator corrects them in one go. Those of a namespace beside `global` keep
/// that namespace from starting, and nothing else ([`Loaded::held`]).
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
    let (mut namespaces, mut held) = (BTreeMap::new(), BTreeMap::new());
    for entry in dynamic.namespaces.iter().filter(|entry| entry.start) {
        let before = reader.problems.len();
        let file = |kind: &str| format!("{}/{kind}.toml", entry.name);
        let fixed = reader.file(&file("ns_static"), |keys, _| NsStatic::read(keys, standby));
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
        if reader.problems.len() > before && entry.name.as_str() != GLOBAL {
            held.insert(entry.name.clone(), reader.problems.split_off(before));
            namespaces.remove(&entry.name);
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
            held,
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
                unsupported: false,
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
                unsupported: false,
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
        if !receiver && ns.role == NodeRole::Nvp {
            let vps = candidates(ns);
            if vps.is_empty() {
                let what = "an nvp follows a VP, and here stands none".to_owned();
                problem("nodes", what, "write [[nodes]] with the hostname of the VP");
            }
            let hosts = || ns.remote_hosts.iter().chain(&dynamic.remote_hosts);
            for vp in vps.iter().filter(|vp| !hosts().any(|host| host.hostname == **vp)) {
                let help = format!("write \"{vp} <ip:port>\" there, or into p2p.ip.remote.hosts of dynamic.toml");
                problem("p2p.ip.remote.hosts", format!("it has no address of {vp}"), &help);
            }
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
    fn an_nvp_names_its_vps_and_where_they_are() {
        let nvp = |nodes: &str, hosts: &str| {
            let mut files = defaults();
            let text = files["global/ns_dynamic.toml"].replace("type = \"vp\"", "type = \"nvp\"");
            let text = text.replace("[[nodes]]\nhostname = \"node1\"\nscore = 10\n", nodes);
            files.insert("global/ns_dynamic.toml".to_owned(), text);
            let text = format!("{}\n[p2p.ip.remote]\nhosts = [{hosts}]\n", files["dynamic.toml"]);
            files.insert("dynamic.toml".to_owned(), text);
            load(&files).map(|loaded| loaded.config)
        };
        let two = "[[nodes]]\nhostname = \"b\"\n[[nodes]]\nhostname = \"a\"\n[[nodes]]\nhostname = \"node1\"\n";
        let config = nvp(two, r#""a 10.0.0.1:1", "b 10.0.0.2:1", "a 10.0.0.3:1""#).unwrap();
        let followed = config.followed();
        let names: Vec<&str> = followed[0].1.iter().map(Hostname::as_str).collect();
        assert_eq!(names, ["b", "a"]);
        let addresses: Vec<String> = config
            .addresses_of(&followed[0].1[1])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["a 10.0.0.1:1", "a 10.0.0.3:1"]);
        assert_eq!(nvp(two, r#""a 10.0.0.1:1""#).unwrap_err()[0].key, "p2p.ip.remote.hosts");
        let alone = "[[nodes]]\nhostname = \"node1\"\n";
        assert_eq!(nvp(alone, "").unwrap_err()[0].key, "nodes");
        assert!(load(&defaults()).unwrap().config.followed().is_empty());
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
    fn a_namespace_whose_files_are_bad_is_held_and_global_never() {
        let mut files = defaults();
        let dynamic = format!("{}\n[[namespace]]\nname = \"ns1\"\n", files["dynamic.toml"]);
        files.insert("dynamic.toml".to_owned(), dynamic);
        let loaded = load(&files).unwrap();
        let ns1 = Namespace::new("ns1").unwrap();
        assert_eq!((loaded.held[&ns1].len(), loaded.config.namespaces.len()), (3, 1));
        assert_eq!(loaded.whole().unwrap_err().len(), 3);
        for kind in ["ns_static", "ns_dynamic", "ns_genesis"] {
            let text = files[&format!("global/{kind}.toml")].clone();
            files.insert(format!("ns1/{kind}.toml"), text);
        }
        assert_eq!(load(&files).unwrap().whole().unwrap().config.namespaces.len(), 2);
        files.insert(
            "ns1/ns_dynamic.toml".to_owned(),
            "[consensus]\nalgo = \"RBFT\"\n".to_owned(),
        );
        assert_eq!(load(&files).unwrap().held[&ns1][0].key, "consensus.algo");
        files.insert("global/ns_dynamic.toml".to_owned(), "odd = [\n".to_owned());
        assert_eq!(load(&files).unwrap_err().len(), 1);
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
