//! Peers that send garbage, giant lengths or nothing, on the peer port and on the JSON-RPC port, and a log that nobody reads: cut off, and
//! nobody else notices.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, ensure};
use cvp_pair::pair::{Pair, Setup};
use cvp_pair::signer::{ec, send_many};
use serde_json::Value;

/// Sends `bytes` and answers what came back until the node closed (or `patience` passed).
fn poke(address: &str, bytes: &[u8], patience: Duration) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(patience))?;
    // A node may close while we write: that is an answer, too.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Ok(answer)
}

#[test]
fn garbage_on_the_peer_port_is_cut_off() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    pair.provider.provokes(&["(peer-silent)"]);
    let (rpc, signer, address) = (pair.provider.rpc(), ec()?, pair.provider.p2p().to_owned());
    let giant = [&[0xff; 4][..], &[0x16, 0x03, 0x03, 0xff, 0xff], &[0xff; 64]].concat();
    let inputs: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &giant,
        &[0; 4096],
        &[0x16, 0x03, 0x01, 0x40, 0x00, 0x01],
        b"",
    ];
    let silent: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(&address))
        .collect::<Result<_, _>>()?;
    for input in inputs {
        poke(&address, input, Duration::from_secs(3))?;
        send_many(&rpc, &signer, 2)?;
        ensure!(pair.provider.status()?["normal"] == true, "garbage disturbed the pair");
    }
    drop(silent);
    pair.wait_durable("global", rpc.height()?)
}

fn http(address: &str, request: &str) -> Result<(u16, Value)> {
    let answer = poke(address, request.as_bytes(), Duration::from_secs(5))?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

fn post(body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn malformed_requests_get_the_documented_code() -> Result<()> {
    let pair = Pair::start(&Setup::default())?;
    let address = pair.provider.jsonrpc();
    let cases = [
        (
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
            -32600,
        ),
        (post(""), -32600),
        (post("{nonsense"), -32700),
        (post("[]"), -32600),
        (post("7"), -32600),
        (
            post(r#"{"jsonrpc":"2.0","id":1,"method":"tx_test","params":[]}"#),
            -32601,
        ),
        (
            post(r#"{"jsonrpc":"2.0","id":1,"namespace":"ns9","method":"block_latestBlock"}"#),
            -32010,
        ),
        (
            post(r#"{"jsonrpc":"2.0","id":1,"method":"block_getBlockByNumber","params":[{"a":1}]}"#),
            -32602,
        ),
        (
            post(r#"{"jsonrpc":"2.0","id":1,"method":"tx_sendTransaction","params":["x"]}"#),
            -32602,
        ),
        (
            post(
                r#"{"jsonrpc":"2.0","id":1,"method":"tx_sendTransaction","params":[{"from":"0x1","signature":"zz"}]}"#,
            ),
            -32602,
        ),
    ];
    for (request, code) in cases {
        let (status, answer) = http(address, &request)?;
        ensure!(
            status == 200 && answer["code"] == code,
            "{request:?} answered {status} {answer}, not {code}"
        );
    }
    let (status, _) = http(address, &post(&" ".repeat(200 * 1024)))?;
    ensure!(status == 413, "an oversize body answered {status}");
    // A slow client holds its own connection only.
    let mut slow = TcpStream::connect(address)?;
    slow.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Len")?;
    send_many(&pair.provider.rpc(), &ec()?, 2)?;
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let (status, answer) = http(address, &post(&deep))?;
    let code = if answer.is_array() {
        &answer[0]["code"]
    } else {
        &answer["code"]
    };
    ensure!(
        status == 200 && (code == -32700 || code == -32600),
        "deep nesting answered {status} {answer}"
    );
    ensure!(!pair.provider.log().contains("panicked"));
    Ok(())
}

/// A pipe that takes no byte more, and its other end.
fn full_pipe() -> Result<(std::io::PipeReader, std::io::PipeWriter)> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let (reader, mut writer) = std::io::pipe()?;
    let flags = fcntl_getfl(&writer)?;
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK)?;
    for step in [4096, 1] {
        while writer.write(&vec![b'.'; step]).is_ok() {}
    }
    // The node gets it as a shell's pipe would be.
    fcntl_setfl(&writer, flags)?;
    Ok((reader, writer))
}

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_node() -> Result<()> {
    let mut pair = Pair::init(&Setup::default())?;
    let (_unread, pipe) = full_pipe()?;
    pair.provider.stderr = Some(pipe.into());
    pair.provider.start()?;
    send_many(&pair.provider.rpc(), &ec()?, 5)?;
    pair.receiver.start()?;
    pair.provider.wait_normal()?;
    pair.wait_durable("global", pair.provider.rpc().height()?)?;
    pair.provider.stop()
}
