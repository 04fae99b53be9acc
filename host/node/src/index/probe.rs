//! One look at a backend: all its hosts at once, two seconds at most.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use cvp_core::config::BackendHosts;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Longest look.
const PROBE_MAX: Duration = Duration::from_secs(2);

/// Names that are resolved at a time, in the whole process: one that hangs holds a thread, whoever asked has long gone on.
const LOOKUPS_MAX: usize = 8;

static LOOKUPS: Semaphore = Semaphore::const_new(LOOKUPS_MAX);

/// Whether any host of the backend accepts a connection. The connection is closed at once.
///
/// # Errors
/// None does: each host with the reason.
pub async fn probe(backend: &BackendHosts) -> Result<(), String> {
    let mut looks = JoinSet::new();
    for (order, (host, port)) in backend.hosts().iter().cloned().enumerate() {
        looks.spawn(async move {
            let found = timeout(PROBE_MAX, connect(&host, port)).await;
            let found = found.unwrap_or_else(|_| Err(format!("no answer within {} s", PROBE_MAX.as_secs())));
            let bracketed = if host.contains(':') { format!("[{host}]") } else { host };
            (order, found.map_err(|why| format!("{bracketed}:{port}: {why}")))
        });
    }
    let mut failed = Vec::new();
    while let Some(done) = looks.join_next().await {
        match done {
            // The others end with the set.
            Ok((_, Ok(()))) => return Ok(()),
            Ok((order, Err(why))) => failed.push((order, why)),
            Err(error) => failed.push((usize::MAX, error.to_string())),
        }
    }
    failed.sort();
    let failed: Vec<String> = failed.into_iter().map(|(_, why)| why).collect();
    Err(failed.join("; "))
}

async fn connect(host: &str, port: u16) -> Result<(), String> {
    let mut last = "the name has no address".to_owned();
    for address in resolve(host, port, &LOOKUPS).await? {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "connection refused".clone_into(&mut last)
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

async fn resolve(host: &str, port: u16, lookups: &'static Semaphore) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let place = lookups.acquire().await.map_err(|error| error.to_string())?;
    let host = host.to_owned();
    // In a task of its own: the place is free when the lookup has ended, not when nobody waits for it any more.
    let lookup = tokio::spawn(async move {
        let found = tokio::net::lookup_host((host, port)).await;
        drop(place);
        found.map(Iterator::collect::<Vec<_>>)
    });
    match lookup.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(format!("the name cannot be resolved ({error})")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> BackendHosts {
        BackendHosts::parse(&format!("mongodb://me:secret@{text}/")).unwrap()
    }

    fn dead() -> String {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    }

    #[tokio::test]
    async fn one_living_host_is_enough_and_dead_ones_are_named_in_their_order() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let living = listener.local_addr().unwrap();
        let (first, second) = (dead(), dead());
        assert_eq!(probe(&hosts(&format!("{first},{living}"))).await, Ok(()));
        assert_eq!(probe(&hosts(&format!("localhost:{}", living.port()))).await, Ok(()));
        let words = format!("{first}: connection refused; {second}: connection refused");
        assert_eq!(probe(&hosts(&format!("{first},{second}"))).await, Err(words));
    }

    #[tokio::test]
    async fn a_name_without_address_and_an_ipv6_host_are_named_as_they_stand() {
        let none = probe(&hosts("no-such-host.invalid:1")).await.unwrap_err();
        assert!(none.starts_with("no-such-host.invalid:1: "), "{none}");
        let six = probe(&hosts("[::1]:1")).await.unwrap_err();
        assert!(six.starts_with("[::1]:1: "), "{six}");
    }

    #[tokio::test]
    async fn a_lookup_waits_for_a_place_and_an_address_needs_none() {
        static NONE: Semaphore = Semaphore::const_new(0);
        let waited = timeout(Duration::from_millis(100), resolve("localhost", 1, &NONE)).await;
        assert!(waited.is_err());
        assert_eq!(resolve("::1", 1, &NONE).await.unwrap().len(), 1);
    }
}
