//! Reads what a Rust source file refers to: every `use` and every path, resolved to where it leads.
//!
//! It knows as much of the language as the rules need: comments, strings, `use` trees, modules, `cfg(test)`.

use std::collections::{BTreeMap, BTreeSet};

/// What one file refers to, test code left out.
#[derive(Debug, Default)]
pub struct Source {
    /// Paths with their segments joined by `::`. Those of this crate begin with `crate`.
    pub paths: BTreeSet<String>,
    /// Names of macros that are called.
    pub macros: BTreeSet<String>,
    /// Whether the word `unsafe` occurs, tests included.
    pub has_unsafe: bool,
    /// `#[cfg(test)] mod NAME;`
    pub test_modules: Vec<String>,
}

impl Source {
    /// Reads `text`, the source of the module at `module` (empty for the crate's root).
    pub fn read(text: &str, module: &[&str]) -> Self {
        let tokens = tokens(text);
        let mut source =
            Source { has_unsafe: tokens.iter().any(|token| token == "unsafe"), ..Source::default() };
        let tokens = source.without_tests(&tokens);
        let module: Vec<String> = module.iter().map(|name| name.to_string()).collect();
        source.read_module(&tokens, &module);
        source
    }

    /// Drops every item under `#[cfg(test)]`, and notes the modules among them that have files.
    fn without_tests(&mut self, tokens: &[String]) -> Vec<String> {
        const CFG_TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
        let mut kept = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            if !tokens[at..].iter().take(7).eq(CFG_TEST.iter()) {
                kept.push(tokens[at].clone());
                at += 1;
                continue;
            }
            let item = &tokens[at + 7..];
            let end = item.iter().position(|token| token == ";" || token == "{").unwrap_or(item.len() - 1);
            if item[end] == ";" && item[end.saturating_sub(2)] == "mod" {
                self.test_modules.push(item[end - 1].clone());
            }
            at += 7 + match item[end].as_str() {
                "{" => end + block(&item[end..]),
                _ => end + 1,
            };
        }
        kept
    }

    fn read_module(&mut self, tokens: &[String], module: &[String]) {
        let mut names = BTreeMap::new();
        let mut rest = Vec::new();
        let mut at = 0;
        // First what is declared here, since a name may be used above its `use`.
        while at < tokens.len() {
            let next = |offset: usize| tokens.get(at + offset).map_or("", String::as_str);
            if tokens[at] == "use" {
                let end = at + position(&tokens[at..], ";");
                let mut tree = Vec::new();
                leaves(&tokens[at + 1..end], &[], &mut tree);
                for (path, name) in tree {
                    names.insert(name, path);
                }
                at = end + 1;
            } else if tokens[at] == "mod" && is_name(next(1)) && matches!(next(2), ";" | "{") {
                let inner: Vec<String> = module.iter().cloned().chain([tokens[at + 1].clone()]).collect();
                let path = ["crate".to_owned()].into_iter().chain(inner.clone()).collect();
                names.insert(tokens[at + 1].clone(), path);
                if next(2) == "{" {
                    let length = block(&tokens[at + 2..]);
                    self.read_module(&tokens[at + 3..at + 2 + length], &inner);
                    at += length;
                }
                at += 2;
            } else {
                rest.push(tokens[at].clone());
                at += 1;
            }
        }
        for path in names.values() {
            self.paths.insert(resolve(path, module, &names).join("::"));
        }
        for path in paths(&rest) {
            self.paths.insert(resolve(&path, module, &names).join("::"));
        }
        for pair in rest.windows(2) {
            if pair[1] == "!" && is_name(&pair[0]) {
                self.macros.insert(pair[0].clone());
            }
        }
    }
}

/// Where `path` leads: `crate`, `self`, `super` and imported names replaced.
fn resolve(path: &[String], module: &[String], names: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let in_crate = |module: &[String], rest: &[String]| -> Vec<String> {
        let root = std::iter::once("crate".to_owned());
        root.chain(module.iter().cloned()).chain(rest.iter().cloned()).collect()
    };
    match path.first().map(String::as_str) {
        Some("self") => in_crate(module, &path[1..]),
        Some("super") => {
            let ups = path.iter().take_while(|segment| *segment == "super").count();
            in_crate(&module[..module.len().saturating_sub(ups)], &path[ups..])
        }
        Some(first) if first != "crate" => match names.get(first) {
            Some(to) if to.first() != path.first() => {
                let whole: Vec<String> = to.iter().chain(&path[1..]).cloned().collect();
                resolve(&whole, module, names)
            }
            _ => path.to_vec(),
        },
        _ => path.to_vec(),
    }
}

/// The leaves of a `use` tree: the path and the name it is given here.
fn leaves(tree: &[String], prefix: &[String], into: &mut Vec<(Vec<String>, String)>) {
    let mut path = prefix.to_vec();
    for (at, token) in tree.iter().enumerate() {
        match token.as_str() {
            "::" => (),
            "{" => {
                for branch in branches(&tree[at + 1..at + block(&tree[at..]) - 1]) {
                    leaves(branch, &path, into);
                }
                return;
            }
            "as" => {
                into.push((path, tree[at + 1].clone()));
                return;
            }
            "self" if !path.is_empty() => (),
            segment => path.push(segment.to_owned()),
        }
    }
    if let Some(name) = path.last().cloned() {
        into.push((path, name));
    }
}

/// Splits at the commas that are in no inner braces.
fn branches(list: &[String]) -> Vec<&[String]> {
    let mut depth = 0;
    let split = list.split(move |token| {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => (),
        }
        depth == 0 && token == ","
    });
    split.filter(|branch| !branch.is_empty()).collect()
}

/// Every path of two segments or more, and every single one of them that begins one.
fn paths(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let after_dot = at > 0 && tokens[at - 1] == ".";
        if !is_name(&tokens[at]) || after_dot {
            at += 1;
            continue;
        }
        let mut path = vec![tokens[at].clone()];
        while tokens.get(at + 1).is_some_and(|token| token == "::")
            && tokens.get(at + 2).is_some_and(|token| is_name(token))
        {
            path.push(tokens[at + 2].clone());
            at += 2;
        }
        at += 1;
        if path.len() > 1 {
            found.push(path);
        }
    }
    found
}

/// How many tokens the block at the start takes, both braces included.
fn block(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn position(tokens: &[String], wanted: &str) -> usize {
    let found = tokens.iter().position(|token| token == wanted);
    found.unwrap_or(tokens.len())
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Names, `::` and single characters; no comments, no white space, nothing of strings but a quote.
fn tokens(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let name_len = rest.find(|next: char| !next.is_alphanumeric() && next != '_').unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some(length) = string(rest) {
            tokens.push("\"".to_owned());
            length
        } else if name_len > 0 {
            tokens.push(rest[..name_len].to_owned());
            name_len
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            let next = rest.chars().next().expect("not at the end");
            if !next.is_whitespace() {
                tokens.push(next.to_string());
            }
            next.len_utf8()
        };
        at += length;
    }
    tokens
}

/// The length of the comment (which may hold others) at the start.
fn comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string or character at the start, if there is one; a lifetime is none.
fn string(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c']);
    let prefix = text.len() - body.len();
    if prefix > 1 {
        return None;
    }
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = raw[hashes + 1..].find(&end).expect("a closed string");
            return Some(prefix + 1 + hashes + 1 + length + end.len());
        }
        return None;
    }
    let quote = body.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let inside = &body[1..];
    let closes_at_once = |text: &str| text.chars().nth(1) == Some('\'');
    if quote == '\'' && !inside.starts_with('\\') && !closes_at_once(inside) {
        return None;
    }
    let mut escaped = false;
    for (at, next) in inside.char_indices() {
        match next {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if next == quote => return Some(prefix + 1 + at + 1),
            _ => (),
        }
    }
    panic!("a string that is not closed: {:.40}", text)
}
