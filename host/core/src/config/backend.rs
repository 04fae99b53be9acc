//! The address of an index backend: the hosts of a MongoDB connection string, and nothing else of it.
//!
//! The string may carry a user's name and password. What is kept holds neither, and no error repeats a word of the string: with a character
//! that should have been escaped, any part of it may be the password.

use std::fmt;

/// Most hosts of a connection string.
const HOSTS_MAX: usize = 16;

/// Longest connection string, bytes.
const URI_BYTES_MAX: usize = 16 << 10;

/// Longest host, bytes.
const HOST_BYTES_MAX: usize = 253;

/// The port of a host that names none.
const PORT: u16 = 27_017;

const SCHEME: &str = "mongodb://";

/// Where an index backend listens: one or more hosts, any of which will do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendHosts {
    hosts: Vec<(String, u16)>,
}

impl BackendHosts {
    /// Reads `mongodb://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]]...[/DATABASE][?OPTIONS]`; a host in `[...]` is an IPv6 address.
    ///
    /// # Errors
    /// What is wrong with it, in words that hold nothing of it.
    pub fn parse(uri: &str) -> Result<BackendHosts, String> {
        if uri.len() > URI_BYTES_MAX {
            return Err(format!("it has {} bytes, at most {URI_BYTES_MAX}", uri.len()));
        }
        let Some(rest) = strip_scheme(uri, SCHEME) else {
            return Err(if strip_scheme(uri, "mongodb+srv://").is_some() {
                format!(
                    "mongodb+srv:// (hosts found by a DNS query) is not supported: write {SCHEME} with the hosts themselves"
                )
            } else {
                format!("it does not begin with {SCHEME}")
            });
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(end);
        if behind.contains('@') {
            let text = "there is an @ behind the hosts: write @ as %40, / as %2F, : as %3A and ? as %3F in a user's name, a password or an option";
            return Err(text.to_owned());
        }
        let hosts = match authority.rsplit_once('@') {
            Some((login, _)) if login.contains('@') || login.matches(':').count() > 1 => {
                return Err("write @ as %40 and : as %3A in a user's name or a password".to_owned());
            }
            Some((_, hosts)) => hosts,
            None => authority,
        };
        let hosts: Vec<&str> = hosts.split(',').collect();
        if hosts.len() > HOSTS_MAX {
            return Err(format!("it has {} hosts, at most {HOSTS_MAX}", hosts.len()));
        }
        let read = |(at, host): (usize, &&str)| read_host(host).map_err(|what| format!("host {}: {what}", at + 1));
        let hosts = hosts.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        Ok(BackendHosts { hosts })
    }

    /// The hosts, each with its port; at least one. An IPv6 address stands without brackets.
    pub fn hosts(&self) -> &[(String, u16)] {
        &self.hosts
    }
}

impl Default for BackendHosts {
    /// The platform's: this machine, the usual port.
    fn default() -> Self {
        Self {
            hosts: vec![("127.0.0.1".to_owned(), PORT)],
        }
    }
}

impl fmt::Display for BackendHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?;
            } else {
                write!(f, "{comma}{host}:{port}")?;
            }
        }
        Ok(())
    }
}

fn strip_scheme<'a>(uri: &'a str, scheme: &str) -> Option<&'a str> {
    let begins = uri
        .get(..scheme.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    begins.then(|| &uri[scheme.len()..])
}

fn read_host(text: &str) -> Result<(String, u16), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or("there is a [ without ]")?;
        // A zone (`fe80::1%eth0`) is the machine's, as in any address.
        let plain = address.split_once('%').map_or(address, |(address, _)| address);
        if plain.parse::<std::net::Ipv6Addr>().is_err() || address.len() > HOST_BYTES_MAX || !printable(address) {
            return Err("what stands in [] is no IPv6 address");
        }
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':').ok_or("only a port may follow ]")?),
        };
        return Ok((address.to_owned(), read_port(port)?));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if host.is_empty() {
        return Err("its name is missing");
    }
    if host.contains('%') {
        return Err("it is no host (a Unix socket cannot be reached from another machine, and is not supported)");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.len() > HOST_BYTES_MAX || !host.bytes().all(plain) {
        return Err("it is no host's name or address; an IPv6 address stands in []");
    }
    Ok((host.to_owned(), read_port(port)?))
}

fn printable(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

fn read_port(text: Option<&str>) -> Result<u16, &'static str> {
    let Some(text) = text else { return Ok(PORT) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port > 0);
    port.ok_or(
        "its port is no number from 1 to 65535 (write @, : and / as %40, %3A and %2F in a user's name or a password)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_among_everything_that_may_stand_around_them() {
        for (uri, hosts) in [
            ("mongodb://127.0.0.1:27017/?w=1&journal=true", "127.0.0.1:27017"),
            ("mongodb://db", "db:27017"),
            ("MongoDB://db/", "db:27017"),
            ("mongodb://db?w=1", "db:27017"),
            ("mongodb://me:secret@db:1/admin?w=1", "db:1"),
            ("mongodb://me@db", "db:27017"),
            ("mongodb://me:@db", "db:27017"),
            (
                "mongodb://me:a%40b%2Fc@db1:1,db2,[::1]:3/?replicaSet=rs",
                "db1:1, db2:27017, [::1]:3",
            ),
            ("mongodb://[fe80::1]", "[fe80::1]:27017"),
            ("mongodb://a_b-c.example:65535", "a_b-c.example:65535"),
        ] {
            assert_eq!(
                BackendHosts::parse(uri).map(|it| it.to_string()),
                Ok(hosts.to_owned()),
                "{uri}"
            );
        }
        assert_eq!(BackendHosts::default().to_string(), "127.0.0.1:27017");
    }

    #[test]
    fn what_is_no_address_is_refused_without_a_word_of_it() {
        let secret = "hunter2";
        for (uri, word) in [
            ("http://hunter2", "begin with mongodb://"),
            ("hunter2", "begin with mongodb://"),
            (
                "mongodb+srv://me:hunter2@db",
                "mongodb+srv:// (hosts found by a DNS query) is not",
            ),
            ("mongodb://", "missing"),
            ("mongodb://me:hunter2@", "missing"),
            ("mongodb://db,,db", "host 2: its name is missing"),
            ("mongodb://hunter2:", "port"),
            ("mongodb://db:hunter2", "port"),
            ("mongodb://db:0", "port"),
            ("mongodb://db:65536", "port"),
            ("mongodb://db:+1", "port"),
            // Characters that are not escaped: the password would be taken for a host, a port or a database.
            ("mongodb://me:hunter2/x@db", "@ behind the hosts"),
            ("mongodb://me:1/hunter2@db:1", "@ behind the hosts"),
            ("mongodb://me:1?hunter2@db:1", "@ behind the hosts"),
            ("mongodb://me:hunter2@x@db", "%40"),
            ("mongodb://me:hunter2:x@db", "%3A"),
            ("mongodb://[hunter2]", "IPv6"),
            ("mongodb://[::1", "without ]"),
            ("mongodb://[::1]x", "follow ]"),
            ("mongodb://::1", "missing"),
            ("mongodb://%2Ftmp%2Fhunter2.sock", "Unix socket"),
            ("mongodb://hun ter2", "no host"),
            ("mongodb://hunter2\n", "no host"),
        ] {
            let error = BackendHosts::parse(uri).unwrap_err();
            assert!(error.contains(word), "{uri:?}: {error}");
            assert!(!error.contains(secret), "{uri:?}: {error}");
        }
        let many = format!("mongodb://{}", ["db"; HOSTS_MAX + 1].join(","));
        assert!(BackendHosts::parse(&many).unwrap_err().contains("17 hosts"));
        assert!(BackendHosts::parse(&format!("mongodb://{}", "x".repeat(300))).is_err());
        assert!(BackendHosts::parse(&format!("mongodb://db/{}", "x".repeat(URI_BYTES_MAX))).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it_and_a_password_is_never_kept(login in "[!-~]{0,12}", rest in "[ -~]{0,30}") {
            let _ = BackendHosts::parse(&format!("mongodb://{login}{rest}"));
            if let Ok(backend) = BackendHosts::parse(&format!("mongodb://me:Zq7{login}@db{rest}")) {
                let kept = format!("{backend:?} {backend}");
                proptest::prop_assert!(!kept.contains("Zq7"), "{}", kept);
            }
        }
    }
}
