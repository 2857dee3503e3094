//! A source file as far as it matters here: the paths in it that lead to another room or to a foreign crate.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mention {
    /// To this item of our crate's root: a room.
    Own(String),
    /// To whatever else has this name: a foreign crate, or an item that was imported.
    Foreign(String),
}

/// A path to something in our crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The names on the way from the crate's root.
    pub(crate) to: Vec<String>,
    /// What it is called where it was imported; None: the path is not an import.
    pub(crate) name: Option<String>,
    /// Others import it from here.
    pub(crate) handed_on: bool,
}

/// A file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Below `src`.
    pub(crate) path: PathBuf,
    /// The first part of the path.
    pub(crate) room: String,
    /// The module that it is.
    pub(crate) module: Vec<String>,
    /// Its paths to our own crate.
    pub(crate) routes: Vec<Route>,
    /// Paths in it, by line.
    pub(crate) mentions: Vec<(usize, Mention)>,
    /// Whole paths in it to other crates, by line.
    pub(crate) foreign: Vec<(usize, Vec<String>)>,
    /// Kinds of drivers that it names, as `Driver::Bridge`, by line.
    pub(crate) kinds: Vec<(usize, String)>,
    /// Modules that it declares for tests alone, as paths below `src` without an ending.
    pub(crate) test_modules: Vec<PathBuf>,
}

/// A word or a sign, and its line.
type Token = (usize, String);

impl Source {
    /// Reads a file; None for the crate's own roots, which belong to no room.
    pub(crate) fn read(path: &Path, text: &str) -> Option<Self> {
        let plain = path.with_extension("");
        let room = plain.iter().next()?.to_str()?.to_owned();
        if ["lib", "main"].contains(&room.as_str()) {
            return None;
        }
        // The module that the file is: `a/b/mod.rs` and `a/b.rs` are both `a::b`.
        let module = if plain.ends_with("mod") { plain.parent()?.to_owned() } else { plain };
        let (tokens, tests) = without_tests(tokens(text));
        let test_modules = tests.iter().map(|name| module.join(name)).collect();
        let mentions = mentions(&tokens, module.iter().count());
        let kinds = kinds(&tokens);
        let foreign = foreign(&tokens);
        let module: Vec<String> =
            module.iter().map(|name| name.to_str().map(str::to_owned)).collect::<Option<_>>()?;
        let routes = routes(&tokens, &module);
        Some(Self { path: path.to_owned(), room, module, routes, mentions, foreign, kinds, test_modules })
    }
}

/// Words and signs, without comments and without what is in literals. `::` is one sign.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = token_end(&chars, at);
        let piece: String = chars[at..end].iter().collect();
        let first = chars[at];
        let is_sign =
            !first.is_whitespace() && !first.is_ascii_digit() && end - at <= 2 && !piece.starts_with("//");
        if first.is_alphabetic() || first == '_' {
            // A literal with a prefix, b"…" or r#"…"#, says nothing.
            if !piece.contains('"') {
                tokens.push((line, piece.clone()));
            }
        } else if is_sign && !piece.starts_with('"') && !piece.starts_with('\'') {
            tokens.push((line, piece.clone()));
        }
        line += piece.matches('\n').count();
        at = end;
    }
    tokens
}

/// The literal strings in a text, as they are written, with the lines that they begin in.
pub(crate) fn literals(text: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = token_end(&chars, at);
        let piece: String = chars[at..end].iter().collect();
        if piece.ends_with('"') && !piece.starts_with('/') && piece.len() > 1 {
            found.push((line, piece.trim_matches('"').to_owned()));
        }
        line += piece.matches('\n').count();
        at = end;
    }
    found
}

/// Where the token that starts at `at` ends.
fn token_end(chars: &[char], at: usize) -> usize {
    let get = |index: usize| chars.get(index).copied().unwrap_or('\0');
    match (get(at), get(at + 1)) {
        ('/', '/') => (at..chars.len()).find(|index| chars[*index] == '\n').unwrap_or(chars.len()),
        ('/', '*') => block_comment_end(chars, at),
        ('"', _) => string_end(chars, at),
        ('\'', '\\') => {
            (at + 3..chars.len()).find(|index| chars[*index] == '\'').map_or(chars.len(), |end| end + 1)
        }
        ('\'', _) if get(at + 2) == '\'' => at + 3,
        // A lifetime, with its name.
        ('\'', _) => word_end(chars, at + 1),
        (':', ':') => at + 2,
        (first, _) if first.is_alphanumeric() || first == '_' => {
            let end = word_end(chars, at);
            let word: String = chars[at..end].iter().collect();
            match (word.as_str(), get(end)) {
                ("b" | "c", '"') => string_end(chars, end),
                ("r" | "br" | "cr", '"' | '#') => raw_string_end(chars, end).unwrap_or(end),
                _ => end,
            }
        }
        _ => at + 1,
    }
}

fn word_end(chars: &[char], at: usize) -> usize {
    let inside = |index: &usize| !(chars[*index].is_alphanumeric() || chars[*index] == '_');
    (at..chars.len()).find(inside).unwrap_or(chars.len())
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut index = at + 1;
    while index < chars.len() && chars[index] != '"' {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    (index + 1).min(chars.len())
}

/// None: no raw string after all, but a raw identifier.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|sign| **sign == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let start = at + hashes + 1;
    let found = chars[start..].windows(closing.len()).position(|window| window == closing);
    Some(found.map_or(chars.len(), |place| start + place + closing.len()))
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut index, mut depth) = (at + 2, 1);
    while index < chars.len() && depth > 0 {
        match (chars[index], chars.get(index + 1)) {
            ('/', Some('*')) => (index, depth) = (index + 2, depth + 1),
            ('*', Some('/')) => (index, depth) = (index + 2, depth - 1),
            _ => index += 1,
        }
    }
    index
}

/// The tokens without each item that is under `#[cfg(test)]`; the names of its modules that are files of their own.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut files) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let is = |index: usize, word: &str| tokens.get(index).is_some_and(|(_, token)| token == word);
        if !ATTRIBUTE.iter().enumerate().all(|(index, word)| is(at + index, word)) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let start = at + ATTRIBUTE.len();
        let (mut index, mut depth) = (start, 0_usize);
        // The item ends with a semicolon or a closing brace of its own.
        while index < tokens.len() {
            match tokens[index].1.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            index += 1;
            if depth == 0 && (is(index - 1, ";") || is(index - 1, "}")) {
                break;
            }
        }
        if let Some(name) = (start..index).find(|word| is(*word, "mod")).filter(|_| is(index - 1, ";")) {
            files.push(tokens[name + 1].1.clone());
        }
        at = index;
    }
    (kept, files)
}

/// The paths among the tokens of a module that is `depth` below the crate's root.
fn mentions(tokens: &[Token], depth: usize) -> Vec<(usize, Mention)> {
    let word = |index: usize| tokens.get(index).map_or("", |(_, token)| token.as_str());
    let mut found = Vec::new();
    for (at, (line, token)) in tokens.iter().enumerate() {
        let follows = at > 0 && ["::", "."].contains(&word(at - 1));
        let leads = word(at + 1) == "::";
        if follows || token == "::" {
            continue;
        }
        match token.as_str() {
            "crate" if leads => found.extend(heads(tokens, at + 2)),
            "super" if leads => {
                let supers =
                    (at..tokens.len()).step_by(2).take_while(|index| word(*index) == "super").count();
                if supers >= depth {
                    found.extend(heads(tokens, at + 2 * supers));
                }
            }
            "self" => {}
            // `use redb;` and `extern crate redb` lead there too.
            name if leads || ["use", "crate"].contains(&word(at.wrapping_sub(1))) => {
                found.push((*line, Mention::Foreign(name.to_owned())));
            }
            _ => {}
        }
    }
    found
}

/// Where a driver, or the settings of one, is named by its kind. Functions and constants of the type name none.
fn kinds(tokens: &[Token]) -> Vec<(usize, String)> {
    let is_kind = |word: &str| {
        ["{", "*"].contains(&word)
            || word.starts_with(char::is_uppercase) && word.contains(char::is_lowercase)
    };
    let named = |window: &[Token]| match window {
        [(line, of), (_, path), (_, kind)]
            if ["Driver", "DriverSettings"].contains(&of.as_str()) && path == "::" && is_kind(kind) =>
        {
            Some((*line, format!("{of}::{kind}")))
        }
        _ => None,
    };
    tokens.windows(3).filter_map(named).collect()
}

/// The paths to our own crate among the tokens of a module.
fn routes(tokens: &[Token], module: &[String]) -> Vec<Route> {
    let word = |index: usize| tokens.get(index).map_or("", |(_, token)| token.as_str());
    let declared = (0..tokens.len()).filter(|at| word(*at) == "mod" && word(at + 2) == ";");
    let modules: BTreeSet<&str> = declared.map(|at| word(at + 1)).collect();
    let mut found = Vec::new();
    for (at, (_, token)) in tokens.iter().enumerate() {
        let follows = at > 0 && ["::", "."].contains(&word(at - 1));
        if follows || word(at + 1) != "::" {
            continue;
        }
        let (base, from) = match token.as_str() {
            "crate" => (Vec::new(), at + 2),
            "self" => (module.to_vec(), at + 2),
            "super" => {
                let supers =
                    (at..tokens.len()).step_by(2).take_while(|index| word(*index) == "super").count();
                (module[..module.len().saturating_sub(supers)].to_vec(), at + 2 * supers)
            }
            name if modules.contains(name) => (module.to_vec(), at),
            _ => continue,
        };
        let imported = at > 0 && word(at - 1) == "use";
        let handed_on = imported && at > 1 && ["pub", ")"].contains(&word(at - 2));
        let mut end = from;
        for (to, name) in branches(tokens, &mut end, &base) {
            found.push(Route { to, name: imported.then_some(name), handed_on });
        }
    }
    found
}

/// The whole paths to other crates among the tokens.
fn foreign(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let word = |index: usize| tokens.get(index).map_or("", |(_, token)| token.as_str());
    let mut found = Vec::new();
    for (at, (line, token)) in tokens.iter().enumerate() {
        let follows = at > 0 && ["::", "."].contains(&word(at - 1));
        let names = token.starts_with(|first: char| first.is_lowercase());
        if follows || word(at + 1) != "::" || !names || ["crate", "self", "super"].contains(&token.as_str()) {
            continue;
        }
        let mut end = at + 2;
        let all = branches(tokens, &mut end, std::slice::from_ref(token));
        found.extend(all.into_iter().map(|(path, _)| (*line, path)));
    }
    found
}

/// Every path of the tree that begins at `at`, after `base`, with the name that it is imported by; `at` is then after the tree.
fn branches(tokens: &[Token], at: &mut usize, base: &[String]) -> Vec<(Vec<String>, String)> {
    let word = |index: usize| tokens.get(index).map_or("", |(_, token)| token.as_str());
    let mut path = base.to_vec();
    loop {
        let token = word(*at).to_owned();
        *at += 1;
        if token == "{" {
            let mut all = Vec::new();
            while *at < tokens.len() && word(*at) != "}" {
                let before = *at;
                all.extend(branches(tokens, at, &path));
                if word(*at) == "," || *at == before {
                    *at += 1;
                }
            }
            *at += 1;
            return all;
        }
        let is_name = token == "*" || token.starts_with(|first: char| first.is_alphabetic() || first == '_');
        if token != "self" && is_name {
            path.push(token);
        }
        if word(*at) != "::" {
            break;
        }
        *at += 1;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if word(*at) == "as" {
        word(*at + 1).clone_into(&mut name);
        *at += 2;
    }
    vec![(path, name)]
}

/// The first word of each path that goes on at `at`: one word, or those of a group in braces.
fn heads(tokens: &[Token], at: usize) -> Vec<(usize, Mention)> {
    let own = |(line, token): &Token| (*line, Mention::Own(token.clone()));
    let Some(first) = tokens.get(at) else { return Vec::new() };
    if first.1 != "{" {
        return vec![own(first)];
    }
    let (mut heads, mut depth, mut expected) = (Vec::new(), 1, true);
    for token in &tokens[at + 1..] {
        match token.1.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => expected = true,
            _ if depth == 1 && expected => {
                heads.push(own(token));
                expected = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<(usize, Mention)> {
        let mut mentions = Source::read(Path::new(path), text).unwrap().mentions;
        mentions.retain(|(_, mention)| matches!(mention, Mention::Own(_)));
        mentions
    }

    fn own(line: usize, name: &str) -> (usize, Mention) {
        (line, Mention::Own(name.to_owned()))
    }

    #[test]
    fn paths_from_the_crate_are_found_with_their_lines() {
        let text = "use crate::{\n    model::{Mac, Vni},\n    plan,\n};\nfn f() -> crate::store::Key {}\n";
        assert_eq!(found("service/x.rs", text), [own(2, "model"), own(3, "plan"), own(5, "store")]);
    }

    #[test]
    fn a_path_up_to_the_root_is_found_and_one_that_stays_below_is_not() {
        assert_eq!(found("a/b.rs", "use super::c::D; use super::super::e::F;"), [own(1, "e")]);
        assert_eq!(found("a/mod.rs", "use super::e::F;"), [own(1, "e")]);
    }

    #[test]
    fn comments_literals_and_tests_say_nothing() {
        let text = "//! [`crate::a`]\n/* use crate::b; /* */ */ const C: &str = \"crate::c\"; const D: &str = r#\"\"crate::d\"#;
            const E: char = '\"'; fn f<'a>(x: &'a str) {}\n#[cfg(test)]\nmod tests { use crate::g; fn h() { {} } }\n\
            #[cfg(test)]\npub(crate) mod testing;\nuse crate::z::Y;\n";
        assert_eq!(found("x/mod.rs", text), [own(8, "z")]);
        let source = Source::read(Path::new("x/mod.rs"), text).unwrap();
        assert_eq!(source.test_modules, [PathBuf::from("x/testing")]);
    }

    #[test]
    fn kinds_of_drivers_are_found_and_functions_of_the_type_are_not() {
        let text = "use crate::model::{Driver, DriverSettings};\nuse Driver::{Bridge, P2p};\nuse Driver::*;\n\
            const A: Driver = crate::model::Driver::Overlay;\nfn f() { Driver::default(); Driver::ALL; }\n\
            fn g(s: DriverSettings) -> bool { matches!(s, DriverSettings::P2p) }\n\
            #[cfg(test)]\nmod tests { const B: Driver = Driver::Bridge; }";
        let kind = |line: usize, name: &str| (line, name.to_owned());
        let expected = [
            kind(2, "Driver::{"),
            kind(3, "Driver::*"),
            kind(4, "Driver::Overlay"),
            kind(6, "DriverSettings::P2p"),
        ];
        assert_eq!(Source::read(Path::new("a.rs"), text).unwrap().kinds, expected);
    }

    #[test]
    fn foreign_crates_are_found_wherever_they_are_named() {
        let text = "use redb;\nuse foca::{Timer, x::Y};\nfn f() { nix::unistd::sync(); }";
        let mentions = Source::read(Path::new("a.rs"), text).unwrap().mentions;
        let foreign = |name: &str| Mention::Foreign(name.to_owned());
        assert_eq!(
            mentions,
            [(1, foreign("redb")), (2, foreign("foca")), (2, foreign("x")), (3, foreign("nix"))]
        );
    }
}
