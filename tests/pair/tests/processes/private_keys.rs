//! Private keys on the provider under every name and coat we know: none reaches the standby's disk or the wire, and each is named.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cvp_pair::dice::Dice;
use cvp_pair::node::Node;
use cvp_pair::pair::{Pair, Setup, configured_p2p};
use cvp_pair::proxy::Proxy;
use data_encoding::{BASE64, BASE64_MIME, HEXLOWER};

use crate::configuration::{files, wait_equal};

const SOON: Duration = Duration::from_secs(20);
const MARK: &str = "what may travel, and is seen on the wire";

/// A key of its own for each file, so that what is found tells which one it was.
struct Secret {
    /// The scalar.
    scalar: [u8; 32],
    pkcs8: Vec<u8>,
    sec1: Vec<u8>,
    certificate: rcgen::Certificate,
}

impl Secret {
    fn make() -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec!["node1".into()])?.self_signed(&key)?;
        let pkcs8 = key.serialize_der();
        // SEC 1 stands inside: a sequence of the version, the scalar and what belongs to it.
        let at = find(&pkcs8, &[0x02, 0x01, 0x01, 0x04, 0x20]).context("no scalar in the key")?;
        let sec1 = pkcs8[at - 2..].to_vec();
        Ok(Self {
            scalar: pkcs8[at + 5..at + 37].try_into()?,
            pkcs8,
            sec1,
            certificate,
        })
    }

    /// The scalar as it stands in any of the coats: bytes, hexadecimal digits, base64 at each of its three places.
    fn needles(&self) -> Vec<Vec<u8>> {
        let mut needles = vec![
            self.scalar[4..28].to_vec(),
            HEXLOWER.encode(&self.scalar[4..28]).into_bytes(),
        ];
        for skipped in 0..3 {
            let text = BASE64.encode(&self.scalar[skipped..]);
            // Lines of 64 digits may cut it once: either half is enough.
            needles.push(text.as_bytes()[..16].to_vec());
            needles.push(text.as_bytes()[24..40].to_vec());
        }
        needles
    }
}

fn find(content: &[u8], wanted: &[u8]) -> Option<usize> {
    content.windows(wanted.len()).position(|window| window == wanted)
}

fn lines(der: &[u8]) -> String {
    BASE64_MIME.encode(der)
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines(der))
}

/// What a key store or an encrypted key begins with, and then the secret as if it were its bytes.
fn wrapped(head: &[u8], secret: &Secret) -> Vec<u8> {
    let length = (head.len() + 34) as u8;
    [&[0x30, length][..], head, &[0x04, 0x20], &secret.scalar].concat()
}

const PKCS12: &[u8] = &[
    0x02, 0x01, 0x03, 0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01,
];
const PBES2: &[u8] = &[
    0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d,
];

/// Name below the root, and how its content is made.
type Coat = (&'static str, fn(&Secret) -> Vec<u8>);

const COATS: [Coat; 16] = [
    ("configuration/server.pem", |it| pem("PRIVATE KEY", &it.pkcs8).into()),
    ("configuration/ec.txt", |it| pem("EC PRIVATE KEY", &it.sec1).into()),
    ("configuration/id_ecdsa", |it| {
        let body = [b"openssh-key-v1\0".as_slice(), &it.scalar].concat();
        pem("OPENSSH PRIVATE KEY", &body).into()
    }),
    ("configuration/key.bin", |it| it.pkcs8.clone()),
    ("configuration/sec1.der", |it| it.sec1.clone()),
    ("configuration/body", |it| lines(&it.pkcs8).into()),
    ("configuration/inside.toml", |it| {
        format!("a = 1\nkey = '''\n{}'''\n", pem("PRIVATE KEY", &it.pkcs8)).into()
    }),
    ("configuration/value.toml", |it| {
        format!("[tls]\nkey = \"{}\"\n", BASE64.encode(&it.pkcs8)).into()
    }),
    ("configuration/hex.json", |it| {
        format!("{{\"key\": \"0x{}\"}}", HEXLOWER.encode(&it.sec1)).into()
    }),
    ("configuration/NODE.PRIV", |it| HEXLOWER.encode(&it.scalar).into()),
    ("configuration/store.p12", |it| wrapped(PKCS12, it)),
    ("configuration/encrypted.pem", |it| {
        pem("ENCRYPTED PRIVATE KEY", &wrapped(PBES2, it)).into()
    }),
    ("configuration/a/b/c/deep.conf", |it| {
        format!("# {}", pem("PRIVATE KEY", &it.pkcs8).to_lowercase()).into()
    }),
    ("configuration/chain.cert", |it| {
        format!("{}{}", it.certificate.pem(), pem("PRIVATE KEY", &it.pkcs8)).into()
    }),
    ("namespaces/global/certs/certs/chain.der", |it| {
        [it.certificate.der().as_ref(), &it.pkcs8].concat()
    }),
    ("namespaces/ns1/certs/certs/second.key", |it| wrapped(PBES2, it)),
];

/// Path in the tree of a file below the root.
fn in_tree(path: &str) -> String {
    path.replacen("namespaces/", "certificates/", 1)
        .replacen("/certs/", "/", 1)
}

fn named(node: &Node, paths: &[String]) -> Result<()> {
    node.wait_status("every key is named", SOON, |status| {
        let left_out = status["configuration"]["left_out"].as_array();
        let is_named = |path: &String| {
            let mut left = left_out.into_iter().flatten();
            left.any(|left| left["path"] == **path && left["code"] == "private-key")
        };
        paths.iter().all(is_named)
    })?;
    Ok(())
}

/// Nothing below `directory` holds one of the needles, and nothing in what passed.
fn nowhere(secrets: &[(&str, Secret)], receiver: &Path, passed: &[u8]) -> Result<()> {
    let mut disk = files(receiver)?;
    // Room that a log or a database has taken in advance.
    for content in disk.values_mut() {
        let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        content.truncate(used);
    }
    let folded: Vec<Vec<u8>> = disk.values().map(|content| content.to_ascii_lowercase()).collect();
    for (name, secret) in secrets {
        for needle in secret.needles() {
            ensure!(find(passed, &needle).is_none(), "the key of {name} was sent");
            for ((path, content), lower) in disk.iter().zip(&folded) {
                let found = find(content, &needle).or_else(|| find(lower, &needle.to_ascii_lowercase()));
                ensure!(found.is_none(), "the key of {name} is in {}", path.display());
            }
        }
    }
    Ok(())
}

#[test]
fn no_private_key_leaves_the_provider() -> Result<()> {
    let setup = Setup {
        namespaces: &["ns1"],
        insecure: true,
    };
    let mut pair = Pair::init(&setup)?;
    pair.provokes(&["p2p.enableTLS is false"]);
    let target = configured_p2p(pair.provider.root())?;
    let proxy = Proxy::start(&target, Dice::new(1))?;
    proxy.lead(pair.receiver.root(), &target)?;
    let mut secrets = Vec::new();
    // Half of them before the nodes meet, half while they run.
    let root = pair.provider.root().to_owned();
    let plant = |coats: &[Coat], secrets: &mut Vec<(&str, Secret)>| -> Result<()> {
        for (name, make) in coats {
            let secret = Secret::make()?;
            let content = make(&secret);
            let lower = content.to_ascii_lowercase();
            let mut needles = secret.needles().into_iter();
            let seen = needles.any(|needle| find(&lower, &needle.to_ascii_lowercase()).is_some());
            ensure!(seen, "the search does not see the key in {name}");
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().context("no parent")?)?;
            std::fs::write(path, content)?;
            secrets.push((*name, secret));
        }
        Ok(())
    };
    plant(&COATS[..8], &mut secrets)?;
    pair.provider.start()?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    plant(&COATS[8..], &mut secrets)?;
    std::fs::write(pair.provider.root().join("configuration/notes.txt"), MARK)?;
    let paths: Vec<String> = COATS.iter().map(|(name, _)| in_tree(name)).collect();
    for node in [&pair.provider, &pair.receiver] {
        named(node, &paths)?;
    }
    pair.receiver.wait_status("what may travel is there", SOON, |status| {
        status["configuration"]["equal"] == true
    })?;
    // A strong change carries a whole file: not one that holds a key.
    let dynamic = pair.provider.root().join("configuration/dynamic.toml");
    let before = std::fs::read_to_string(&dynamic)?;
    let secret = Secret::make()?;
    let with_key = format!("{before}\n# {}\n", BASE64.encode(&secret.pkcs8));
    std::fs::write(&dynamic, &with_key)?;
    secrets.push(("dynamic.toml", secret));
    let (exit, error) = pair
        .provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "5"])?;
    ensure!(
        exit == 1 && error["error"]["code"] == "private-key",
        "a change that carries a key: {exit} {error}"
    );
    ensure!(std::fs::read_to_string(&dynamic)? == with_key, "nothing was changed");
    for node in [&pair.provider, &pair.receiver] {
        named(node, &["configuration/dynamic.toml".to_owned()])?;
    }
    std::fs::write(&dynamic, before)?;
    let (exit, answer) = pair
        .provider
        .json(&["config", "set", "dynamic.toml", "cvp.max_rate", "5"])?;
    ensure!(exit == 0 && answer["replicated"] == true, "{exit} {answer}");

    let passed = proxy.recorded();
    ensure!(
        find(&passed, MARK.as_bytes()).is_some(),
        "the proxy does not see what travels"
    );
    nowhere(&secrets, pair.receiver.root(), &passed)?;
    for (name, _) in COATS {
        std::fs::remove_file(pair.provider.root().join(name))?;
    }
    wait_equal(&pair.provider, &pair.receiver)?;
    nowhere(&secrets, pair.receiver.root(), &proxy.recorded())
}
