//! The Debian package's scripts. scripts/package builds, installs, upgrades and purges it.

use super::{read, tools};

pub fn postinst(text: &str) {
    script("postinst", text);
}

pub fn prerm(text: &str) {
    script("prerm", text);
}

pub fn postrm(text: &str) {
    script("postrm", text);
}

/// The script is valid shell and names all units, the sockets before the service. The package has all of them.
fn script(name: &str, text: &str) {
    let path = super::root().join("deploy/debian").join(name);
    tools::packaged("sh", "dash").args([std::path::Path::new("-n"), &path]).succeed();
    let line = text.lines().find_map(|line| line.strip_prefix("units='")).expect("units");
    let units: Vec<&str> = line.trim_end_matches('\'').split(' ').collect();
    let service = super::units::unit("pilotlight.service");
    let mut expected = service.words("Sockets");
    expected.push("pilotlight.service");
    assert_eq!(units, expected);
    let manifest = read("Cargo.toml");
    for unit in units {
        assert!(manifest.contains(&format!("\"deploy/systemd/{unit}\"")), "{unit} is not in the package");
    }
}
