//! The names that a source uses. It is read as tokens, so that a group of a `use`, `super::` and a full path count alike.

use std::{mem, path::Path};

/// The line and the path of each name that is forbidden, and what forbids it.
pub(super) fn breaches<'a>(file: &str, source: &str, never: &[&'a str]) -> Vec<(usize, String, &'a str)> {
    let (_, in_crate) = file.split_once("/src/").unwrap();
    let module: Vec<_> =
        Path::new(in_crate).with_extension("").iter().map(|it| it.to_string_lossy().into_owned()).collect();
    let mut found = Vec::new();
    for (line, path) in paths(&tokens(product(source))).into_iter().filter(|(_, path)| path.contains("::")) {
        let path = absolute(&module, path);
        let forbids = |rule: &&str| {
            format!("::{path}::").contains(&format!("::{rule}::"))
                || path.strip_suffix('*').is_some_and(|parent| rule.starts_with(parent))
        };
        if let Some(rule) = never.iter().flat_map(|rules| rules.split_whitespace()).find(forbids) {
            found.push((line, path, rule));
        }
    }
    found
}

/// What comes before a file's own module of tests.
fn product(source: &str) -> &str {
    let mark = "\n#[cfg(test)]\n";
    let is_module = |item: &str| item.contains("mod ") && item.ends_with('{');
    let begins = |at: &usize| source[at + mark.len()..].split_inclusive(['{', ';']).next().is_some_and(is_module);
    source.match_indices(mark).map(|(at, _)| at).find(begins).map_or(source, |at| &source[..at])
}

/// Words, `::` and signs, with their lines; comments aside.
fn tokens(source: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let mut rest = line.split("//").next().unwrap_or(line).trim_start();
        while let Some(sign) = rest.chars().next() {
            let length = match rest.find(|it: char| !it.is_alphanumeric() && it != '_') {
                Some(0) if rest.starts_with("::") => 2,
                Some(0) => sign.len_utf8(),
                Some(word) => word,
                None => rest.len(),
            };
            let (token, after) = rest.split_at(length);
            tokens.push((number + 1, token));
            rest = after.trim_start();
        }
    }
    tokens
}

/// All paths, those of a group with what is before it: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tokens: &[(usize, &str)]) -> Vec<(usize, String)> {
    let (mut found, mut groups, mut path) = (Vec::new(), Vec::new(), String::new());
    for (at, &(line, token)) in tokens.iter().enumerate() {
        let is_word = token == "*" || token.starts_with(|it: char| it.is_alphanumeric() || it == '_');
        match token {
            // Behind anything but `::` it is a block, within which paths begin anew.
            "{" => groups.push(mem::take(&mut path)),
            "}" => drop(groups.pop()),
            "::" => path.push_str(token),
            _ if is_word => {
                if path.is_empty() {
                    path.clone_from(groups.last().unwrap_or(&String::new()));
                }
                path.push_str(token);
                if tokens.get(at + 1).is_none_or(|(_, next)| *next != "::") {
                    found.push((line, mem::take(&mut path)));
                }
            }
            _ if !path.is_empty() => found.push((line, mem::take(&mut path))),
            _ => {}
        }
    }
    found
}

/// A path from its crate on.
fn absolute(module: &[String], path: String) -> String {
    let (mut depth, mut rest) = (module.len(), path.trim_start_matches("self::"));
    while let Some(above) = rest.strip_prefix("super::") {
        (depth, rest) = (depth.saturating_sub(1), above);
    }
    if rest.len() == path.len() {
        return path;
    }
    format!("crate::{}{rest}", module[..depth].iter().map(|it| format!("{it}::")).collect::<String>())
}

#[test]
fn a_forbidden_name_is_found_in_groups_paths_and_globs() {
    let found = |source: &str| {
        let never = ["crate::controller std::fs", "Instant::now"];
        let found = breaches("load-controller/src/run/workers.rs", source, &never);
        found.into_iter().map(|(line, path, _)| format!("{line} {path}")).collect::<Vec<_>>()
    };
    assert_eq!(found("use crate::{\n    api,\n    controller::{apply, b},\n};").len(), 2);
    assert_eq!(found("use crate::{a::{b, c}, controller as d};"), ["1 crate::controller"]);
    assert_eq!(found("fn a() {\n    crate::controller::x(1)\n}"), ["2 crate::controller::x"]);
    assert_eq!(found("let a = crate::controller::x::<u8>();"), ["1 crate::controller::x::"]);
    assert_eq!(found("use super::super::controller;"), ["1 crate::controller"]);
    assert_eq!(found("use std::{fs::{self, File}, io};"), ["1 std::fs::self", "1 std::fs::File"]);
    assert_eq!(found("use std::*;"), ["1 std::*"]);
    assert_eq!(found("let a = match b { '{' => tokio::time::Instant::now() };"), ["1 tokio::time::Instant::now"]);
    let innocent = "// crate::controller\nuse super::controller;\nuse crate::controllers;\nlet a: Instant = now;\n";
    assert_eq!(found(innocent), [""; 0]);
    assert_eq!(found(&format!("{innocent}\n#[cfg(test)]\nmod tests {{\n    use std::fs;\n}}")), [""; 0]);
    assert_eq!(found("use a;\n#[cfg(test)]\nmod tests;\nuse std::fs;"), ["4 std::fs"]);
}
