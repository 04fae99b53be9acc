//! Private keys in files that would be copied to the standby: found by name and by content, wherever they lie.

use rustls_pki_types::PrivateKeyDer;

/// PBES2 (1.2.840.113549.1.5.13), at the head of an encrypted PKCS#8 key.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];

/// PKCS#7 data (1.2.840.113549.1.7.1), at the head of a PKCS#12 store.
const PKCS7_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

/// First bytes of a Java key store.
const JKS: &[u8] = &[0xfe, 0xed, 0xfe, 0xed];

/// How far the identifiers at the head of a file are looked for.
const HEAD_BYTES: usize = 64;

/// Why the file holds a private key, if it does.
pub fn private_key(path: &str, content: &[u8]) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    if name.ends_with(".priv") {
        return Some("its name ends in .priv: private keys never leave the provider");
    }
    if holds_pem_key(content) {
        return Some("it holds a PEM private key");
    }
    if is_der_key(content) || decoded(content).is_some_and(|der| is_der_key(&der)) {
        return Some("it holds a DER private key");
    }
    if content.starts_with(JKS) || is_sequence_with(content, PKCS7_DATA) {
        return Some("it is a key store");
    }
    None
}

/// `-----BEGIN ... PRIVATE KEY-----` anywhere, in one-byte or two-byte characters, whatever stands around it.
fn holds_pem_key(content: &[u8]) -> bool {
    let narrow = |bytes: &[u8]| {
        let text: Vec<u8> = bytes.iter().filter(|b| **b != 0).map(u8::to_ascii_uppercase).collect();
        let mut rest = text.as_slice();
        while let Some(at) = find(rest, b"-----BEGIN") {
            rest = &rest[at + 10..];
            let end = find(rest, b"-----").unwrap_or(rest.len());
            if find(&rest[..end.min(rest.len())], b"PRIVATE KEY").is_some() {
                return true;
            }
        }
        false
    };
    narrow(content)
}

fn is_der_key(content: &[u8]) -> bool {
    PrivateKeyDer::try_from(content).is_ok() || is_sequence_with(content, PBES2)
}

/// A DER sequence with this identifier near its head.
fn is_sequence_with(content: &[u8], identifier: &[u8]) -> bool {
    content.first() == Some(&0x30) && find(&content[..content.len().min(HEAD_BYTES)], identifier).is_some()
}

/// What base64 alone (a PEM body without its lines of dashes) stands for.
fn decoded(content: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = content.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    // "MI", "MC", "ME" ...: how a DER sequence of a key's size begins.
    if !text.starts_with(b"M") {
        return None;
    }
    data_encoding::BASE64.decode(&text).ok()
}

fn find(content: &[u8], wanted: &[u8]) -> Option<usize> {
    content.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_every_coat() {
        let key = rcgen::KeyPair::generate().unwrap();
        let (pem, der) = (key.serialize_pem(), key.serialize_der());
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let wide: Vec<u8> = pem.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut rsa_head = vec![0x30, 0x82, 0x01, 0x00];
        rsa_head.extend_from_slice(&[0x30, 0x40, 0x06, 0x09]);
        rsa_head.extend_from_slice(PBES2);
        for (content, what) in [
            (pem.clone().into_bytes(), "pem"),
            (
                format!("# a comment\nkey = '''\n{pem}'''\n").into_bytes(),
                "inside TOML",
            ),
            (pem.to_lowercase().into_bytes(), "lower case"),
            (b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl".to_vec(), "openssh"),
            (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII".to_vec(), "encrypted"),
            (wide, "utf-16"),
            (der, "der"),
            (body.into_bytes(), "base64 alone"),
            (rsa_head, "encrypted der"),
            (JKS.to_vec(), "jks"),
        ] {
            assert!(private_key("configuration/a.txt", &content).is_some(), "{what}");
        }
        assert!(private_key("configuration/tls/Key.PRIV", b"").is_some());
    }

    #[test]
    fn certificates_and_settings_are_none() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["node1".into()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        for content in [
            certificate.pem().into_bytes(),
            certificate.der().to_vec(),
            key.public_key_pem().into_bytes(),
            include_bytes!("../../../../configuration/system.toml").to_vec(),
            include_bytes!("../../../../configuration/global/ns_genesis.toml").to_vec(),
            Vec::new(),
        ] {
            assert_eq!(private_key("configuration/a.toml", &content), None);
        }
    }
}
