//! A node's private key as an operator's tools write it: the kinds of TLS, and the two curves of the platform's own chains, secp256k1 and SM2.

use pkcs8::PrivateKeyInfoRef;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use sec1::EcPrivateKey;
use secp256k1::ecdsa;
use sha2::{Digest as _, Sha256};
use sm2::dsa::signature::{Signer as _, Verifier as _};

/// Identity that SM2 signatures of the platform hash in.
const SM2_ID: &str = "1234567812345678";

/// Object identifiers of the curves.
const SECP256K1: &str = "1.3.132.0.10";
const SM2: &str = "1.2.156.10197.1.301";

/// A private key.
pub enum OwnKey {
    /// P-256, P-384, P-521, Ed25519 or RSA.
    Common(Box<KeyPair>),
    /// secp256k1.
    Secp256k1(secp256k1::SecretKey),
    /// SM2.
    Sm2(Box<sm2::dsa::SigningKey>),
}

impl OwnKey {
    /// Reads the first private key of a PEM text, PKCS#8 or SEC1.
    ///
    /// # Errors
    /// Why it is none that this node knows.
    pub fn from_pem(text: &str) -> Result<OwnKey, String> {
        // OpenSSL's own name of SEC1.
        let text = text.replace(" SM2 PRIVATE KEY-", " EC PRIVATE KEY-");
        let der =
            PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| "it holds no private key in PEM".to_owned())?;
        if let Ok(pair) = KeyPair::try_from(&der) {
            return Ok(OwnKey::Common(Box::new(pair)));
        }
        let unknown = || {
            "it holds no private key of a kind that this node knows: P-256, P-384, P-521, Ed25519, RSA, secp256k1, SM2"
                .to_owned()
        };
        let (curve, secret) = curve_and_secret(&der).ok_or_else(unknown)?;
        match curve.as_str() {
            SECP256K1 => {
                let key = secp256k1::SecretKey::from_secret_bytes(secret);
                key.map(OwnKey::Secp256k1).map_err(|_| unknown())
            }
            SM2 => {
                let key = sm2::dsa::SigningKey::from_slice(SM2_ID, &secret);
                key.map(|key| OwnKey::Sm2(Box::new(key))).map_err(|_| unknown())
            }
            _ => Err(unknown()),
        }
    }

    /// The public key as a certificate holds it: of a curve the point, uncompressed.
    pub fn public_key(&self) -> Vec<u8> {
        match self {
            OwnKey::Common(pair) => pair.der_bytes().to_vec(),
            OwnKey::Secp256k1(key) => secp256k1::PublicKey::from_secret_key(key)
                .serialize_uncompressed()
                .to_vec(),
            OwnKey::Sm2(key) => key.verifying_key().to_sec1_bytes().to_vec(),
        }
    }

    /// Signs: ECDSA over SHA-256 with secp256k1, SM2 with SM3 and the platform's identity, of the others as TLS does; DER.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            OwnKey::Common(pair) => pair.sign(message).map_err(|error| error.to_string()),
            OwnKey::Secp256k1(key) => Ok(ecdsa::sign(digest(message), key).serialize_der().to_vec()),
            OwnKey::Sm2(key) => {
                let signature: sm2::dsa::Signature = key.try_sign(message).map_err(|error| error.to_string())?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
        }
    }

    /// Whether this key made the signature.
    pub fn confirms(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            OwnKey::Common(pair) => {
                let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
                // The kind of the key says which of them can succeed.
                let mut all = algorithms.iter();
                all.any(|algorithm| algorithm.verify_signature(pair.der_bytes(), message, signature).is_ok())
            }
            OwnKey::Secp256k1(key) => {
                let public = secp256k1::PublicKey::from_secret_key(key);
                ecdsa::Signature::from_der(signature)
                    .is_ok_and(|signature| ecdsa::verify(&signature, digest(message), &public).is_ok())
            }
            OwnKey::Sm2(key) => sm2::dsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verifying_key().verify(message, &signature).is_ok()),
        }
    }
}

fn digest(message: &[u8]) -> secp256k1::Message {
    secp256k1::Message::from_digest(Sha256::digest(message).into())
}

/// Of a key on a curve: its identifier, and the scalar.
fn curve_and_secret(der: &PrivateKeyDer<'_>) -> Option<(String, [u8; 32])> {
    match der {
        PrivateKeyDer::Pkcs8(der) => {
            let info = PrivateKeyInfoRef::try_from(der.secret_pkcs8_der()).ok()?;
            let key = EcPrivateKey::try_from(info.private_key.as_bytes()).ok()?;
            let curve = info.algorithm.parameters_oid().ok()?;
            Some((curve.to_string(), key.private_key.try_into().ok()?))
        }
        PrivateKeyDer::Sec1(der) => {
            let key = EcPrivateKey::try_from(der.secret_sec1_der()).ok()?;
            let curve = key.parameters?.named_curve()?;
            Some((curve.to_string(), key.private_key.try_into().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod samples;

#[cfg(test)]
mod tests {
    use super::samples::*;
    use super::*;

    const KEYS: [&str; 4] = [SM2_PKCS8, SM2_SEC1, SECP256K1_PKCS8, SECP256K1_SEC1];

    #[test]
    fn keys_of_the_platforms_curves_are_read_in_both_forms() {
        let public: Vec<Vec<u8>> = KEYS
            .iter()
            .map(|text| OwnKey::from_pem(text).unwrap().public_key())
            .collect();
        assert!(public.iter().all(|key| key.len() == 65 && key[0] == 4));
        assert_eq!(public[0], public[1]);
        assert_eq!(public[2], public[3]);
        assert_eq!(hex::encode(&public[0]), SM2_PUBLIC);
        assert_eq!(hex::encode(&public[2]), SECP256K1_PUBLIC);
    }

    #[test]
    fn each_kind_confirms_what_it_signed_and_nothing_else() {
        let common = KeyPair::generate().unwrap().serialize_pem();
        let keys = [common.as_str(), SM2_PKCS8, SECP256K1_SEC1];
        let keys = keys.map(|text| OwnKey::from_pem(text).unwrap());
        for (index, key) in keys.iter().enumerate() {
            let signature = key.sign(b"statement").unwrap();
            assert!(!key.confirms(b"statement.", &signature) && !key.confirms(b"statement", &signature[1..]));
            for (other, checker) in keys.iter().enumerate() {
                assert_eq!(checker.confirms(b"statement", &signature), index == other);
            }
        }
    }

    #[test]
    fn what_is_no_key_says_so() {
        for text in [
            "",
            "no key",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let error = OwnKey::from_pem(text).err().unwrap();
            assert!(error.starts_with("it holds no private key"), "{error}");
        }
    }
}
