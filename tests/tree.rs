//! The repository itself: what lies where, and that what the prose names exists.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::fs;
use std::path::Path;

const TOP: [&str; 10] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "examples",
    "src",
    "tests",
];

/// May be there or not: the last two are what cargo makes, the last one inside of a package.
const TOP_OPTIONAL: [&str; 4] = ["benches", "fuzz", "target", "Cargo.toml.orig"];

const COMMANDS: [&str; 2] = ["cargo run -p axum-shop", "tests/run"];

const CHECKS: u32 = 28;

#[test]
fn the_top_level_holds_what_was_agreed() {
    assert_none(&top_level_faults(&names_in(root())));
}

#[test]
fn no_source_file_has_an_empty_name() {
    let files = rust_files();
    assert!(files.iter().any(|(path, _)| path == "src/lib.rs"), "no sources found");

    assert_none(&name_faults(&files));
}

#[test]
fn the_readme_asks_for_two_commands() {
    assert_eq!(commands(&read("README.md")), COMMANDS);
}

#[test]
fn every_test_that_security_md_names_exists() {
    let security = read("SECURITY.md");
    assert!(!references(&security).is_empty(), "SECURITY.md names no tests");

    assert_none(&reference_faults(&security, &rust_files()));
}

#[test]
fn every_check_has_one_test() {
    assert_none(&check_faults(&rust_files()));
}

#[test]
fn no_test_is_ignored() {
    let mut files = rust_files();
    files.push(("README.md".to_owned(), read("README.md")));

    assert_none(&ignore_faults(&files));
}

// ── planted faults: each check can fail ──────────────────────────────────────────────────────────

#[test]
fn a_changed_top_level_is_noticed() {
    let mut names: Vec<String> = TOP.iter().copied().map(str::to_owned).collect();
    names.extend([".git", ".ci", "target", "fuzz"].map(str::to_owned));
    assert_none(&top_level_faults(&names));

    names.push("docs".to_owned());
    assert_eq!(top_level_faults(&names), ["docs is not agreed"]);
    names.retain(|name| name != "docs" && name != "Cargo.lock");
    assert_eq!(top_level_faults(&names), ["Cargo.lock is missing"]);
}

#[test]
fn empty_file_names_are_noticed() {
    let names = ["src/utils.rs", "src/key/types.rs", "src/key/mod.rs"];

    assert_eq!(name_faults(&names.map(|name| file(name, ""))), names);
    assert_none(&name_faults(&[file("tests/common/mod.rs", ""), file("src/key/ring.rs", "")]));
}

#[test]
fn other_commands_in_a_readme_are_noticed() {
    let agreed = "cargo install no\n```sh\n# try it\n$ cargo run -p axum-shop   # a shop\n\ntests/run\n```\n";
    assert_eq!(commands(agreed), COMMANDS);
    assert_eq!(commands(&format!("```rust\nuse a;\n```\n```toml\na = 1\n```\n{agreed}")), COMMANDS);

    for more in ["```\nmake\n```\n", "```console\n$ make\n```\n", "~~~bash\nmake\n~~~\n"] {
        assert_eq!(commands(&format!("{more}{agreed}")), ["make", COMMANDS[0], COMMANDS[1]]);
    }
    assert_eq!(commands("cargo run -p axum-shop"), [""; 0]);
}

#[test]
fn references_to_missing_tests_are_noticed() {
    let files = [file("tests/a.rs", "#[test]\nfn here() {}\n// fn gone() {}\n")];

    assert_none(&reference_faults("`tests/a.rs::here` and tests/run", &files));
    for gone in ["tests/a.rs::gone", "tests/a.rs::her", "tests/b.rs::here", "tests/a.rs::"] {
        assert_eq!(reference_faults(&format!("| `{gone}` |"), &files), [gone]);
    }
}

#[test]
fn missing_doubled_and_unknown_checks_are_noticed() {
    let all = |except: u32| -> String {
        let numbers = (1..=CHECKS).filter(|n| *n != except);
        numbers.map(|n| format!("fn ck_{n:02}_holds() {{}}")).collect::<Vec<_>>().join("\n")
    };
    let faults = |source: &str| check_faults(&[file("tests/a.rs", source)]);

    assert_none(&faults(&all(0)));
    assert_eq!(faults(&all(7)), ["ck_07: 0 tests"]);
    assert_eq!(faults(&format!("{}\nasync fn ck_07_too() {{}}", all(0))), ["ck_07: 2 tests"]);
    assert_eq!(faults(&format!("{}\nfn ck_29_new() {{}}", all(0))), ["ck_29_new: unknown"]);
    assert_eq!(faults(&format!("{}\n// fn ck_07_old() {{}}", all(7))), ["ck_07: 0 tests"]);
}

#[test]
fn ignored_tests_are_noticed() {
    let ignored = [
        concat!("#[", "ignore]\nfn a() {}"),
        concat!("#[", "ignore = \"slow\"]"),
        concat!("#[cfg_attr(windows, ", "ignore)]"),
        concat!("/// ``", "`ignore"),
        concat!("//! ``", "`rust,ignore"),
    ];
    for text in ignored {
        assert_eq!(ignore_faults(&[file("a.rs", text)]), ["a.rs:1"]);
    }
    assert_none(&ignore_faults(&[file("a.rs", "// ignore\n/// ```no_run\nfn ignore() {}")]));
}

// ── the checks ───────────────────────────────────────────────────────────────────────────────────

fn top_level_faults(names: &[String]) -> Vec<String> {
    let agreed =
        |name: &str| TOP.contains(&name) || TOP_OPTIONAL.contains(&name) || name.starts_with('.');
    let extra =
        names.iter().filter(|name| !agreed(name)).map(|name| format!("{name} is not agreed"));
    let gone = TOP.iter().filter(|name| !names.iter().any(|found| found == *name));
    extra.chain(gone.map(|name| format!("{name} is missing"))).collect()
}

fn name_faults(files: &[(String, String)]) -> Vec<String> {
    let empty = |path: &&String| {
        let name = path.rsplit('/').next().unwrap_or_default();
        path.starts_with("src/") && matches!(name, "utils.rs" | "types.rs" | "mod.rs")
    };
    files.iter().map(|(path, _)| path).filter(empty).cloned().collect()
}

/// The commands in fenced blocks of a shell or of no language, without prompts and comments.
fn commands(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = None;
    for line in markdown.lines().map(str::trim) {
        let fence = ["```", "~~~"].iter().find_map(|fence| line.strip_prefix(fence));
        match (fence, inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(language), None) => {
                inside = Some(matches!(language, "" | "sh" | "bash" | "shell" | "console"));
            }
            (None, Some(true)) => {
                let line = line.strip_prefix("$ ").unwrap_or(line);
                let command = line.split(" #").next().unwrap_or_default().trim();
                if !command.is_empty() && !command.starts_with('#') {
                    found.push(command.to_owned());
                }
            }
            _ => {}
        }
    }
    found
}

/// File and function of every `tests/<file>.rs::<function>` in the text.
fn references(text: &str) -> Vec<(&str, &str)> {
    let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let starts = text.match_indices("tests/").map(|(at, _)| text.get(at..).unwrap_or_default());
    starts
        .filter_map(|rest| {
            let (path, after) = rest.split_once("::")?;
            let name = after.split(|c| !word(c)).next()?;
            let is_path = path.chars().all(|c| word(c) || c == '/' || c == '.');
            (is_path && path.strip_suffix(".rs").is_some()).then_some((path, name))
        })
        .collect()
}

fn reference_faults(text: &str, files: &[(String, String)]) -> Vec<String> {
    let exists = |path: &str, name: &str| {
        let source = files.iter().find(|file| file.0 == path);
        source.is_some_and(|(_, source)| functions(source).any(|function| function == name))
    };
    references(text)
        .into_iter()
        .filter(|(path, name)| !exists(path, name))
        .map(|(path, name)| format!("{path}::{name}"))
        .collect()
}

fn check_faults(files: &[(String, String)]) -> Vec<String> {
    let in_tests = |path: &str| path.strip_prefix("tests/").is_some_and(|name| !name.contains('/'));
    let names: Vec<(&str, &str)> = files
        .iter()
        .filter(|(path, _)| in_tests(path))
        .flat_map(|(_, source)| functions(source))
        .filter_map(|name| Some((name, name.strip_prefix("ck_")?.split('_').next()?)))
        .collect();

    let expected: Vec<String> = (1..=CHECKS).map(|n| format!("{n:02}")).collect();
    let counts = expected.iter().map(|n| (n, names.iter().filter(|name| name.1 == n).count()));
    let wrong = counts.filter(|(_, count)| *count != 1);
    let unknown = names.iter().filter(|name| !expected.iter().any(|n| n == name.1));
    wrong
        .map(|(n, count)| format!("ck_{n}: {count} tests"))
        .chain(unknown.map(|name| format!("{}: unknown", name.0)))
        .collect()
}

/// Where a test is ignored by attribute, or an example in documentation is.
fn ignore_faults(files: &[(String, String)]) -> Vec<String> {
    let attribute = concat!("#[", "ignore");
    let conditional = concat!(", ", "ignore)]");
    let example = |line: &str| {
        let text = line.trim_start().trim_start_matches("///").trim_start_matches("//!");
        text.trim_start().strip_prefix("```").is_some_and(|language| language.contains("ignore"))
    };
    let mut found = Vec::new();
    for (path, source) in files {
        for (number, line) in (1..).zip(source.lines()) {
            if line.contains(attribute) || line.contains(conditional) || example(line) {
                found.push(format!("{path}:{number}"));
            }
        }
    }
    found
}

/// The names of functions, each declared at the start of a line.
fn functions(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")?.split(['(', '<']).next()
    })
}

// ── files ────────────────────────────────────────────────────────────────────────────────────────

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Path from the package, with `/`, and text of every Rust file of the repository.
fn rust_files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for name in names_in(&root().join(&folder)) {
            let path = format!("{folder}{name}");
            let full = root().join(&path);
            let built = name.starts_with('.') || full.join("CACHEDIR.TAG").exists();
            if full.is_dir() && !built {
                folders.push(format!("{path}/"));
            } else if full.is_file() && full.extension().is_some_and(|end| end == "rs") {
                found.push((path, fs::read_to_string(full).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn file(path: &str, source: &str) -> (String, String) {
    (path.to_owned(), source.to_owned())
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
