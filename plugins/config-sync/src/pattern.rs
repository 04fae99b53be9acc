//! A pattern of settings: `FILE` or `FILE:KEY`, where `*` stands for anything, and a key stands for all below it.

/// Names files, or keys of files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// Matched against the whole path.
    pub file: String,
    /// Matched against a dotted key or a table above it; none: the file as a whole.
    pub key: Option<String>,
}

impl Pattern {
    /// Reads `FILE` or `FILE:KEY`.
    ///
    /// # Errors
    /// What is wrong with it, to follow its name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (file, key) = match text.split_once(':') {
            Some((file, key)) => (file, Some(key)),
            None => (text, None),
        };
        if file.is_empty() || key.is_some_and(|key| key.split('.').any(str::is_empty)) {
            return Err(format!("{text:?} is not FILE or FILE:KEY"));
        }
        if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(format!(
                "a pattern has at most {TEXT_BYTES_MAX} bytes and no control characters"
            ));
        }
        Ok(Self {
            file: file.to_owned(),
            key: key.map(str::to_owned),
        })
    }

    /// Whether it names all of a change: of `key` of `file`, or of the file as a whole (an empty key).
    pub fn covers(&self, file: &str, key: &str) -> bool {
        glob(&self.file, file)
            && match self.key.as_deref() {
                None | Some("*") => true,
                Some(pattern) => !key.is_empty() && with_tables(key).any(|part| glob(pattern, part)),
            }
    }

    /// Whether a change holds something that it names: as [`Pattern::covers`], and what stands below a table, or in the file, that changes.
    pub fn touches(&self, file: &str, key: &str) -> bool {
        let below = match self.key.as_deref() {
            Some(_) if key.is_empty() => true,
            Some(pattern) => pattern.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')),
            None => false,
        };
        self.covers(file, key) || (below && glob(&self.file, file))
    }

    /// Whether it names this file, or keys of it.
    pub fn names(&self, file: &str) -> bool {
        glob(&self.file, file)
    }
}

/// Longest pattern, bytes.
const TEXT_BYTES_MAX: usize = 256;

/// A dotted key, after the tables it stands in: `a`, `a.b`, `a.b[0]` of `a.b[0]`.
fn with_tables(key: &str) -> impl Iterator<Item = &str> {
    let ends = key.match_indices(['.', '[']).map(|(end, _)| end);
    ends.chain([key.len()]).map(|end| &key[..end])
}

/// Whether `text` is what `pattern` says; `*` stands for any run of characters, also none. Time: at most the product of both lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where the last star stands, and how far it reaches for now.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, reach)) = star {
            star = Some((at, reach + 1));
            (p, t) = (at + 1, reach + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("a*c", "abbc"),
            ("*.toml", "ns1/ns_static.toml"),
            ("*a*b", "xaab"),
            ("**", "x"),
            ("a*", "a"),
        ] {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("a*c", "abb"),
            ("*.toml", "a.tom"),
            ("a*a", "a"),
            ("*a*b", "xba"),
        ] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
        // The product of the lengths, not a power of them.
        assert!(!glob(&"a*".repeat(120), &"a".repeat(500).replacen('a', "b", 1)));
    }

    #[test]
    fn a_key_stands_for_all_below_it_and_not_for_its_namesakes() {
        let port = Pattern::parse("dynamic.toml:port").unwrap();
        assert!(port.covers("dynamic.toml", "port") && port.covers("dynamic.toml", "port.grpc"));
        assert!(!port.covers("dynamic.toml", "ports") && !port.covers("dynamic.toml", "a.port"));
        assert!(!port.covers("ns1/dynamic.toml", "port"));
        assert!(!port.covers("dynamic.toml", "") && port.touches("dynamic.toml", ""));
        let id = Pattern::parse("*:strategy.chain-sync.id").unwrap();
        assert!(id.touches("a", "strategy") && id.touches("a", "strategy.chain-sync") && !id.touches("a", "strat"));
        assert!(!id.covers("a", "strategy"));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for bad in ["", ":", ":key", "file:", "file:a..b", "file:.a", "a\nb"] {
            assert!(Pattern::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Pattern::parse(&"x".repeat(TEXT_BYTES_MAX + 1)).is_err());
    }
}
