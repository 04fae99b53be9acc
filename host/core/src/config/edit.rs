//! An edit of a configuration file: text in, text out; comments, order and what we do not know stay as they are.

use toml_edit::{Array, DocumentMut, Item, Table};

use super::weight::{is_below, is_local};

/// A value to be written.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
    /// Any other value, as TOML text.
    Toml(String),
}

impl Value {
    /// What an operator typed: `true`, `12`, `["a", "b"]`, `"text"`, or plain text.
    pub fn from_input(input: &str) -> Value {
        match input.trim().parse::<toml_edit::Value>() {
            Ok(toml_edit::Value::Boolean(flag)) => Value::Flag(flag.into_value()),
            Ok(toml_edit::Value::Integer(number)) => Value::Number(number.into_value()),
            Ok(toml_edit::Value::String(text)) => Value::Text(text.into_value()),
            Ok(toml_edit::Value::Array(items)) => {
                let texts = items.iter().map(|i| i.as_str().map(str::to_owned));
                match texts.collect::<Option<Vec<_>>>() {
                    Some(texts) => Value::Texts(texts),
                    None => Value::Toml(input.trim().to_owned()),
                }
            }
            Ok(_) => Value::Toml(input.trim().to_owned()),
            Err(_) => Value::Text(input.to_owned()),
        }
    }

    pub(super) fn into_toml(self) -> toml_edit::Value {
        match self {
            Value::Flag(flag) => flag.into(),
            Value::Number(number) => number.into(),
            Value::Text(text) => text.into(),
            Value::Texts(texts) => toml_edit::Value::Array(texts.into_iter().collect::<Array>()),
            Value::Toml(text) => text.parse().unwrap_or_else(|_| text.into()),
        }
    }
}

/// Why an edit was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EditError {
    /// The text is not TOML.
    #[error("not valid TOML: {0}")]
    NotToml(String),
    /// A part of the key is there and is no table.
    #[error("{0} is not a table")]
    NotATable(String),
    /// The key names a list of tables, and the value is none.
    #[error("{0:?} is a list of tables: write [{{ name = \"value\" }}, ...]")]
    NotTables(String),
    /// The key is empty, or names a table.
    #[error("{0:?} does not name a value")]
    NotAValue(String),
}

/// `text` with the dotted `key` set to `value`; a missing key is added at the end of its table.
pub fn edit(text: &str, key: &str, value: Value) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let (tables, name) = match key.rsplit_once('.') {
        Some((tables, name)) => (tables.split('.').collect(), name),
        None => (Vec::new(), key),
    };
    if name.is_empty() || tables.iter().any(|t| t.is_empty()) {
        return Err(EditError::NotAValue(key.to_owned()));
    }
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    for part in tables {
        let item = table.entry(part).or_insert_with(|| {
            let mut new = Table::new();
            new.set_implicit(true);
            Item::Table(new)
        });
        table = item
            .as_table_like_mut()
            .ok_or_else(|| EditError::NotATable(part.to_owned()))?;
    }
    put(table, name, value.into_toml(), key)?;
    Ok(written(&document, text))
}

/// The text of a document, with the ends of lines of the text that it was.
pub(super) fn written(document: &DocumentMut, before: &str) -> String {
    let text = document.to_string();
    let lines = before.matches('\n').count();
    if lines > 0 && before.matches("\r\n").count() == lines {
        return text.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    text
}

pub(super) fn put(
    table: &mut dyn toml_edit::TableLike,
    name: &str,
    mut value: toml_edit::Value,
    key: &str,
) -> Result<(), EditError> {
    match table.get_mut(name) {
        Some(Item::Value(old)) => {
            // The comment behind a value belongs to the line, not to the value.
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        Some(Item::None) | None => {
            table.insert(name, Item::Value(value));
        }
        Some(item @ Item::ArrayOfTables(_)) => {
            let tables = Item::Value(value).into_array_of_tables();
            let mut tables = tables.map_err(|_| EditError::NotTables(key.to_owned()))?;
            if let (Some(was), Some(first)) = (item.as_array_of_tables().and_then(|old| old.get(0)), tables.get_mut(0))
            {
                // The comment above a list belongs to its place.
                *first.decor_mut() = was.decor().clone();
                first.set_position(was.position());
            }
            *item = Item::ArrayOfTables(tables);
        }
        Some(_) => return Err(EditError::NotAValue(key.to_owned())),
    }
    Ok(())
}

/// The value of a dotted `key` as TOML text; `None` when it is not there.
pub fn get(text: &str, key: &str) -> Result<Option<String>, EditError> {
    let document = parse(text)?;
    let mut item = document.as_item();
    for part in key.split('.') {
        match item.get(part) {
            Some(next) => item = next,
            None => return Ok(None),
        }
    }
    Ok(Some(match item {
        Item::Value(value) => value.clone().decorated("", "").to_string(),
        other => other.to_string().trim().to_owned(),
    }))
}

/// `text` without the value of the dotted `key`; a key that is not there is fine.
fn without(text: &str, key: &str) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let mut table: &mut dyn toml_edit::TableLike = document.as_table_mut();
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            table.remove(part);
            break;
        }
        match table.get_mut(part).and_then(Item::as_table_like_mut) {
            Some(inner) => table = inner,
            None => break,
        }
    }
    Ok(written(&document, text))
}

fn is_kept(file: &str, key: &str, further: &[String]) -> bool {
    is_local(file, key) || further.iter().any(|of| is_below(key, of))
}

/// `theirs` (the text of `file` on another node) with the keys that a node keeps for itself as `own` has them; comments stay.
///
/// `further`: keys beside those that every node keeps; a table's name stands for all below it.
pub fn keep_local(file: &str, theirs: &str, own: &str, further: &[String]) -> Result<String, EditError> {
    let local = |entries: Vec<(String, String)>| -> Vec<(String, String)> {
        entries
            .into_iter()
            .filter(|(key, _)| is_kept(file, key, further))
            .collect()
    };
    let (ours, others) = (local(entries(own)?), local(entries(theirs)?));
    let mut text = theirs.to_owned();
    for (key, value) in &ours {
        text = edit(&text, key, Value::Toml(value.clone()))?;
    }
    for (key, _) in others.iter().filter(|(key, _)| !ours.iter().any(|(own, _)| own == key)) {
        text = without(&text, key)?;
    }
    Ok(text)
}

/// Where `own` keeps another value than `theirs`: (key, own value, their value), as TOML text; empty where there is none.
pub fn kept_local(
    file: &str,
    theirs: &str,
    own: &str,
    further: &[String],
) -> Result<Vec<(String, String, String)>, EditError> {
    let (ours, others) = (entries(own)?, entries(theirs)?);
    let mut keys: Vec<&String> = ours
        .iter()
        .chain(&others)
        .map(|(key, _)| key)
        .filter(|key| is_kept(file, key, further))
        .collect();
    keys.sort();
    keys.dedup();
    let value = |of: &[(String, String)], key: &str| {
        let found = of.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let both = keys
        .into_iter()
        .map(|key| (key.clone(), value(&ours, key), value(&others, key)));
    Ok(both.filter(|(_, own, theirs)| own != theirs).collect())
}

/// Every value of a file: (dotted key, TOML text). A list of tables is one value.
pub fn entries(text: &str) -> Result<Vec<(String, String)>, EditError> {
    let document = parse(text)?;
    let mut out = Vec::new();
    collect(document.as_table(), "", &mut out);
    Ok(out)
}

fn collect(table: &dyn toml_edit::TableLike, prefix: &str, out: &mut Vec<(String, String)>) {
    for (name, item) in table.iter() {
        let key = if prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{prefix}.{name}")
        };
        match item {
            Item::Table(inner) => collect(inner, &key, out),
            Item::Value(value) => out.push((key, value.clone().decorated("", "").to_string())),
            Item::ArrayOfTables(tables) => {
                let shown = tables.iter().map(|table| table.clone().into_inline_table().to_string());
                out.push((key, format!("[{}]", shown.collect::<Vec<_>>().join(", "))));
            }
            Item::None => {}
        }
    }
}

pub(super) fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| EditError::NotToml(error.message().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# head\nself = \"cvp\" # own name\n\n[cvp]\n# switch\nenable = false # off\nremote = [\"\"]\n\n[[namespace]]\nname = \"global\"\nstart = true # runs\n";

    #[test]
    fn comments_and_order_stay() {
        let edited = edit(TEXT, "cvp.enable", Value::Flag(true)).unwrap();
        assert_eq!(edited, TEXT.replace("enable = false # off", "enable = true # off"));
        let back = edit(&edited, "cvp.enable", Value::Flag(false)).unwrap();
        assert_eq!(back, TEXT);
    }

    #[test]
    fn missing_keys_and_tables_are_added() {
        let edited = edit(TEXT, "cvp.max_rate", Value::Number(5)).unwrap();
        assert_eq!(get(&edited, "cvp.max_rate").unwrap().unwrap(), "5");
        let edited = edit("", "strategy.chain-sync.id", Value::Text("pause".to_owned())).unwrap();
        assert_eq!(edited, "[strategy.chain-sync]\nid = \"pause\"\n");
    }

    #[test]
    fn a_list_of_tables_is_set_as_a_whole_in_its_place() {
        let text = "[self]\nn = 1\n\n# who makes blocks\n[[nodes]]\nhostname = \"a\"\n\n[[nodes]]\nhostname = \"b\"\n\n[log]\nx = 1\n";
        let value = Value::from_input("[{ hostname = \"c\", score = 3 }, { hostname = \"d\" }]");
        let edited = edit(text, "nodes", value).unwrap();
        assert_eq!(
            edited,
            "[self]\nn = 1\n\n# who makes blocks\n[[nodes]]\nhostname = \"c\"\nscore = 3\n\n[[nodes]]\nhostname = \"d\"\n\n[log]\nx = 1\n"
        );
        for wrong in ["[]", "[\"c\"]", "3", "[{ a = 1 }, 2]"] {
            let refused = edit(text, "nodes", Value::from_input(wrong));
            assert_eq!(refused, Err(EditError::NotTables("nodes".to_owned())), "{wrong}");
        }
    }

    #[test]
    fn the_ends_of_lines_stay() {
        let text = TEXT.replace('\n', "\r\n");
        let edited = edit(&text, "cvp.enable", Value::Flag(true)).unwrap();
        assert_eq!(edited, text.replace("enable = false", "enable = true"));
        // A file of both kinds is written with one.
        let mixed = edit("a = 1\r\nb = 2\n", "b", Value::Number(3)).unwrap();
        assert_eq!(mixed.matches("b = 3\n").count(), 1);
    }

    #[test]
    fn a_wrong_key_changes_nothing() {
        for key in ["cvp", "self.name", "", "cvp.", ".x"] {
            assert!(edit(TEXT, key, Value::Flag(true)).is_err(), "{key}");
        }
    }

    #[test]
    fn a_node_keeps_its_own_ports_and_role_in_anothers_file() {
        let theirs =
            "self = \"node1\" # name\n[port]\njsonrpc = 1 # here\ngrpc = 2\n[cvp]\nmax_rate = 7\nenable = false\n";
        let own = "self = \"cvp\"\n[port]\njsonrpc = 8\n[cvp]\nenable = true\nnode_type = \"receiver\"\nmax_rate = 0\n";
        let kept = keep_local("dynamic.toml", theirs, own, &[]).unwrap();
        assert_eq!(
            kept,
            "self = \"node1\" # name\n[port]\njsonrpc = 8 # here\n[cvp]\nmax_rate = 7\nenable = true\nnode_type = \"receiver\"\n"
        );
        let listed = kept_local("dynamic.toml", theirs, own, &[]).unwrap();
        let keys: Vec<&str> = listed.iter().map(|(key, ..)| key.as_str()).collect();
        assert_eq!(keys, ["cvp.enable", "cvp.node_type", "port.grpc", "port.jsonrpc"]);
        assert_eq!(listed[3], ("port.jsonrpc".into(), "8".into(), "1".into()));
        assert_eq!(keep_local("global/ns_static.toml", theirs, own, &[]).unwrap(), theirs);
        let further = keep_local("dynamic.toml", theirs, own, &["cvp".into()]).unwrap();
        assert!(further.contains("max_rate = 0"), "{further}");
    }

    #[test]
    fn every_value_is_listed() {
        let found = entries(TEXT).unwrap();
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["self", "cvp.enable", "cvp.remote", "namespace"]);
        assert_eq!(found[1].1, "false");
        assert!(found[3].1.contains("name = \"global\""), "{}", found[3].1);
    }

    #[test]
    fn input_is_typed() {
        assert_eq!(Value::from_input("true"), Value::Flag(true));
        assert_eq!(Value::from_input("12"), Value::Number(12));
        assert_eq!(Value::from_input("24h"), Value::Text("24h".to_owned()));
        assert_eq!(Value::from_input("[\"a\"]"), Value::Texts(vec!["a".to_owned()]));
        let edited = edit("", "settings", Value::from_input(" { window = 8 }")).unwrap();
        assert_eq!(edited, "settings = { window = 8 }\n");
    }
}
