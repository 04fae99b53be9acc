//! Sizes and durations as configuration spells them: `"100kb"`, `"8gb"`, `"0.5s"`, `"24h"`.

/// Sizes by suffix, binary multiples as the platform takes them.
const SIZES: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1 << 10),
    ("mb", 1 << 20),
    ("gb", 1 << 30),
    ("tb", 1 << 40),
    ("b", 1),
    ("", 1),
];

/// Milliseconds by suffix.
const DURATIONS: [(&str, f64); 5] = [
    ("ms", 1.0),
    ("s", 1_000.0),
    ("m", 60_000.0),
    ("h", 3_600_000.0),
    ("d", 86_400_000.0),
];

/// Bytes of a size such as `"100kb"` (upper or lower case; no suffix means bytes). `None` when it is none.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let (number, unit) = split(&text)?;
    let factor = SIZES.iter().find(|(suffix, _)| *suffix == unit)?.1;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (bytes.is_finite() && (0.0..9.0e18).contains(&bytes)).then_some(bytes as u64)
}

/// Milliseconds of a duration such as `"0.5s"` or `"1h30m"`. `None` when it is none.
pub fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let factor = DURATIONS.iter().find(|(suffix, _)| *suffix == unit)?.1;
        total += decimal(number)? * factor;
        rest = next;
    }
    (!text.trim().is_empty() && total < 1.0e15).then_some(total.round() as u64)
}

fn decimal(number: &str) -> Option<f64> {
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    number.parse().ok().filter(|_| plain)
}

fn split(text: &str) -> Option<(&str, &str)> {
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (!number.is_empty()).then_some((number, unit.trim()))
}

/// A size as configuration spells it.
pub fn format_bytes(bytes: u64) -> String {
    for (unit, factor) in [("gb", 1u64 << 30), ("mb", 1 << 20), ("kb", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}b")
}

/// A duration as configuration spells it.
pub fn format_duration(ms: u64) -> String {
    if ms.is_multiple_of(3_600_000) && ms > 0 {
        format!("{}h", ms / 3_600_000)
    } else if ms.is_multiple_of(1_000) && ms > 0 {
        format!("{}s", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("100kb", 102_400),
            ("50mb", 52_428_800),
            ("8gb", 8 << 30),
            ("1.5KB", 1536),
            ("7", 7),
            ("0", 0),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in ["", "kb", "-1kb", "1xb", "99999999999gb", "1e9"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("0.5s", 500),
            ("24h", 86_400_000),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Some(ms), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1.x s", "1w", "inf s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn formatted_values_parse_back() {
        for bytes in [1, 1024, 3 << 20, 8 << 30, 1500] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
        }
        for ms in [0, 1, 500, 5_000, 86_400_000] {
            assert_eq!(parse_duration(&format_duration(ms)), Some(ms));
        }
    }
}
