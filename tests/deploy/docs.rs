//! What the operators' documents say of files, flags and alerts.

use super::product::product;
use super::{read, root};
use std::collections::BTreeSet;

const DOCUMENTS: [&str; 3] = ["docs/operations.md", "docs/tuning.md", "docs/migrating.md"];

pub fn links_and_flags() {
    for document in DOCUMENTS {
        let text = read(document);
        let folder = root().join(document).parent().expect("a folder").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let target = if path.is_empty() { root().join(document) } else { folder.join(path) };
            assert!(target.exists(), "{document}: {link} leads nowhere");
            if !heading.is_empty() {
                let target = std::fs::read_to_string(&target).expect("read");
                assert!(
                    headings(&target).any(|found| anchor(found) == heading),
                    "{document}: no heading for {link}"
                );
            }
        }
        // Of others' programs no flag stands alone in backquotes.
        for (index, code) in text.split('`').enumerate().filter(|(index, _)| index % 2 == 1) {
            let flag = code.split([' ', '=']).next().expect("a word");
            let alone = flag.starts_with("--") && !code.contains('\n') && index > 0;
            assert!(!alone || product().knows_flag(flag), "{document}: {flag} is no flag of this binary");
            let settings = code
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| word.starts_with("PILOTLIGHT_"));
            settings
                .for_each(|name| assert!(product().knows_setting(name), "{document}: {name} is no setting"));
        }
    }
}

/// Every alert has its section in the runbook, and no section is about an alert that does not exist.
pub fn alerts(text: &str) {
    let alerts: BTreeSet<&str> =
        text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("alert: ")).collect();
    let operations = read("docs/operations.md");
    let runbook = operations
        .split("\n## Alerts\n")
        .nth(1)
        .expect("a section Alerts")
        .split("\n## ")
        .next()
        .expect("its text");
    let sections: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections, alerts);
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// As GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .collect::<String>();
    kept.replace(' ', "-")
}
