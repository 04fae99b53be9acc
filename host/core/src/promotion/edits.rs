//! Which keys of the node's own files a promotion rewrites, and which the way back of a node that was replaced. Everything else in them
//! stays as the operator wrote it.

use super::plan::Plan;
use crate::config::{PairRole, Remote, Value};
use crate::types::{Namespace, NodeRole};

/// One key of one file under `configuration/`.
#[derive(Clone, PartialEq, Debug)]
pub struct ConfigEdit {
    /// Path below `configuration/`, e.g. `dynamic.toml`, `global/ns_dynamic.toml`.
    pub file: String,
    /// Dotted key.
    pub key: &'static str,
    /// New value.
    pub value: Value,
}

/// The edits of step `configuration`, in order. Each file is replaced as a whole, so a crash leaves it old or new; doing them again
/// changes nothing.
pub fn configuration_edits(plan: &Plan) -> Vec<ConfigEdit> {
    let text = |file: &str, key, value: &str| ConfigEdit {
        file: file.to_owned(),
        key,
        value: Value::Text(value.to_owned()),
    };
    let taken = plan.namespaces.iter().map(|ns| (&ns.name, ns.role));
    // What is held keeps its place in the configuration: it is tried again.
    let held = plan.held.iter().map(|ns| (&ns.name, ns.role));
    let mut edits = Vec::new();
    for (name, role) in taken.chain(held) {
        let file = format!("{name}/ns_dynamic.toml");
        edits.push(text(&file, "self.hostname", plan.hostname.as_str()));
        edits.push(text(&file, "self.type", role.as_str()));
    }
    // The role of the whole node last: until it is there, a start reads a receiver, and the journal resumes it.
    edits.push(text("dynamic.toml", "self", plan.hostname.as_str()));
    edits.push(ConfigEdit {
        file: "dynamic.toml".into(),
        key: "cvp.remote",
        value: Value::Texts(vec![String::new()]),
    });
    edits.push(text("dynamic.toml", "cvp.node_type", "provider"));
    edits
}

/// The edits that make a standby of `remote` out of a node with these namespaces, in order. It keeps its own hostname: its TLS certificate
/// carries that one.
pub fn standby_edits(namespaces: &[Namespace], remote: &Remote) -> Vec<ConfigEdit> {
    let role = namespaces.iter().map(|namespace| ConfigEdit {
        file: format!("{namespace}/ns_dynamic.toml"),
        key: "self.type",
        value: Value::Text(NodeRole::Cvp.as_str().to_owned()),
    });
    // Of the whole node last, as in a promotion.
    let whole = [
        ("cvp.remote", Value::Texts(vec![remote.to_string()])),
        ("cvp.enable", Value::Flag(true)),
        ("cvp.node_type", Value::Text(PairRole::Receiver.as_str().to_owned())),
    ];
    let whole = whole.into_iter().map(|(key, value)| ConfigEdit {
        file: "dynamic.toml".into(),
        key,
        value,
    });
    role.chain(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::plan;
    use super::*;

    #[test]
    fn the_way_back_touches_roles_and_the_remote() {
        let namespaces = ["global", "ns1"].map(|name| Namespace::new(name).unwrap());
        let edits = standby_edits(&namespaces, &"node1 10.0.0.2:50015".parse().unwrap());
        let said: Vec<_> = edits
            .iter()
            .map(|e| format!("{} {} {:?}", e.file, e.key, e.value))
            .collect();
        assert_eq!(
            said,
            [
                "global/ns_dynamic.toml self.type Text(\"cvp\")",
                "ns1/ns_dynamic.toml self.type Text(\"cvp\")",
                "dynamic.toml cvp.remote Texts([\"node1 10.0.0.2:50015\"])",
                "dynamic.toml cvp.enable Flag(true)",
                "dynamic.toml cvp.node_type Text(\"receiver\")",
            ]
        );
    }

    #[test]
    fn the_provider_names_and_roles_are_taken_over_and_the_remote_is_emptied() {
        let edits = configuration_edits(&plan());
        let said: Vec<_> = edits
            .iter()
            .map(|e| format!("{} {} {:?}", e.file, e.key, e.value))
            .collect();
        assert_eq!(
            said,
            [
                "global/ns_dynamic.toml self.hostname Text(\"node1\")",
                "global/ns_dynamic.toml self.type Text(\"vp\")",
                "dynamic.toml self Text(\"node1\")",
                "dynamic.toml cvp.remote Texts([\"\"])",
                "dynamic.toml cvp.node_type Text(\"provider\")",
            ]
        );
    }
}
