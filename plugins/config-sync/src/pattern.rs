//! A pattern of settings: `FILE` or `FILE:KEY`, where `*` stands for anything, and a key stands for all below it.

/// Names files, or keys of files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// Matched against the whole path, or what follows `configuration/`.
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
        self.names(file)
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
        self.covers(file, key) || (below && self.names(file))
    }

    /// Whether it names this file, or keys of it. Files of the directory `configuration` go by their names in it, too.
    pub fn names(&self, file: &str) -> bool {
        let short = file.strip_prefix("configuration/");
        glob(&self.file, file) || short.is_some_and(|short| glob(&self.file, short))
    }
}

/// Longest pattern, bytes.
const TEXT_BYTES_MAX: usize = 256;

/// A dotted key, after the tables it stands in: `a`, `a.b`, `a.b[0]` of `a.b[0]`.
fn with_tables(key: &str) -> impl Iterator<Item = &str> {
    let ends = key.match_indices(['.', '[']).map(|(end, _)| end);
    ends.chain([key.len()]).map(|end| &key[..end])
}

/// Whether `text` is what `pattern` says; `*` stands for any run of characters, also none.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let between = text.strip_prefix(first).and_then(|text| text.strip_suffix(last));
    let Some(mut between) = between else {
        return false;
    };
    // The leftmost place of each part leaves the most room for those behind it.
    for part in middle.split('*') {
        match between.find(part) {
            Some(at) => between = &between[at + part.len()..],
            None => return false,
        }
    }
    true
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
            ("a*b*c*d", "axbxcxd"),
            ("a*b*b*d", "abbd"),
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
            ("a*b*b*d", "abd"),
            ("ab*ba", "aba"),
        ] {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_key_stands_for_all_below_it_and_not_for_its_namesakes() {
        let port = Pattern::parse("dynamic.toml:port").unwrap();
        assert!(port.covers("dynamic.toml", "port") && port.covers("dynamic.toml", "port.grpc"));
        assert!(!port.covers("dynamic.toml", "ports") && !port.covers("dynamic.toml", "a.port"));
        assert!(port.covers("configuration/dynamic.toml", "port.grpc"));
        assert!(!port.covers("ns1/dynamic.toml", "port") && !port.covers("configuration/ns1/dynamic.toml", "port"));
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
