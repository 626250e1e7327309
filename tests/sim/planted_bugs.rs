//! Plants every bug of `mutations.rs`: the simulation must catch each one.
//!
//! The test copies the source, writes each bug behind a switch, and runs itself again in the copy. One
//! build serves all bugs.

use super::mutations::MUTATIONS;
use super::planting::{copy_dir, profile, read, with_bug, write};
use super::{plant, run};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The most seeds that a bug may survive.
const SEEDS_MAX: u64 = 3_000;

#[test]
fn planted_bugs() {
    if !plant::READY {
        return run_in_a_copy();
    }
    let mut table = String::new();
    let mut survivors = 0;
    for mutation in MUTATIONS {
        let caught = (0..SEEDS_MAX).find_map(|seed| {
            plant::plant(mutation.name);
            let fault = run(seed, false).0.err()?;
            // A replay breaks the same rule, and records a story.
            plant::plant(mutation.name);
            let (again, story) = run(seed, true);
            assert_eq!(again.err().as_ref(), Some(&fault), "{}, seed {seed}, once more", mutation.name);
            assert!(story.lines().count() > 3, "{}, seed {seed}: {fault}: {story}", mutation.name);
            Some((seed, fault))
        });
        plant::plant("");
        let line = match caught {
            Some((seed, fault)) => format!("{:>4}  {}: {}", seed + 1, mutation.name, first_line(&fault)),
            None => {
                survivors += 1;
                format!("   -  {}: SURVIVED", mutation.name)
            }
        };
        println!("{line}");
        writeln!(table, "{line}").expect("a string accepts all text");
    }
    println!("{} bugs planted, {survivors} survived; seeds until caught, bug, how", MUTATIONS.len());
    assert_eq!(survivors, 0, "bugs survived {SEEDS_MAX} seeds:\n{table}");
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(140).collect()
}

/// Copies the package, writes the bugs into it, and runs this test there.
fn run_in_a_copy() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted_bugs");
    let _ = fs::remove_dir_all(&copy);
    for part in ["src", "tests/sim", "tests/planting"] {
        copy_dir(&tree.join(part), &copy.join(part));
    }
    // Another package name, so that cargo does not mix it up with the real one; no binary.
    for file in ["Cargo.toml", "Cargo.lock"] {
        let text = read(&tree.join(file));
        let text = text.replacen("name = \"pilotlight\"\n", "name = \"pilotlight-planted-bugs\"\n", 1);
        write(&copy.join(file), &text);
    }
    let manifest = read(&copy.join("Cargo.toml"));
    let manifest = without_targets(&manifest);
    let targets = "\n[lib]\nname = \"pilotlight\"\n\n[[test]]\nname = \"sim\"\npath = \"tests/sim/main.rs\"\n\n[workspace]\n";
    write(&copy.join("Cargo.toml"), &(manifest + targets));
    fs::remove_file(copy.join("src/main.rs")).expect("the package has a binary");
    let lib = read(&copy.join("src/lib.rs"));
    write(&copy.join("src/lib.rs"), &format!("{lib}\n/// The planted bug.\npub mod planted;\n"));
    write(&copy.join("src/planted.rs"), PLANTED_RS);
    write(&copy.join("tests/sim/plant.rs"), PLANT_RS);
    for mutation in MUTATIONS {
        let file = copy.join(mutation.file);
        write(
            &file,
            &with_bug(&read(&file), mutation, &format!("crate::planted::planted({:?})", mutation.name)),
        );
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    let status = Command::new(env!("CARGO"))
        .args([
            "test",
            "--offline",
            "--quiet",
            "--profile",
            &profile(),
            "--test",
            "sim",
            "planted_bugs",
            "--",
            "--nocapture",
        ])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", target)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the output above names the bugs that survived");
}

/// A manifest without its `[[bin]]`, `[[test]]` and `[[bench]]` sections.
fn without_targets(manifest: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            skipping = ["[[test]]", "[[bench]]", "[[bin]]", "[lib]", "[workspace"]
                .iter()
                .any(|start| line.starts_with(start));
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

const PLANT_RS: &str = "pub const READY: bool = true;\npub use pilotlight::planted::plant;\n";

const PLANTED_RS: &str = r#"
use std::cell::Cell;

thread_local! {
    static PLANTED: Cell<&'static str> = const { Cell::new("") };
    static FUEL: Cell<u64> = const { Cell::new(0) };
}

/// Plants one bug in the workers of this thread; "" plants none.
pub fn plant(name: &'static str) {
    PLANTED.set(name);
    FUEL.set(5_000_000);
}

/// Whether the bug of this name is planted. A worker that loops forever ends here when the fuel is used up.
pub fn planted(name: &str) -> bool {
    let fuel = FUEL.get();
    FUEL.set(fuel.saturating_sub(1));
    assert!(fuel > 0 || PLANTED.get().is_empty(), "a worker loops forever");
    PLANTED.get() == name
}
"#;
