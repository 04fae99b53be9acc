//! Edits of the lists in a configuration file: the `[[namespace]]` entries of `dynamic.toml`, the `[[nodes]]` of `ns_dynamic.toml`. Comments
//! and order stay.

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::edit::{EditError, parse, put, written};

/// `text` of `dynamic.toml` with `start` of the `[[namespace]]` called `name`; an entry that is not there is added.
///
/// # Errors
/// The text is no TOML, or its `namespace` is no list of tables.
pub fn put_namespace(text: &str, name: &str, start: bool) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let entries = namespaces(&mut document)?;
    let index = entries.iter().position(|entry| is_named(entry, name));
    match index.and_then(|index| entries.get_mut(index)) {
        Some(entry) => put(entry, "start", start.into(), "start")?,
        None => {
            let mut entry = Table::new();
            entry.insert("name", value(name));
            entry.insert("start", value(start));
            entries.push(entry);
        }
    }
    Ok(written(&document, text))
}

/// `text` of `dynamic.toml` without the `[[namespace]]` called `name`; fine if there is none.
///
/// # Errors
/// As of [`put_namespace`].
pub fn remove_namespace(text: &str, name: &str) -> Result<String, EditError> {
    let mut document = parse(text)?;
    namespaces(&mut document)?.retain(|entry| !is_named(entry, name));
    Ok(written(&document, text))
}

/// The `[[namespace]]` entries of a `dynamic.toml`: name and start.
///
/// # Errors
/// As of [`put_namespace`].
pub fn namespace_entries(text: &str) -> Result<Vec<(String, bool)>, EditError> {
    let mut document = parse(text)?;
    let entries = namespaces(&mut document)?.iter();
    let read = |entry: &Table| {
        let name = entry.get("name").and_then(Item::as_str)?.to_owned();
        Some((name, entry.get("start").and_then(Item::as_bool).unwrap_or(true)))
    };
    Ok(entries.filter_map(read).collect())
}

/// `text` of `ns_dynamic.toml` with `hostname` as the only one of its `[[nodes]]`: the node that a standby stands by.
///
/// # Errors
/// The text is no TOML, or its `nodes` is no list of tables.
pub fn put_only_node(text: &str, hostname: &str) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let nodes = tables(&mut document, "nodes")?;
    let mut only = nodes.get(0).cloned().unwrap_or_default();
    only.insert("hostname", value(hostname));
    if !only.contains_key("score") {
        only.insert("score", value(10));
    }
    *nodes = ArrayOfTables::new();
    nodes.push(only);
    Ok(written(&document, text))
}

fn is_named(entry: &Table, name: &str) -> bool {
    entry.get("name").and_then(Item::as_str) == Some(name)
}

fn namespaces(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, EditError> {
    tables(document, "namespace")
}

fn tables<'a>(document: &'a mut DocumentMut, name: &str) -> Result<&'a mut ArrayOfTables, EditError> {
    let item = document
        .entry(name)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    item.as_array_of_tables_mut()
        .ok_or_else(|| EditError::NotATable(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "self = \"node1\" # own\n\n# all of them\n[[namespace]]\nname = \"global\"\nstart = true # runs\n\n[log]\na = 1\n";

    #[test]
    fn a_namespace_is_added_switched_and_removed() {
        let added = put_namespace(TEXT, "ns2", true).unwrap();
        assert_eq!(
            namespace_entries(&added).unwrap(),
            [("global".to_owned(), true), ("ns2".to_owned(), true)]
        );
        assert!(
            added.contains("start = true # runs") && added.contains("# all of them"),
            "{added}"
        );
        let off = put_namespace(&added, "ns2", false).unwrap();
        assert_eq!(namespace_entries(&off).unwrap()[1], ("ns2".to_owned(), false));
        assert_eq!(put_namespace(&off, "ns2", true).unwrap(), added);
        assert_eq!(remove_namespace(&off, "ns2").unwrap(), TEXT);
        assert_eq!(remove_namespace(TEXT, "ns2").unwrap(), TEXT);
        let global = put_namespace(TEXT, "global", false).unwrap();
        assert!(global.contains("start = false # runs"));
        assert!(put_namespace("namespace = 1", "ns2", true).is_err());
        assert_eq!(
            namespace_entries(&put_namespace("", "ns2", true).unwrap())
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn a_standby_has_one_node() {
        let text = "[self]\nn = 4\n\n# makers\n[[nodes]]\nhostname = \"a\"\nscore = 3\n\n[[nodes]]\nhostname = \"b\"\n";
        let only = put_only_node(text, "node1").unwrap();
        assert_eq!(
            only,
            "[self]\nn = 4\n\n# makers\n[[nodes]]\nhostname = \"node1\"\nscore = 3\n"
        );
        assert!(put_only_node("", "node1").unwrap().contains("score = 10"));
    }
}
