//! What is depended on has a reason that is written down, and is used.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;

use super::{ran, root};

/// The dependencies of a manifest that are not ours.
fn third_party(manifest: &serde_json::Value) -> impl Iterator<Item = &str> {
    let all = manifest["dependencies"].as_array().unwrap().iter();
    all.filter(|dependency| dependency["path"].is_null())
        .map(|dependency| dependency["name"].as_str().unwrap())
}

/// Whether a source in `dir`, or one that it takes from elsewhere, names the crate.
fn names(dir: &Path, ident: &str) -> bool {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return names(&path, ident);
        }
        path.extension().is_some_and(|ext| ext == "rs") && source_names(&path, ident)
    })
}

fn source_names(source: &Path, ident: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let text = read_to_string(source).unwrap();
    let mut found = text.match_indices(ident);
    let mut elsewhere = text.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.strip_suffix("\"]"));
    found.any(|(at, _)| !text[..at].ends_with(is_word) && !text[at + ident.len()..].starts_with(is_word))
        || elsewhere.any(|path| source_names(&source.with_file_name(path), ident))
}

#[test]
fn each_dependency_has_a_reason_and_a_use() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata = ran(std::process::Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path"])
        .arg(root().join("Cargo.toml")));
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    let mut used = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let dir = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for name in third_party(package) {
            used.insert(name.to_owned());
            let package = package["name"].as_str().unwrap();
            assert!(
                names(dir, &name.replace('-', "_")),
                "{package} does not use {name}: take it out of its Cargo.toml"
            );
        }
    }
    let page = read_to_string(root().join("docs/dependencies.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let listed: BTreeSet<String> =
        rows.map(|(name, _)| name.to_owned()).filter(|name| name != "crate").collect();
    let missing: Vec<_> = used.difference(&listed).collect();
    let idle: Vec<_> = listed.difference(&used).collect();
    assert!(
        missing.is_empty() && idle.is_empty(),
        "docs/dependencies.md lacks {missing:?}, and has {idle:?} for nothing"
    );
}
