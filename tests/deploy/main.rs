//! The files under `deploy/`, checked against the built binary and the tools that read them: units, image,
//! Compose, Helm.
//!
//! Every file has a check below or is named by another suite; a file without a check is a failure. Needs
//! systemd, strace, docker-compose and `scripts/deploy-tools`. Without a tool the test fails and names the
//! package to install.

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod compose;
mod deb;
mod docs;
mod hardening;
mod image;
mod launch;
mod product;
mod tools;
mod units;
mod watchdog;

use libtest_mimic::{Arguments, Failed, Trial};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Check = fn(&str);

/// The check of each file, by its path under `deploy/`.
const CHECKS: &[(&str, Check)] = &[
    ("compose/docker-compose.pilotlight.yml", compose::check),
    ("debian/postinst", deb::postinst),
    ("debian/postrm", deb::postrm),
    ("debian/prerm", deb::prerm),
    ("docker/Dockerfile", image::dockerfile),
    ("docker/Dockerfile.dockerignore", image::dockerignore),
    ("helm/values-pilotlight.yaml", cluster::check),
    ("prometheus/alerts.yml", docs::alerts),
    ("systemd/pilotlight-admin.socket", units::admin_socket),
    ("systemd/pilotlight-dispatch.socket", units::dispatch_socket),
    ("systemd/pilotlight.default", units::settings),
    ("systemd/pilotlight.service", units::service),
    ("systemd/pilotlight.socket", units::runner_socket),
];

const BEHAVIOUR: &[(&str, fn())] = &[
    ("cluster: a wrong manifest is refused", cluster::mistakes_are_refused),
    ("docs: flags and variables exist", docs::flags_exist),
    ("units: systemd accepts them and reports little exposure", units::verified_by_systemd),
    ("units: the sides are served from their sockets", units::served_from_sockets),
    ("units: the hardening permits what the broker does", hardening::permits_what_the_broker_does),
    ("units: no watchdog ping while a worker hangs", watchdog::no_ping_while_a_worker_hangs),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut files = Vec::new();
    walk(&root().join("deploy"), &mut files);
    let mut trials: Vec<Trial> = files.into_iter().map(file_trial).collect();
    trials.extend(BEHAVIOUR.iter().map(|(name, test)| {
        Trial::test(*name, || {
            test();
            Ok(())
        })
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn file_trial(path: PathBuf) -> Trial {
    let name =
        path.strip_prefix(root().join("deploy")).expect("under deploy/").to_str().expect("UTF-8").to_owned();
    Trial::test(format!("deploy/{name}"), move || {
        match CHECKS.iter().find(|(checked, _)| *checked == name) {
            Some((_, check)) => check(&fs::read_to_string(&path)?),
            None => named_elsewhere(&name)?,
        }
        Ok(())
    })
}

/// Whether another suite or a script names the file.
fn named_elsewhere(name: &str) -> Result<(), Failed> {
    let mut sources = Vec::new();
    walk(&root().join("tests"), &mut sources);
    walk(&root().join("scripts"), &mut sources);
    let full = format!("deploy/{name}");
    let reads = |source: &PathBuf| {
        !source.starts_with(root().join("tests/deploy"))
            && fs::read_to_string(source).is_ok_and(|text| text.contains(&full))
    };
    match sources.iter().any(reads) {
        true => Ok(()),
        false => Err(format!("{full} is read by no test: give it a check in tests/deploy/main.rs").into()),
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true if path.ends_with("node_modules") => (),
            true => walk(&path, files),
            false => files.push(path),
        }
    }
}

/// The repository's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
