//! Flags about workers: how many, on which CPUs, on which engine.

use super::flag::{AnyFlag, Flag, Preset, Section};
use super::ranges::at_most;
use super::typed::ServeFlags;
use crate::config::error::ConfigError;
use crate::config::values::{Count, EngineChoice, Value, name_of, text};
use crate::sys::{Machine, cpus};
use std::ffi::OsStr;

/// A hint has 64 bits, one per worker.
pub const WORKERS_MAX: usize = 64;

pub const FLAGS: &[&dyn AnyFlag] = &[&CPUS, &WORKERS, &ENGINE];

pub static CPUS: Flag<CpuList> = Flag {
    name: "--cpus",
    variable: "PILOTLIGHT_CPUS",
    section: Section::Workers,
    form: "LIST",
    default: Preset::Unset("not pinned"),
    help: "CPUs to pin one worker each to, such as 0-3,6",
    details: "The number of CPUs is the number of workers: omit --workers.",
    accept: |list| match list.0.len() <= WORKERS_MAX {
        true => Ok(()),
        false => Err(format!("names more than {WORKERS_MAX} CPUs. Use at most {WORKERS_MAX}.")),
    },
    show: |config| {
        let cpus: Vec<String> = config.workers.iter().flatten().map(usize::to_string).collect();
        if cpus.is_empty() { "not pinned".to_owned() } else { cpus.join(",") }
    },
};

pub static WORKERS: Flag<Count> = Flag {
    name: "--workers",
    variable: "PILOTLIGHT_WORKERS",
    section: Section::Workers,
    form: "COUNT",
    default: Preset::Unset("one per CPU that the process may use"),
    help: "The number of workers, not pinned to CPUs",
    details: "At most 64. A cgroup's CPU quota counts for the default.",
    accept: |count| match at_most(count, WORKERS_MAX) {
        Ok(()) => Ok(()),
        Err(problem) => Err(format!("{problem} More than one worker per CPU gains nothing.")),
    },
    show: |config| config.workers.len().to_string(),
};

pub static ENGINE: Flag<EngineChoice> = Flag {
    name: "--engine",
    variable: "PILOTLIGHT_ENGINE",
    section: Section::Workers,
    form: "ENGINE",
    default: Preset::Value("auto"),
    help: "The I/O backend of the workers",
    details: "auto: io_uring where the build and the kernel support it, but epoll for several workers that share one descriptor table. A log line at start names the engine and the reason.",
    accept: |engine| match engine {
        EngineChoice::IoUring if !cfg!(feature = "io-uring") => {
            Err("is not in this build. Use epoll or auto, or build without `--no-default-features`."
                .to_owned())
        }
        _ => Ok(()),
    },
    show: |config| name_of(config.engine),
};

/// CPU numbers in the order in which they are named.
#[derive(Debug)]
pub struct CpuList(Vec<usize>);

impl Value for CpuList {
    fn read(typed: &OsStr) -> Result<Self, String> {
        let list = cpus::parse_list(text(typed)?);
        list.map(CpuList).map_err(|why| format!("is not a list of CPUs: {why}."))
    }
}

/// One entry per worker: the CPU that it is pinned to, if any.
pub fn resolve(flags: &ServeFlags, machine: &Machine) -> Result<Vec<Option<usize>>, ConfigError> {
    match (flags.find(&CPUS)?, flags.find(&WORKERS)?) {
        (Some(_), Some(_)) => Err(flags.refuse(
            &CPUS,
            &format!(
                "conflicts with --workers {}: --cpus sets the number of workers. Omit one of the two.",
                flags.shown(&WORKERS)
            ),
        )),
        (Some(CpuList(list)), None) => match list.iter().find(|cpu| !machine.cpus.contains(cpu)) {
            Some(cpu) => Err(flags.refuse(
                &CPUS,
                &format!(
                    "names CPU {cpu}, which the process may not use. Use some of {}.",
                    cpus::format_list(&machine.cpus)
                ),
            )),
            None => Ok(list.into_iter().map(Some).collect()),
        },
        (None, Some(Count(count))) => Ok(vec![None; count]),
        (None, None) => Ok(vec![None; machine.parallelism.clamp(1, WORKERS_MAX)]),
    }
}
