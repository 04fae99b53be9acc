//! Values of the configuration as logs and statuses show them: addresses without what they are logged into with.

/// What stands in the place of a user's name and password.
const MASK: &str = "***";

/// `text` with `SCHEME://***@HOST` in the place of `SCHEME://USER:PASSWORD@HOST`. A password may hold anything, quotes and further addresses
/// among it, so all up to the last `@` is left out.
pub fn masked(text: &str) -> String {
    let begin = text.find("://").map(|at| at + 3);
    let end = begin.and_then(|begin| Some(begin + text[begin..].rfind('@')?));
    match (begin, end) {
        (Some(begin), Some(end)) => format!("{}{MASK}{}", &text[..begin], &text[end..]),
        _ => text.to_owned(),
    }
}

/// Whether `text` is what [`masked`] shows of another one: no value of a key.
pub fn is_masked(text: &str) -> bool {
    text.contains("://***@")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_is_logged_into_with_is_not_shown() {
        for (text, shown) in [
            ("\"mongodb://me:pw@db/?w=1\"", "\"mongodb://***@db/?w=1\""),
            ("\"mongodb://me:p/w?@x@db:1\"", "\"mongodb://***@db:1\""),
            ("\"mongodb://me:p'\\\"w://@db:1\"", "\"mongodb://***@db:1\""),
            (
                "[\"amqp://guest:guest@a\", \"amqp://b\"]",
                "[\"amqp://***@a\", \"amqp://b\"]",
            ),
            ("[\"amqp://a@b\", \"amqp://c@d\"]", "[\"amqp://***@d\"]"),
            ("uri = \"mongodb://me:pw@db", "uri = \"mongodb://***@db"),
            ("me@home", "me@home"),
            ("", ""),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(is_masked(shown), text != shown, "{shown}");
            assert!(!is_masked(text));
        }
    }
}
