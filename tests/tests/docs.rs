//! Whether the handbook is whole: every drop reason and every configuration key is in it, it marks what is not run yet as the binary
//! does, its example configurations are good, and its links lead somewhere.
#![forbid(unsafe_code)]

use nva_config::Source;
use nva_dataplane::verdict::DropReason;
use nva_tests::{binary, folder::Folder};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The checkout.
fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the crate is in the workspace").to_path_buf()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths.filter(|path| path.extension().is_some_and(|is| is == extension)).collect()
}

/// README and everything in `docs/`.
fn documents() -> Vec<PathBuf> {
    let mut all = files("docs", "md");
    all.push(root().join("README.md"));
    all
}

/// What stands between backticks in the first cell of each row of each table.
fn rows(text: &str) -> Vec<String> {
    let first_cell = |line: &str| line.strip_prefix("| `")?.split_once('`').map(|(cell, _)| cell.to_owned());
    text.lines().filter_map(first_cell).collect()
}

#[test]
fn every_drop_reason_has_its_row_and_no_other() {
    let rows = rows(&read(&root().join("docs/verdicts.md")));
    let names: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    let documented: Vec<&str> = rows.iter().map(String::as_str).filter(|row| !is_verdict(row)).collect();
    assert_eq!(documented, names, "docs/verdicts.md: one row for each reason, in the order of the list");
}

fn is_verdict(word: &str) -> bool {
    ["forward", "reply", "consume", "hold", "drop"].contains(&word)
}

/// `ports[0].name` as `ports[].name`.
fn without_indices(path: &str) -> String {
    let pieces = path.split('[').map(|piece| piece.trim_start_matches(|c: char| c.is_ascii_digit()));
    pieces.collect::<Vec<_>>().join("[")
}

/// Every key path of the contract fixture, list elements as `[]`.
fn contract_paths() -> BTreeSet<String> {
    let path = root().join("nva-config/tests/contract.yaml");
    let source = Source { text: read(&path).into_bytes(), path };
    let config = nva_config::load(&[source], None).expect("the fixture is good");
    let generic = |path: &str| {
        let generic = without_indices(path);
        // Tags are called as the operator likes.
        let tag = generic.strip_prefix("service_tags.inline.").map(|_| "service_tags.inline.NAME".to_owned());
        tag.unwrap_or(generic)
    };
    config.places.iter().map(|(path, _)| generic(&path)).filter(|path| !path.contains("NAME[")).collect()
}

#[test]
fn every_configuration_key_has_its_row() {
    let rows: BTreeSet<String> = rows(&read(&root().join("docs/configuration.md"))).into_iter().collect();
    let elements_and_keys = contract_paths();
    let missing: Vec<&String> =
        elements_and_keys.iter().filter(|path| !path.ends_with("[]") && !rows.contains(*path)).collect();
    assert!(missing.is_empty(), "docs/configuration.md has no row for {missing:#?}");
}

#[test]
fn what_is_not_run_yet_is_marked_and_nothing_else() {
    let fixture = read(&root().join("nva-config/tests/contract.yaml"));
    // The fixture asks for everything but this.
    let everything = [("workers: [1]", "workers: [1, 2]")];
    let text = everything.iter().fold(fixture, |text, (from, to)| {
        assert!(text.contains(from), "the fixture has {from}");
        text.replacen(from, to, 1)
    });
    let folder = Folder::new();
    let file = folder.write("everything.yaml", text);
    let output = binary::run(["check", "--skip-files", "--json", "--config", &file.to_string_lossy()]);
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("check prints JSON");
    let notes = summary["not_built"].as_array().expect("a list");
    let path = |note: &serde_json::Value| {
        let message = note["message"].as_str().unwrap_or_default();
        let path = without_indices(message.split(':').next().unwrap_or_default());
        path.trim_end_matches("[]").to_owned()
    };
    let refused: BTreeSet<String> = notes.iter().map(path).collect();
    let text = read(&root().join("docs/configuration.md"));
    let marked: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` † |").map(|(key, _)| key.to_owned()))
        .collect();
    assert_eq!(marked, refused, "docs/configuration.md: keys with † are those that `nva run` refuses");
}

/// The keys that the raw layer asks for: each is written there once, as `("key",` or `(fields, "key",`.
fn keys_of_the_code() -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for file in files("nva-config/src/raw", "rs") {
        // These two read no section; their tests have keys of their own.
        if ["scalar.rs", "fields.rs"].iter().any(|name| file.ends_with(name)) {
            continue;
        }
        let text = read(&file);
        let pieces: Vec<&str> = text.split('"').collect();
        for around in pieces.windows(3).step_by(2) {
            let [before, key, after] = around else { continue };
            let asked = before.ends_with('(') || before.ends_with("fields, ");
            let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            let is_key = key.starts_with(|c: char| c.is_ascii_lowercase()) && key.bytes().all(is_part);
            if asked && is_key && after.starts_with(',') {
                keys.insert((*key).to_owned());
            }
        }
    }
    keys
}

#[test]
fn keys_that_the_code_reads_are_all_documented_and_no_others() {
    let last = |path: &String| path.rsplit(['.', ']']).next().unwrap_or_default().to_owned();
    let rows = rows(&read(&root().join("docs/configuration.md")));
    let documented: BTreeSet<String> = rows.iter().map(last).filter(|key| key != "NAME").collect();
    let code = keys_of_the_code();
    assert!(code.len() > 60, "the search finds keys: {code:?}");
    assert_eq!(documented, code);
}

/// The blocks of a document that begin with this fence.
fn blocks(text: &str, fence: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        match &mut open {
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
            None if line == fence => open = Some(String::new()),
            None => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

#[test]
fn example_configurations_are_good() {
    let mut checked = 0;
    for document in documents() {
        for block in blocks(&read(&document), "```yaml whole") {
            let source = Source { path: document.clone(), text: block.clone().into_bytes() };
            match nva_config::load(&[source], None) {
                Ok(config) => assert!(config.warnings.is_empty(), "{block}: {:?}", config.warnings),
                Err(problems) => panic!("{block}: {problems:?}"),
            }
            checked += 1;
        }
    }
    assert!(checked >= 2, "only {checked} whole configurations were found");
}

#[test]
fn links_lead_somewhere() {
    let mut followed = 0;
    for document in documents() {
        let text = read(&document);
        for rest in text.split("](").skip(1) {
            let target = rest.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let folder = document.parent().expect("a file is in a folder");
            assert!(folder.join(target).exists(), "{}: no {target}", document.display());
            followed += 1;
        }
    }
    assert!(followed >= 20, "only {followed} links were found");
}
