//! Private keys in files that would be copied to the standby: found by name and by content, wherever they lie and whatever stands around
//! them: PEM, DER, base64 or hexadecimal digits, key stores.

/// What begins the identifier of a key's encryption, at the head of an encrypted PKCS#8 key: PKCS#5 (1.2.840.113549.1.5) and PKCS#12
/// (1.2.840.113549.1.12.1).
const ENCRYPTIONS: [&[u8]; 2] = [
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01],
];

/// What begins the identifier of a content in a store (1.2.840.113549.1.7).
const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];

/// First bytes of Java key stores.
const JAVA_STORES: [&[u8]; 2] = [&[0xfe, 0xed, 0xfe, 0xed], &[0xce, 0xce, 0xce, 0xce]];

/// First bytes of OpenSSH's own form.
const OPENSSH: &[u8] = b"openssh-key-v1\0";

/// Bytes at the head of a key that tell what it is.
const HEAD_BYTES: usize = 96;

/// Fewer digits hold no key.
const DIGITS_MIN: usize = 40;

/// Why the file holds a private key, if it does.
pub fn private_key(path: &str, content: &[u8]) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    if name.ends_with(".priv") {
        return Some("its name ends in .priv: private keys never leave the provider");
    }
    if holds_pem_key(content) {
        return Some("it holds a PEM private key");
    }
    if let Some(reason) = binary_key(content) {
        return Some(reason);
    }
    // Two-byte characters are digits as well.
    let wide = content.contains(&0).then(|| without_zeros(content));
    let text = wide.as_deref().unwrap_or(content);
    base64_key(text)
        .or_else(|| hexadecimal_key(text))
        .or_else(|| hexadecimal_key(&packed(text)))
}

/// Without what stands between the digits of bytes: `30:82`, `30 82`, `0x30, 0x82`, `\x30\x82`.
fn packed(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = match rest {
            [b'0' | b'\\', b'x' | b'X', behind @ ..] => behind,
            [b':' | b' ' | b',' | b'\t', ..] => behind,
            _ => {
                out.push(*first);
                behind
            }
        };
    }
    out
}

fn without_zeros(content: &[u8]) -> Vec<u8> {
    content.iter().copied().filter(|b| *b != 0).collect()
}

/// `BEGIN ... PRIVATE KEY` between dashes anywhere, in one-byte or two-byte characters, whatever stands around it; PuTTY's own form.
fn holds_pem_key(content: &[u8]) -> bool {
    let text = without_zeros(content).to_ascii_uppercase();
    let mut rest = text.as_slice();
    while let Some(at) = find(rest, b"BEGIN") {
        rest = &rest[at + 5..];
        let end = find(rest, b"----").unwrap_or(rest.len());
        if find(&rest[..end], b"PRIVATE KEY").is_some() {
            return true;
        }
    }
    // PuTTY's own form, and what OpenSSL prints of a key.
    let printed = find(&text, b"PRIVATE-KEY: (").is_some()
        && [&b"PRIV:"[..], b"PRIVATEEXPONENT:"]
            .iter()
            .any(|field| find(&text, field).is_some());
    printed || find(&text, b"PUTTY-USER-KEY-FILE").is_some()
}

/// A key or a store in its binary form, anywhere: behind a certificate, too.
fn binary_key(content: &[u8]) -> Option<&'static str> {
    if JAVA_STORES.iter().any(|magic| content.starts_with(magic)) {
        return Some("it is a key store");
    }
    if find(content, OPENSSH).is_some() {
        return Some("it holds an OpenSSH private key");
    }
    let begins = content.iter().enumerate().filter(|(_, byte)| **byte == 0x30);
    begins.into_iter().find_map(|(at, _)| der_key(&content[at..]))
}

/// What a DER sequence is by its first fields, if it is a key or a store.
fn der_key(content: &[u8]) -> Option<&'static str> {
    let (inside, _) = sequence(content)?;
    let found = "it holds a DER private key";
    match inside {
        // PKCS#8: the version, an algorithm by its identifier, the key's own bytes. Certificates and their lists have a name in their place.
        [0x02, 0x01, 0 | 1, rest @ ..] if is_algorithm_and_bytes(rest) => Some(found),
        // SEC 1: the version, and a scalar of one of the usual sizes.
        [0x02, 0x01, 1, 0x04, 20..=66, ..] => Some(found),
        // PKCS#1 and DSA: the version, and numbers that are large.
        [0x02, 0x01, 0 | 1, 0x02, 0x40..=0x7f | 0x81 | 0x82, ..] => Some(found),
        // PKCS#12: the version, and content by its identifier.
        [0x02, 0x01, 3, rest @ ..] => {
            let (content, _) = sequence(rest)?;
            let stored = matches!(content, [0x06, 0x09, rest @ ..] if rest.starts_with(PKCS7));
            stored.then_some("it is a key store")
        }
        // Encrypted PKCS#8: how, and the bytes.
        rest => {
            let ([0x06, _, identifier @ ..], after) = sequence(rest)? else {
                return None;
            };
            let encrypted = ENCRYPTIONS.iter().any(|known| identifier.starts_with(known));
            let bytes = matches!(after, None | Some([0x04, ..]));
            (encrypted && bytes).then_some("it holds an encrypted DER private key")
        }
    }
}

fn is_algorithm_and_bytes(content: &[u8]) -> bool {
    matches!(sequence(content), Some(([0x06, ..], Some([0x04, ..]))))
}

/// What stands in the DER sequence that begins here, as far as it is there, and what stands behind it.
fn sequence(content: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let (length, rest) = match content {
        [0x30, 0x80, rest @ ..] => (rest.len(), rest),
        [0x30, length @ 1..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x30, 0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x30, 0x82, a, b, rest @ ..] => (usize::from(*a) << 8 | usize::from(*b), rest),
        [0x30, 0x84, 0, a, b, c, rest @ ..] | [0x30, 0x83, a, b, c, rest @ ..] => {
            (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c), rest)
        }
        _ => return None,
    };
    Some((&rest[..length.min(rest.len())], rest.get(length..)))
}

/// A key in base64: a PEM body without its lines of dashes, a value in a file of settings, a list of lines.
fn base64_key(text: &[u8]) -> Option<&'static str> {
    let decode = |digits: &[u8]| data_encoding::BASE64_NOPAD.decode(&digits[..digits.len() / 4 * 4]).ok();
    digits_key(text, base64_digit, DIGITS_MIN, decode)
}

/// A key in hexadecimal digits.
fn hexadecimal_key(text: &[u8]) -> Option<&'static str> {
    let decode = |digits: &[u8]| hex::decode(&digits[..digits.len() / 2 * 2]).ok();
    digits_key(
        text,
        |byte| byte.is_ascii_hexdigit().then_some(byte),
        2 * DIGITS_MIN,
        decode,
    )
}

/// The digit that a byte of either base64 alphabet is.
fn base64_digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => Some(byte),
        b'-' => Some(b'+'),
        b'_' => Some(b'/'),
        _ => None,
    }
}

/// What digits stand for: a key's own bytes, or its PEM form once more in digits, as secrets are stored in manifests.
fn decoded_key(bytes: &[u8]) -> Option<&'static str> {
    binary_key(bytes).or_else(|| holds_pem_key(bytes).then_some("it holds a PEM private key in base64"))
}

/// Looks at each word of digits, and at what it makes with the lines behind it.
fn digits_key(
    text: &[u8],
    digit: impl Fn(u8) -> Option<u8>,
    digits_min: usize,
    decode: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<&'static str> {
    let mut at = 0;
    let mut whole_until = 0;
    while at < text.len() {
        if digit(text[at]).is_none() {
            at += 1;
            continue;
        }
        // Where a word begins, a key may begin: its head is enough. What lies deeper is found once, in the whole of the lines.
        let whole = at >= whole_until;
        let most = if whole { usize::MAX } else { 2 * HEAD_BYTES };
        let (digits, end) = run(&text[at..], &digit, most);
        if whole {
            whole_until = at + end;
        }
        if digits.len() >= digits_min
            && let Some(reason) = decode(&digits).and_then(|bytes| decoded_key(&bytes))
        {
            return Some(reason);
        }
        // `0x` is no digit of a word.
        at += text[at..]
            .iter()
            .position(|byte| digit(*byte).is_none())
            .unwrap_or(text.len() - at);
    }
    None
}

/// The digits from here on, over the ends of lines as files of settings write them, and where they end.
fn run(text: &[u8], digit: &impl Fn(u8) -> Option<u8>, most: usize) -> (Vec<u8>, usize) {
    let (mut digits, mut at) = (Vec::new(), 0);
    while digits.len() < most {
        match text.get(at).copied().and_then(digit) {
            Some(found) => {
                digits.push(found);
                at += 1;
            }
            None => match between(&text[at..]) {
                Some(length) => at += length,
                None => break,
            },
        }
    }
    (digits, at)
}

/// Bytes from a line's end to the digits of the next: blanks, quotes, commas, a plus, an escaped end of a line.
fn between(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut ended = false;
    loop {
        match text.get(at..)? {
            [b'\\', b'n' | b'r', ..] => (ended, at) = (true, at + 2),
            [b'\n' | b'\r', ..] => (ended, at) = (true, at + 1),
            [b' ' | b'\t' | b'"' | b'\'' | b',' | b'\\' | b'#' | b';', ..] => at += 1,
            _ => return (ended && at < text.len()).then_some(at),
        }
    }
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
        rsa_head.extend_from_slice(ENCRYPTIONS[0]);
        rsa_head.extend_from_slice(&[0x0d; 0x36]);
        rsa_head.extend_from_slice(&[0x04, 0x40]);
        let certificate = rcgen::CertificateParams::new(vec!["node1".into()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let words = data_encoding::BASE64.encode(&der);
        let spaced = |der: &[u8], between: &str, lines: &str| -> String {
            let line = |bytes: &[u8]| -> String {
                let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                bytes.join(between)
            };
            der.chunks(15).map(line).collect::<Vec<_>>().join(lines)
        };
        assert_eq!(der[..2], [0x30, 0x81]);
        let long = [&[0x30, 0x84, 0, 0, 0, der[2]], &der[3..]].concat();
        let lines: Vec<&str> = [&words[..64], &words[64..128], &words[128..]].to_vec();
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
            (der.clone(), "der"),
            (body.into_bytes(), "base64 alone"),
            (rsa_head, "encrypted der"),
            (JAVA_STORES[0].to_vec(), "jks"),
            ([certificate.der(), &der[..]].concat(), "behind a certificate"),
            (
                data_encoding::BASE64
                    .encode(&[certificate.der(), &der[..]].concat())
                    .into_bytes(),
                "behind a certificate, in base64",
            ),
            (format!("a = 1\nkey = \"{words}\"\n").into_bytes(), "a value in TOML"),
            (
                format!("key = [\n  \"{}\",\n]\n", lines.join("\",\n  \"")).into_bytes(),
                "a list of lines",
            ),
            (
                format!("{{\"k\":\"{}\"}}", lines.join("\\n")).into_bytes(),
                "escaped lines",
            ),
            (
                format!("some words before\n{}", lines.join("\r\n")).into_bytes(),
                "after words",
            ),
            (
                data_encoding::BASE64URL_NOPAD.encode(&der).into_bytes(),
                "the other alphabet",
            ),
            (format!("key = \"0x{}\"", hex::encode(&der)).into_bytes(), "hexadecimal"),
            (spaced(&der, ":", ":\n    ").into_bytes(), "bytes between colons"),
            (spaced(&der, " ", "\n").into_bytes(), "bytes between spaces"),
            (
                format!("key[] = {{ 0x{} }};", spaced(&der, ", 0x", ",\n 0x")).into_bytes(),
                "an array of C",
            ),
            (
                format!("\"\\x{}\"", spaced(&der, "\\x", "\\x")).into_bytes(),
                "escaped bytes",
            ),
            (long, "DER of a long length"),
            (
                b"Private-Key: (256 bit)\npriv:\n    0c:".to_vec(),
                "what OpenSSL prints",
            ),
            (
                format!("data:\n  tls.key: {}\n", data_encoding::BASE64.encode(pem.as_bytes())).into_bytes(),
                "a manifest's value",
            ),
            (
                data_encoding::BASE64_MIME
                    .encode(format!("{}{pem}", certificate.pem()).as_bytes())
                    .into_bytes(),
                "PEM behind a certificate, in lines of base64",
            ),
            (b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nMII".to_vec(), "ssh2"),
            (b"PuTTY-User-Key-File-3: ssh-ed25519".to_vec(), "putty"),
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
            // A list of certificates and an old certificate of a small number: a version, then an algorithm, as in a key.
            [&[0x30, 0x40, 0x02, 0x01, 1, 0x30, 3, 0x06, 1, 1, 0x30][..], &[1; 53]].concat(),
            [&[0x30, 0x40, 0x02, 0x01, 3, 0x30, 3, 0x06, 1, 1, 0x30][..], &[1; 53]].concat(),
            "BEGIN of a text about a PUBLIC KEY ---- and a PRIVATE one".into(),
            "# Private-Key: see the wiki\nprivate-key: /etc/ssl/app.key\npriv: 3\n".into(),
            data_encoding::BASE64.encode(certificate.der()).into_bytes(),
            data_encoding::BASE64.encode(certificate.pem().as_bytes()).into_bytes(),
            hex::encode(certificate.der()).into_bytes(),
        ] {
            assert_eq!(private_key("configuration/a.toml", &content), None);
        }
    }
}
