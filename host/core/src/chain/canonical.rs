//! The texts that clients sign. SDKs disagree on form and spelling, so a verifier has a short list of candidates, likeliest first.

use super::request::{ExtraId, Participant, Request};

/// One text a client may have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The text; its UTF-8 bytes are the message.
    pub text: String,
    /// How the transaction hash spells the index ids if this text verifies.
    pub extra_ids: String,
    /// Version named in (or implied by) the text.
    pub version: String,
}

/// Transaction version as (major, minor); texts that are no version count as 0.0.
pub fn version_number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Below 2.0: no payload and version members.
    First,
    /// 2.0 to 3.5.
    Middle,
    /// From 3.6, and the JavaScript SDK at every version: with gas members.
    Gas,
}

/// Every text that `request` may have been signed as, each once, likeliest first. `node_version` stands in where the request names none.
pub fn candidates(request: &Request, node_version: &str) -> Vec<Candidate> {
    let named = request.version.as_deref().unwrap_or(node_version);
    let mut forms: Vec<(Form, &str)> = Vec::with_capacity(4);
    match version_number(named) {
        number if number < (2, 0) => forms.extend([(Form::First, named), (Form::Middle, named)]),
        number if number >= (3, 6) => forms.extend([(Form::Gas, named), (Form::Middle, named)]),
        _ if request.gas.is_none() || request.go_shape => forms.extend([(Form::Middle, named), (Form::Gas, named)]),
        _ => forms.extend([(Form::Gas, named), (Form::Middle, named)]),
    }
    if named != node_version {
        forms.push((Form::Middle, node_version));
    }
    let spellings = spellings(request);
    let mut found: Vec<Candidate> = Vec::new();
    for (form, version) in forms {
        for (signed, hashed, of_form) in &spellings {
            if of_form.is_some_and(|only| only != form) {
                continue;
            }
            let text = text(request, form, version, signed);
            if found.iter().all(|other| other.text != text) {
                found.push(Candidate {
                    text,
                    extra_ids: hashed.clone(),
                    version: version.to_owned(),
                });
            }
        }
    }
    found
}

/// (as signed, as hashed, only in this form) spellings of the index ids: plain; Go's escapes; the JavaScript SDK's defect, hashed as sent.
/// That SDK signs gas members at every version; in another form the defect would only let anyone exchange the ids of other clients.
fn spellings(request: &Request) -> Vec<(String, String, Option<Form>)> {
    let plain = request.extra_ids_json();
    let mut all = vec![(plain.clone(), plain.clone(), None)];
    let escaped = go_escapes(&plain);
    if escaped != plain {
        all.push((escaped.clone(), escaped, None));
    }
    if request.extra_ids.iter().any(|id| matches!(id, ExtraId::Text(_))) {
        all.push((repeated_ids(&request.extra_ids), plain, Some(Form::Gas)));
    }
    all
}

/// Go's JSON escapes these five characters inside texts; none occurs outside of them in a compact list.
fn go_escapes(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            other => out.push(other),
        }
    }
    out
}

/// The JavaScript SDK signs, for text number i, element i of the list built so far (null where there is none yet).
fn repeated_ids(ids: &[ExtraId]) -> String {
    let mut list: Vec<String> = Vec::with_capacity(ids.len());
    for id in ids {
        if let ExtraId::Number(number) = id {
            list.push(number.to_string());
        }
    }
    let texts = ids.len() - list.len();
    for i in 0..texts {
        let repeated = list.get(i).cloned().unwrap_or_else(|| "null".to_owned());
        list.push(repeated);
    }
    format!("[{}]", list.join(","))
}

fn text(request: &Request, form: Form, version: &str, extra_ids: &str) -> String {
    use std::fmt::Write as _;
    let payload = if request.payload.is_empty() {
        "0".to_owned()
    } else {
        hex::encode(&request.payload)
    };
    let to = request.to.map_or_else(|| "0x0".to_owned(), super::Address::to_hex);
    let mut out = String::with_capacity(512 + payload.len() + request.extra.len());
    // Writing into a String cannot fail.
    let _ = write!(out, "from={}&to={to}&value=", request.from.to_hex());
    let _ = match form {
        Form::First if !request.payload.is_empty() => write!(out, "0x{payload}"),
        Form::First => write!(out, "0x{:x}", request.value),
        _ => write!(out, "0x{:x}&payload=0x{payload}", request.value),
    };
    let _ = write!(
        out,
        "&timestamp=0x{:x}&nonce=0x{:x}&opcode={:x}&extra={}&vmtype={}",
        request.timestamp,
        request.nonce,
        request.opcode,
        request.extra,
        request.kind.as_str()
    );
    if form == Form::First {
        return out;
    }
    let number = version_number(version);
    let _ = write!(out, "&version={version}");
    if form == Form::Gas || number >= (2, 1) {
        let _ = write!(out, "&extraid={extra_ids}");
    }
    if form == Form::Gas || number >= (2, 2) {
        let _ = write!(out, "&cname={}", request.cname);
    }
    if form == Form::Gas {
        let (price, limit, expiration) = request.gas.map_or((0, 0, 0), |g| (g.price, g.limit, g.expiration));
        let (initiator, withholding) = participant(request.participant.as_ref());
        let _ = write!(
            out,
            "&price=0x{price:x}&gasLimit=0x{limit:x}&expirationTimestamp=0x{expiration:x}&initiator={initiator}&withholding={withholding}"
        );
    }
    out
}

fn participant(participant: Option<&Participant>) -> (String, String) {
    let Some(participant) = participant else {
        return Default::default();
    };
    let list: Vec<String> = participant
        .withholding
        .iter()
        .map(|a| format!("0x{}", hex::encode(a)))
        .collect();
    (
        format!("0x{}", hex::encode(&participant.initiator)),
        format!("[{}]", list.join(",")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_javascript_defect_repeats_what_stands_there() {
        let ids = |numbers: &[i64], texts: &[&str]| -> Vec<ExtraId> {
            let numbers = numbers.iter().map(|n| ExtraId::Number(*n));
            numbers
                .chain(texts.iter().map(|t| ExtraId::Text((*t).to_owned())))
                .collect()
        };
        assert_eq!(repeated_ids(&ids(&[7], &["abc", "def"])), "[7,7,7]");
        assert_eq!(repeated_ids(&ids(&[1, 2], &["a", "b"])), "[1,2,1,2]");
        assert_eq!(repeated_ids(&ids(&[], &["a", "b"])), "[null,null]");
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(version_number("3.10") > version_number("3.6"));
        assert_eq!(version_number("nonsense"), (0, 0));
    }
}
