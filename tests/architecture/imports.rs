//! The import graph: which file uses an item of which other file, and the cycles in it.
//!
//! An import leads to the file that defines the item: `pub use` and globs are followed, so that a folder's `mod.rs`
//! does not come between the user of an item and its definition. `mod name;` and a `use` of a whole module import
//! nothing; the paths that begin with that module do.

use crate::source::{Kind, Module, Path, Source};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The sources of a crate. Test code and `main.rs` are left out, except from the list of all files.
pub struct Crate {
    /// The paths of all files inside `src`, tests and `main.rs` included.
    pub all_files: BTreeSet<String>,
    /// By path inside `src`.
    pub files: BTreeMap<String, Source>,
    modules: BTreeMap<Path, (String, Module)>,
}

/// From file to file, each with one place in the first that refers to the second.
pub type Imports = BTreeMap<(String, String), Example>;

#[derive(Clone, Debug)]
pub struct Example {
    pub file: String,
    pub line: usize,
    pub path: String,
}

/// Where a path leads.
enum Place {
    /// To an item that this file defines.
    File(String),
    /// To a module as a whole.
    Module,
    /// To another crate.
    Elsewhere,
    /// To a name that no `use` and no item explains.
    Unknown,
}

impl Crate {
    /// `files`: path inside `src`, such as `broker/http/mod.rs`, and text.
    pub fn read(files: &[(String, String)]) -> Self {
        let all_files = files.iter().map(|(file, _)| file.clone()).collect();
        let sources = files.iter().filter(|(file, _)| file != "main.rs").map(|(file, text)| {
            let module = module_of(file);
            let module: Vec<&str> = module.iter().map(String::as_str).collect();
            (file.clone(), Source::read(text, &module))
        });
        let mut files: BTreeMap<String, Source> = sources.collect();
        let tests: Vec<Path> = files
            .iter()
            .flat_map(|(file, source)| {
                let inner = |name: &String| module_of(file).into_iter().chain([name.clone()]).collect();
                source.test_modules.iter().map(inner).collect::<Vec<Path>>()
            })
            .collect();
        files.retain(|file, _| !tests.iter().any(|test| module_of(file).starts_with(test)));
        let mut modules = BTreeMap::new();
        for (file, source) in &mut files {
            for module in source.modules.drain(..) {
                modules.insert(module.path.clone(), (file.clone(), module));
            }
        }
        Crate { all_files, files, modules }
    }

    /// Every import from one file of the crate to another.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (file, source) in &self.files {
            for reference in &source.references {
                let place = match reference.path.as_slice() {
                    [first, path @ .., last] if first == "crate" && last == "*" => self.locate(&[], path, 0),
                    [first, path @ ..] if first == "crate" => self.locate(&[], path, 0),
                    // A glob import may explain the name.
                    path if reference.kind != Kind::Use => self.locate(&reference.module, path, 0),
                    _ => Place::Elsewhere,
                };
                if let Place::File(to) = place
                    && to != *file
                {
                    let example =
                        Example { file: file.clone(), line: reference.line, path: reference.path.join("::") };
                    imports.entry((file.clone(), to)).or_insert(example);
                }
            }
        }
        imports
    }

    /// The same graph with each folder as one node, for the neighbours in each folder. The `mod.rs` of the folder
    /// around them is left out: what its children add to its types, they import from it.
    pub fn neighbours(&self, imports: &Imports) -> Imports {
        let mut neighbours = Imports::new();
        for ((from, to), example) in imports {
            let (from, to) = (self.place_of(from), self.place_of(to));
            let same = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if from[same] != "mod.rs" && to[same] != "mod.rs" {
                let nodes = (from[..=same].join("/"), to[..=same].join("/"));
                neighbours.entry(nodes).or_insert_with(|| example.clone());
            }
        }
        neighbours
    }

    /// Whether two files are in different folders.
    pub fn is_between_folders(&self, from: &str, to: &str) -> bool {
        let (from, to) = (self.place_of(from), self.place_of(to));
        from[..from.len() - 1] != to[..to.len() - 1]
    }

    /// The folders of a file, and its name. A module with children is in its own folder, however its file is named.
    fn place_of<'a>(&self, file: &'a str) -> Vec<&'a str> {
        let stem = file.trim_end_matches(".rs");
        let is_child = |other: &String| other.strip_prefix(stem).is_some_and(|rest| rest.starts_with('/'));
        if self.files.keys().any(is_child) {
            return stem.split('/').chain(["mod.rs"]).collect();
        }
        file.split('/').collect()
    }

    /// Where `path` leads, seen from `module`.
    fn locate(&self, module: &[String], path: &[String], depth: usize) -> Place {
        let Some((file, info)) = self.modules.get(module) else { return Place::Unknown };
        let Some((first, rest)) = path.split_first() else { return Place::Module };
        // A chain of re-exports is short; the bound ends a chain that leads back to itself.
        if depth > 32 {
            return Place::Unknown;
        }
        if rest.is_empty() && info.items.contains(first) {
            return Place::File(file.clone());
        }
        let child: Path = module.iter().chain([first]).cloned().collect();
        if self.modules.contains_key(&child) {
            return match self.locate(&child, rest, depth + 1) {
                // A macro made the item.
                Place::Unknown => Place::File(self.modules[&child].0.clone()),
                place => place,
            };
        }
        if info.items.contains(first) {
            return Place::File(file.clone());
        }
        match info.names.get(first).map(Vec::as_slice) {
            Some([root, target @ ..]) if root == "crate" => {
                let whole: Path = target.iter().chain(rest).cloned().collect();
                return self.locate(&[], &whole, depth + 1);
            }
            Some(_) => return Place::Elsewhere,
            None => (),
        }
        for glob in &info.globs {
            if let Some((root, target)) = glob.split_first()
                && root == "crate"
            {
                let whole: Path = target.iter().chain(path).cloned().collect();
                if let Place::File(file) = self.locate_known(&whole, depth + 1) {
                    return Place::File(file);
                }
            }
        }
        Place::Unknown
    }

    /// Where `path` leads, if its last module explains it.
    fn locate_known(&self, path: &[String], depth: usize) -> Place {
        let is_module = |length: &usize| self.modules.contains_key(&path[..*length]);
        let length = (0..path.len()).rev().find(is_module).unwrap_or(0);
        self.locate(&path[..length], &path[length..], depth)
    }
}

/// `engine/epoll.rs` is `engine::epoll`; `engine/mod.rs` is `engine`; `lib.rs` is the root.
pub fn module_of(file: &str) -> Path {
    let names = file.trim_end_matches(".rs").split('/');
    names.filter(|name| !matches!(*name, "mod" | "lib")).map(str::to_owned).collect()
}

/// The cycles of imports that contain an import which `counts`: the shortest of each group of files that import each
/// other, directly or not.
pub fn cycles(imports: &Imports, counts: impl Fn(&str, &str) -> bool) -> Vec<Vec<String>> {
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in imports.keys() {
        next.entry(from).or_default().insert(to);
    }
    let counted = imports.keys().filter(|(from, to)| counts(from, to));
    let mut rings: Vec<Vec<&str>> = counted.filter_map(|(from, to)| way(&next, to, from)).collect();
    rings.sort_by_key(Vec::len);
    let mut found: Vec<Vec<String>> = Vec::new();
    for mut ring in rings {
        let are_linked = |one: &str, other: &str| way(&next, one, other).is_some();
        if !found.iter().any(|known| are_linked(&known[0], ring[0]) && are_linked(ring[0], &known[0])) {
            let first = (0..ring.len()).min_by_key(|at| ring[*at]).unwrap_or(0);
            ring.rotate_left(first);
            found.push(ring.iter().map(|file| file.to_string()).collect());
        }
    }
    found
}

/// Whether one of two neighbours is a folder.
pub fn is_folder(from: &str, to: &str) -> bool {
    !from.ends_with(".rs") || !to.ends_with(".rs")
}

/// The shortest way along the imports, both ends included.
fn way<'a>(next: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str, to: &str) -> Option<Vec<&'a str>> {
    let (&start, _) = next.get_key_value(from)?;
    let mut came_from: BTreeMap<&str, &'a str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        if at == to {
            let mut way = vec![at];
            while way[way.len() - 1] != start {
                way.push(came_from[way[way.len() - 1]]);
            }
            way.reverse();
            return Some(way);
        }
        for step in next.get(at).into_iter().flatten() {
            if *step != start && !came_from.contains_key(step) {
                came_from.insert(step, at);
                queue.push_back(step);
            }
        }
    }
    None
}

/// A cycle as lines to read: who imports what of whom.
pub fn describe(cycle: &[String], imports: &Imports) -> String {
    let steps = cycle.iter().zip(cycle.iter().cycle().skip(1));
    let lines = steps.map(|(from, to)| {
        let Example { file, line, path } = &imports[&(from.clone(), to.clone())];
        format!("  src/{file}:{line} imports {path} of src/{to}")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crate_of(files: &[(&str, &str)]) -> Crate {
        let files = files.iter().chain([&("lib.rs", "")]);
        let files: Vec<_> = files.map(|(file, text)| (file.to_string(), text.to_string())).collect();
        Crate::read(&files)
    }

    /// Files, and for each the files that it imports from.
    type Case =
        (&'static str, &'static [(&'static str, &'static str)], &'static [(&'static str, &'static str)]);

    const IMPORTS: &[Case] = &[
        (
            "a use leads to the file of the item, and `mod` imports nothing",
            &[("a/mod.rs", "mod b;"), ("a/b.rs", "use crate::c::Thing;"), ("c.rs", "pub struct Thing;")],
            &[("a/b.rs", "c.rs")],
        ),
        (
            "super and self",
            &[
                ("a/mod.rs", "mod b; pub struct A; use self::b::B;"),
                ("a/b.rs", "pub struct B; fn f() -> super::A { super::A }"),
            ],
            &[("a/b.rs", "a/mod.rs"), ("a/mod.rs", "a/b.rs")],
        ),
        (
            "a re-export is followed past the file that has it",
            &[
                ("a/mod.rs", "mod b; pub use b::B as Renamed;"),
                ("a/b.rs", "pub struct B;"),
                ("c.rs", "use crate::a::Renamed;"),
            ],
            &[("a/mod.rs", "a/b.rs"), ("c.rs", "a/b.rs")],
        ),
        (
            "a use of a module is no import, a path through it is",
            &[
                ("a/mod.rs", "mod b; mod e;"),
                ("a/b.rs", "pub fn f() {}"),
                ("a/e.rs", "pub fn g() {}"),
                ("c.rs", "use crate::a::{self, b}; fn f() { b::f() }"),
            ],
            &[("c.rs", "a/b.rs")],
        ),
        (
            "a re-exported module",
            &[
                ("a.rs", "pub use crate::b::inner;"),
                ("b/mod.rs", "pub mod inner;"),
                ("b/inner.rs", "pub enum E { One }"),
                ("c.rs", "fn f() { crate::a::inner::E::One; }"),
            ],
            &[("c.rs", "b/inner.rs")],
        ),
        (
            "a glob import leads where the names lead",
            &[
                ("a/mod.rs", "mod b; pub use b::*; pub const LIMIT: u8 = 1;"),
                ("a/b.rs", "pub struct B; pub enum E { One }"),
                ("c.rs", "use crate::a::*; fn f(b: B) {}"),
                ("d.rs", "use crate::a::E::*;"),
                ("e.rs", "use crate::a::*; fn f() -> E { E::One }"),
            ],
            &[("c.rs", "a/b.rs"), ("d.rs", "a/b.rs"), ("e.rs", "a/b.rs")],
        ),
        (
            "an item that a macro makes is its module's",
            &[("a.rs", "counters! { Made }"), ("b.rs", "use crate::a::Made;")],
            &[("b.rs", "a.rs")],
        ),
        (
            "a path in a macro is an import",
            &[("a.rs", "pub fn f() {}"), ("b.rs", "fn g() { assert!(vec![crate::a::f()].is_empty()); }")],
            &[("b.rs", "a.rs")],
        ),
        (
            "inline modules belong to their file",
            &[("a.rs", "pub mod b { pub fn f() { super::g() } } fn g() {}"), ("c.rs", "use crate::a::b::f;")],
            &[("c.rs", "a.rs")],
        ),
        (
            "tests and main.rs are exempt",
            &[
                ("a.rs", "#[cfg(test)] mod tests; #[cfg(test)] use crate::b::f;"),
                ("a/tests.rs", "use crate::b::f;"),
                ("b.rs", "pub fn f() {}"),
                ("main.rs", "use crate::b::f;"),
            ],
            &[],
        ),
        (
            "imports that lead to each other, and other crates, end",
            &[("a.rs", "pub use crate::b::X; use x::y; use y::x;"), ("b.rs", "pub use crate::a::X;")],
            &[("a.rs", "b.rs"), ("b.rs", "a.rs")],
        ),
    ];

    #[test]
    fn imports_lead_to_the_defining_file() {
        for (what, files, expected) in IMPORTS {
            let imports = crate_of(files).imports();
            let found: Vec<_> = imports.keys().map(|(from, to)| (from.as_str(), to.as_str())).collect();
            assert_eq!(&found, expected, "{what}");
        }
    }

    const A_USES_B: &str = "use crate::b::B; pub struct A;";

    /// Files, and the cycles between their folders.
    type Cycles = (&'static [(&'static str, &'static str)], &'static [&'static [&'static str]]);

    const CYCLES: &[Cycles] = &[
        // Between folders, directly.
        (
            &[
                ("a/x.rs", "use crate::b::y::Y; pub struct X;"),
                ("b/y.rs", "pub struct Y; fn f(x: crate::a::x::X) {}"),
            ],
            &[],
        ),
        (
            &[
                ("a/mod.rs", "mod x;"),
                ("b/mod.rs", "mod y;"),
                ("a/x.rs", "use crate::b::y::Y; pub struct X;"),
                ("b/y.rs", "pub struct Y; fn f(x: crate::a::x::X) {}"),
            ],
            &[&["a/x.rs", "b/y.rs"]],
        ),
        // Between files of one folder, its mod.rs among them.
        (&[("a.rs", A_USES_B), ("b.rs", "use crate::a::A; pub struct B;")], &[]),
        (&[("a/mod.rs", "mod b; use b::B; pub struct A;"), ("a/b.rs", "use super::A; pub struct B;")], &[]),
        // Folders may use each other as long as their files make no cycle.
        (
            &[
                ("a/mod.rs", "mod x; mod z;"),
                ("a/x.rs", "use crate::b::B;"),
                ("a/z.rs", "pub struct Z;"),
                ("b/mod.rs", "use crate::a::z::Z; pub struct B;"),
            ],
            &[],
        ),
        // A parent and its child's folder, by way of a third file.
        (
            &[
                ("a/mod.rs", "mod b; mod c; use b::inner::Inner;"),
                ("a/b/mod.rs", "pub mod inner;"),
                ("a/b/inner.rs", "use super::super::c::C; pub struct Inner;"),
                ("a/c.rs", "pub struct C;"),
            ],
            &[],
        ),
        (
            &[
                ("a/mod.rs", "mod b; mod c; use b::inner::Inner; pub struct Front;"),
                ("a/b/mod.rs", "pub mod inner;"),
                ("a/b/inner.rs", "use super::super::c::C; pub struct Inner;"),
                ("a/c.rs", "use super::Front; pub struct C;"),
            ],
            &[&["a/b/inner.rs", "a/c.rs", "a/mod.rs"]],
        ),
        // A child that implements its grandparent's type imports it, and the grandparent does not import the child.
        (
            &[
                ("a/mod.rs", "mod b; pub struct Front; impl Front { fn f(&self) { self.g() } }"),
                ("a/b/mod.rs", "mod life;"),
                ("a/b/life.rs", "use crate::a::Front; impl Front { pub fn g(&self) {} }"),
            ],
            &[],
        ),
        // A module with a folder is in that folder, in either spelling.
        (
            &[
                ("a.rs", "mod x; use x::X; pub struct A;"),
                ("a/x.rs", "use super::A; pub struct X;"),
                ("b.rs", "use crate::a::A; pub struct B;"),
            ],
            &[],
        ),
    ];

    #[test]
    fn cycles_between_folders_are_found() {
        for (files, expected) in CYCLES {
            let of = crate_of(files);
            let found = cycles(&of.imports(), |from, to| of.is_between_folders(from, to));
            assert_eq!(&found, expected, "{files:?}");
        }
    }

    #[test]
    fn cycles_of_neighbouring_folders_are_found() {
        let neighbours = |files: &[(&str, &str)]| {
            let of = crate_of(files);
            cycles(&of.neighbours(&of.imports()), is_folder)
        };
        // Files make no cycle, folders do.
        let files = [
            ("a/mod.rs", "mod json; mod key;"),
            ("a/json/mod.rs", "mod number; fn f() -> crate::a::key::Key {}"),
            ("a/json/number.rs", "pub fn number() {}"),
            ("a/key.rs", "pub struct Key; use super::json::number::number;"),
        ];
        assert_eq!(neighbours(&files), [["a/json", "a/key.rs"]]);
        // A child that extends its parent's type is no cycle of neighbours.
        let files = [
            ("a/mod.rs", "mod b; use b::B; pub struct Front;"),
            ("a/b/mod.rs", "mod life; pub struct B;"),
            ("a/b/life.rs", "use crate::a::Front;"),
        ];
        assert!(neighbours(&files).is_empty());
        // Nor are files that use each other in one folder.
        let files = [
            ("a/mod.rs", ""),
            ("a/b.rs", "use super::c::C; pub struct B;"),
            ("a/c.rs", "use super::b::B; pub struct C;"),
        ];
        assert!(neighbours(&files).is_empty());
    }

    #[test]
    fn a_cycle_is_described_step_by_step() {
        let files =
            [("a/mod.rs", "\npub fn a() { crate::b::b() }"), ("b/mod.rs", "pub fn b() { crate::a::a() }")];
        let imports = crate_of(&files).imports();
        let expected = "  src/a/mod.rs:2 imports crate::b::b of src/b/mod.rs\n  \
                        src/b/mod.rs:1 imports crate::a::a of src/a/mod.rs";
        assert_eq!(describe(&cycles(&imports, |_, _| true)[0], &imports), expected);
    }
}
