//! The house rules that the compiler does not check: which module may use which, one owner for each
//! dependency, one reader of the clock, and what the sources never contain.
#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// A module uses only itself and what stands before it here. `lib.rs` and `bin` are free.
#[rustfmt::skip]
const ORDER: [&str; 16] = [
    "error", "clock", "base64url", "random", "policy", "key", "token", "cookie", "csrf", "event",
    "revocation", "manager", "session", "config", "web", "cli",
];

/// The modules that may name a dependency, or a part of the standard library.
const OWNERS: [(&str, &[&str]); 38] = [
    ("anstream", &["cli"]),
    ("anstyle", &["cli"]),
    ("arc_swap", &["key", "revocation"]),
    ("axum_core", &["web"]),
    ("base64", &["base64url"]),
    ("chacha20", &["token"]),
    ("chacha20poly1305", &["token"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("crc32fast", &["key", "revocation"]),
    ("getrandom", &["random"]),
    ("hmac", &["key"]),
    ("http", &["web"]),
    ("humantime", &["config", "cli"]),
    ("metrics", &["event"]),
    ("pin_project_lite", &["web"]),
    ("redis", &["revocation"]),
    ("ring", &["token"]),
    ("rusqlite", &["revocation"]),
    ("rustls", &["revocation"]),
    ("rustls_native_certs", &["revocation"]),
    ("serde", &ORDER),
    ("serde_json", &["token", "manager", "session", "cli"]),
    ("sha2", &["key"]),
    ("time", &["key"]),
    ("tokio", &["revocation"]),
    ("tokio_postgres", &["revocation"]),
    ("tokio_postgres_rustls", &["revocation"]),
    ("toml", &["cli"]),
    ("tower_layer", &["web"]),
    ("tower_service", &["web"]),
    ("tracing", &["event"]),
    ("zeroize", &ORDER),
    ("std::env", &["key", "config", "cli", "bin"]),
    ("std::fs", &["key", "revocation", "cli", "bin"]),
    ("std::net", &["cli", "bin"]),
    ("std::process", &["cli", "bin"]),
];

const MACROS: [&str; 8] =
    ["dbg", "eprint", "eprintln", "macro_rules", "print", "println", "todo", "unimplemented"];

const LINES: usize = 500;

#[test]
fn modules_use_only_what_stands_left_of_them() {
    let sources = sources();
    assert!(sources.iter().any(|(path, _)| path == "src/lib.rs"), "no sources found");

    let found = violations(&sources);

    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_dependency_has_its_owner() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();

    let names = dependencies(&manifest);

    assert!(names.contains(&"http".to_owned()), "no dependencies found");
    for name in names {
        assert!(OWNERS.iter().any(|owner| owner.0 == name), "who owns {name}? See OWNERS");
    }
}

#[test]
fn planted_violations_are_found() {
    let long = "//\n".repeat(LINES + 1);
    for (path, source, expected) in PLANTED.into_iter().chain([("key.rs", &*long, "501 lines")]) {
        let found = violations(&[(format!("src/{path}"), source.to_owned())]);
        assert!(
            matches!(found.as_slice(), [only] if only.contains(expected)),
            "{path}: {source}\nexpected: {expected}\nfound: {found:?}"
        );
    }
}

/// A file, what it holds, and what must be reported.
const PLANTED: [(&str, &str, &str); 52] = [
    // direction
    ("key.rs", "use crate::session::Session;", "key uses session"),
    ("key.rs", "use crate::{error::Error, web};", "key uses web"),
    ("key/ring.rs", "fn f() { crate::token::open() }", "key uses token"),
    ("key/ring.rs", "use super::super::token;", "key uses token"),
    ("key.rs", "use super::token::Context;", "key uses token"),
    ("key.rs", "mod a { use super::super::token::Context; }", "key uses token"),
    ("key.rs", "pub(in crate::token) fn f() {}", "key uses token"),
    ("error.rs", "use crate::clock::Timestamp;", "error uses clock"),
    ("web/axum.rs", "pub use crate::cli::run as go;", "web uses cli"),
    ("key.rs", "use crate::KeyRing;", "key uses crate::KeyRing"),
    ("key.rs", "use crate::*;", "key uses crate::*"),
    ("key.rs", "fn f() {}\n#[cfg(test)]\nmod tests {}\nuse crate::web;", "rs:4: key uses web"),
    ("key.rs", "#[cfg(test)] use crate::web;\nuse crate::cli;", "key uses cli"),
    ("key.rs", "#[cfg(not(test))] mod a { use crate::web; }", "key uses web"),
    ("extra.rs", "", "extra is not in the order"),
    ("extra/a.rs", "", "extra is not in the order"),
    // owners
    ("cookie.rs", "use base64::Engine as _;", "cookie uses base64"),
    ("cookie.rs", "use base64 as b;", "cookie uses base64"),
    ("cookie.rs", "extern crate base64;", "cookie uses base64"),
    ("token.rs", "fn f() { getrandom::fill(&mut []) }", "token uses getrandom"),
    ("key.rs", "use ::ring::aead;", "key uses ring"),
    ("key.rs", "mod ring;\nmod a { use ring::aead; }", "key uses ring"),
    ("key.rs", "mod ring;\nfn f() { ::ring::aead::f() }", "key uses ring"),
    ("key.rs", "type A = chacha20poly1305::Key;", "key uses chacha20poly1305"),
    ("session.rs", "use {hmac::Mac, std::fmt};", "session uses hmac"),
    ("session.rs", "fn f() -> Vec<sha2::Sha256> {}", "session uses sha2"),
    ("policy.rs", "use time::Duration;", "policy uses time"),
    ("key.rs", "use serde_json::Value;", "key uses serde_json"),
    ("session.rs", "use http::HeaderMap;", "session uses http"),
    ("session.rs", "fn f() { tracing::info!(\"\") }", "session uses tracing"),
    ("cookie.rs", "use arc_swap::ArcSwap;", "cookie uses arc_swap"),
    ("manager.rs", "use tower_layer::Layer;", "manager uses tower_layer"),
    ("manager.rs", "use axum_core::body::Body;", "manager uses axum_core"),
    ("lib.rs", "use http::HeaderMap;", "lib uses http"),
    ("token.rs", "use std::{fs::File, fmt};", "token uses std::fs"),
    ("token.rs", "fn f() { std::env::var(\"A\"); }", "token uses std::env"),
    // the clock
    ("token.rs", "fn f() { std::time::SystemTime::now(); }", "reads the clock"),
    ("session.rs", "fn f() { Instant::now(); }", "reads the clock"),
    ("session.rs", "fn f(a: Instant) { a.elapsed(); }", "reads the clock"),
    // what the sources never contain
    ("key.rs", "unsafe fn f() {}", "unsafe"),
    ("key.rs", "fn f() { println!(\"\"); }", "println!"),
    ("key.rs", "fn f() { std::eprintln!(); }", "eprintln!"),
    ("key.rs", "fn f() { dbg!(1); }", "dbg!"),
    ("key.rs", "fn f() { t\u{6f}do!() }", "t\u{6f}do!"),
    ("key.rs", "fn f() { unimplement\u{65}d!() }", "unimplement\u{65}d!"),
    ("lib.rs", "macro_rules! a { () => {} }", "macro_rules!"),
    ("bin/tool.rs", "fn f() { dbg!(1); }", "dbg!"),
    // what could hide a violation
    ("key.rs", "/* /* */ \" */ use crate::web;", "key uses web"),
    ("key.rs", r#"const A: &str = "\""; use crate::web;"#, "key uses web"),
    ("key.rs", r##"const A: &str = r#"""#; use crate::web;"##, "key uses web"),
    ("key.rs", r#"const A: (char, char) = ('"', '\''); use crate::web;"#, "key uses web"),
    ("key.rs", "fn f<'a>(a: &'a str) { crate::web::f(a) }", "key uses web"),
];

#[test]
fn what_is_allowed_is_not_reported() {
    let allowed = [
        ("lib.rs", "mod key;\nmod web;\npub use key::KeyRing;\npub use web::http;"),
        ("key.rs", "mod ring;\npub use ring::KeyRing;\nuse self::ring::parse;\nuse hmac::Mac;"),
        (
            "key/ring.rs",
            "use super::Key;\nuse crate::key::KeyId;\nuse crate::error::{self, Error};",
        ),
        ("key.rs", "use std::fs::File;\npub(crate) fn f() {}"),
        ("session.rs", "use crate::{error::Error, key::{self, KeyId}};"),
        (
            "session.rs",
            "use std::time;\nuse std::{time::Duration, fmt};\nfn f(_: time::Duration) {}",
        ),
        ("token.rs", "#[cfg(feature = \"ring\")]\nmod fast { use ring::aead; use super::Tag; }"),
        (
            "token.rs",
            "//! use crate::web;\n/// crate::web\n/* unsafe */\nconst A: &str = \"crate::web\";",
        ),
        (
            "token.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n use super::*;\n use crate::web::f;\n}",
        ),
        ("token.rs", "#[cfg(test)] fn f() { crate::web::f() }\n#[cfg(test)] use crate::web::f;"),
        ("clock.rs", "fn f() { SystemTime::now(); }"),
        ("web/http.rs", "use http::HeaderMap;\nuse crate::session::Session;"),
        ("bin/tool.rs", "fn main() { sealed_session::cli::run() }"),
    ];

    for (path, source) in allowed {
        let found = violations(&[(format!("src/{path}"), source.to_owned())]);
        assert!(found.is_empty(), "{path}: {source}\n{found:?}");
    }

    let test_file = [
        ("src/key.rs".to_owned(), "#[cfg(test)]\nmod tests;".to_owned()),
        ("src/key/tests.rs".to_owned(), "use crate::web;".to_owned()),
    ];
    assert!(violations(&test_file).is_empty());
    assert_eq!(violations(&test_file[1..]).len(), 1);
}

// ── the rules ────────────────────────────────────────────────────────────────────────────────────

/// All violations in `files`, each a path from the package and a text.
fn violations(files: &[(String, String)]) -> Vec<String> {
    let parsed: Vec<File> = files.iter().map(|(path, source)| File::parse(path, source)).collect();
    let only_tests: HashSet<Vec<String>> =
        parsed.iter().flat_map(|file| file.test_modules.iter().cloned()).collect();

    let mut found = Vec::new();
    for file in &parsed {
        file.check_place(&mut found);
        file.check_words(&mut found);
        if !only_tests.contains(&file.module) {
            file.check_paths(&mut found);
        }
    }
    found
}

struct File {
    path: String,
    /// `["key", "ring"]` for `src/key/ring.rs`, empty for `src/lib.rs`.
    module: Vec<String>,
    lines: usize,
    tokens: Vec<Token>,
    /// What the file names outside of its tests.
    names: Names,
    /// Modules in files of their own that exist only in tests.
    test_modules: Vec<Vec<String>>,
}

impl File {
    fn parse(path: &str, source: &str) -> Self {
        let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
        let module: Vec<String> =
            inside.split('/').filter(|name| *name != "lib").map(str::to_owned).collect();
        let tokens = tokens(source);
        let (rest, test_modules) = without_tests(&tokens);
        let within = |name: &String| [module.as_slice(), std::slice::from_ref(name)].concat();
        Self {
            path: path.to_owned(),
            lines: source.lines().count(),
            names: Names::collect(&rest, &module),
            test_modules: test_modules.iter().map(within).collect(),
            tokens,
            module,
        }
    }

    fn own(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    fn check_place(&self, found: &mut Vec<String>) {
        let own = self.own();
        if !ORDER.contains(&own) && own != "lib" && own != "bin" {
            found.push(format!("{}: module {own} is not in the order", self.path));
        }
        if self.lines > LINES {
            found.push(format!("{}: {} lines", self.path, self.lines));
        }
    }

    fn check_words(&self, found: &mut Vec<String>) {
        let mut report = |token: &Token, what: &str| {
            found.push(format!("{}:{}: {what}", self.path, token.line));
        };
        for (i, token) in self.tokens.iter().enumerate() {
            let after = |n| self.tokens.get(i + n).map_or("", |next: &Token| &next.text);
            let word = token.text.as_str();
            if word == "unsafe" {
                report(token, "unsafe");
            }
            if MACROS.contains(&word) && after(1) == "!" {
                report(token, &format!("{word}!"));
            }
            let asks =
                matches!(word, "SystemTime" | "Instant") && after(1) == "::" && after(2) == "now";
            if self.own() != "clock" && (asks || word == "." && after(1) == "elapsed") {
                report(token, "reads the clock; only the module clock may");
            }
        }
    }

    fn check_paths(&self, found: &mut Vec<String>) {
        let own = self.own();
        let mut report = |used: &Used, what: String| {
            let text = format!("{}:{}: {own} uses {what}", self.path, used.line);
            if !found.contains(&text) {
                found.push(text);
            }
        };
        for used in &self.names.used {
            match self.names.resolve(used) {
                Target::Inside(path) if !matches!(own, "lib" | "bin") => {
                    let top = path.first().map_or("", String::as_str);
                    match (place(own), place(top)) {
                        (_, None) => report(used, format!("crate::{top}; name its module")),
                        (Some(here), Some(there)) if there > here => {
                            report(used, format!("{top}, which stands after it"));
                        }
                        _ => {}
                    }
                }
                Target::Inside(_) => {}
                Target::Outside(path) => {
                    for (name, owners) in OWNERS {
                        if starts_with(&path, name) && !owners.contains(&own) {
                            report(used, format!("{name}, which belongs to {owners:?}"));
                        }
                    }
                }
            }
        }
    }
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|name| *name == module)
}

fn starts_with(path: &[String], name: &str) -> bool {
    let mut segments = path.iter();
    name.split("::").all(|part| segments.next().is_some_and(|segment| segment == part))
}

// ── names: what a file declares, and the paths it uses ───────────────────────────────────────────

struct Used {
    path: Vec<String>,
    scope: Vec<String>,
    line: usize,
    /// Written with `::` in front, or by `extern crate`: never a module of ours.
    global: bool,
}

enum Target {
    /// A path from the root of this crate.
    Inside(Vec<String>),
    /// A path from another crate, or a name that is neither.
    Outside(Vec<String>),
}

#[derive(Default)]
struct Names {
    used: Vec<Used>,
    /// Scope and name of each module and import: these hide a crate of that name.
    declared: HashSet<(Vec<String>, String)>,
}

impl Names {
    fn collect(tokens: &[Token], module: &[String]) -> Self {
        let mut names = Self::default();
        let mut scope = module.to_vec();
        let mut opened: Vec<bool> = Vec::new(); // per brace: whether it opened a module
        let mut i = 0;
        while let Some(token) = tokens.get(i) {
            let text = |n: usize| tokens.get(n).map_or("", |token| token.text.as_str());
            let before = if i == 0 { "" } else { text(i - 1) };
            match token.text.as_str() {
                "mod" if is_word(text(i + 1)) => {
                    names.declared.insert((scope.clone(), text(i + 1).to_owned()));
                    if text(i + 2) == "{" {
                        scope.push(text(i + 1).to_owned());
                        opened.push(true);
                        i += 2;
                    }
                }
                "{" => opened.push(false),
                "}" if opened.pop() == Some(true) => {
                    scope.pop();
                }
                "extern" if text(i + 1) == "crate" => {
                    names.push(vec![text(i + 2).to_owned()], &scope, token.line, true);
                }
                "use" if text(i + 1) != "<" => {
                    i = names.use_tree(tokens, i + 1, &[], &scope, false);
                    continue;
                }
                word if is_word(word) && text(i + 1) == "::" => {
                    let two_before = if i < 2 { "" } else { text(i - 2) };
                    let global = before == "::" && !is_word(two_before) && two_before != ">";
                    if before != "::" || global {
                        let mut path = vec![word.to_owned()];
                        while text(i + 1) == "::" && is_word(text(i + 2)) {
                            path.push(text(i + 2).to_owned());
                            i += 2;
                        }
                        names.push(path, &scope, token.line, global);
                    }
                }
                _ => {}
            }
            i += 1;
        }
        names
    }

    /// Reads one tree of a `use` from `i`, notes its leaves, returns where it ended.
    fn use_tree(
        &mut self,
        tokens: &[Token],
        mut i: usize,
        prefix: &[String],
        scope: &[String],
        mut global: bool,
    ) -> usize {
        let text = |n: usize| tokens.get(n).map_or("", |token| token.text.as_str());
        let mut path = prefix.to_vec();
        if text(i) == "::" {
            global = true;
            i += 1;
        }
        loop {
            match text(i) {
                "{" => {
                    i += 1;
                    while !matches!(text(i), "}" | "") {
                        i = self.use_tree(tokens, i, &path, scope, global);
                        i += usize::from(text(i) == ",");
                    }
                    return i + 1;
                }
                word if is_word(word) || word == "*" => path.push(word.to_owned()),
                _ => return i + 1, // not a use that we know: step over it
            }
            if text(i + 1) != "::" {
                break;
            }
            i += 2;
        }
        let line = tokens.get(i).map_or(0, |token| token.line);
        i += 1;
        let mut bound = path.last().cloned().unwrap_or_default();
        if text(i) == "as" {
            text(i + 1).clone_into(&mut bound);
            i += 2;
        }
        if path.len() > 1 {
            self.declared.insert((scope.to_vec(), bound));
        }
        self.push(path, scope, line, global);
        i
    }

    fn push(&mut self, path: Vec<String>, scope: &[String], line: usize, global: bool) {
        self.used.push(Used { path, scope: scope.to_vec(), line, global });
    }

    fn resolve(&self, used: &Used) -> Target {
        let mut base = used.scope.clone();
        let mut rest = used.path.as_slice();
        let first = rest.first().map_or("", String::as_str);
        match first {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                base.pop();
            }
            _ if !used.global && self.declared.contains(&(base.clone(), first.to_owned())) => {
                // A module of this file, or an import, which is judged where it is written.
                return Target::Inside(base);
            }
            _ => return Target::Outside(used.path.clone()),
        }
        rest = rest.get(1..).unwrap_or_default();
        while let Some(("super", after)) = rest.split_first().map(|(a, b)| (a.as_str(), b)) {
            base.pop();
            rest = after;
        }
        base.extend_from_slice(rest);
        Target::Inside(base)
    }
}

// ── tokens ───────────────────────────────────────────────────────────────────────────────────────

#[derive(Clone, Debug)]
struct Token {
    text: String,
    line: usize,
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphabetic())
}

/// Words, `::` and single characters; no comments, no strings, no character literals.
fn tokens(source: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let word = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
        let (prefix, after) = rest.split_at(word);
        let length = if let Some(literal) = literal(prefix, after) {
            prefix.len() + literal
        } else if prefix == "r" && after.starts_with('#') {
            2 // a raw identifier: its name follows
        } else if word > 0 {
            out.push(Token { text: prefix.to_owned(), line });
            word
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if rest.starts_with("::") {
            out.push(Token { text: "::".to_owned(), line });
            2
        } else {
            if !c.is_whitespace() {
                out.push(Token { text: c.to_string(), line });
            }
            c.len_utf8()
        };
        let (done, next) = rest.split_at(length);
        line += done.matches('\n').count();
        rest = next;
    }
    out
}

/// The length of the string or character literal that starts `after` this prefix, if one does.
fn literal(prefix: &str, after: &str) -> Option<usize> {
    let hashes = after.len() - after.trim_start_matches('#').len();
    match prefix {
        "r" | "br" | "cr" if after.trim_start_matches('#').starts_with('"') => {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 1;
            let end =
                after.get(body..)?.find(&close).map_or(after.len(), |at| body + at + close.len());
            Some(end)
        }
        "" | "b" | "c" if after.starts_with('"') => Some(quoted(after, '"')),
        "" | "b" if after.starts_with('\'') => {
            let mut chars = after.chars().skip(1);
            let escaped = chars.next() == Some('\\');
            // Otherwise a lifetime.
            (escaped || chars.next() == Some('\'')).then(|| quoted(after, '\''))
        }
        _ => None,
    }
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + 1;
        }
    }
    text.len()
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The tokens without the items under `#[cfg(test)]`, and the names of such modules in other files.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut rest = tokens;
    while let Some((first, next)) = rest.split_first() {
        let marked = rest.len() >= MARK.len() && rest.iter().zip(MARK).all(|(a, b)| a.text == b);
        if marked {
            let item = rest.get(MARK.len()..).unwrap_or_default();
            let (item, after) = item.split_at(item_length(item));
            if let [.., keyword, name, end] = item
                && keyword.text == "mod"
                && end.text == ";"
            {
                modules.push(name.text.clone());
            }
            rest = after;
        } else {
            kept.push(first.clone());
            rest = next;
        }
    }
    (kept, modules)
}

/// How many tokens the item takes, its further attributes included.
fn item_length(item: &[Token]) -> usize {
    let mut depth = 0_usize;
    let mut is_use = false;
    for (i, token) in item.iter().enumerate() {
        match token.text.as_str() {
            "use" if depth == 0 => is_use = true,
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 0 => return i, // the end of what surrounds it
            ")" | "]" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 && !is_use {
                    return i + 1;
                }
            }
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
    }
    item.len()
}

// ── files ────────────────────────────────────────────────────────────────────────────────────────

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path from the package, with `/`, and text of every file of `src`.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![(root().join("src"), "src".to_owned())];
    while let Some((folder, name)) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{name}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_dir() {
                folders.push((path, name));
            } else {
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The crates that the library depends on, named as in the sources.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line.ends_with(".dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ")
            && inside
        {
            names.push(name.replace('-', "_"));
        }
    }
    names
}
