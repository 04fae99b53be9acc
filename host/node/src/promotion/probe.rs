//! Probes of the node that is to be replaced: its link port and its JSON-RPC port, all at once, two seconds at most.

use std::time::Duration;

use cvp_core::config::Remote;
use cvp_core::promotion::{PROBE_MS_MAX, ProbeAnswer, TargetProbe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::link::{LinkError, SharedTls, dial};

/// Asks every address of `remotes`, and the JSON-RPC port on the same hosts when the provider has told it.
pub async fn probe_target(remotes: &[Remote], jsonrpc_port: Option<u16>, tls: SharedTls) -> Vec<TargetProbe> {
    let mut probes = JoinSet::new();
    for remote in remotes {
        let (remote, tls) = (remote.clone(), tls.clone());
        if let Some((host, _)) = remote.address.rsplit_once(':')
            && let Some(port) = jsonrpc_port
        {
            let address = format!("{host}:{port}");
            probes.spawn(async move {
                TargetProbe {
                    target: format!("json-rpc {address}"),
                    answer: ask_http(&address).await,
                }
            });
        }
        probes.spawn(async move {
            let target = format!("link {} {}", remote.hostname, remote.address);
            TargetProbe {
                target,
                answer: ask_link(&remote, tls).await,
            }
        });
    }
    let mut found = Vec::new();
    while let Some(done) = probes.join_next().await {
        match done {
            Ok(probe) => found.push(probe),
            Err(error) => tracing::warn!(%error, "probe"),
        }
    }
    found.sort_by(|a, b| b.target.cmp(&a.target));
    found
}

async fn ask_link(remote: &Remote, tls: SharedTls) -> ProbeAnswer {
    let dialled = timeout(Duration::from_millis(PROBE_MS_MAX), dial(remote, tls.as_deref())).await;
    match dialled {
        // Connected or not is not known here: the plain connection below tells a silent port from a dead address.
        Err(_) => ask_port(&remote.address).await,
        Ok(Ok(_)) => ProbeAnswer::Answered("it accepts links".into()),
        Ok(Err(error)) => answer_of(&error),
    }
}

fn answer_of(error: &LinkError) -> ProbeAnswer {
    match error {
        LinkError::ConnectionRefused(_) => ProbeAnswer::Refused,
        LinkError::Silent { .. } | LinkError::NotANode(_) | LinkError::Lost(_) => ProbeAnswer::Silent,
        LinkError::Unreachable(_, why) if why.contains("no answer within") => ProbeAnswer::TimedOut,
        LinkError::Unreachable(_, why) => ProbeAnswer::Unreached(why.clone()),
        // Whoever refuses our certificate, or speaks TLS where we do not, lives.
        other => ProbeAnswer::Answered(other.to_string()),
    }
}

async fn ask_port(address: &str) -> ProbeAnswer {
    match timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        Ok(Ok(_)) => ProbeAnswer::Silent,
        _ => ProbeAnswer::TimedOut,
    }
}

/// Whether anything answers one HTTP request.
async fn ask_http(address: &str) -> ProbeAnswer {
    let connected = timeout(Duration::from_millis(PROBE_MS_MAX), TcpStream::connect(address)).await;
    let mut socket = match connected {
        Err(_) => return ProbeAnswer::TimedOut,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return ProbeAnswer::Refused,
        Ok(Err(error)) => return ProbeAnswer::Unreached(error.to_string()),
        Ok(Ok(socket)) => socket,
    };
    let body = r#"{"jsonrpc":"2.0","namespace":"global","method":"node_getNodeHash","params":[],"id":1}"#;
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answered = async {
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut first = [0; 12];
        socket.read_exact(&mut first).await.ok()?;
        Some(String::from_utf8_lossy(&first).into_owned())
    };
    match timeout(Duration::from_millis(PROBE_MS_MAX - 200), answered).await {
        Ok(Some(status)) => ProbeAnswer::Answered(status),
        _ => ProbeAnswer::Silent,
    }
}

#[cfg(test)]
mod tests {
    use cvp_core::types::Hostname;

    use super::*;

    #[tokio::test]
    async fn a_dead_a_silent_and_a_living_target_are_told_apart() {
        let remote = |address: String| Remote {
            hostname: Hostname::new("node1").unwrap(),
            address,
        };
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let dead = remote(free.local_addr().unwrap().to_string());
        drop(free);
        let silent_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = remote(silent_port.local_addr().unwrap().to_string());
        let (send, _accepted) = tokio::sync::mpsc::channel(4);
        let listener = crate::link::Listener::bind("127.0.0.1:0", None, send).await.unwrap();
        let living = remote(listener.address().to_string());
        let probes = probe_target(&[dead.clone(), silent.clone(), living.clone()], None, None).await;
        let answer = |of: &Remote| {
            let target = format!("link node1 {}", of.address);
            probes
                .iter()
                .find(|probe| probe.target == target)
                .unwrap()
                .answer
                .clone()
        };
        assert_eq!(answer(&dead), ProbeAnswer::Refused);
        assert_eq!(answer(&silent), ProbeAnswer::Silent);
        assert!(matches!(answer(&living), ProbeAnswer::Answered(_)));
    }
}
