//! The flags as clap's arguments, and back.

use super::flag::Section;
use super::table::all;
use super::typed::ServeFlags;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use std::ffi::OsString;

const HELP_ADVANCED: &str = "help-advanced";
const ADVANCED_ABOUT: &str = "Advanced flags of `pilotlight serve`. Their defaults are right for almost every installation: change one only if a measurement shows that it helps.";
/// The last line of the help.
pub const SEE_ADVANCED: &str = "Flags for tuning by measurement: pilotlight serve --help-advanced";

/// Adds every flag of `pilotlight serve` to `command`, the advanced ones hidden from its help. A command that has an
/// `after_long_help` ends it with [`SEE_ADVANCED`].
pub fn add_to(command: Command) -> Command {
    let is_advanced = |section| section == Section::Advanced;
    let args = all().into_iter().map(|flag| {
        let hide = is_advanced(flag.section());
        flag.arg().hide_short_help(hide).hide_long_help(hide)
    });
    let help_advanced = Arg::new(HELP_ADVANCED)
        .long(HELP_ADVANCED)
        .action(ArgAction::SetTrue)
        .help_heading(Section::Advanced.heading())
        .help("Print the flags for tuning by measurement");
    command.args(args).arg(help_advanced).after_help(SEE_ADVANCED)
}

/// Shows the advanced flags in the help of `command` and of its subcommands, for manual pages.
pub fn show_advanced(command: Command) -> Command {
    let unhide = |arg: Arg| arg.hide_short_help(false).hide_long_help(false);
    command.mut_args(unhide).mut_subcommands(show_advanced)
}

fn advanced_help() -> Command {
    let advanced = all().into_iter().filter(|flag| flag.section() == Section::Advanced);
    Command::new("pilotlight serve")
        .about(ADVANCED_ABOUT)
        .help_template("{about}\n\n{all-args}")
        .max_term_width(100)
        .disable_version_flag(true)
        .disable_help_flag(true)
        .arg(Arg::new("help").long("help").action(ArgAction::Help).hide(true))
        .args(advanced.map(|flag| flag.arg()))
}

impl ServeFlags {
    /// The flags in `matches`. [`add_to`] must have added them to the command.
    ///
    /// # Errors
    /// The help of the advanced flags, if `matches` asks for it.
    pub fn from_matches(matches: &ArgMatches) -> Result<ServeFlags, clap::Error> {
        if matches.get_flag(HELP_ADVANCED) {
            let printed = advanced_help().try_get_matches_from(["pilotlight serve", "--help"]);
            return Err(printed.err().unwrap_or_else(|| clap::Error::new(ErrorKind::DisplayHelp)));
        }
        let given = all().into_iter().filter_map(|flag| {
            let typed: Option<&OsString> = matches.get_one(flag.id());
            Some((flag.name(), typed?.clone()))
        });
        Ok(ServeFlags::with(given))
    }
}

impl Args for ServeFlags {
    fn augment_args(command: Command) -> Command {
        add_to(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        add_to(command)
    }
}

impl FromArgMatches for ServeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        ServeFlags::from_matches(matches)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ServeFlags::from_matches(matches)?;
        Ok(())
    }
}
