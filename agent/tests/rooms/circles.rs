//! Files that import each other in a circle, by the paths in them. A path leads to the file that has the item: names that a
//! file only hands on (`pub use`) are followed. What a folder's own file and the files below it have of each other is no circle:
//! it is their face, or their frame.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Route, Source};

/// A module, as the names on the way to it from the crate's root.
type Module = Vec<String>;

/// How far a name is followed that is handed on.
const HANDED_ON: usize = 8;

/// The circles among these files: in each, every file imports, by way of others or not, every other one.
pub(crate) fn circles(sources: &[Source]) -> Vec<Vec<String>> {
    let files: BTreeMap<&Module, &Source> = sources.iter().map(|source| (&source.module, source)).collect();
    let imports: BTreeMap<&Module, BTreeSet<&Module>> = sources
        .iter()
        .map(|source| {
            let targets = source.routes.iter().filter_map(|route| resolve(&files, &route.to, HANDED_ON));
            let aside =
                |target: &&Module| !(target.starts_with(&source.module) || source.module.starts_with(target));
            (&source.module, targets.filter(aside).collect())
        })
        .collect();
    let reach: BTreeMap<&Module, BTreeSet<&Module>> =
        imports.keys().map(|module| (*module, reachable(&imports, module))).collect();
    let mut circles = BTreeSet::new();
    for (module, reached) in &reach {
        if reached.contains(module) {
            let circle: BTreeSet<&Module> =
                reached.iter().copied().filter(|other| reach[other].contains(module)).collect();
            circles.insert(circle);
        }
    }
    circles.into_iter().map(|circle| circle.into_iter().map(|module| module.join("::")).collect()).collect()
}

/// The file that a path from the crate's root leads to.
fn resolve<'a>(
    files: &BTreeMap<&'a Module, &'a Source>,
    path: &[String],
    further: usize,
) -> Option<&'a Module> {
    let length = (1..=path.len()).rev().find(|length| files.contains_key(&path[..*length].to_vec()))?;
    let (module, source) = files.get_key_value(&path[..length].to_vec())?;
    let Some(name) = path.get(length).filter(|_| further > 0) else { return Some(module) };
    let handed_on = |route: &&Route| route.handed_on && route.name.as_ref() == Some(name);
    match source.routes.iter().find(handed_on) {
        Some(route) => resolve(files, &route.to, further - 1),
        None => Some(module),
    }
}

fn reachable<'a>(
    imports: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
    from: &Module,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = imports[from].iter().copied().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&imports[module]);
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::read(Path::new(path), text).unwrap()).collect();
        circles(&sources)
    }

    #[test]
    fn files_that_import_each_other_are_a_circle_however_long() {
        let circle = found(&[
            ("a/b.rs", "use super::c::{D, e};"),
            ("a/c.rs", "use crate::a::f;\nfn g() { f::h() }"),
            ("a/f.rs", "fn i() { super::b::j() }"),
            ("a/k.rs", "use super::b::L;"),
        ]);
        assert_eq!(circle, [["a::b", "a::c", "a::f"]]);
        assert_eq!(found(&[("a/b.rs", "use super::c::D;"), ("a/c.rs", "")]), [[""; 0]; 0]);
    }

    #[test]
    fn a_name_that_is_handed_on_leads_to_the_file_that_has_it() {
        let face = ("a/mod.rs", "mod b; mod c;\npub use self::{b::B, c::C as D};");
        assert_eq!(found(&[face, ("a/b.rs", "use super::D;"), ("a/c.rs", "")]), [[""; 0]; 0]);
        assert_eq!(found(&[face, ("a/b.rs", "use super::D;"), ("a/c.rs", "use crate::a::B;")]).len(), 1);
        let own = ("a/mod.rs", "use self::b::B;\npub struct E;");
        assert_eq!(found(&[own, ("a/b.rs", "use super::E;")]), [[""; 0]; 0], "its frame");
    }
}
