//! Private keys that others on this machine can read: a warning in the log at the start, and in the status while it is so.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use cvp_core::config::NodeConfig;

use crate::config::Root;
use crate::ipc::ReasonView;

/// Permission bits of those who are neither the owner nor of the group.
const OTHERS: u32 = 0o007;

/// A warning for each key of the node that is open to others.
pub(super) fn exposed(root: &Root, config: &NodeConfig) -> Vec<ReasonView> {
    let open = |path: &PathBuf| Some((path.clone(), mode(path)?)).filter(|(_, mode)| mode & OTHERS != 0);
    let warning = |(path, mode): (PathBuf, u32)| {
        let path = path.display();
        let text = format!(
            "{path} is a private key, and others on this machine may use it (mode {mode:04o}); chmod 600 {path}"
        );
        ReasonView::new("key-exposed", text)
    };
    keys(root, config).iter().filter_map(open).map(warning).collect()
}

/// The keys of TLS, and the node key of each namespace.
fn keys(root: &Root, config: &NodeConfig) -> Vec<PathBuf> {
    let p2p = &config.system.p2p;
    let tls = p2p.enable_tls.then(|| root.resolve(&p2p.tls_cert_priv));
    let node =
        |(name, ns): (&_, &cvp_core::config::NsConfig)| root.namespace(name).join(&ns.fixed.ecert_dir).join("key.priv");
    let http = &config.system.http;
    let https = http
        .security
        .then(|| root.resolve(&http.tls_cert_priv))
        .filter(|key| tls.as_ref() != Some(key));
    tls.into_iter()
        .chain(https)
        .chain(config.namespaces.iter().map(node))
        .collect()
}

/// Permission bits; `None` where there is no such file.
fn mode(path: &PathBuf) -> Option<u32> {
    Some(std::fs::metadata(path).ok()?.permissions().mode() & 0o7777)
}
