//! Each way in which a link does not come about, with certificates made here: named on both ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cvp_core::config::Remote;
use cvp_core::frame::{Frame, Kind, NamespaceTag, Side};
use cvp_core::types::Hostname;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;

/// A CA, for as many TLS sets as a test wants.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(name: &str) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key).unwrap().pem();
    Authority {
        pem,
        issuer: Issuer::new(params, key),
    }
}

impl Authority {
    /// Writes a TLS set and loads it.
    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams), shared: Option<&str>) -> SharedTls {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |name: &str, text: String| {
            let path = Path::new(dir.path()).join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = TlsFiles {
            ca: file("tlsca.ca", self.pem.clone()),
            cert: file("tls_peer.cert", cert.pem()),
            key: file("tls_peer.priv", key.serialize_pem()),
        };
        Some(Arc::new(Tls::load(&files, shared.map(str::to_owned)).unwrap()))
    }

    fn plain(&self, names: &[&str]) -> SharedTls {
        self.issue(names, |_| {}, None)
    }
}

/// Dials `node1` at a listener: what the dialer and what the acceptor got.
async fn meet(dialer: SharedTls, acceptor: SharedTls) -> (Result<Link, LinkError>, Result<Link, LinkError>) {
    let (send, mut accepted) = mpsc::channel(4);
    let listener = Listener::bind("127.0.0.1:0", acceptor, send).await.unwrap();
    let remote = Remote {
        hostname: Hostname::new("node1").unwrap(),
        address: listener.address().to_string(),
    };
    let dialed = dial(&remote, dialer.as_deref()).await;
    let (_, there) = accepted.recv().await.unwrap();
    (dialed, there)
}

fn codes(met: (Result<Link, LinkError>, Result<Link, LinkError>)) -> (String, String) {
    let code = |link: Result<Link, LinkError>| link.map_or_else(|e| e.refusal().code.into_owned(), |_| "ok".into());
    (code(met.0), code(met.1))
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.into(), b.into())
}

#[tokio::test]
async fn a_pair_with_good_certificates_meets() {
    let ca = authority("ca");
    let (dialed, accepted) = meet(ca.plain(&["cvp"]), ca.plain(&["node1"])).await;
    let theirs = dialed.unwrap().peer.certificate.unwrap();
    assert_eq!((theirs.proof, theirs.names.names[0].as_str()), (Proof::Name, "node1"));
    assert_eq!(accepted.unwrap().peer.certificate.unwrap().names.names[0], "cvp");
    let (dialed, accepted) = meet(None, None).await;
    assert!(dialed.unwrap().peer.certificate.is_none() && accepted.is_ok());
}

#[tokio::test]
async fn a_plain_peer_and_a_tls_peer_both_say_so() {
    let ca = authority("ca");
    let met = meet(None, ca.plain(&["node1"])).await;
    assert_eq!(codes(met), pair("tls-mismatch", "tls-mismatch"));
    let met = meet(ca.plain(&["cvp"]), None).await;
    assert_eq!(codes(met), pair("tls-mismatch", "tls-mismatch"));
}

#[tokio::test]
async fn wrong_ca_is_named_on_both_ends() {
    let (ours, other) = (authority("ours"), authority("other"));
    // The dialer does not trust the acceptor.
    let met = meet(other.plain(&["cvp"]), ours.plain(&["node1"])).await;
    assert_eq!(codes(met), pair("certificate-untrusted", "certificate-untrusted"));
}

#[tokio::test]
async fn an_expired_certificate_is_named_on_both_ends() {
    let ca = authority("ca");
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    };
    let met = meet(ca.plain(&["cvp"]), ca.issue(&["node1"], expired, None)).await;
    assert_eq!(codes(met), pair("certificate-expired", "certificate-expired"));
    // The dialer's: TLS 1.3 lets it finish first, the greeting brings the alert.
    let met = meet(ca.issue(&["cvp"], expired, None), ca.plain(&["node1"])).await;
    assert_eq!(codes(met), pair("certificate-expired", "certificate-expired"));
}

#[tokio::test]
async fn a_wrong_name_is_named_and_a_shared_name_proves_membership() {
    let ca = authority("ca");
    let (dialed, accepted) = meet(ca.plain(&["cvp"]), ca.plain(&["node2"])).await;
    let error = dialed.err().unwrap();
    assert!(
        error
            .to_string()
            .contains("node1 is expected, and the certificate carries node2"),
        "{error}"
    );
    assert_eq!(accepted.err().unwrap().refusal().code, "certificate-name");

    let common_name = |params: &mut CertificateParams| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "node1");
    };
    let (dialed, _) = meet(ca.plain(&["cvp"]), ca.issue(&[], common_name, None)).await;
    let error = dialed.err().unwrap();
    assert!(
        error
            .to_string()
            .contains("its common name (CN) \"node1\" is not checked"),
        "{error}"
    );

    let shared = || ca.issue(&["hyperchain.cn"], |_| {}, Some("hyperchain.cn"));
    let (dialed, _) = meet(shared(), shared()).await;
    assert_eq!(dialed.unwrap().peer.certificate.unwrap().proof, Proof::Membership);
    let (dialed, _) = meet(ca.issue(&["cvp"], |_| {}, Some("hyperchain.cn")), ca.plain(&["node2"])).await;
    assert_eq!(dialed.err().unwrap().refusal().code, "certificate-name");
}

#[tokio::test]
async fn nobody_listening_and_strangers_are_told_apart() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let remote = Remote {
        hostname: Hostname::new("node1").unwrap(),
        address,
    };
    let error = dial(&remote, None).await.err().unwrap();
    assert_eq!(error.refusal().code, "connection-refused");

    let (send, mut accepted) = mpsc::channel(4);
    let listener = Listener::bind("127.0.0.1:0", None, send).await.unwrap();
    let mut stranger = TcpStream::connect(listener.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stranger, b"GET / HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(
        accepted.recv().await.unwrap().1.err().unwrap().refusal().code,
        "not-a-node"
    );
    assert_eq!(stranger.read(&mut [0; 64]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_silent_far_end_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let remote = Remote {
        hostname: Hostname::new("node1").unwrap(),
        address: silent.local_addr().unwrap().to_string(),
    };
    let dialing = tokio::spawn(async move { dial(&remote, None).await.err().unwrap() });
    let _held = silent.accept().await.unwrap();
    assert_eq!(dialing.await.unwrap().refusal().code, "peer-silent");

    let (send, mut accepted) = mpsc::channel(4);
    let listener = Listener::bind("127.0.0.1:0", None, send).await.unwrap();
    let _silent = TcpStream::connect(listener.address()).await.unwrap();
    assert_eq!(
        accepted.recv().await.unwrap().1.err().unwrap().refusal().code,
        "peer-silent"
    );
}

/// Opens both ends of a link; what each reads comes out of its channel.
fn open_both(met: (Result<Link, LinkError>, Result<Link, LinkError>)) -> [(Connection, mpsc::Receiver<LinkEvent>); 2] {
    let open = |link: Result<Link, LinkError>, side| {
        let (send, events) = mpsc::channel(8);
        let connection = Connection::open(link.unwrap(), side, move |event| {
            let send = send.clone();
            async move {
                let _ = send.send(event).await;
            }
        });
        (connection, events)
    };
    [open(met.0, Side::Receiver), open(met.1, Side::Provider)]
}

/// The next frame, however long it takes.
async fn frame_of(events: &mut mpsc::Receiver<LinkEvent>) -> Frame {
    loop {
        match events.recv().await {
            Some(LinkEvent::Frame(frame)) => return frame,
            Some(LinkEvent::Arriving) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn frames_of_every_size_arrive_as_they_were_sent() {
    let ca = authority("ca");
    for (a, b) in [(None, None), (ca.plain(&["cvp"]), ca.plain(&["node1"]))] {
        let [(here, mut heard_here), (there, mut heard_there)] = open_both(meet(a, b).await);
        here.send(Frame::node(Kind::Heartbeat, vec![1, 2, 3])).unwrap();
        here.send(Frame::node(Kind::Goodbye, Vec::new())).unwrap();
        assert_eq!(frame_of(&mut heard_there).await.payload.as_ref(), [1, 2, 3]);
        assert_eq!(frame_of(&mut heard_there).await.kind, Kind::Goodbye);
        for size in [31, 16 << 10, (9 << 20) + 17] {
            let payload: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
            let frame = Frame::of(Kind::Records, NamespaceTag(7), 3, payload.into());
            there.send(frame.clone()).unwrap();
            assert_eq!(frame_of(&mut heard_here).await, frame);
        }
        // A provider takes no records at all: the link ends, and names it.
        here.send(Frame::of(Kind::Records, NamespaceTag(7), 3, vec![0; 64].into()))
            .unwrap();
        let Some(LinkEvent::Closed(error)) = heard_there.recv().await else {
            panic!()
        };
        assert_eq!(error.refusal().code, "malformed-frame");
    }
}

#[tokio::test]
async fn what_is_said_at_once_is_no_sign_of_a_peer_that_does_not_read() {
    let [(here, _heard_here), (_there, mut heard_there)] = open_both(meet(None, None).await);
    // Nothing is written before this task waits.
    for number in 0..1_000_u32 {
        let frame = Frame::node(Kind::Heartbeat, number.to_le_bytes().to_vec());
        here.send(frame).unwrap();
    }
    for number in 0..1_000_u32 {
        assert_eq!(frame_of(&mut heard_there).await.payload.as_ref(), number.to_le_bytes());
    }
    // Of large frames fewer may wait, whoever sends them; what is small still may.
    let sender = here.sender();
    let large = || Frame::of(Kind::StrategyMessage, NamespaceTag(7), 0, vec![1; 5 << 10].into());
    for number in 0..super::frames::LARGE_FRAMES_MAX {
        here.send(large()).unwrap_or_else(|error| panic!("{number}: {error}"));
    }
    assert!(!sender.send_now(large()) && matches!(here.send(large()), Err(LinkError::Lost(_))));
    here.send(Frame::node(Kind::Heartbeat, Vec::new())).unwrap();
    // Each gives its place back.
    for _ in 0..super::frames::LARGE_FRAMES_MAX {
        assert_eq!(frame_of(&mut heard_there).await, large());
    }
    assert_eq!(frame_of(&mut heard_there).await.kind, Kind::Heartbeat);
    assert!(sender.send_now(large()));
    let waits = tokio::task::spawn_blocking(move || (0..1_000).all(|_| sender.send_blocking(large())));
    for _ in 0..1_001 {
        assert_eq!(frame_of(&mut heard_there).await, large());
    }
    assert!(waits.await.unwrap());
}

#[tokio::test]
async fn a_frame_that_takes_long_is_reported_before_it_is_whole() {
    let (here, there) = meet(None, None).await;
    let (send, mut events) = mpsc::channel(8);
    let _reads = Connection::open(here.unwrap(), Side::Receiver, move |event| {
        let send = send.clone();
        async move {
            let _ = send.send(event).await;
        }
    });
    let mut slow = there.unwrap().stream;
    let frame = Frame::of(Kind::Records, NamespaceTag(7), 3, vec![5; 1 << 20].into());
    slow.write_all(&frame.encode_header(true)).await.unwrap();
    let mut written = 0;
    loop {
        slow.write_all(&frame.payload[written..written + 64]).await.unwrap();
        slow.flush().await.unwrap();
        written += 64;
        match tokio::time::timeout(Duration::from_millis(5), events.recv()).await {
            Ok(Some(LinkEvent::Arriving)) => {
                assert!(written >= 1 << 10, "reported after {written} bytes");
                break;
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => assert!(written < frame.payload.len(), "it was never reported"),
        }
    }
    slow.write_all(&frame.payload[written..]).await.unwrap();
    slow.flush().await.unwrap();
    assert_eq!(frame_of(&mut events).await, frame);
}

#[tokio::test]
async fn last_words_are_written_before_a_link_ends() {
    let [(here, _heard_here), (_there, mut heard_there)] = open_both(meet(None, None).await);
    here.send(Frame::node(Kind::Goodbye, vec![9; 100])).unwrap();
    here.close();
    assert_eq!(frame_of(&mut heard_there).await.payload.len(), 100);
    assert!(matches!(
        heard_there.recv().await,
        Some(LinkEvent::Closed(LinkError::Lost(_)))
    ));
}

#[tokio::test]
async fn garbage_and_giant_lengths_end_the_link() {
    for bytes in [vec![0xee; 64], {
        let mut header = Frame::node(Kind::Heartbeat, Vec::new()).encode_header(true).to_vec();
        header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        header
    }] {
        let (send, mut accepted) = mpsc::channel(4);
        let listener = Listener::bind("127.0.0.1:0", None, send).await.unwrap();
        let mut stranger = TcpStream::connect(listener.address()).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stranger, b"CVPLINK1")
            .await
            .unwrap();
        let link = accepted.recv().await.unwrap().1;
        let (send, mut events) = mpsc::channel(8);
        let _connection = Connection::open(link.unwrap(), Side::Provider, move |event| {
            let send = send.clone();
            async move {
                let _ = send.send(event).await;
            }
        });
        tokio::io::AsyncWriteExt::write_all(&mut stranger, &bytes)
            .await
            .unwrap();
        let Some(LinkEvent::Closed(error)) = events.recv().await else {
            panic!()
        };
        assert_eq!(error.refusal().code, "malformed-frame");
    }
}
