//! The image's Dockerfile. This test builds no image: `scripts/test` runs the same `scripts/build-static`,
//! which serves from the image's root file system.

use super::product::{port, product};
use super::{launch, read, root, tools};
use std::process::Command;

const BUILD: &str = "scripts/build-static";
/// An unprivileged user, as in the Compose file and the Helm values.
pub const USER: &str = "65532";

/// The instructions in order: the word, and the rest with continuation lines joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| line.split_once(' ').expect("an instruction"))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

pub fn dockerfile(text: &str) {
    tools::python_package("hadolint").args([root().join("deploy/docker/Dockerfile")]).succeed();
    let product = product();
    let all = instructions(text);
    let last = all.iter().rposition(|(word, _)| word == "FROM").expect("a stage");
    let (build, image) = all.split_at(last);

    // The build stage has at least the crate's rust-version and runs the tested script.
    let manifest = read("Cargo.toml");
    let needed = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
    let needed = minor(needed.trim_matches('"')).expect("1.N");
    let has = build[0].1.strip_prefix("rust:1.").and_then(|tag| tag.split('-').next()?.parse::<u32>().ok());
    assert!(has.is_some_and(|has| has >= needed), "{:?}", build[0]);
    // The toolchain must be the profile's: the profile works with no other.
    let stamp = read("scripts/pgo.stamp");
    let release = stamp.lines().find_map(|line| line.strip_prefix("release: ")).expect("a release");
    assert_eq!(has, minor(release), "{:?}", build[0]);
    assert!(build.iter().any(|(word, rest)| word == "RUN" && rest == BUILD));
    assert!(read(BUILD).contains("cp \"$out/$name\" \"$root/pilotlight\""));

    assert_eq!(image[0].1, "scratch");
    let of = |word: &str| -> Vec<&str> {
        image.iter().filter(|(other, _)| other == word).map(|(_, rest)| rest.as_str()).collect()
    };
    assert!(of("RUN").is_empty(), "an empty root has no shell");
    assert_eq!(of("COPY"), ["--from=build /src/target/static/pilotlight /pilotlight"]);
    assert_eq!(of("ENTRYPOINT"), [r#"["/pilotlight"]"#]);
    assert_eq!(of("CMD"), [r#"["serve"]"#]);
    assert_eq!(of("USER"), [format!("{USER}:{USER}")]);
    assert_eq!(of("STOPSIGNAL"), ["SIGTERM"]);

    let settings: Vec<(&str, &str)> =
        of("ENV")[0].split_whitespace().map(|pair| pair.split_once('=').expect("a pair")).collect();
    product.assert_settings(settings.iter().map(|(name, _)| *name));
    let mut ports: Vec<u16> = settings.iter().map(|(_, address)| port(address)).collect();
    let exposed: Vec<u16> =
        of("EXPOSE")[0].split_whitespace().map(|port| port.parse().expect("a port")).collect();
    assert_eq!(exposed, ports);
    ports.dedup();
    assert_eq!(ports.len(), 3, "each side must have its own port");
    launch::with_settings(["serve"], settings).assert_sides_are_separate_and_match();
}

/// The build context contains every file that the build needs.
pub fn dockerignore(text: &str) {
    let patterns: Vec<&str> = text.lines().collect();
    assert!(patterns.contains(&".git") && patterns.contains(&"**/target"), "{patterns:?}");
    let tracked = Command::new("git").arg("-C").arg(root()).arg("ls-files").output().expect("git");
    let tracked = String::from_utf8(tracked.stdout).expect("UTF-8");
    assert!(tracked.lines().count() > 100, "git lists the sources");
    for path in tracked.lines() {
        let ignored = |pattern: &&&str| match pattern.strip_prefix("**/") {
            Some(name) => path.split('/').any(|part| part == name),
            None => path == **pattern || path.starts_with(&format!("{pattern}/")),
        };
        assert_eq!(patterns.iter().find(ignored), None, "{path} is part of the source");
    }
}
