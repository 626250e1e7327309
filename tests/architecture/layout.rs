//! How the files of `src` are laid out.

use crate::imports::Crate;
use crate::source::Layout;

/// Lines of a file outside its tests.
pub const FILE_LINES_MAX: usize = 600;

/// Names that say nothing about what a module is for.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

/// What breaks a rule of the layout: the file, and what is wrong with it.
pub fn violations(of: &Crate) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in &of.all_files {
        let folder = format!("{}/", file.trim_end_matches(".rs"));
        if of.all_files.iter().any(|other| other.starts_with(&folder)) {
            found.push((file.clone(), format!("is next to the folder {folder} (move it to {folder}mod.rs)")));
        }
    }
    for (file, source) in &of.files {
        let Layout { lines, early_tests, modules } = &source.layout;
        if *lines > FILE_LINES_MAX {
            found.push((
                file.clone(),
                format!("has {lines} lines outside its tests, more than {FILE_LINES_MAX}"),
            ));
        }
        for (line, name) in early_tests {
            found.push((file.clone(), format!("line {line}: the test module {name} is not the last item")));
        }
        for (line, name) in modules.iter().filter(|(_, name)| EMPTY_NAMES.contains(&name.as_str())) {
            found.push((file.clone(), format!("line {line}: the module name {name} says nothing")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(file, text)| (file.to_string(), text.to_string())).collect();
        violations(&Crate::read(&files)).into_iter().map(|(file, what)| format!("{file} {what}")).collect()
    }

    #[test]
    fn a_module_with_children_is_a_folder() {
        assert_eq!(broken(&[("a/mod.rs", ""), ("a/b.rs", ""), ("ab.rs", "")]), [""; 0]);
        let found = broken(&[("a/b.rs", ""), ("a/b/c.rs", ""), ("a/mod.rs", "")]);
        assert_eq!(found, ["a/b.rs is next to the folder a/b/ (move it to a/b/mod.rs)"]);
    }

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let code = "fn f() {}\n".repeat(FILE_LINES_MAX);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
        assert_eq!(broken(&[("a.rs", &format!("{code}{tests}"))]), [""; 0]);
        let found = broken(&[("a.rs", &format!("\n{code}{tests}"))]);
        assert_eq!(
            found,
            [format!("a.rs has {} lines outside its tests, more than {FILE_LINES_MAX}", FILE_LINES_MAX + 1)]
        );
    }

    #[test]
    fn tests_come_last() {
        for fine in [
            "mod a; #[cfg(test)] mod tests; mod z; use a::A;",
            "fn f() {} #[cfg(test)] mod tests { mod inner {} }",
            "fn f() {} #[cfg(test)] mod oracle; #[cfg(test)] mod tests;",
        ] {
            assert_eq!(broken(&[("a.rs", fine)]), [""; 0], "{fine}");
        }
        for early in ["#[cfg(test)] mod tests {} fn f() {}", "use a::A; #[cfg(test)] mod tests; fn f() {}"] {
            assert_eq!(
                broken(&[("a.rs", early)]),
                ["a.rs line 1: the test module tests is not the last item"],
                "{early}"
            );
        }
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        let found = broken(&[("a.rs", "mod utility; mod utils; mod b { mod misc {} }")]);
        let expected = [
            "a.rs line 1: the module name utils says nothing",
            "a.rs line 1: the module name misc says nothing",
        ];
        assert_eq!(found, expected);
    }
}
