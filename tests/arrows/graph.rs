//! The sources of a crate as a graph: which file names what of which other file. Code for tests is cut off before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use proc_macro2::{Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::Visit;
use syn::visit_mut::{self, VisitMut};
use syn::{Attribute, Item, Meta, UseTree};

/// Paths below `src/`, and what stands there.
pub type Sources = BTreeMap<String, String>;
/// `engine::worker` is ["engine", "worker"]; the root of the crate is [].
pub type Module = Vec<String>;

/// One file, without its tests.
pub struct File {
    pub path: String,
    pub module: Module,
    pub text: String,
    pub syntax: syn::File,
}

/// A path that stands somewhere in the code.
pub struct Reference {
    pub file: usize,
    pub line: usize,
    module: Module,
    path: Vec<String>,
}

/// An `impl` block.
pub struct Impl {
    pub file: usize,
    pub line: usize,
    pub module: Module,
    pub trait_path: Option<Vec<String>>,
    pub type_path: Vec<String>,
}

/// What a path leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Something that is defined in this file.
    Item(usize),
    /// A module itself.
    Module(Module),
    /// Something in a module of which only its macros know.
    Within(Module),
}

/// What the names of one module mean.
#[derive(Default)]
struct Scope {
    items: HashSet<String>,
    uses: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
}

/// All files of a crate.
#[derive(Default)]
pub struct Tree {
    pub files: Vec<File>,
    pub references: Vec<Reference>,
    pub impls: Vec<Impl>,
    modules: HashMap<Module, usize>,
    scopes: HashMap<Module, Scope>,
}

impl Tree {
    pub fn of(sources: &Sources) -> Tree {
        let mut tree = Tree::default();
        let mut parsed: Vec<(&String, &String, syn::File)> = Vec::new();
        let mut of_tests = Vec::new();
        for (path, text) in sources {
            let mut syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            of_tests.extend(test_files(path, &syntax.items));
            CutTests.visit_file_mut(&mut syntax);
            parsed.push((path, text, syntax));
        }
        let is_of_tests = |path: &str| {
            of_tests
                .iter()
                .any(|root: &String| path == root || path.starts_with(&format!("{}/", root.trim_end_matches(".rs"))))
        };
        for (path, text, syntax) in parsed.into_iter().filter(|(path, ..)| !is_of_tests(path)) {
            let module = module_of(path);
            tree.modules.insert(module.clone(), tree.files.len());
            tree.files.push(File { path: path.clone(), module, text: text.clone(), syntax });
        }
        for file in 0..tree.files.len() {
            let (module, items) = (tree.files[file].module.clone(), tree.files[file].syntax.items.clone());
            tree.collect(file, &module, &items);
        }
        tree
    }

    pub fn path(&self, file: usize) -> &str {
        &self.files[file].path
    }

    fn collect(&mut self, file: usize, module: &Module, items: &[Item]) {
        for item in items {
            if let Item::Mod(inner) = item {
                if let Some((_, items)) = &inner.content {
                    let module = joined(module, &[inner.ident.to_string()]);
                    self.modules.insert(module.clone(), file);
                    self.collect(file, &module, items);
                }
                continue;
            }
            let mut uses = Uses::default();
            uses.visit_item(item);
            let mut paths = uses.paths.clone();
            scan(item.to_token_stream(), &mut paths);
            let of_reference = |(path, line)| Reference { file, line, module: module.clone(), path };
            self.references.extend(paths.into_iter().map(of_reference));
            let scope = self.scopes.entry(module.clone()).or_default();
            scope.items.extend(name_of(item));
            scope.uses.extend(uses.names);
            scope.globs.extend(uses.globs);
            if let Item::Impl(found) = item {
                let trait_path = found.trait_.as_ref().map(|(_, path, _)| names(path));
                if let Some(type_path) = named_type(&found.self_ty) {
                    let line = found.impl_token.span.start().line;
                    self.impls.push(Impl { file, line, module: module.clone(), trait_path, type_path });
                }
            }
        }
    }

    /// The file of the module that a path names, by its words alone; None when it leads out of the crate.
    fn named_file(&self, module: &Module, path: &[String]) -> Option<usize> {
        let (mut at, rest) = self.start(module, path)?;
        let mut file = self.modules.get(&at).copied();
        for name in rest {
            at.push(name);
            file = self.modules.get(&at).copied().or(file);
        }
        file
    }

    fn has_below(&self, module: &[String], name: &str) -> bool {
        self.modules.contains_key(&joined(module, &[name.to_string()]))
    }

    /// Where a path begins, and what is left of it.
    fn start(&self, module: &Module, path: &[String]) -> Option<(Module, Vec<String>)> {
        let first = path.first()?;
        match first.as_str() {
            "crate" => Some((Vec::new(), path[1..].to_vec())),
            "self" => Some((module.clone(), path[1..].to_vec())),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                Some((module[..module.len().checked_sub(ups)?].to_vec(), path[ups..].to_vec()))
            }
            _ if self.has_below(module, first) => Some((module.clone(), path.to_vec())),
            _ => {
                let used = self.scopes.get(module)?.uses.get(first)?;
                let is_ours = |name: &str| matches!(name, "crate" | "self" | "super") || self.has_below(module, name);
                let (at, mut rest) = if is_ours(&used[0]) { self.start(module, used)? } else { return None };
                rest.extend_from_slice(&path[1..]);
                Some((at, rest))
            }
        }
    }

    /// What a path means, through every `pub use`; None when it leads out of the crate.
    pub fn resolve(&self, module: &Module, path: &[String]) -> Option<Target> {
        self.resolve_within(module, path, 16)
    }

    fn resolve_within(&self, module: &Module, path: &[String], depth: u32) -> Option<Target> {
        let depth = depth.checked_sub(1)?;
        let (at, rest) = match path.first()?.as_str() {
            "crate" | "self" | "super" => self.start(module, path)?,
            _ => return self.find(module, path, depth).filter(|target| !matches!(target, Target::Within(_))),
        };
        self.find(&at, &rest, depth)
    }

    /// Follows names downward from a module.
    fn find(&self, module: &Module, names: &[String], depth: u32) -> Option<Target> {
        let Some((first, rest)) = names.split_first() else { return Some(Target::Module(module.clone())) };
        let below = joined(module, std::slice::from_ref(first));
        if self.modules.contains_key(&below) {
            return self.find(&below, rest, depth);
        }
        let file = *self.modules.get(module)?;
        if let Some(scope) = self.scopes.get(module) {
            if scope.items.contains(first) {
                return Some(Target::Item(file));
            }
            if let Some(used) = scope.uses.get(first) {
                return match self.resolve_within(module, used, depth)? {
                    Target::Module(module) => self.find(&module, rest, depth),
                    other => Some(other),
                };
            }
            for glob in &scope.globs {
                let Some(Target::Module(of_glob)) = self.resolve_within(module, glob, depth) else { continue };
                let Some(depth) = depth.checked_sub(1).filter(|_| of_glob != *module) else { continue };
                if let Some(found @ (Target::Item(_) | Target::Module(_))) = self.find(&of_glob, names, depth) {
                    return Some(found);
                }
            }
        }
        Some(Target::Within(module.clone()))
    }

    /// The file that a reference reaches in the end, when that is another one. A module above that is only passed
    /// through is none.
    pub fn reached(&self, reference: &Reference) -> Option<usize> {
        let target = self.resolve(&reference.module, &reference.path)?;
        let own = &self.files[reference.file].module;
        let file = match target {
            Target::Item(file) => file,
            Target::Module(module) if own.starts_with(&module) => return None,
            Target::Module(module) | Target::Within(module) => *self.modules.get(&module)?,
        };
        (file != reference.file).then_some(file)
    }

    /// For each file those that it names, with the line. The heads of the folders that a file stands in do not count,
    /// and neither do the files of a folder for its head.
    fn arrows(&self) -> Vec<BTreeMap<usize, usize>> {
        let mut arrows = vec![BTreeMap::new(); self.files.len()];
        for reference in &self.references {
            let Some(to) = self.named_file(&reference.module, &reference.path) else { continue };
            let (from, to_module) = (&self.files[reference.file].module, &self.files[to].module);
            if !from.starts_with(to_module) && !to_module.starts_with(from) {
                arrows[reference.file].entry(to).or_insert(reference.line);
            }
        }
        arrows
    }

    /// The circles of files: each with its arrows.
    pub fn circles(&self) -> Vec<String> {
        let arrows = self.arrows();
        let reach: Vec<BTreeSet<usize>> = (0..self.files.len()).map(|file| reachable(&arrows, file)).collect();
        let mut told = BTreeSet::new();
        let mut circles = Vec::new();
        for file in 0..self.files.len() {
            let circle: Vec<usize> =
                reach[file].iter().copied().filter(|other| reach[*other].contains(&file)).collect();
            if circle.is_empty() || !told.insert(circle.clone()) {
                continue;
            }
            let mut text = format!("{} files in a circle:", circle.len());
            for from in &circle {
                for (to, line) in arrows[*from].iter().filter(|(to, _)| circle.contains(to)) {
                    text += &format!(" {}:{line} names {};", self.path(*from), self.path(*to));
                }
            }
            circles.push(text.trim_end_matches(';').to_string());
        }
        circles
    }
}

fn reachable(arrows: &[BTreeMap<usize, usize>], from: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut next = vec![from];
    while let Some(file) = next.pop() {
        next.extend(arrows[file].keys().copied().filter(|to| found.insert(*to)));
    }
    found
}

fn joined(module: &[String], names: &[String]) -> Module {
    [module, names].concat()
}

fn module_of(path: &str) -> Module {
    let mut module: Module = path.trim_end_matches(".rs").split('/').map(str::to_string).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    module
}

/// The names of a path, without its generic arguments.
pub fn names(path: &syn::Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

/// The path of the type that an `impl` is for, if it has a name.
fn named_type(of: &syn::Type) -> Option<Vec<String>> {
    match of {
        syn::Type::Path(path) if path.qself.is_none() => Some(names(&path.path)),
        syn::Type::Reference(reference) => named_type(&reference.elem),
        syn::Type::Group(group) => named_type(&group.elem),
        syn::Type::Paren(paren) => named_type(&paren.elem),
        syn::Type::TraitObject(object) => object.bounds.iter().find_map(|bound| match bound {
            syn::TypeParamBound::Trait(bound) => Some(names(&bound.path)),
            _ => None,
        }),
        _ => None,
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// `use` items, those inside of functions, too.
#[derive(Default)]
struct Uses {
    paths: Vec<(Vec<String>, usize)>,
    names: HashMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
}

impl Uses {
    fn add(&mut self, before: &[String], tree: &UseTree) {
        let (ident, name, line) = match tree {
            UseTree::Path(path) => return self.add(&joined(before, &[path.ident.to_string()]), &path.tree),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.add(before, tree)),
            UseTree::Glob(glob) => {
                self.paths.push((before.to_vec(), glob.star_token.spans[0].start().line));
                return self.globs.push(before.to_vec());
            }
            UseTree::Name(name) => (&name.ident, &name.ident, name.ident.span().start().line),
            UseTree::Rename(name) => (&name.ident, &name.rename, name.ident.span().start().line),
        };
        // `use a::{self}` names a.
        let path =
            if ident == "self" && !before.is_empty() { before.to_vec() } else { joined(before, &[ident.to_string()]) };
        let name = if name == "self" { path.last().cloned().unwrap_or_default() } else { name.to_string() };
        self.paths.push((path.clone(), line));
        self.names.insert(name, path);
    }
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.add(&[], &item.tree);
        }
    }
}

/// The paths of two names and more in code, macros included; `use` items are told apart.
fn scan(tokens: TokenStream, found: &mut Vec<(Vec<String>, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_punct =
        |place: usize, c: char| matches!(tokens.get(place), Some(TokenTree::Punct(punct)) if punct.as_char() == c);
    let is_joint =
        |place: usize| matches!(&tokens[place], TokenTree::Punct(punct) if punct.spacing() == Spacing::Joint);
    let is_colons = |place: usize| is_punct(place, ':') && is_joint(place) && is_punct(place + 1, ':');
    let mut place = 0;
    while place < tokens.len() {
        match &tokens[place] {
            TokenTree::Group(group) => scan(group.stream(), found),
            TokenTree::Ident(ident) if ident == "use" && !is_punct(place + 1, '<') => {
                while place < tokens.len() && !is_punct(place, ';') {
                    place += 1;
                }
            }
            TokenTree::Ident(ident) => {
                let goes_on = place >= 2 && is_colons(place - 2);
                let mut path = vec![ident.to_string()];
                let line = ident.span().start().line;
                while is_colons(place + 1) {
                    let Some(TokenTree::Ident(next)) = tokens.get(place + 3) else { break };
                    path.push(next.to_string());
                    place += 3;
                }
                if path.len() > 1 && !goes_on {
                    found.push((path, line));
                }
            }
            _ => {}
        }
        place += 1;
    }
}

/// Whether something is compiled for tests alone.
pub fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("cfg") && list.parse_args::<Meta>().is_ok_and(|meta| needs_test(&meta))
    })
}

fn needs_test(meta: &Meta) -> bool {
    match meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => {
            let parse = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
            list.parse_args_with(parse).is_ok_and(|parts| parts.iter().any(needs_test))
        }
        _ => false,
    }
}

/// The files of the modules that a file has for its tests.
fn test_files(path: &str, items: &[Item]) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let below =
        |folder: &str, name: &str| if folder.is_empty() { name.to_string() } else { format!("{folder}/{name}") };
    let own = match name {
        "mod.rs" | "lib.rs" => folder.to_string(),
        _ => path.trim_end_matches(".rs").to_string(),
    };
    let modules = items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_none() && is_test(&module.attrs) => Some(module),
        _ => None,
    });
    modules
        .map(|module| match given_path(&module.attrs) {
            Some(given) => below(folder, &given),
            None => below(&own, &format!("{}.rs", module.ident)),
        })
        .collect()
}

/// What `#[path = "..."]` says.
pub fn given_path(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

struct CutTests;

impl VisitMut for CutTests {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| !is_test(item_attributes(item)));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| !is_test(item_attributes(item)));
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, block: &mut syn::ItemImpl) {
        block.items.retain(|item| match item {
            syn::ImplItem::Fn(item) => !is_test(&item.attrs),
            syn::ImplItem::Const(item) => !is_test(&item.attrs),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, block);
    }

    fn visit_block_mut(&mut self, block: &mut syn::Block) {
        block.stmts.retain(|statement| match statement {
            syn::Stmt::Item(item) => !is_test(item_attributes(item)),
            syn::Stmt::Local(local) => !is_test(&local.attrs),
            syn::Stmt::Expr(syn::Expr::Block(inner), _) => !is_test(&inner.attrs),
            syn::Stmt::Macro(call) => !is_test(&call.attrs),
            _ => true,
        });
        visit_mut::visit_block_mut(self, block);
    }
}

fn item_attributes(item: &Item) -> &[Attribute] {
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
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
