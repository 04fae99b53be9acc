//! `cvp certgen`: a TLS CA for a pair, and a certificate for each host.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use cvp_core::types::Hostname;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::Serialize;
use time::{Duration, OffsetDateTime};

use super::Context;
use crate::durable;
use crate::ipc::{Exit, Failure};

/// Arguments of `certgen`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Directory of the CA and of one directory a host.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Hostname that gets a certificate.
    #[arg(long, value_name = "NAME", required = true, num_args = 1..)]
    host: Vec<Hostname>,
    /// Name that the host may take over at an upgrade; goes into its certificate too.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    standby_for: Vec<Hostname>,
    /// IP address that goes into the certificate.
    #[arg(long, value_name = "IP", num_args = 1..)]
    ip: Vec<IpAddr>,
    /// Days until the certificate ends.
    #[arg(long, value_name = "N", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

#[derive(Serialize)]
struct Made {
    ca: PathBuf,
    hosts: Vec<PathBuf>,
}

/// Runs `certgen`.
pub fn run(context: &Context, arguments: &Arguments) -> Result<Exit, Failure> {
    let directory = &arguments.directory;
    durable::create_directories(directory)?;
    let ca = Authority::open_or_make(directory)?;
    let mut hosts = Vec::new();
    for host in &arguments.host {
        let mut names = vec![host.to_string()];
        for name in arguments.standby_for.iter().map(ToString::to_string) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.extend(arguments.ip.iter().map(ToString::to_string));
        let place = directory.join(host.as_str());
        ca.issue(&place, names, arguments.days)?;
        hosts.push(place);
    }
    let made = Made {
        ca: directory.join("tlsca.ca"),
        hosts,
    };
    context.print(&made, |made| {
        let places = made.hosts.iter().map(|p| format!("certificate in {}", p.display()));
        let mut lines = vec![format!("CA in {}", made.ca.display())];
        lines.extend(places);
        lines.join("\n")
    });
    Ok(Exit::Done)
}

/// The CA of a directory.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn open_or_make(directory: &Path) -> Result<Self, Failure> {
        let (cert, key) = (directory.join("tlsca.ca"), directory.join("tlsca.priv"));
        match (cert.exists(), key.exists()) {
            (true, true) => Self::open(&cert, &key),
            (false, false) => Self::make(&cert, &key),
            _ => Err(Failure::failed(
                "half-a-ca",
                format!("{} holds only one of tlsca.ca and tlsca.priv", directory.display()),
                "restore the other one, or name another directory",
            )),
        }
    }

    fn open(cert: &Path, key: &Path) -> Result<Self, Failure> {
        let pem = read(cert)?;
        let pair = KeyPair::from_pem(&read(key)?).map_err(|e| bad(key, &e))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, pair).map_err(|e| bad(cert, &e))?;
        Ok(Self { issuer, pem })
    }

    fn make(cert: &Path, key: &Path) -> Result<Self, Failure> {
        let pair = KeyPair::generate().map_err(|e| bad(key, &e))?;
        let mut params = named("cvp TLS CA", 36_500);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&pair).map_err(|e| bad(cert, &e))?.pem();
        durable::replace(key, pair.serialize_pem().as_bytes(), 0o600)?;
        durable::replace(cert, pem.as_bytes(), 0o644)?;
        Ok(Self {
            issuer: Issuer::new(params, pair),
            pem,
        })
    }

    fn issue(&self, place: &Path, names: Vec<String>, days: u32) -> Result<(), Failure> {
        durable::create_directories(place)?;
        let pair = KeyPair::generate().map_err(|e| bad(place, &e))?;
        let sans = CertificateParams::new(names.clone()).map_err(|e| bad(place, &e))?;
        let mut params = named(names.first().map_or("", |n| n), days);
        params.subject_alt_names = sans.subject_alt_names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(&pair, &self.issuer).map_err(|e| bad(place, &e))?;
        durable::replace(&place.join("tls_peer.priv"), pair.serialize_pem().as_bytes(), 0o600)?;
        durable::replace(&place.join("tls_peer.cert"), signed.pem().as_bytes(), 0o644)?;
        durable::replace(&place.join("tlsca.ca"), self.pem.as_bytes(), 0o644)?;
        Ok(())
    }
}

fn named(name: &str, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::now_utc();
    // An hour back: clocks of two machines differ.
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(i64::from(days));
    params
}

/// A key and a self-signed certificate of a node in a namespace: what `init` gives a provider.
pub(super) fn node_certificate(hostname: &Hostname) -> Result<(String, String), Failure> {
    let here = Path::new("key.priv");
    let pair = KeyPair::generate().map_err(|e| bad(here, &e))?;
    let params = named(hostname.as_str(), 36_500);
    let signed = params.self_signed(&pair).map_err(|e| bad(here, &e))?;
    Ok((pair.serialize_pem(), signed.pem()))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| {
        Failure::failed(
            "unreadable",
            format!("cannot read {}: {error}", path.display()),
            "check its permissions",
        )
    })
}

fn bad(path: &Path, error: &rcgen::Error) -> Failure {
    Failure::failed(
        "bad-certificate",
        format!("{}: {error}", path.display()),
        "the CA must be a PEM certificate and its PEM key; remove both to make a new one",
    )
}
