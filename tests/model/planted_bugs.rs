//! Checks the model's tests: each bug of `mutations.rs` is planted in a copy of the workers' files, and the test beside
//! it must fail.

use super::mutations::MUTATIONS;
use super::plant;
use super::planting::{copy_dir, profile, read, with_bug, write};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn planted_bugs() {
    if !plant::READY {
        return run_in_a_copy();
    }
    let (sound, _) = runs("", "mail::the_receiver_or_the_sender_sees_the_other");
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

/// Runs one test of this binary with a bug planted. A model that fails may leave threads behind, so each test runs
/// in a separate process. Returns whether it passed, and its output.
fn runs(bug: &str, test: &str) -> (bool, String) {
    let exe = std::env::current_exe().expect("this test has a path");
    let output = Command::new(exe)
        .args([test, "--exact", "--nocapture"])
        .env(plant::VARIABLE, bug)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the test runs");
    let output_text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output_text.contains("running 1 test"), "there is no test {test}");
    let mut lines = output_text.lines().skip_while(|line| !line.contains("panicked at"));
    let how = lines.nth(1).unwrap_or("ended by a signal").chars().take(100).collect();
    (output.status.success(), how)
}

/// Copies the model and the files that it checks, writes the bugs in, and runs this test there.
fn run_in_a_copy() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("model-planted-bugs");
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
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory is in the target directory");
    let status = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--quiet", "--profile", &profile(), "--test", "model", "planted_bugs"])
        .args(["--", "--nocapture"])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "see above");
}

/// A package with one test, on the library as it is. Dependencies and profiles are the same, so that cargo builds
/// nothing again.
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
        "[package]\nname = \"pilotlight-model-planted-bugs\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n{kept}\n\
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
