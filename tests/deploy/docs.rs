//! Flags, variables and alerts in the documents.

use super::product::product;
use super::{read, root, walk};
use std::collections::BTreeSet;

/// Folders and files whose flags and variables must exist.
const DOCUMENTS: [&str; 5] =
    ["README.md", "docs/getting-started.md", "docs/glossary.md", "docs/how-to", "docs/reference"];

/// Secrets have a variable and no flag: every user of the machine can read a command line.
const WITHOUT_FLAG: &str = "PILOTLIGHT_TOKEN_SECRET";

pub fn flags_exist() {
    let mut files = Vec::new();
    for document in DOCUMENTS {
        let path = root().join(document);
        match path.is_dir() {
            true => walk(&path, &mut files),
            false => files.push(path),
        }
    }
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        let document = file.strip_prefix(root()).expect("inside").to_str().expect("UTF-8");
        // A generated table's comment names the variable that writes it.
        let text: String =
            read(document).split_inclusive('\n').filter(|line| !line.starts_with("<!--")).collect();
        // Flags of other programs do not stand alone in backquotes.
        for code in text.split('`').skip(1).step_by(2) {
            let flag = code.split([' ', '=']).next().expect("a word");
            let alone = flag.starts_with("--") && !code.contains('\n');
            assert!(!alone || product().knows_flag(flag), "{document}: {flag} is not a flag of this binary");
            let settings = code
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| word.starts_with("PILOTLIGHT_"));
            settings.for_each(|name| {
                assert!(
                    name == WITHOUT_FLAG || product().knows_setting(name),
                    "{document}: {name} is not a setting"
                );
            });
        }
    }
}

/// Every alert has a section in the runbook, and every section has an alert.
pub fn alerts(text: &str) {
    let alerts: BTreeSet<&str> =
        text.lines().filter_map(|line| line.trim_start_matches([' ', '-']).strip_prefix("alert: ")).collect();
    let runbook = read("docs/how-to/respond-to-alerts.md");
    let runbook = runbook
        .split("\n## Alerts\n")
        .nth(1)
        .expect("a section Alerts")
        .split("\n## ")
        .next()
        .expect("its text");
    let sections: BTreeSet<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections, alerts);
}
