//! The command line as a whole: each command parses, and every flag has its environment variable.

use super::{Cli, Command, refusal, serve};
use crate::config::flags;
use clap::{CommandFactory, Parser};
use std::ffi::OsString;

fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["pilotlight"].iter().chain(args))
}

fn refused(args: &[&str]) -> String {
    let error = parsed(args).expect_err("refused");
    let args: Vec<OsString> = ["pilotlight"].iter().chain(args).map(OsString::from).collect();
    refusal::one_line(&error, &args).unwrap_or_else(|| error.to_string())
}

#[test]
fn cli_definition_is_valid() {
    Cli::command().debug_assert();
    assert!(serve::EXAMPLES.ends_with(flags::SEE_ADVANCED));
}

#[test]
fn every_flag_has_an_environment_variable() {
    let cli = Cli::command();
    let mut seen = 0;
    for (command, arg) in
        cli.get_subcommands().flat_map(|command| command.get_arguments().map(move |arg| (command, arg)))
    {
        let Some(long) = arg.get_long().filter(|long| !long.starts_with("help")) else { continue };
        let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let command = command.get_name();
        assert!(variable.starts_with("PILOTLIGHT_"), "{command} --{long}: {variable:?}");
        if command == "serve" {
            assert_eq!(variable, format!("PILOTLIGHT_{}", long.replace('-', "_").to_uppercase()));
            assert!(arg.get_help_heading().is_some(), "{long} has no heading");
        }
        seen += 1;
    }
    assert!(seen > 50, "saw {seen}");
}

#[test]
fn plain_pilotlight_takes_the_flags_of_serve() {
    assert!(parsed(&["--listen", "127.0.0.1:1"]).unwrap().command.is_none());
    let cli = parsed(&["serve", "--listen", "127.0.0.1:1"]).unwrap();
    assert!(matches!(cli.command, Some(Command::Serve(_))));
}

#[test]
fn explain_takes_a_deployment_and_run_flags() {
    assert!(parsed(&["explain", "d", "--version", "1", "--cpu", "0.5"]).is_ok());
    assert!(parsed(&["explain"]).is_err());
    assert!(parsed(&["explain", "d", "--cpu", "much"]).is_err());
}

#[test]
fn cordon_takes_one_target_and_uncordon_needs_it() {
    for args in [&["cordon"][..], &["cordon", "--node", "n"], &["uncordon", "--deployment", "d"]] {
        assert!(parsed(args).is_ok(), "{args:?}");
    }
    for args in [&["uncordon"][..], &["cordon", "--node", "n", "--deployment", "d"]] {
        assert!(parsed(args).is_err(), "{args:?}");
    }
}

#[test]
fn invalid_values_are_refused_in_one_line() {
    for (args, expected) in [
        (
            ["demo", "--for", "soon"],
            "--for (PILOTLIGHT_DEMO_FOR): \"soon\" is not a duration. Use a value such as 30s or 5m.",
        ),
        (
            ["bench", "--for", "2h"],
            "--for (PILOTLIGHT_BENCH_FOR): \"2h\" is out of range. Use a duration of at most 1h.",
        ),
        (
            ["top", "--sort", "size"],
            "--sort (PILOTLIGHT_TOP_SORT): \"size\" is not a valid choice. Use one of waiting, warm, cold, oldest, name.",
        ),
    ] {
        assert_eq!(refused(&args), expected);
    }
}
