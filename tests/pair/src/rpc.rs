//! A small JSON-RPC client over HTTP and HTTPS.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Talks to one node's JSON-RPC port; keeps connections alive between calls; cheap to clone.
#[derive(Clone)]
pub struct Rpc {
    agent: ureq::Agent,
    url: String,
    namespace: String,
}

impl Rpc {
    /// A client of `address` ("127.0.0.1:8081") for namespace `global`.
    pub fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(20)))
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.into(),
            url: format!("http://{address}/"),
            namespace: "global".into(),
        }
    }

    /// A client over HTTPS that trusts the CA in `ca` (PEM) and shows `shown`: a certificate and its key, PEM both.
    pub fn https(address: &str, ca: &Path, shown: Option<(&str, &str)>) -> Result<Self> {
        let trusted = Certificate::from_pem(&std::fs::read(ca)?)?;
        let shown = match shown {
            None => None,
            Some((certificate, key)) => Some(ClientCert::new_with_certs(
                &[Certificate::from_pem(certificate.as_bytes())?],
                PrivateKey::from_pem(key.as_bytes())?,
            )),
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[trusted]))
            .client_cert(shown)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(20)))
            .http_status_as_error(false)
            .tls_config(tls)
            .build();
        Ok(Self {
            agent: config.into(),
            url: format!("https://{address}/"),
            namespace: "global".into(),
        })
    }

    /// The body of a page, got as it is.
    pub fn page(url: &str) -> Result<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .build()
            .into();
        Ok(agent.get(url).call()?.body_mut().read_to_string()?)
    }

    /// The same client for another namespace.
    pub fn namespace(&self, name: &str) -> Self {
        Self {
            namespace: name.into(),
            ..self.clone()
        }
    }

    /// The whole answer (code, message, result) as text, byte for byte.
    pub fn text(&self, method: &str, params: &Value, id: u64) -> Result<String> {
        let body = json!({"jsonrpc": "2.0", "namespace": self.namespace, "method": method, "params": params, "id": id});
        self.post(&body.to_string())
    }

    /// Posts `body` as it is and answers the body of the response.
    pub fn post(&self, body: &str) -> Result<String> {
        let mut response = self
            .agent
            .post(&self.url)
            .send(body.as_bytes())
            .with_context(|| format!("post to {}", self.url))?;
        Ok(response.body_mut().read_to_string()?)
    }

    /// The answer as JSON, whatever its code.
    pub fn answer(&self, method: &str, params: Value) -> Result<Value> {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let text = self.text(method, &params, id)?;
        serde_json::from_str(&text).with_context(|| format!("{method} answered {text:?}"))
    }

    /// The result of a call that must succeed.
    pub fn call(&self, method: &str, params: Value) -> Result<Value> {
        let mut answer = self.answer(method, params)?;
        if answer["code"] != 0 {
            bail!("{method} failed: {answer}");
        }
        Ok(answer["result"].take())
    }

    /// The error code of a call that must fail.
    pub fn refused(&self, method: &str, params: Value) -> Result<i64> {
        let answer = self.answer(method, params)?;
        match answer["code"].as_i64() {
            Some(code) if code != 0 => Ok(code),
            _ => bail!("{method} was to be refused and answered {answer}"),
        }
    }

    /// `block_getChainHeight` as a number.
    pub fn height(&self) -> Result<u64> {
        let height = self.call("block_getChainHeight", json!([]))?;
        let text = height.as_str().context("chain height is not text")?;
        Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
    }
}
