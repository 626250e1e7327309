//! Bugs planted in a copy of the source. Each bug names a text of the source and its replacement, in
//! which `PLANTED` means "this bug is switched on". White space is ignored; each text must occur once.

use std::fs;
use std::path::{Path, PathBuf};

/// A bug.
pub struct Bug {
    pub name: &'static str,
    /// The file that it changes, relative to the package's directory.
    pub file: &'static str,
    pub from: &'static str,
    pub to: &'static str,
}

/// The profile that this test was built with, from the directory of its executable.
pub fn profile() -> String {
    let exe = std::env::current_exe().expect("this test has a path");
    let dir =
        exe.parent().and_then(Path::parent).and_then(Path::file_name).expect("target/profile/deps/test");
    match dir.to_string_lossy().as_ref() {
        "debug" => "dev".into(),
        other => other.into(),
    }
}

/// `source` with a bug; `switch` is the expression that is true while the bug is planted.
pub fn with_bug(source: &str, bug: &Bug, switch: &str) -> String {
    let Bug { name, file, from, to } = bug;
    let mut found = (0..source.len())
        .filter_map(|at| source.get(at..).and_then(|rest| prefix_len(rest, from)).map(|len| at..at + len));
    let range = found
        .next()
        .unwrap_or_else(|| panic!("{name}: {file} has no `{from}`; adapt this entry in the list of bugs"));
    assert!(found.next().is_none(), "{name}: {file} has `{from}` more than once");
    format!("{}{}{}", &source[..range.start], to.replace("PLANTED", switch), &source[range.end..])
}

/// The number of bytes at the start of `text` that match `what`, white space ignored.
fn prefix_len(text: &str, what: &str) -> Option<usize> {
    let mut wanted = what.chars().filter(|c| !c.is_whitespace()).peekable();
    for (at, c) in text.char_indices() {
        let Some(&next) = wanted.peek() else { return Some(at) };
        if c == next {
            wanted.next();
        } else if !c.is_whitespace() || at == 0 {
            return None;
        }
    }
    wanted.peek().is_none().then_some(text.len())
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory is made");
    let entries = fs::read_dir(from).expect("a directory is read");
    for entry in entries.map(|entry| entry.expect("an entry is read")) {
        let target: PathBuf = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => write(&target, &read(&entry.path())),
        }
    }
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
