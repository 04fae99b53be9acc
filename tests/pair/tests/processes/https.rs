//! JSON-RPC over HTTPS, and the configuration behind it: served when the files are good, refused at the start when they are not, and open
//! to nobody without a good client certificate.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use cvp_pair::node::{Node, cvp_ok};
use cvp_pair::pair::{Pair, Setup, certificates, init_node};
use cvp_pair::rpc::Rpc;
use cvp_pair::wait;
use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use serde_json::{Value, json};
use time::OffsetDateTime;
use toml_edit::DocumentMut;

use crate::configuration::wait_equal;

const SOON: Duration = Duration::from_secs(15);

/// Sets a key of `[http]`.
fn set_http(root: &Path, key: &str, value: impl Into<toml_edit::Value>) -> Result<()> {
    let file = root.join("configuration/system.toml");
    let mut text: DocumentMut = std::fs::read_to_string(&file)?.parse()?;
    text["http"][key] = toml_edit::value(value);
    Ok(std::fs::write(file, text.to_string())?)
}

/// A certificate and its key, PEM both.
struct Shown {
    certificate: String,
    key: String,
}

/// A certificate of the CA in `directory`, for `name` and 127.0.0.1, whose time is `days` around now.
fn issue(directory: &Path, name: &str, days: (i64, i64)) -> Result<Shown> {
    let read = |file: &str| std::fs::read_to_string(directory.join(file));
    let issuer = Issuer::from_ca_cert_pem(&read("tlsca.ca")?, KeyPair::from_pem(&read("tlsca.priv")?)?)?;
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned(), "127.0.0.1".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now + time::Duration::days(days.0);
    params.not_after = now + time::Duration::days(days.1);
    let certificate = params.signed_by(&pair, &issuer)?.pem();
    let key = pair.serialize_pem();
    Ok(Shown { certificate, key })
}

/// As the tests' client shows it.
fn client(node: &Node, tls: &Path, shown: Option<&Shown>) -> Result<Rpc> {
    let shown = shown.map(|shown| (shown.certificate.as_str(), shown.key.as_str()));
    Rpc::https(node.jsonrpc(), &tls.join("tlsca.ca"), shown)
}

/// A call that must be refused with `code`, and whose message holds `part`.
fn refused(rpc: &Rpc, method: &str, params: Value, code: i64, part: &str) -> Result<()> {
    let answer = rpc.answer(method, params)?;
    let message = answer["message"].as_str().unwrap_or_default();
    ensure!(
        answer["code"] == code && message.contains(part) && answer.get("result").is_none(),
        "{method}: {answer}"
    );
    Ok(())
}

/// A provider alone, with HTTPS on.
fn alone() -> Result<(tempfile::TempDir, PathBuf, Node)> {
    let directory = tempfile::tempdir()?;
    certificates(directory.path())?;
    let root = init_node(directory.path(), "node1", "provider", None, &Setup::default())?;
    set_http(&root, "security", true)?;
    let tls = directory.path().join("tls");
    Ok((directory, tls, Node::new(root)))
}

#[test]
fn calls_are_served_and_the_configuration_wants_a_client_certificate() -> Result<()> {
    let (_directory, tls, mut node) = alone()?;
    node.start()?;
    ensure!(node.status()?["jsonrpc_tls"] == true);
    // Anybody may ask for the chain; nobody without a certificate sees the configuration.
    let anybody = client(&node, &tls, None)?;
    ensure!(anybody.height()? == 0);
    for (method, params) in [
        ("node_getConfig", json!([])),
        ("node_setConfig", json!(["dynamic.toml", "cvp.max_rate", 5])),
    ] {
        refused(&anybody, method, params, -32098, "the caller showed none")?;
    }
    // An operator's certificate, as an operator makes one.
    let directory = tls.to_string_lossy().into_owned();
    cvp_ok(&["certgen", &directory, "--host", "operator"])?;
    let read = |file: &str| std::fs::read_to_string(tls.join("operator").join(file));
    let shown = Shown {
        certificate: read("tls_peer.cert")?,
        key: read("tls_peer.priv")?,
    };
    let operator = client(&node, &tls, Some(&shown))?;
    ensure!(operator.height()? == 0);
    let all = operator.call("node_getConfig", json!([]))?;
    let values = all["values"].as_array().context("no values")?;
    ensure!(values.len() > 20 && all["withheld"] == json!([]), "{all}");
    ensure!(!all.to_string().contains("PRIVATE KEY"));
    let rate = operator.call("node_getConfig", json!(["dynamic.toml", "cvp.max_rate"]))?;
    ensure!(rate["value"] == "0" && rate["weight"] == "strong", "{rate}");
    let changed = operator.call("node_setConfig", json!(["dynamic.toml", "cvp.max_rate", 5]))?;
    ensure!(
        changed["answer"] == "local" && changed["replicated"] == false && changed["takes_effect"] == "now",
        "{changed}"
    );
    node.wait_log("by=operator", SOON)?;
    let (_, value) = node.json(&["config", "get", "dynamic.toml", "cvp.max_rate"])?;
    ensure!(value["value"] == "5", "{value}");
    // The same keys are refused as on the command line; nothing is changed.
    for (params, code, part) in [
        (json!(["dynamic.toml", "self", "node2"]), -32008, "identity-key"),
        (json!(["dynamic.toml", "cvp.enable", false]), -32008, "use-enable"),
        (json!(["dynamic.toml", "cvp.heartbeat", "soon"]), -32602, "bad-value"),
        // A flag in quotes is text, and text is no flag.
        (json!(["system.toml", "http.security", "true"]), -32602, "bad-value"),
        (json!(["nothere.toml", "a", 1]), -32001, "no-file"),
        (json!(["dynamic.toml", "cvp.max_rate"]), -32602, "value"),
        (json!(["dynamic.toml", "cvp.max_rate", 7, true]), -32605, "no-receiver"),
    ] {
        refused(&operator, "node_setConfig", params, code, part)?;
    }
    let batch = r#"[{"method":"node_setConfig","params":["dynamic.toml","cvp.max_rate",9],"id":1}]"#;
    ensure!(operator.post(batch)?.contains(r#""code":-32600"#));
    let (_, value) = node.json(&["config", "get", "dynamic.toml", "cvp.max_rate"])?;
    ensure!(value["value"] == "5", "{value}");
    // A key that somebody put into a file is not told, neither by a look nor by a change.
    let planted = "key = \"\"\"\n-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQ\n-----END PRIVATE KEY-----\n\"\"\"\n";
    std::fs::write(node.root().join("configuration/planted.toml"), planted)?;
    let all = operator.call("node_getConfig", json!([]))?;
    ensure!(
        all["withheld"][0]["file"] == "planted.toml" && !all.to_string().contains("MC4CAQ"),
        "{all}"
    );
    refused(
        &operator,
        "node_getConfig",
        json!(["planted.toml", "key"]),
        -32008,
        "private key",
    )?;
    let change = json!(["configuration/planted.toml", "key", "x"]);
    refused(&operator, "node_setConfig", change, -32008, "private key")?;
    node.stop()
}

#[test]
fn a_bad_client_certificate_gets_no_answer_at_all() -> Result<()> {
    let (directory, tls, mut node) = alone()?;
    node.start()?;
    let elsewhere = directory.path().join("foreign");
    let foreign_ca = elsewhere.to_string_lossy().into_owned();
    cvp_ok(&["certgen", &foreign_ca, "--host", "operator"])?;
    for (what, shown) in [
        ("a foreign CA's", issue(&elsewhere, "operator", (-1, 10))?),
        ("one that ended", issue(&tls, "operator", (-10, -1))?),
        ("one of tomorrow", issue(&tls, "operator", (1, 10))?),
    ] {
        let rpc = client(&node, &tls, Some(&shown))?;
        for method in ["node_getConfig", "tx_getGasPrice"] {
            match rpc.answer(method, json!([])) {
                Ok(answer) => bail!("{what}, {method}: {answer}"),
                Err(error) => ensure!(format!("{error:#}").contains("post to https://"), "{what}: {error:#}"),
            }
        }
    }
    let good = issue(&tls, "operator", (-1, 10))?;
    client(&node, &tls, Some(&good))?.call("node_getConfig", json!([]))?;
    // Without http.tlsCA nobody is asked for a certificate, and the configuration is open to nobody.
    node.stop()?;
    set_http(node.root(), "tlsCA", "")?;
    node.start()?;
    let rpc = client(&node, &tls, Some(&good))?;
    ensure!(rpc.height()? == 0);
    refused(&rpc, "node_getConfig", json!([]), -32098, "the caller showed none")?;
    node.stop()
}

#[test]
fn plain_http_is_told_to_come_by_https_and_the_configuration_is_closed_without() -> Result<()> {
    let (_directory, _, mut node) = alone()?;
    node.start()?;
    let answer: Value = serde_json::from_str(&node.rpc().post(r#"{"method":"tx_getGasPrice","id":1}"#)?)?;
    let message = answer["message"].as_str().unwrap_or_default();
    ensure!(answer["code"] == -32600 && message.contains("https://"), "{answer}");
    node.stop()?;
    set_http(node.root(), "security", false)?;
    node.start()?;
    ensure!(node.status()?["jsonrpc_tls"] == false);
    refused(&node.rpc(), "node_getConfig", json!([]), -32098, "http.security")?;
    node.stop()
}

#[test]
fn a_change_by_rpc_is_as_strong_as_one_by_command() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let tls = pair.directory.path().join("tls");
    for node in [&pair.provider, &pair.receiver] {
        set_http(node.root(), "security", true)?;
    }
    pair.provider.start()?;
    pair.receiver.start()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    let shown = issue(&tls, "operator", (-1, 10))?;
    let operator = client(&pair.provider, &tls, Some(&shown))?;
    let changed = operator.call(
        "node_setConfig",
        json!([{"file": "dynamic.toml", "key": "cvp.strong_timeout", "value": "300ms"}]),
    )?;
    ensure!(
        changed["answer"] == "replicated" && changed["replicated"] == true,
        "{changed}"
    );
    wait_equal(&pair.provider, &pair.receiver)?;
    // A standby shows its own configuration, and changes nothing.
    let standby = client(&pair.receiver, &tls, Some(&shown))?;
    let own = standby.call("node_getConfig", json!(["dynamic.toml", "cvp.node_type"]))?;
    ensure!(own["value"] == "\"receiver\"", "{own}");
    let change = json!(["dynamic.toml", "cvp.max_rate", 5]);
    refused(&standby, "node_setConfig", change.clone(), -32023, "CVP")?;
    refused(
        &client(&pair.receiver, &tls, None)?,
        "node_getConfig",
        json!([]),
        -32098,
        "certificate",
    )?;
    // Silent: nobody knows, and the code says so.
    pair.receiver.freeze()?;
    refused(&operator, "node_setConfig", change, -32606, "strong-undecided")?;
    pair.receiver.thaw()?;
    wait_equal(&pair.provider, &pair.receiver)?;
    // Over an upgrade HTTPS stays as it is on that node.
    pair.lose_provider()?;
    let (exit, report) = pair.receiver.json(&["upgrade"])?;
    ensure!(exit == 0, "{exit} {report}");
    let changed = wait::until("the promoted node takes a change", SOON, || {
        let answer = standby.answer("node_setConfig", json!(["dynamic.toml", "cvp.max_rate", 6]))?;
        Ok(if answer["code"] == 0 {
            Ok(answer)
        } else {
            Err(answer.to_string())
        })
    })?;
    ensure!(changed["result"]["answer"] == "local", "{changed}");
    Ok(())
}

#[test]
fn a_start_with_files_that_cannot_serve_is_refused_by_name() -> Result<()> {
    let (directory, tls, mut node) = alone()?;
    let at = |name: &str| node.root().join("tls").join(name);
    let other = issue(&tls, "node1", (-1, 10))?;
    let ended = issue(&tls, "node1", (-10, -1))?;
    let place = |name: &str, text: &str, mode: u32| -> Result<String> {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(path.to_string_lossy().into_owned())
    };
    let (cert, key) = (at("tls_peer.cert"), at("tls_peer.priv"));
    let (cert, key) = (cert.to_string_lossy().into_owned(), key.to_string_lossy().into_owned());
    let wide = place("wide.priv", &std::fs::read_to_string(&key)?, 0o640)?;
    let other_key = place("other.priv", &other.key, 0o600)?;
    let ended_cert = place("ended.cert", &ended.certificate, 0o644)?;
    let ended_key = place("ended.priv", &ended.key, 0o600)?;
    let empty = place("empty.pem", "", 0o600)?;
    for (values, part) in [
        (
            [("tlsCert", "./tls/nothere.cert"), ("tlsCertPriv", &key)],
            "http.tlsCert: ",
        ),
        ([("tlsCert", &empty), ("tlsCertPriv", &key)], "holds no certificate"),
        (
            [("tlsCert", &cert), ("tlsCertPriv", &wide)],
            "(mode 0640): chmod 600 it",
        ),
        (
            [("tlsCert", &cert), ("tlsCertPriv", &other_key)],
            "does not go with the certificate",
        ),
        (
            [("tlsCert", &ended_cert), ("tlsCertPriv", &ended_key)],
            "it ended at 20",
        ),
        ([("tlsCert", &cert), ("tlsCertPriv", &empty)], "http.tlsCertPriv: "),
    ] {
        for (name, value) in values {
            set_http(node.root(), name, value)?;
        }
        refuses_to_start(&node, part)?;
    }
    set_http(node.root(), "tlsCert", cert)?;
    set_http(node.root(), "tlsCertPriv", key)?;
    set_http(node.root(), "tlsCA", empty)?;
    refuses_to_start(&node, "http.tlsCA: ")?;
    set_http(node.root(), "tlsCA", "./tls/tlsca.ca")?;
    set_http(node.root(), "http_2", true)?;
    refuses_to_start(&node, "http.http_2: ")?;
    set_http(node.root(), "http_2", false)?;
    node.start()?;
    node.stop()
}

fn refuses_to_start(node: &Node, part: &str) -> Result<()> {
    let output = node.command(&["start"])?;
    let text = String::from_utf8_lossy(&output.stderr);
    let error = text
        .lines()
        .find(|line| line.starts_with("Error: "))
        .unwrap_or_default();
    ensure!(
        output.status.code() == Some(1) && error.contains(part) && error.contains("; "),
        "{part:?} is not in {text}"
    );
    Ok(())
}
