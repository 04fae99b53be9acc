//! The HTTP side over raw sockets: what is malformed, too large, too slow or none of ours gets an answer or a clean end, never a panic.

use std::time::Duration;

use cvp_core::config::FlowControl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{HttpOptions, NodeFacts, Rpc, RpcServer};
use crate::mq::QueueSet;
use crate::namespace::ChainSet;
use crate::namespace::tests::{Fixture, hostname, namespace};

const WAIT: Duration = Duration::from_secs(20);

async fn server(options: HttpOptions) -> (RpcServer, Fixture) {
    limited_server(options, None).await
}

async fn limited_server(options: HttpOptions, limit: Option<FlowControl>) -> (RpcServer, Fixture) {
    let fixture = Fixture::maker();
    let chains = ChainSet::new();
    chains.insert(std::sync::Arc::clone(&fixture.chain));
    let rpc = Rpc::new(chains, QueueSet::default(), facts());
    rpc.set_flow_control(&limit.map(|limit| (namespace(), limit)).into_iter().collect());
    let server = RpcServer::start(
        "127.0.0.1:0".parse().unwrap(),
        options,
        None,
        rpc,
        &tokio::runtime::Handle::current(),
    )
    .await
    .unwrap();
    (server, fixture)
}

fn facts() -> NodeFacts {
    NodeFacts {
        roles: Default::default(),
        vps: Default::default(),
        hostname: hostname("node1"),
        ip: "127.0.0.1".into(),
        p2p_port: 1,
        receiver: false,
    }
}

async fn connect(server: &RpcServer) -> TcpStream {
    TcpStream::connect(server.address()).await.unwrap()
}

/// Writes `request`, then reads to the end of the connection.
async fn exchange(server: &RpcServer, request: &str) -> String {
    let mut stream = connect(server).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(stream).await
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut out = Vec::new();
    tokio::time::timeout(WAIT, stream.read_to_end(&mut out))
        .await
        .expect("answered in time")
        .unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

fn post(body: &str) -> String {
    format!(
        "POST /any/path HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn any_path_any_type_chunked_or_not_is_answered() {
    let (server, _fixture) = server(HttpOptions::default()).await;
    let call = r#"{"method":"tx_getGasPrice","id":7}"#;
    let plain = exchange(&server, &post(call)).await;
    assert!(plain.starts_with("HTTP/1.1 200"), "{plain}");
    assert!(
        plain.ends_with(r#""id":7,"code":0,"message":"SUCCESS","result":0}"#),
        "{plain}"
    );
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/weird\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{call}\r\n0\r\n\r\n",
        call.len()
    );
    assert!(exchange(&server, &chunked).await.contains(r#""result":0}"#));
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_with_its_code() {
    let (server, _fixture) = server(HttpOptions::default()).await;
    let get = exchange(&server, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(get.contains(r#""code":-32600,"message":"EOF""#), "{get}");
    assert!(
        exchange(&server, &post(""))
            .await
            .contains(r#""code":-32600,"message":"EOF""#)
    );
    assert!(exchange(&server, &post("{nonsense")).await.contains(r#""code":-32700"#));
    let garbage = exchange(&server, "\u{1}\u{2}garbage\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    let bad_chunks = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert!(exchange(&server, bad_chunks).await.contains("-32600"));
    // And it still serves.
    assert!(
        exchange(&server, &post(r#"{"method":"block_getChainHeight"}"#))
            .await
            .contains(r#""result":"0x0""#)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_over_the_limit_are_refused_one_by_one_and_the_connection_lives() {
    let limit = FlowControl {
        enable: true,
        capacity: 2,
        limit: 1,
    };
    let (server, _fixture) = limited_server(HttpOptions::default(), Some(limit)).await;
    // One body, so that the calls come together whatever the machine does.
    let call = r#"{"method":"tx_getGasPrice"}"#;
    let batch = format!("[{}]", vec![call; 100].join(","));
    let answer = exchange(&server, &post(&batch)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (passed, refused) = (
        answer.matches(r#""result":0"#).count(),
        answer.matches(r#""code":-32026"#).count(),
    );
    assert!(
        passed >= 2 && refused > 0 && passed + refused == 100,
        "{passed} {refused}"
    );
    let elsewhere = exchange(&server, &post(r#"{"namespace":"ns9","method":"tx_getGasPrice"}"#)).await;
    assert!(elsewhere.contains(r#""code":-32010"#), "{elsewhere}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_cap_is_413_and_readable_by_the_client() {
    let options = HttpOptions {
        body_bytes_max: 1000,
        ..HttpOptions::default()
    };
    let (server, _fixture) = server(options).await;
    let large = exchange(&server, &post(&"x".repeat(300_000))).await;
    assert!(large.starts_with("HTTP/1.1 413"), "{large}");
    assert!(large.contains("at most 1000 bytes"), "{large}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_ended_and_the_others_served() {
    let options = HttpOptions {
        header_time: Duration::from_millis(100),
        body_time: Duration::from_millis(100),
        connections_max: 2,
        ..HttpOptions::default()
    };
    let (server, _fixture) = server(options).await;
    let mut header = connect(&server).await;
    header.write_all(b"POST / HT").await.unwrap();
    let mut body = connect(&server).await;
    body.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        .await
        .unwrap();
    // Both places are taken; this one waits until the slow ones are cut.
    let third = exchange(&server, &post(r#"{"method":"tx_getGasPrice"}"#)).await;
    assert!(third.contains(r#""result":0"#), "{third}");
    assert!(read_to_end(body).await.contains(r#""code":-32096"#));
    read_to_end(header).await;
}

/// A body that asks `count` times for a block of two megabytes.
async fn large_batch(fixture: &Fixture, count: usize) -> String {
    fixture.send(&fixture.rich, 0, &"x".repeat(2 << 20)).await;
    let call = r#"{"method":"block_getBlockByNumber","params":["latest",false],"id":1}"#;
    format!("[{}]", vec![call; count].join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_body_cannot_ask_for_more_than_its_budget() {
    let (server, fixture) = server(HttpOptions::default()).await;
    let answer = exchange(&server, &post(&large_batch(&fixture, 1_000).await)).await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(body.len() < (17 << 20), "{} bytes", body.len());
    let answers: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
    let good = answers.iter().take_while(|answer| answer["code"] == 0).count();
    assert!((1..=8).contains(&good), "{good} of {}", answers.len());
    for answer in &answers[good..] {
        assert_eq!((&answer["code"], &answer["id"]), (&(-32600).into(), &1.into()));
        assert!(answer["message"].as_str().unwrap().contains("over 16777216 bytes"));
    }
    assert_eq!(answers.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_ended() {
    let options = HttpOptions {
        write_time: Duration::from_millis(200),
        connections_max: 1,
        ..HttpOptions::default()
    };
    let (server, fixture) = server(options).await;
    let request = post(&large_batch(&fixture, 8).await);
    let mut deaf = connect(&server).await;
    deaf.write_all(request.as_bytes()).await.unwrap();
    // The only place is free again once the deaf client is cut.
    let next = exchange(&server, &post(r#"{"method":"tx_getGasPrice"}"#)).await;
    assert!(next.contains(r#""result":0"#), "{next}");
    let mut taken = Vec::new();
    let _ = tokio::time::timeout(WAIT, deaf.read_to_end(&mut taken))
        .await
        .expect("ended");
    assert!(taken.len() < (14 << 20), "{} bytes were taken", taken.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_answers_origins_on_the_list_only() {
    let options = HttpOptions {
        allowed_origins: vec!["https://good".to_owned()],
        ..HttpOptions::default()
    };
    let (server, _fixture) = server(options).await;
    for (origin, allowed) in [("https://good", true), ("https://bad", false)] {
        let request = format!("OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: close\r\n\r\n");
        let answer = exchange(&server, &request).await;
        assert_eq!(
            answer.contains("access-control-allow-origin: https://good"),
            allowed,
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_server_refuses_connections() {
    let (server, _fixture) = server(HttpOptions::default()).await;
    let address = server.address();
    let mut idle = connect(&server).await;
    tokio::time::timeout(WAIT, server.close())
        .await
        .expect("closes in time");
    assert!(TcpStream::connect(address).await.is_err());
    // One that was not taken from the queue yet is reset: that is an end as well.
    let ended = tokio::time::timeout(WAIT, idle.read_to_end(&mut Vec::new())).await;
    let _ = ended.expect("ends in time");
}

/// HTTPS with a certificate made for this test, and a client's connector of these TLS versions.
fn https(versions: &[&'static rustls::SupportedProtocolVersion]) -> (super::Https, tokio_rustls::TlsConnector) {
    use std::os::unix::fs::PermissionsExt as _;
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("cert"), made.cert.pem()).unwrap();
    std::fs::write(at("key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(at("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let files = super::HttpsFiles {
        ca: Some(at("cert")),
        cert: at("cert"),
        key: at("key"),
    };
    let https = super::Https::load(&files, std::time::SystemTime::now()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(crate::link::provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (https, std::sync::Arc::new(client).into())
}

async fn https_server(https: super::Https, options: HttpOptions) -> (RpcServer, Fixture) {
    let fixture = Fixture::maker();
    let chains = ChainSet::new();
    chains.insert(std::sync::Arc::clone(&fixture.chain));
    let rpc = Rpc::new(chains, QueueSet::default(), facts());
    let server = RpcServer::start(
        "127.0.0.1:0".parse().unwrap(),
        options,
        Some(https),
        rpc,
        &tokio::runtime::Handle::current(),
    )
    .await
    .unwrap();
    (server, fixture)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_tls_are_served_and_no_other_way() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let (https, connector) = https(&[version]);
        let (server, _fixture) = https_server(https, HttpOptions::default()).await;
        let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = connector.connect(name, connect(&server).await).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        let request = post(r#"{"method":"tx_getGasPrice","id":7}"#);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut out = Vec::new();
        tokio::time::timeout(WAIT, stream.read_to_end(&mut out))
            .await
            .unwrap()
            .unwrap();
        assert!(String::from_utf8_lossy(&out).contains(r#""id":7,"code":0"#));
        let plain = exchange(&server, &post("{}")).await;
        assert!(
            plain.starts_with("HTTP/1.1 400") && plain.contains("https://"),
            "{plain}"
        );
        tokio::time::timeout(WAIT, server.close())
            .await
            .expect("closes in time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_is_ended_in_whatever_it_stops() {
    let options = HttpOptions {
        handshake_time: Duration::from_millis(100),
        connections_max: 4,
        ..HttpOptions::default()
    };
    let (https, _) = https(&[&rustls::version::TLS13]);
    let (server, _fixture) = https_server(https, options).await;
    let mut stopped = Vec::new();
    // Nothing; half a record; a plain request without an end; garbage that looks like TLS.
    for begin in [&b""[..], &[0x16, 3, 1], b"POST / HTTP/1.1\r\n", &[0x16; 600]] {
        let mut stream = connect(&server).await;
        stream.write_all(begin).await.unwrap();
        stopped.push(stream);
    }
    for stream in stopped {
        read_to_end(stream).await;
    }
}
