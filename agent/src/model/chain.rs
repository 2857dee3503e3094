//! An error with its causes, as one line: for a status, a log, and other texts that people read.

use std::error::Error;

/// An error with all its causes, in one line. A cause whose text is already in the line is left out, because
/// the layers of a transport repeat each other.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Layer {
        words: &'static str,
        #[source]
        source: Option<Box<Layer>>,
    }

    fn layers(words: &[&'static str]) -> Option<Box<Layer>> {
        let (words, deeper) = words.split_first()?;
        Some(Box::new(Layer { words, source: layers(deeper) }))
    }

    #[test]
    fn an_error_is_told_with_its_causes_each_of_them_once() {
        let told = |words: &[&'static str]| chain(&*layers(words).unwrap());
        assert_eq!(told(&["add vxlan v0"]), "add vxlan v0");
        assert_eq!(told(&["add vxlan v0", "File exists"]), "add vxlan v0: File exists");
        assert_eq!(
            told(&["cannot list", "transport error", "refused"]),
            "cannot list: transport error: refused"
        );
        assert_eq!(
            told(&["cannot list: refused", "refused", "port closed"]),
            "cannot list: refused: port closed"
        );
    }
}
