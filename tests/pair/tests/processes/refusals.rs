//! Pairs that must not be: each is refused with a reason that both logs name.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::node::{Node, cvp_ok};
use cvp_pair::pair::{Pair, Setup, certificates, configured_p2p, init_node, init_receiver};
use cvp_pair::signer::{ec, send_many};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair};

const SOON: Duration = Duration::from_secs(15);

fn wait_reason(node: &Node, code: &str) -> Result<()> {
    node.wait_status(&format!("reason {code}"), SOON, |s| {
        s["reasons"].as_array().into_iter().flatten().any(|r| r["code"] == code)
    })?;
    Ok(())
}

#[test]
fn a_second_standby_is_refused() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    pair.provider.provokes(&["(second-standby)"]);
    let at = pair.directory.path();
    let tls = at.join("tls").to_string_lossy().into_owned();
    cvp_ok(&[
        "certgen",
        &tls,
        "--host",
        "cvp2",
        "--standby-for",
        "node1",
        "--ip",
        "127.0.0.1",
    ])?;
    let peer = format!("node1 {}", pair.provider.p2p());
    let root = init_receiver(at, "cvp2", &peer, pair.provider.root(), &Setup::default())?;
    let mut second = Node::new(root);
    second.provokes(&["(second-standby)"]);
    second.start()?;
    wait_reason(&second, "refused-second-standby")?;
    second.wait_log("second-standby", SOON)?;
    pair.provider.wait_log("second-standby", SOON)?;
    ensure!(pair.provider.status()?["normal"] == true, "the first standby suffered");
    let status = pair.provider.status()?;
    ensure!(status["peer"]["hostname"] == "cvp");
    let refused = &status["refused_dial"];
    ensure!(
        refused["who"] == "cvp2" && refused["code"] == "second-standby" && refused["at"].is_string(),
        "{status}"
    );
    Ok(())
}

#[test]
fn a_foreign_provider_is_refused_though_name_and_genesis_agree() -> Result<()> {
    let mut pair = Pair::start(&Setup::default())?;
    pair.receiver.provokes(&["(other-provider)"]);
    send_many(&pair.provider.rpc(), &ec()?, 3)?;
    let height = pair.provider.rpc().height()?;
    pair.wait_durable("global", height)?;
    let address = pair.provider.p2p().to_owned();
    pair.provider.stop()?;
    pair.receiver.stop()?;

    // Another node of the same name, genesis and TLS, at the same address: only its node-id differs.
    let elsewhere = pair.directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    copy_tree(&pair.directory.path().join("tls"), &elsewhere.join("tls"))?;
    let root = init_node(&elsewhere, "node1", "provider", None, &Setup::default())?;
    set_p2p(&root, &address)?;
    let mut foreign = Node::new(root);
    foreign.provokes(&["(other-provider)"]);
    foreign.start()?;
    pair.receiver.start()?;
    wait_reason(&pair.receiver, "refused-other-provider")?;
    pair.receiver.wait_log("other-provider", SOON)?;
    foreign.wait_log("other-provider", SOON)?;
    ensure!(
        cvp_pair::pair::durable(&pair.receiver.status()?, "global") == Some(height),
        "the copy changed"
    );
    foreign.stop()?;

    pair.provider.start()?;
    pair.provider.wait_normal()?;
    Ok(())
}

/// Spoils the provider's TLS directory.
type Prepare = fn(&Path, &Pair) -> Result<()>;

#[test]
fn certificates_that_do_not_serve_are_named() -> Result<()> {
    let cases: [(&str, Prepare, &str); 3] = [
        ("another CA", other_ca, "untrusted"),
        ("an expired certificate", expired, "expired"),
        ("another name", other_name, "name"),
    ];
    for (what, prepare, word) in cases {
        let mut pair = Pair::init(&Setup::default())?;
        pair.provokes(&[&format!("(certificate-{word})")]);
        prepare(&pair.provider.root().join("tls"), &pair)?;
        pair.provider.start()?;
        pair.receiver.start()?;
        let log = cvp_pair::wait::until(&format!("{what} in the receiver's log"), SOON, || {
            let log = pair.receiver.log().to_lowercase();
            Ok(if log.contains(word) && log.contains("certificate") {
                Ok(log)
            } else {
                Err(log)
            })
        })?;
        ensure!(log.contains("certificate"), "{what}: {log}");
        pair.provider
            .wait_status(&format!("{what}: the provider has no receiver"), SOON, |s| {
                s["normal"] == false
            })?;
        if what == "another CA" {
            pair.provider.wait_status("who was refused, and why", SOON, |s| {
                s["refused_dial"]["code"] == "certificate-untrusted"
            })?;
        }
        if what == "an expired certificate" {
            wait_reason(&pair.provider, "certificate-expires")?;
        }
        cvp_pair::wait::until(&format!("{what} in the provider's log"), SOON, || {
            let log = pair.provider.log().to_lowercase();
            Ok(if log.contains("certificate") { Ok(()) } else { Err(log) })
        })?;
    }
    Ok(())
}

fn other_ca(tls: &Path, pair: &Pair) -> Result<()> {
    let at = pair.directory.path().join("other");
    std::fs::create_dir(&at)?;
    certificates(&at)?;
    copy_tree(&at.join("tls/node1"), tls)
}

fn other_name(tls: &Path, pair: &Pair) -> Result<()> {
    let made = pair.directory.path().join("tls");
    cvp_ok(&["certgen", &made.to_string_lossy(), "--host", "node7"])?;
    copy_tree(&made.join("node7"), tls)
}

/// A certificate of the right CA and name whose time is over.
fn expired(tls: &Path, pair: &Pair) -> Result<()> {
    let made = pair.directory.path().join("tls");
    let key = KeyPair::from_pem(&std::fs::read_to_string(made.join("tlsca.priv"))?)?;
    let issuer = Issuer::from_ca_cert_pem(&std::fs::read_to_string(made.join("tlsca.ca"))?, key)?;
    let own = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec!["node1".to_owned(), "127.0.0.1".to_owned()])?;
    params.is_ca = IsCa::NoCa;
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(9);
    params.not_after = time::OffsetDateTime::now_utc() - time::Duration::days(2);
    let certificate = params.signed_by(&own, &issuer)?;
    std::fs::write(tls.join("tls_peer.cert"), certificate.pem())?;
    std::fs::write(tls.join("tls_peer.priv"), own.serialize_pem())?;
    Ok(())
}

#[test]
fn plain_on_tls_is_named_on_both_sides() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    pair.provokes(&["(tls-mismatch)"]);
    pair.receiver.provokes(&["p2p.enableTLS is false"]);
    let file = pair.receiver.root().join("configuration/system.toml");
    let text = std::fs::read_to_string(&file)?;
    let plain = text.replace("enableTLS = true", "enableTLS = false");
    ensure!(plain != text, "no enableTLS = true in system.toml");
    std::fs::write(&file, plain)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_log("enableTLS", SOON)?;
    pair.receiver.wait_log("enableTLS", SOON)?;
    pair.receiver
        .wait_status("the receiver is abnormal", SOON, |s| s["normal"] == false)?;
    Ok(())
}

fn set_p2p(root: &Path, address: &str) -> Result<()> {
    let port = address.rsplit(':').next().context("address without port")?;
    let file = root.join("configuration/dynamic.toml");
    let own = configured_p2p(root)?;
    let own = own.rsplit(':').next().context("address without port")?;
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replace(own, port))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
