//! Reads what a Rust source file refers to: each `use` and each path, resolved to its absolute form.
//!
//! `syn` parses the file. Bodies of macros and attributes stay tokens, in which a second, simpler reader finds the
//! paths. Code under `#[cfg(test)]` is left out.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, Meta, Safety, Signature, UseTree};

/// The segments of a path. An absolute path of this crate begins with `crate`.
pub type Path = Vec<String>;

/// What one file contains and refers to.
#[derive(Debug, Default)]
pub struct Source {
    pub references: Vec<Reference>,
    /// The file's own module and its inline modules.
    pub modules: Vec<Module>,
    /// Macros that are called: line and name.
    pub macros: Vec<(usize, String)>,
    /// Lines with the keyword `unsafe`, test code included.
    pub unsafe_lines: Vec<usize>,
    /// `unsafe fn` and `unsafe trait` without a `# Safety` section: line and name.
    pub undocumented_unsafe: Vec<(usize, String)>,
    /// The names in `#[cfg(test)] mod NAME;`.
    pub test_modules: Vec<String>,
    /// The layout of the file's items.
    pub layout: Layout,
}

/// A path that code refers to.
#[derive(Debug)]
pub struct Reference {
    pub line: usize,
    /// The module that contains the reference.
    pub module: Path,
    /// The resolved path. An unresolved path begins with a crate's name or with a local name.
    pub path: Path,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A leaf of a `use` declaration; the path of a glob import ends in `*`.
    Use,
    /// A path of at least two segments.
    Path,
    /// A single name that no `use` of this file explains: a local name or one from a glob import.
    Name,
}

/// The names that a module defines or imports.
#[derive(Debug, Default)]
pub struct Module {
    pub path: Path,
    pub items: BTreeSet<String>,
    /// Imported names and child modules, with their absolute paths.
    pub names: BTreeMap<String, Path>,
    /// The modules or enums that `use PATH::*` names.
    pub globs: Vec<Path>,
}

/// Where a file keeps its tests, and how long it is without them.
#[derive(Debug, Default)]
pub struct Layout {
    /// Lines outside `#[cfg(test)] mod NAME { .. }`.
    pub lines: usize,
    /// Test modules that come before other items: line and name.
    pub early_tests: Vec<(usize, String)>,
    /// The names of all modules that the file declares.
    pub modules: Vec<(usize, String)>,
}

impl Source {
    /// Reads `text`, the source of the module at `module` (empty for the crate's root).
    pub fn read(text: &str, module: &[&str]) -> Self {
        let parsed = text.parse::<TokenStream>().map_err(syn::Error::from);
        let parsed = parsed.and_then(|tokens| Ok((tokens.clone(), syn::parse2::<syn::File>(tokens)?)));
        let (tokens, file) = parsed.unwrap_or_else(|error| panic!("{module:?}: {error}: {text:.80}"));
        let mut reader = Reader::default();
        reader.source.layout = Layout::of(text, &file.items);
        find_unsafe(tokens, &mut reader.source.unsafe_lines);
        reader.read_module(&module.iter().map(|name| name.to_string()).collect::<Path>(), &file.items);
        for attribute in &file.attrs {
            reader.visit_attribute(attribute);
        }
        reader.source
    }
}

impl Layout {
    fn of(text: &str, items: &[Item]) -> Self {
        let mut layout = Layout { lines: text.lines().count(), ..Layout::default() };
        layout.add_modules(items);
        for (at, item) in items.iter().enumerate() {
            let Item::Mod(module) = item else { continue };
            if !is_test(&module.attrs) {
                continue;
            }
            let first = line(module.attrs[0].pound_token.spans[0]);
            if let Some((braces, _)) = &module.content {
                layout.lines -= braces.span.close().end().line + 1 - first;
            }
            // rustfmt sorts `mod tests;` into the other declarations, so it may stand among them.
            let is_declaration = |item: &Item| matches!(item, Item::Mod(module) if module.content.is_none());
            let among_declarations = items[..=at].iter().all(is_declaration);
            let last = items[at..].iter().all(|item| matches!(item, Item::Mod(next) if is_test(&next.attrs)));
            if !among_declarations && !last {
                layout.early_tests.push((first, module.ident.to_string()));
            }
        }
        layout
    }

    fn add_modules(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Mod(module) = item {
                self.modules.push((line(module.ident.span()), name(&module.ident)));
                self.add_modules(module.content.as_ref().map_or(&[], |(_, items)| items));
            }
        }
    }
}

/// Collects references while it walks the syntax tree.
#[derive(Default)]
struct Reader {
    source: Source,
    /// The module that is being read.
    module: Path,
    /// The names that `use` and `mod` declare, from the module's own to those of the innermost block.
    scopes: Vec<BTreeMap<String, Path>>,
}

impl Reader {
    fn read_module(&mut self, path: &[String], items: &[Item]) {
        let outer_module = std::mem::replace(&mut self.module, path.to_vec());
        // An inline module does not see the names of the module around it.
        let outer_scopes = std::mem::take(&mut self.scopes);
        let kept: Vec<&Item> = items.iter().filter(|item| !is_test(attributes(item))).collect();
        // Declarations come first, since code may use a name above its `use`.
        self.scopes.push(self.declared(kept.iter().copied()));
        let mut module = Module { path: path.to_vec(), ..Module::default() };
        module.items = kept.iter().filter_map(|item| defined(item)).collect();
        for (name, path) in &self.scopes[0] {
            module.names.insert(name.clone(), self.resolve(path));
        }
        for item in &kept {
            if let Item::Use(item) = item {
                let globs = leaves(item).into_iter().filter(|leaf| leaf.name.is_none());
                module.globs.extend(globs.map(|leaf| self.resolve(&leaf.path)));
            }
        }
        self.source.modules.push(module);
        for item in items {
            self.visit_item(item);
        }
        self.module = outer_module;
        self.scopes = outer_scopes;
    }

    /// The names that `use` and `mod` items declare.
    fn declared<'a>(&self, items: impl Iterator<Item = &'a Item>) -> BTreeMap<String, Path> {
        let mut names = BTreeMap::new();
        for item in items {
            match item {
                Item::Use(item) => {
                    let named = leaves(item).into_iter().filter_map(|leaf| Some((leaf.name?, leaf.path)));
                    names.extend(named);
                }
                Item::Mod(item) => {
                    let path = in_crate(&self.module, &[name(&item.ident)]);
                    names.insert(name(&item.ident), path);
                }
                _ => (),
            }
        }
        names
    }

    fn record(&mut self, line: usize, kind: Kind, path: Path) {
        self.source.references.push(Reference { line, module: self.module.clone(), path, kind });
    }

    /// Records a path as written in the code.
    fn refer(&mut self, span: Span, is_global: bool, path: Path) {
        let known = self.scopes.iter().any(|names| names.contains_key(&path[0]));
        let is_keyword = matches!(path[0].as_str(), "crate" | "self" | "super" | "Self");
        match path.len() {
            // The `use` was recorded.
            1 if known || is_keyword || is_global => (),
            1 => self.record(line(span), Kind::Name, path),
            _ if is_global => self.record(line(span), Kind::Path, path),
            _ => {
                let path = self.resolve(&path);
                self.record(line(span), Kind::Path, path);
            }
        }
    }

    fn refer_use(&mut self, item: &ItemUse) {
        for mut leaf in leaves(item) {
            if !leaf.is_global {
                leaf.path = self.resolve(&leaf.path);
            }
            if leaf.name.is_none() {
                leaf.path.push("*".to_owned());
            }
            self.record(line(leaf.span), Kind::Use, leaf.path);
        }
    }

    /// The absolute form of `path`: replaces `crate`, `self`, `super` and imported names.
    fn resolve(&self, path: &[String]) -> Path {
        let mut path = path.to_vec();
        // A chain of imports is short; the bound ends a chain that leads back to itself.
        for _ in 0..8 {
            match path[0].as_str() {
                "crate" => break,
                "self" => return in_crate(&self.module, &path[1..]),
                "super" => {
                    let ups = path.iter().take_while(|segment| *segment == "super").count();
                    let depth = self.module.len().saturating_sub(ups);
                    return in_crate(&self.module[..depth], &path[ups..]);
                }
                first => match self.scopes.iter().rev().find_map(|names| names.get(first)) {
                    Some(to) if to[0] != first => path.splice(..1, to.iter().cloned()).for_each(drop),
                    _ => break,
                },
            }
        }
        path
    }

    /// Finds paths, macro calls and `use` declarations in the body of a macro or an attribute.
    fn read_tokens(&mut self, tokens: TokenStream, is_attribute: bool) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let uses: Vec<(usize, Item)> = (0..trees.len()).filter_map(|at| use_at(&trees, at)).collect();
        self.scopes.push(self.declared(uses.iter().map(|(_, item)| item)));
        for (_, item) in &uses {
            self.visit_item(item);
        }
        let is_punct = |at: usize, wanted: char| matches!(trees.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted);
        let is_colons = |at: usize| is_punct(at, ':') && is_punct(at + 1, ':');
        let mut at = 0;
        while at < trees.len() {
            let next = match &trees[at] {
                TokenTree::Group(group) => {
                    self.read_tokens(group.stream(), is_attribute);
                    at + 1
                }
                TokenTree::Literal(literal) if is_attribute => {
                    self.read_string(&literal.to_string(), literal.span());
                    at + 1
                }
                TokenTree::Ident(first) => {
                    let mut path = vec![name(first)];
                    let mut end = at + 1;
                    while is_colons(end)
                        && let Some(TokenTree::Ident(segment)) = trees.get(end + 2)
                    {
                        path.push(name(segment));
                        end += 3;
                    }
                    let before = |back: usize| at.checked_sub(back);
                    let is_field = before(1).is_some_and(|one| is_punct(one, '.'))
                        && !before(2).is_some_and(|two| is_punct(two, '.'));
                    let is_global = before(2).is_some_and(is_colons);
                    // In `<T>::name` the name belongs to the type.
                    let is_associated = is_global && before(3).is_some_and(|three| is_punct(three, '>'));
                    let declares = uses.iter().find(|(start, _)| *start == at);
                    let is_call =
                        is_punct(end, '!') && matches!(trees.get(end + 1), Some(TokenTree::Group(_)));
                    if is_call {
                        self.source.macros.push((line(first.span()), path[path.len() - 1].clone()));
                    }
                    if declares.is_some() {
                        end = at + trees[at..].iter().take_while(|tree| !is_semicolon(tree)).count();
                    } else if !is_field && !is_associated {
                        self.refer(first.span(), is_global, path);
                    }
                    end
                }
                _ => at + 1,
            };
            at = next;
        }
        self.scopes.pop();
    }

    /// Records the path that a string of an attribute spells, as in `#[serde(with = "crate::wire")]`.
    fn read_string(&mut self, literal: &str, span: Span) {
        let inner = literal.trim_matches('"');
        if inner.contains("::")
            && let Ok(path) = syn::parse_str::<syn::Path>(inner)
        {
            self.refer(span, path.leading_colon.is_some(), segments(&path));
        }
    }

    fn check_documented(&mut self, attributes: &[Attribute], signature: &Signature) {
        if matches!(signature.safety, Safety::Unsafe(_)) && !has_safety_section(attributes) {
            let found = (line(signature.ident.span()), format!("unsafe fn {}", signature.ident));
            self.source.undocumented_unsafe.push(found);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_test(&module.attrs) => {
                if module.content.is_none() {
                    self.source.test_modules.push(name(&module.ident));
                }
            }
            _ if is_test(attributes(item)) => (),
            Item::Verbatim(tokens) => self.read_tokens(tokens.clone(), false),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if let Some((_, items)) = &item.content {
            let path: Path = self.module.iter().cloned().chain([name(&item.ident)]).collect();
            self.read_module(&path, items);
        }
        for attribute in &item.attrs {
            self.visit_attribute(attribute);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.refer_use(item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.check_documented(&item.attrs, &item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        if item.unsafety.is_some() && !has_safety_section(&item.attrs) {
            let found = (line(item.ident.span()), format!("unsafe trait {}", item.ident));
            self.source.undocumented_unsafe.push(found);
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.check_documented(&item.attrs, &item.sig);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        // The trait's own declaration documents the functions of an implementation.
        for inner in item.items.iter().filter(|_| item.trait_.is_none()) {
            if let ImplItem::Fn(function) = inner {
                self.check_documented(&function.attrs, &function.sig);
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !is_test(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let items = block.stmts.iter().filter_map(|statement| match statement {
            syn::Stmt::Item(item) if !is_test(attributes(item)) => Some(item),
            _ => None,
        });
        self.scopes.push(self.declared(items));
        visit::visit_block(self, block);
        self.scopes.pop();
    }

    fn visit_expr(&mut self, expression: &'ast syn::Expr) {
        match expression {
            syn::Expr::Verbatim(tokens) => self.read_tokens(tokens.clone(), false),
            _ => visit::visit_expr(self, expression),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(first) = path.segments.first() {
            self.refer(first.ident.span(), path.leading_colon.is_some(), segments(path));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        if let Some(last) = item.path.segments.last() {
            self.source.macros.push((line(last.ident.span()), name(&last.ident)));
        }
        visit::visit_macro(self, item);
        self.read_tokens(item.tokens.clone(), false);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => {
                self.visit_path(&list.path);
                self.read_tokens(list.tokens.clone(), true);
            }
            _ if attribute.path().is_ident("doc") => (),
            _ => visit::visit_attribute(self, attribute),
        }
    }

    /// `pub(in crate::broker)` refers to nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// One imported name of a `use` declaration.
struct Leaf {
    span: Span,
    path: Path,
    /// The name in this scope; `None` for a glob.
    name: Option<String>,
    /// The path begins with `::`.
    is_global: bool,
}

fn leaves(item: &ItemUse) -> Vec<Leaf> {
    let mut found = Vec::new();
    add_leaves(&item.tree, Vec::new(), item.leading_colon.is_some(), &mut found);
    found
}

fn add_leaves(tree: &UseTree, mut path: Path, is_global: bool, into: &mut Vec<Leaf>) {
    let (ident, renamed) = match tree {
        UseTree::Path(tree) => {
            path.push(name(&tree.ident));
            return add_leaves(&tree.tree, path, is_global, into);
        }
        UseTree::Group(group) => {
            let branches = group.items.iter();
            return branches.for_each(|branch| add_leaves(branch, path.clone(), is_global, into));
        }
        UseTree::Glob(glob) => {
            let span = glob.star_token.spans[0];
            return into.push(Leaf { span, path, name: None, is_global });
        }
        UseTree::Name(tree) => (&tree.ident, None),
        UseTree::Rename(tree) => (&tree.ident, Some(name(&tree.rename))),
    };
    if ident != "self" || path.is_empty() {
        path.push(name(ident));
    }
    let name = renamed.or_else(|| path.last().cloned());
    into.push(Leaf { span: ident.span(), path, name, is_global });
}

/// The `use` declaration that begins at `at`, if there is one.
fn use_at(trees: &[TokenTree], at: usize) -> Option<(usize, Item)> {
    matches!(&trees[at], TokenTree::Ident(ident) if *ident == "use").then_some(())?;
    let length = trees[at..].iter().position(is_semicolon)? + 1;
    let tokens = trees[at..at + length].iter().cloned().collect();
    Some((at, Item::Use(syn::parse2(tokens).ok()?)))
}

fn is_semicolon(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ';')
}

fn find_unsafe(tokens: TokenStream, into: &mut Vec<usize>) {
    for tree in tokens {
        match tree {
            TokenTree::Group(group) => find_unsafe(group.stream(), into),
            TokenTree::Ident(ident) if ident == "unsafe" => into.push(line(ident.span())),
            _ => (),
        }
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

fn has_safety_section(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::NameValue(meta) => match &meta.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => {
                attribute.path().is_ident("doc") && text.value().trim() == "# Safety"
            }
            _ => false,
        },
        _ => false,
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item defines in its module. Modules and imports are kept apart.
fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name(ident))
}

fn segments(path: &syn::Path) -> Path {
    path.segments.iter().map(|segment| name(&segment.ident)).collect()
}

fn in_crate(module: &[String], rest: &[String]) -> Path {
    let root = std::iter::once("crate".to_owned());
    root.chain(module.iter().cloned()).chain(rest.iter().cloned()).collect()
}

fn name(ident: &Ident) -> String {
    ident.to_string().trim_start_matches("r#").to_owned()
}

fn line(span: Span) -> usize {
    span.start().line
}
