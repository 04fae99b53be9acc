//! Nodes of one chain: VPs, nodes that follow them, and the standbys of either.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::node::{Node, cvp_ok};
use crate::pair::configured_p2p;
use crate::plugins::share_compiled;
use crate::ports;

/// The nodes' directory and TLS sets.
pub struct Nodes {
    /// Removed on drop.
    pub directory: TempDir,
}

/// A node to be made.
#[derive(Default)]
pub struct Draft<'a> {
    /// Its hostname.
    pub hostname: &'a str,
    /// Whose standby it is.
    pub standby_of: Option<&'a Node>,
    /// `--namespace` arguments.
    pub namespaces: &'a [&'a str],
    /// `--follow` arguments: hostname and address.
    pub follow: &'a [(&'a str, String)],
    /// Whose genesis it shares.
    pub genesis_from: Option<&'a Node>,
}

impl Nodes {
    /// No node yet, and certificates for these: a hostname, or a standby's and its provider's.
    pub fn new(hosts: &[(&str, Option<&str>)]) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("cvp").tempdir()?;
        let tls = text(&directory.path().join("tls"));
        for (host, standby_for) in hosts {
            let mut arguments = vec!["certgen", &tls, "--host", host];
            if let Some(provider) = standby_for {
                arguments.extend(["--standby-for", provider]);
            }
            arguments.extend(["--ip", "127.0.0.1"]);
            cvp_ok(&arguments)?;
        }
        Ok(Self { directory })
    }

    /// `cvp init` of a node, not started.
    pub fn init(&self, draft: &Draft<'_>) -> Result<Node> {
        let at = self.directory.path();
        let root: PathBuf = at.join(draft.hostname);
        let role = if draft.standby_of.is_some() {
            "receiver"
        } else {
            "provider"
        };
        let mut arguments: Vec<String> = ["init", &text(&root), "--hostname", draft.hostname, "--role", role]
            .map(str::to_owned)
            .to_vec();
        for flag in ["--jsonrpc-port", "--p2p-port"] {
            arguments.extend([flag.to_owned(), ports::free()?.to_string()]);
        }
        arguments.extend(["--tls-from".to_owned(), text(&at.join("tls"))]);
        for namespace in draft.namespaces {
            arguments.extend(["--namespace".to_owned(), (*namespace).to_owned()]);
        }
        for (vp, address) in draft.follow {
            arguments.extend(["--follow".to_owned(), format!("{vp} {address}")]);
        }
        if let Some(provider) = draft.standby_of {
            let name = provider.root().file_name().unwrap_or_default().to_string_lossy();
            let peer = format!("{name} {}", configured_p2p(provider.root())?);
            arguments.extend([
                "--peer".to_owned(),
                peer,
                "--keys-from".to_owned(),
                text(provider.root()),
            ]);
        }
        if let Some(from) = draft.standby_of.or(draft.genesis_from) {
            arguments.extend(["--genesis-from".to_owned(), text(from.root())]);
        }
        cvp_ok(&arguments)?;
        share_compiled(&root)?;
        let node = Node::new(root);
        // Whoever looks for a VP at its standby, or after an upgrade at the old one, is refused; and the old one learns that it was replaced.
        node.provokes(&[
            "link refused",
            "this node is fenced",
            "whether this node's place was taken",
        ]);
        Ok(node)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
