//! Runs the brokers side by side and writes the table.
//!
//! - `servers`: the servers to compare; `running`: a server as a process.
//! - `load`: wrk and the load tools as processes; `crowd`: several of them that share polls; `led`: a tool that is
//!   controlled by lines; `machine`: the network namespace and versions.
//! - `kernel`: settings of the kernel during a measurement.
//! - `measure`: the sections of a run; `results`: their figures.
//! - `targets`: the targets; `render`: the page.

mod crowd;
mod kernel;
mod led;
mod load;
mod machine;
mod measure;
mod render;
mod results;
mod running;
mod servers;
mod targets;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use crate::measure::{Measure, Plan};
use crate::results::Results;
use crate::running::Running;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// CPU per match, throughput and closed-loop latency.
    Windows,
    Syscalls,
    Memory,
    Aborts,
    /// Open-loop latency at 25, 50 and 75 % of capacity.
    Latency,
    /// Many keys and polls compared with few.
    Keys,
    /// Two workers, the dispatches arriving on the other core.
    Workers,
    /// Memory and CPU per match by the number of held polls.
    Scale,
}

#[derive(Parser)]
#[command(about = "Compares warm-start brokers and writes the table")]
struct Cli {
    /// A smoke run of about a minute with short windows and small numbers. Not for quoting.
    #[arg(long)]
    quick: bool,
    /// Only servers whose name contains one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these sections.
    #[arg(long, value_delimiter = ',')]
    sections: Vec<Section>,
    /// The broker's binary; by default the released one (scripts/build-static).
    #[arg(long, default_value = "../../target/static/pilotlight")]
    pilotlight: PathBuf,
    /// Where to write the page. A quick or partial run writes it only with this option.
    #[arg(long)]
    docs: Option<PathBuf>,
    /// Where to write the raw figures.
    #[arg(long, default_value = "target/results.json")]
    results: PathBuf,
    /// Write the page from the raw figures of an earlier run, without measuring.
    #[arg(long)]
    render: bool,
    /// Repeat a window in which other processes took more than this share of a core.
    #[arg(long, default_value_t = 3.0)]
    foreign_percent_max: f64,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let results = if cli.render { read_results(&cli.results)? } else { measure(&cli)? };
    println!("{}", render::summary(&results));
    let is_whole = cli.render || (!cli.quick && cli.only.is_empty() && cli.sections.is_empty());
    let docs = cli.docs.or_else(|| is_whole.then(|| PathBuf::from("../../docs/benchmarks.md")));
    if let Some(docs) = docs {
        write(&docs, &render::page(&results))?;
        println!("written: {}", docs.display());
    }
    Ok(())
}

fn measure(cli: &Cli) -> Result<Results> {
    let backlog = kernel::lengthen_backlog();
    if let Err(error) = &backlog {
        eprintln!("many idle polls may break off: {error}");
    }
    let descriptors = machine::isolate()?;
    let plan = if cli.quick { Plan::quick() } else { Plan::full() };
    let servers: Vec<_> = servers::all(&cli.pilotlight)
        .into_iter()
        .filter(|server| {
            cli.only.is_empty() || cli.only.iter().any(|part| server.name.contains(part.as_str()))
        })
        .filter(Running::is_possible)
        .collect();
    if servers.is_empty() {
        bail!("no server to measure");
    }
    let sections =
        if cli.sections.is_empty() { Section::value_variants().to_vec() } else { cli.sections.clone() };
    let mut measure = Measure::new(plan, servers, descriptors, cli.foreign_percent_max);
    println!("about {} minutes", (measure.expected_secs(&sections) / 60.0).ceil());
    for section in sections {
        measure.run(section)?;
        // After each section, so that an interrupted run keeps its results.
        write(&cli.results, &serde_json::to_string_pretty(&measure.results)?)?;
    }
    Ok(measure.results)
}

fn read_results(path: &Path) -> Result<Results> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_str(&text)?)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
