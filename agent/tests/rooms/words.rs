//! Phrases that made people stop when they read a message aloud.

use super::source::literals;

/// Each with what says the same in fewer or plainer words.
const STUMBLES: &[(&str, &str)] = &[
    ("all the same", "anyway"),
    (" alone", "only"),
    ("a person ", "you"),
    (" hear of", "learn"),
    (" hears of", "learns"),
    ("is told", "is set, is given"),
    ("goes by", "follows, uses"),
    ("stands for", "means"),
    ("not as wanted", "cannot apply"),
    ("as wanted again", "in sync again"),
    ("taken back", "rolled back"),
    ("at work on", "still running"),
    ("goes on as", "keeps working"),
    ("go on as", "keep working"),
    ("is tried again", "retrying"),
    ("does not say so", "its watch has not delivered it"),
    ("choose another", "choose a different"),
    ("another kind", "a different kind"),
    ("stands in", "is in"),
    ("somebody", "an operator, a different program"),
    ("cannot be told", "cannot find out"),
    ("stranger", "an unknown node"),
];

/// The phrases of these in the messages of a source file, with their lines. What is compiled for tests only is left out.
pub(crate) fn stumbles(text: &str) -> Vec<(usize, String)> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let mut found = Vec::new();
    for (line, literal) in literals(text) {
        let plain = unbroken(&literal);
        for (phrase, better) in STUMBLES.iter().filter(|(phrase, _)| plain.contains(phrase)) {
            found.push((line, format!("\"{}\" in \"{plain}\": say {better}", phrase.trim())));
        }
    }
    found
}

/// A literal that goes on in the next line after a backslash, in one line.
fn unbroken(literal: &str) -> String {
    let mut parts = literal.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_in_messages_and_nowhere_else() {
        let text = "//! all the same\nfn f() { say(\"it goes on all \\\n    the same\") }\nconst A: &str = \"leave it\"; // is told\n\
                    #[cfg(test)]\nmod tests { const B: &str = \"goes by\"; }\n";
        let found = stumbles(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 == 2 && found[0].1.contains("anyway"), "{found:?}");
    }
}
