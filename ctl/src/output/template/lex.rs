//! Cuts a template into text and actions, and actions into tokens.

use super::TemplateError;

/// A stretch of the template.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    /// Copied to the output; `\t` and `\n` are already tab and line feed.
    Text(String),
    /// What stood between `{{` and `}}`.
    Action(Vec<Spaced>),
}

/// A token and whether white space stood before it (`.A.B` is a chain, `.A .B` are two arguments).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spaced {
    pub(super) token: Token,
    pub(super) spaced: bool,
}

/// The smallest parts of an action.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Dot,
    Field(String),
    /// Without the `$`; empty for `$` itself.
    Variable(String),
    Word(String),
    Text(String),
    Number(i64),
    Declare,
    Assign,
    Pipe,
    Comma,
    Open,
    Close,
}

/// The stretches of `source`, comments left out and `{{-`/`-}}` obeyed.
///
/// # Errors
/// An action that is not closed, or a character that does not belong into one.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = source;
    let mut trim = false;
    while let Some(at) = rest.find("{{") {
        let (text, mut action) = (&rest[..at], &rest[at + 2..]);
        let trims_before = action.strip_prefix('-').filter(|after| after.starts_with(char::is_whitespace));
        push_text(&mut pieces, text, trim, trims_before.is_some());
        action = trims_before.unwrap_or(action);
        let closed = match action.trim_start().strip_prefix("/*") {
            Some(comment) => after_comment(comment)?,
            None => {
                let (tokens, closed) = tokens(action)?;
                pieces.push(Piece::Action(tokens));
                closed
            }
        };
        (rest, trim) = (closed.rest, closed.trims_after);
    }
    push_text(&mut pieces, rest, trim, false);
    Ok(pieces)
}

/// What follows a closed action.
struct Closed<'a> {
    rest: &'a str,
    trims_after: bool,
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
    }
}

fn after_comment(comment: &str) -> Result<Closed<'_>, TemplateError> {
    let wrong = || TemplateError::new("a comment is not closed: expected */}}");
    let (_comment, after) = comment.split_once("*/").ok_or_else(wrong)?;
    closing(after).ok_or_else(wrong)
}

/// The rest after `}}` or ` -}}`, if the action ends here.
fn closing(text: &str) -> Option<Closed<'_>> {
    let trimmed = text.trim_start();
    if let Some(rest) = trimmed.strip_prefix("}}") {
        return Some(Closed { rest, trims_after: false });
    }
    let spaced = trimmed.len() < text.len();
    trimmed.strip_prefix("-}}").filter(|_rest| spaced).map(|rest| Closed { rest, trims_after: true })
}

fn tokens(action: &str) -> Result<(Vec<Spaced>, Closed<'_>), TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = action;
    loop {
        if let Some(closed) = closing(rest) {
            return Ok((tokens, closed));
        }
        let trimmed = rest.trim_start();
        if trimmed.is_empty() {
            return Err(TemplateError::new(format!("{:?} is not closed: expected }}}}", excerpt(action))));
        }
        let spaced = tokens.is_empty() || trimmed.len() < rest.len();
        let (token, after) = token(trimmed)?;
        tokens.push(Spaced { token, spaced });
        rest = after;
    }
}

/// The start of `text`, for an error message.
fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(24).collect();
    short.insert_str(0, "{{");
    short
}

fn token(text: &str) -> Result<(Token, &str), TemplateError> {
    let signs = [
        (":=", Token::Declare),
        ("=", Token::Assign),
        ("|", Token::Pipe),
        (",", Token::Comma),
        ("(", Token::Open),
        (")", Token::Close),
    ];
    for (sign, token) in signs {
        if let Some(after) = text.strip_prefix(sign) {
            return Ok((token, after));
        }
    }
    if let Some(after) = text.strip_prefix('.') {
        let (name, rest) = word(after);
        return Ok((if name.is_empty() { Token::Dot } else { Token::Field(name.into()) }, rest));
    }
    if let Some(after) = text.strip_prefix('$') {
        let (name, rest) = word(after);
        return Ok((Token::Variable(name.into()), rest));
    }
    if let Some(after) = text.strip_prefix('"') {
        return quoted(after);
    }
    if let Some(after) = text.strip_prefix('`') {
        let (raw, rest) =
            after.split_once('`').ok_or_else(|| TemplateError::new("a ` is not closed by a second one"))?;
        return Ok((Token::Text(raw.into()), rest));
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+')) {
        return number(text);
    }
    let (name, rest) = word(text);
    if name.is_empty() {
        let unexpected = text.chars().next().unwrap_or_default();
        return Err(TemplateError::new(format!("{unexpected:?} is not expected in {{{{…}}}}")));
    }
    Ok((Token::Word(name.into()), rest))
}

/// The leading letters, digits and `_` of `text`, and the rest.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len()))
}

fn number(text: &str) -> Result<(Token, &str), TemplateError> {
    let end = text.char_indices().skip(1).find(|(_at, c)| !(c.is_alphanumeric() || matches!(c, '_' | '.')));
    let (digits, rest) = text.split_at(end.map_or(text.len(), |(at, _c)| at));
    let number = digits
        .parse()
        .map_err(|_reason| TemplateError::new(format!("{digits:?} is not a whole number of 64 bits")))?;
    Ok((Token::Number(number), rest))
}

/// A Go string after its opening `"`.
fn quoted(text: &str) -> Result<(Token, &str), TemplateError> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_at, 'n')) => out.push('\n'),
                Some((_at, 't')) => out.push('\t'),
                Some((_at, 'r')) => out.push('\r'),
                Some((_at, plain @ ('"' | '\\' | '\''))) => out.push(plain),
                Some((_at, other)) => {
                    return Err(TemplateError::new(format!(
                        "unknown escape \\{other} in a string: there are \\n \\t \\r \\\" \\\\"
                    )));
                }
                None => break,
            },
            plain => out.push(plain),
        }
    }
    Err(TemplateError::new("a string is not closed: expected \""))
}
