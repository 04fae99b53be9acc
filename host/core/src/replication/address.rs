//! Where the other end of a link listens.

/// Where a receiver listens: its own words, with the socket's host in place of none or of a wildcard.
pub(super) fn listening_address(socket: &str, listen: &str) -> String {
    let Some((host, port)) = listen.rsplit_once(':') else {
        return if listen.is_empty() {
            String::new()
        } else {
            format!("{}:{listen}", host_of(socket))
        };
    };
    if host.is_empty() || host == "0.0.0.0" || host == "[::]" {
        return format!("{}:{port}", host_of(socket));
    }
    listen.to_owned()
}

fn host_of(socket: &str) -> &str {
    socket.rsplit_once(':').map_or(socket, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::listening_address;

    #[test]
    fn the_receiver_is_found_where_it_listens() {
        for (socket, listen, found) in [
            ("10.0.0.2:4711", "0.0.0.0:50015", "10.0.0.2:50015"),
            ("10.0.0.2:4711", ":50015", "10.0.0.2:50015"),
            ("10.0.0.2:4711", "50015", "10.0.0.2:50015"),
            ("[fe80::1]:4711", "[::]:50015", "[fe80::1]:50015"),
            ("10.0.0.2:4711", "192.168.0.9:50015", "192.168.0.9:50015"),
            ("10.0.0.2:4711", "", ""),
        ] {
            assert_eq!(listening_address(socket, listen), found);
        }
    }
}
