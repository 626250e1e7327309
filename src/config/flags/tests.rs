//! Every flag keeps to the conventions, and docs/reference/settings.md says what the definitions say.

use super::*;
use clap::Command;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;

fn help_of(command: Command) -> String {
    command.mut_args(|arg| arg.hide_env_values(true)).render_long_help().to_string()
}

#[test]
fn flags_are_unique_and_documented() {
    let mut names = BTreeSet::new();
    for flag in all() {
        let name = flag.name();
        assert!(names.insert(name), "{name} is defined twice");
        let variable =
            format!("PILOTLIGHT_{}", name.trim_start_matches('-').replace('-', "_").to_uppercase());
        assert_eq!(flag.variable(), variable, "{name}");
        assert!(name.starts_with("--"), "{name} has no dashes");
        assert!(flag.help().len() > 10 && !flag.help().ends_with('.'), "{name}: {}", flag.help());
        assert!(flag.details().is_empty() || flag.details().ends_with('.'), "{name}: {}", flag.details());
        assert_eq!(flag.form().is_empty(), flag.is_switch(), "{name}");
    }
    assert!(names.len() > 50, "{}", names.len());
}

/// A flag that is missing from the table would silently keep its default.
#[test]
fn every_definition_is_in_the_table() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/flags");
    let files = std::fs::read_dir(folder).expect("src/config/flags");
    let texts = files.map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("UTF-8"));
    let defined: usize =
        texts.map(|text| text.lines().filter(|line| line.starts_with("pub static ")).count()).sum();
    assert_eq!(defined, all().len(), "a flag is missing from the FLAGS of its file");
}

#[test]
fn every_default_is_accepted() {
    for flag in all() {
        if let Preset::Value(value) = flag.default() {
            assert_eq!(flag.check(OsStr::new(value)), Ok(()));
        }
    }
}

#[test]
fn clap_accepts_the_definitions() {
    add_to(Command::new("serve")).debug_assert();
    show_advanced(add_to(Command::new("serve"))).debug_assert();
}

#[test]
fn advanced_flags_have_a_separate_help() {
    let ordinary = help_of(add_to(Command::new("serve")));
    let matches = add_to(Command::new("serve")).get_matches_from(["serve", "--help-advanced"]);
    let advanced = ServeFlags::from_matches(&matches).expect_err("help");
    assert_eq!(advanced.exit_code(), 0);
    let advanced = advanced.to_string();
    let whole = help_of(show_advanced(add_to(Command::new("serve"))));
    for flag in all() {
        let line = format!("      {}", flag.name());
        let has = |help: &str| help.lines().any(|text| text.split(" <").next() == Some(&line));
        let is_advanced = flag.section() == Section::Advanced;
        assert_eq!(has(&ordinary), !is_advanced, "{} in:\n{ordinary}", flag.name());
        assert_eq!(has(&advanced), is_advanced, "{} in:\n{advanced}", flag.name());
        assert!(has(&whole), "{} in:\n{whole}", flag.name());
    }
    for name in [
        "descriptor-tables",
        "coalesce",
        "coalesce-from-percent",
        "ack-check-from-events",
        "ring-from-events",
    ] {
        assert!(advanced.contains(&format!("--{name} <")), "{advanced}");
    }
    let last = ordinary.lines().last().expect("a line");
    assert_eq!(last, SEE_ADVANCED);
}

/// How the settings reference begins.
const INTRODUCTION: &str = "\
# Settings

This page is for operators who configure `pilotlight serve`. It lists every flag, its environment variable, its default,
and what it does. `pilotlight serve --help` prints the same text, except for the section [Advanced](#advanced).
`GET /api/settings` shows the values in force.

<!-- Written by `PILOTLIGHT_WRITE_DOCS=1 cargo test --lib settings_reference`. Edit src/config/flags/ instead. -->

- A flag on the command line takes precedence over its environment variable, which takes precedence over the default.
- `DURATION` is a number with a unit: `300us`, `500ms`, `30s`, `5m`, `1h`. `SIZE` is a number of bytes, or a number with
  a unit: `65536`, `64KiB`, `16MiB`.
- `auto` lets Pilotlight choose the value. `off` disables a limit.
- A switch, which has no value, is set by the flag alone, or by `true` in its environment variable.
- Pilotlight refuses to start if it cannot use a value, with exit code 2 and one line that says what to use instead.

";

const ADVANCED: &str = "\
Do not change these without a measurement: their defaults are right for almost every installation.
[The tuning page](../how-to/tune.md) says what was measured. `pilotlight serve --help-advanced` prints this section.

";

/// docs/reference/settings.md, from the definitions.
fn settings_reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut section = None;
    for flag in all() {
        if section.replace(flag.section()) != Some(flag.section()) {
            let _ = write!(page, "## {}\n\n", flag.section().heading());
            if flag.section() == Section::Advanced {
                page.push_str(ADVANCED);
            }
        }
        let form = if flag.is_switch() { String::new() } else { format!(" <{}>", flag.form()) };
        let default = match flag.default() {
            Preset::Value(value) => format!("`{value}`"),
            Preset::Unset("") if flag.is_switch() => "off".to_owned(),
            Preset::Unset("") => "unset".to_owned(),
            Preset::Unset(words) => words.to_owned(),
        };
        let _ = write!(
            page,
            "### `{name}`\n\n`{name}{form}` · variable `{variable}` · default: {default}\n\n{help}.\n\n",
            name = flag.name(),
            variable = flag.variable(),
            help = flag.help(),
        );
        for choice in flag.choices() {
            let help = choice.get_help().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(page, "- `{}`: {help}.", choice.get_name());
        }
        if !flag.choices().is_empty() {
            page.push('\n');
        }
        if !flag.details().is_empty() {
            let _ = write!(page, "{}\n\n", flag.details());
        }
    }
    page.truncate(page.trim_end().len());
    page + "\n"
}

#[test]
fn settings_reference_is_what_the_definitions_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/settings.md");
    let page = settings_reference();
    if std::env::var_os("PILOTLIGHT_WRITE_DOCS").is_some() {
        std::fs::write(path, page).expect("written");
    } else {
        let written = std::fs::read_to_string(path).expect("docs/reference/settings.md");
        assert!(
            written == page,
            "docs/reference/settings.md is stale: run `PILOTLIGHT_WRITE_DOCS=1 cargo test --lib settings_reference`"
        );
    }
}
