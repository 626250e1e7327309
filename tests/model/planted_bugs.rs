//! Does the model check notice? Every bug of `mutations.rs` is planted in a copy of the workers's
//! files, and the test named beside it must fail.

use super::mutations::MUTATIONS;
use super::plant;
use super::planting::{copy_dir, profile, read, with_bug, write};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn teeth() {
    if !plant::READY {
        return bite_in_a_copy();
    }
    let (sound, _) = runs("", "mail::the_sleeper_or_the_sender_sees_the_other");
    assert!(sound, "it fails without a bug");
    let mut survivors = Vec::new();
    for (bug, test) in MUTATIONS {
        let (passed, how) = runs(bug.name, test);
        println!("{}: {}", bug.name, if passed { "SURVIVED" } else { &how });
        if passed {
            survivors.push(bug.name);
        }
    }
    println!("{} bugs planted, {} survived", MUTATIONS.len(), survivors.len());
    assert!(survivors.is_empty(), "{survivors:?}");
}

/// Runs one test of this binary with a bug planted, in a process of its own: where the model fails,
/// its threads may go down with it. Answers whether it passed, and what it said if not.
fn runs(bug: &str, test: &str) -> (bool, String) {
    let exe = std::env::current_exe().expect("this test has a path");
    let output = Command::new(exe)
        .args([test, "--exact", "--nocapture"])
        .env(plant::VARIABLE, bug)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("running 1 test"), "there is no test {test}");
    let mut lines = said.lines().skip_while(|line| !line.contains("panicked at"));
    let how = lines.nth(1).unwrap_or("ended by a signal").chars().take(100).collect();
    (output.status.success(), how)
}

/// Copies the model and the files that it is about, writes the bugs in, and runs this test there.
fn bite_in_a_copy() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("model-teeth");
    let _ = fs::remove_dir_all(&copy);
    for part in ["src/workers", "tests/model", "tests/planting"] {
        copy_dir(&tree.join(part), &copy.join(part));
    }
    write(&copy.join("src/lib.rs"), "");
    write(&copy.join("Cargo.toml"), &manifest(tree));
    write(&copy.join("Cargo.lock"), &read(&tree.join("Cargo.lock")));
    write(&copy.join("tests/model/plant.rs"), PLANT_RS);
    for (bug, _) in MUTATIONS {
        let file = copy.join(bug.file);
        write(&file, &with_bug(&read(&file), bug, &format!("crate::plant::planted({:?})", bug.name)));
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it lies in the target directory");
    let status = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--quiet", "--profile", &profile(), "--test", "model", "teeth"])
        .args(["--", "--nocapture"])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "see above");
}

/// Another package with one test, on the library as it is. Dependencies and profiles are the same,
/// so that nothing is built again.
fn manifest(tree: &Path) -> String {
    let mut kept = String::new();
    let mut keeping = false;
    for line in read(&tree.join("Cargo.toml")).lines() {
        if line.starts_with('[') {
            keeping = ["[dependencies]", "[dev-dependencies]", "[profile."]
                .iter()
                .any(|start| line.starts_with(start));
        }
        if keeping {
            kept += line;
            kept += "\n";
            if line == "[dependencies]" {
                kept += &format!("pilotlight = {{ path = {tree:?} }}\n");
            }
        }
    }
    format!(
        "[package]\nname = \"pilotlight-model-teeth\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n{kept}\n\
         [[test]]\nname = \"model\"\npath = \"tests/model/main.rs\"\n\n[workspace]\n"
    )
}

const PLANT_RS: &str = r#"
use std::sync::OnceLock;

pub const READY: bool = true;
pub const VARIABLE: &str = "MODEL_PLANTED";

/// The bug of this name is planted in this process.
pub fn planted(name: &str) -> bool {
    static PLANTED: OnceLock<String> = OnceLock::new();
    PLANTED.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default()) == name
}
"#;
