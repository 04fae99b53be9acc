//! The node's own key: `key.priv` of namespace `global`, which the operator gives the standby as a backup. It signs a take-over there, and
//! checks one here.

use std::path::PathBuf;

use cvp_core::session::{NodeKey, TakeOver};
use cvp_core::types::Namespace;

use super::{OwnKey, Root};

/// The namespace that every node has.
const NAMESPACE: &str = "global";

impl Root {
    /// What checks signatures of this node's own key. Without a key that can be read nothing is ever signed.
    pub fn node_key(&self) -> NodeKey {
        let Some(key) = self.read_node_key() else {
            return NodeKey::default();
        };
        NodeKey::new(move |statement, signature| key.confirms(statement, signature))
    }

    /// Signs a take-over of the name that the key belongs to; empty without a key that can be read.
    pub fn sign_take_over(&self, take_over: &TakeOver) -> Vec<u8> {
        let signed = self.read_node_key().map(|key| key.sign(&take_over.statement()));
        match signed {
            Some(Ok(signature)) => signature,
            Some(Err(error)) => {
                tracing::warn!(%error, "the take-over is not signed");
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    fn read_node_key(&self) -> Option<OwnKey> {
        let path = self.node_key_file()?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "read the node key");
                return None;
            }
        };
        let key = OwnKey::from_pem(&text);
        key.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "read the node key"))
            .ok()
    }

    fn node_key_file(&self) -> Option<PathBuf> {
        let namespace = Namespace::new(NAMESPACE).ok()?;
        Some(self.namespace(&namespace).join("certs/certs/key.priv"))
    }
}

#[cfg(test)]
mod tests {
    use cvp_core::types::{Hostname, Incarnation, NodeId};
    use rcgen::KeyPair;

    use super::*;

    fn root_with(key: Option<&str>) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        if let Some(key) = key {
            let path = root.node_key_file().unwrap();
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, key).unwrap();
        }
        (directory, root)
    }

    fn signed_by(root: &Root) -> TakeOver {
        let mut take_over = TakeOver {
            node_id: NodeId([1; 16]),
            hostname: Hostname::new("node1").unwrap(),
            old: Incarnation { number: 1, id: [1; 16] },
            new: Incarnation { number: 2, id: [2; 16] },
            signature: Vec::new(),
        };
        take_over.signature = root.sign_take_over(&take_over);
        take_over
    }

    #[test]
    fn what_the_backup_of_a_key_signs_the_key_itself_confirms() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap().serialize_pem();
            let other = KeyPair::generate_for(algorithm).unwrap().serialize_pem();
            let ((_a, provider), (_b, standby), (_c, stranger)) =
                (root_with(Some(&key)), root_with(Some(&key)), root_with(Some(&other)));
            let take_over = signed_by(&standby);
            assert!(provider.node_key().signed(&take_over), "{algorithm:?}");
            assert!(!provider.node_key().signed(&signed_by(&stranger)));
            let mut changed = take_over;
            changed.new.number += 1;
            assert!(!provider.node_key().signed(&changed));
        }
    }

    #[test]
    fn without_a_key_nothing_is_signed() {
        for key in [None, Some("no key at all")] {
            let (_directory, root) = root_with(key);
            let take_over = signed_by(&root);
            assert!(take_over.signature.is_empty() && !root.node_key().signed(&take_over));
        }
    }
}
