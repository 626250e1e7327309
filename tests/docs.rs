//! Checks the documents against the repository and the binary: every link has a target, and README.md names real flags
//! with their defaults.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file that is tracked.
fn documents() -> Vec<PathBuf> {
    let listed = Command::new("git").arg("-C").arg(root()).args(["ls-files", "*.md"]).output().expect("git");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    listed.lines().map(|name| root().join(name)).filter(|path| path.exists()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A document without its code: brackets in code are not links.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.map(|line| line.split('`').step_by(2).collect::<String>() + "\n").collect()
}

/// The anchors that GitHub makes of the headings. A second heading with the same text gets a number.
fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        let title = line.trim_start_matches('#');
        if fenced || title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().to_lowercase();
        let kept: String =
            kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c)).collect();
        let anchor = kept.replace(' ', "-");
        let numbered = |n: usize| if n == 0 { anchor.clone() } else { format!("{anchor}-{n}") };
        let free = (0..).map(numbered).find(|anchor| !anchors.contains(anchor)).expect("a free one");
        anchors.push(free);
    }
    anchors
}

#[test]
fn internal_links_have_targets() {
    let documents = documents();
    assert!(documents.len() > 15, "{documents:?}");
    let (mut seen, mut dead) = (0, Vec::new());
    for document in &documents {
        let text = prose(&read(document));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().expect("a folder").join(path),
            };
            let found =
                target.exists() && (anchor.is_empty() || anchors(&read(&target)).iter().any(|a| a == anchor));
            if !found {
                dead.push(format!("{}: {link}", document.strip_prefix(root()).expect("inside").display()));
            }
        }
    }
    assert!(seen > 50, "{seen} links");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

/// The flags of `pilotlight serve` and their defaults, from a help page.
fn flags(page: &str) -> Vec<(String, Option<String>)> {
    let mut help = Command::new(env!("CARGO_BIN_EXE_pilotlight"));
    help.args(["serve", page]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PILOTLIGHT_"))
    {
        help.env_remove(name);
    }
    let help = String::from_utf8(help.output().expect("started").stdout).expect("UTF-8");
    let mut flags: Vec<(String, Option<String>)> = Vec::new();
    for line in help.lines() {
        let default = line.trim().strip_prefix("[default: ").and_then(|rest| rest.strip_suffix(']'));
        // A flag's explanation is indented further than the flag.
        if let Some(flag) = line.strip_prefix("      --").and_then(|rest| rest.split(' ').next()) {
            flags.push((format!("--{flag}"), None));
        } else if let Some(default) = default {
            flags.last_mut().expect("a flag before its default").1 = Some(default.to_owned());
        }
    }
    flags
}

/// The most settings that README.md lists; docs/reference/settings.md has all of them.
const README_SETTINGS_MAX: usize = 10;

#[test]
fn the_readme_names_real_flags_and_their_defaults() {
    let readme = read(&root().join("README.md"));
    let table =
        readme.split("\n## Settings\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("Settings");
    let flags = [flags("--help"), flags("--help-advanced")].concat();
    assert!(flags.len() > 50, "the help page has changed its form: {flags:?}");
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with("| `--")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, shown, meaning] = cells[..] else { panic!("not three cells: {row}") };
        let (_, default) = flags
            .iter()
            .find(|(flag, _)| flag == name.trim_matches('`'))
            .unwrap_or_else(|| panic!("{name} is not a flag of pilotlight serve"));
        match default {
            Some(default) if !default.contains(' ') => {
                assert_eq!(shown, format!("`{default}`"), "default of {name}")
            }
            // No value: the help says in words what happens.
            _ => assert!(!shown.contains('`'), "{name} has no fixed default: {shown}"),
        }
        assert!(!meaning.is_empty(), "{name} has no meaning");
        rows += 1;
    }
    assert!((5..=README_SETTINGS_MAX).contains(&rows), "{rows} settings in README.md");
    for code in readme.split('`').skip(1).step_by(2).filter(|code| code.starts_with("--")) {
        let name = code.split([' ', '=']).next().expect("a word");
        assert!(flags.iter().any(|(flag, _)| flag == name), "{name} is not a flag of pilotlight serve");
    }
}

/// A short README.md is read to its end. Everything else belongs in docs/.
const README_LINES_MAX: usize = 130;

#[test]
fn the_readme_is_short() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines, at most {README_LINES_MAX}");
}

/// A walk that needs more stops means that the code goes back and forth.
const WALK_STOPS_MAX: usize = 12;

#[test]
fn the_walks_name_functions_that_exist() {
    let text = read(&root().join("docs/architecture.md"));
    let walks: Vec<&str> =
        text.split("\n## One ").skip(1).map(|rest| rest.split("\n## ").next().unwrap()).collect();
    assert_eq!(walks.len(), 2, "a dispatch's and a poll's");
    for walk in walks {
        let is_stop = |line: &&str| {
            line.split_once(". `src/").is_some_and(|(number, _)| number.parse::<usize>().is_ok())
        };
        let stops: Vec<&str> = walk.lines().filter(is_stop).collect();
        assert!((6..=WALK_STOPS_MAX).contains(&stops.len()), "{} stops", stops.len());
        for stop in stops {
            let code: Vec<&str> = stop.split('`').skip(1).step_by(2).collect();
            let [file, function] = code[..2] else { panic!("no file and function in: {stop}") };
            let source = read(&root().join(file));
            let defined = source.lines().any(|line| {
                line.split_once("fn ").is_some_and(|(_, name)| {
                    name.starts_with(&format!("{function}(")) || name.starts_with(&format!("{function}<"))
                })
            });
            assert!(defined, "{file} has no function {function}: {stop}");
        }
    }
}
