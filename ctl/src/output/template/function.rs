//! The functions of templates: Docker's (`json`, `join`, `upper` …) and the common ones of Go (`len`, `index`, `eq` …).

use std::{borrow::Cow, cmp::Ordering};

use serde_json::Value;

use super::{TemplateError, show};

/// Widest that `pad` and `printf` make a text, in characters.
const MAX_WIDTH: usize = 1024;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    And,
    Eq,
    Ge,
    Gt,
    Index,
    Join,
    Json,
    Le,
    Len,
    Lower,
    Lt,
    Ne,
    Not,
    Or,
    Pad,
    Print,
    Printf,
    Println,
    Split,
    Title,
    Truncate,
    Upper,
}

/// Name, function, least and most arguments, and an example.
const TABLE: &[(&str, Function, usize, usize, &str)] = &[
    ("and", Function::And, 1, 16, "and .Internal .EnableIPv6"),
    ("eq", Function::Eq, 2, 16, "eq .Driver \"overlay\""),
    ("ge", Function::Ge, 2, 2, "ge .MTU 1450"),
    ("gt", Function::Gt, 2, 2, "gt .MTU 1450"),
    ("index", Function::Index, 1, 16, "index .Labels \"a\""),
    ("join", Function::Join, 2, 2, "join .HostRoutes \",\""),
    ("json", Function::Json, 1, 1, "json .Labels"),
    ("le", Function::Le, 2, 2, "le .MTU 1450"),
    ("len", Function::Len, 1, 1, "len .Containers"),
    ("lower", Function::Lower, 1, 1, "lower .Name"),
    ("lt", Function::Lt, 2, 2, "lt .MTU 1450"),
    ("ne", Function::Ne, 2, 2, "ne .Scope \"local\""),
    ("not", Function::Not, 1, 1, "not .Internal"),
    ("or", Function::Or, 1, 16, "or .Internal .EnableIPv6"),
    ("pad", Function::Pad, 3, 3, "pad .Name 1 1"),
    ("print", Function::Print, 0, 16, "print .Name .Id"),
    ("printf", Function::Printf, 1, 16, "printf \"%-10s %d\" .Name .VNI"),
    ("println", Function::Println, 0, 16, "println .Name"),
    ("split", Function::Split, 2, 2, "split .Name \"-\""),
    ("title", Function::Title, 1, 1, "title .Driver"),
    ("truncate", Function::Truncate, 2, 2, "truncate .Id 12"),
    ("upper", Function::Upper, 1, 1, "upper .Name"),
];

/// An argument.
type Argument<'a> = Cow<'a, Value>;

impl Function {
    /// The function called `name`.
    ///
    /// # Errors
    /// There is none: the error lists those that there are.
    pub(super) fn named(name: &str) -> Result<Self, TemplateError> {
        TABLE.iter().find(|row| row.0 == name).map(|row| row.1).ok_or_else(|| {
            let known: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
            TemplateError::new(format!("unknown function {name:?}: there are {}", known.join(", ")))
        })
    }

    /// # Errors
    /// `count` arguments are too few or too many.
    pub(super) fn check_count(self, count: usize) -> Result<(), TemplateError> {
        match TABLE.iter().find(|row| row.1 == self) {
            Some((name, _function, least, most, example)) if count < *least || count > *most => {
                Err(TemplateError::new(format!("{name} does not take {count} arguments: {{{{{example}}}}}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The function's value for arguments of the right number.
    ///
    /// # Errors
    /// An argument of a kind that the function cannot use.
    pub(super) fn call(self, arguments: Vec<Argument<'_>>) -> Result<Value, TemplateError> {
        let [first, second] = [0, 1].map(|at| arguments.get(at).map_or(&Value::Null, |value| &**value));
        Ok(match self {
            Self::Json => first.to_string().into(),
            Self::Upper => text("upper", first)?.to_uppercase().into(),
            Self::Lower => text("lower", first)?.to_lowercase().into(),
            Self::Title => title(text("title", first)?).into(),
            Self::Join => join(first, text("join", second)?)?,
            Self::Split => split(text("split", first)?, text("split", second)?),
            Self::Truncate => {
                text("truncate", first)?.chars().take(width("truncate", second)?).collect::<String>().into()
            }
            Self::Pad => {
                let after = arguments.get(2).map_or(&Value::Null, |value| &**value);
                let (before, after) = (width("pad", second)?, width("pad", after)?);
                format!("{:before$}{}{:after$}", "", text("pad", first)?, "").into()
            }
            Self::Len => length(first)?.into(),
            Self::Index => index(&arguments)?,
            Self::Not => (!show::is_true(first)).into(),
            Self::And => choose(arguments, false),
            Self::Or => choose(arguments, true),
            Self::Eq => arguments.iter().skip(1).any(|other| **other == *first).into(),
            Self::Ne => (first != second).into(),
            Self::Lt => (order(first, second)? == Ordering::Less).into(),
            Self::Le => (order(first, second)? != Ordering::Greater).into(),
            Self::Gt => (order(first, second)? == Ordering::Greater).into(),
            Self::Ge => (order(first, second)? != Ordering::Less).into(),
            Self::Print => print(&arguments, "").into(),
            Self::Println => (print(&arguments, " ") + "\n").into(),
            Self::Printf => printf(&arguments)?.into(),
        })
    }
}

fn text<'v>(function: &str, value: &'v Value) -> Result<&'v str, TemplateError> {
    value.as_str().ok_or_else(|| {
        TemplateError::new(format!(
            "{function} expects text, got {:?}: try {{{{json …}}}}",
            show::text(value)
        ))
    })
}

fn width(function: &str, value: &Value) -> Result<usize, TemplateError> {
    let width = value.as_u64().and_then(|width| usize::try_from(width).ok());
    width.filter(|width| *width <= MAX_WIDTH).ok_or_else(|| {
        TemplateError::new(format!(
            "{function} expects a number from 0 to {MAX_WIDTH}, got {:?}",
            show::text(value)
        ))
    })
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn join(list: &Value, separator: &str) -> Result<Value, TemplateError> {
    let Some(list) = list.as_array() else {
        return Err(TemplateError::new(format!("join expects a list, got {:?}", show::text(list))));
    };
    let parts: Vec<String> = list.iter().map(show::text).collect();
    Ok(parts.join(separator).into())
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).collect()
}

fn length(value: &Value) -> Result<usize, TemplateError> {
    match value {
        Value::String(text) => Ok(text.len()),
        Value::Array(list) => Ok(list.len()),
        Value::Object(map) => Ok(map.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            Err(TemplateError::new(format!("len expects text, a list or a map, got {:?}", show::text(value))))
        }
    }
}

/// `index .List 0`, `index .Map "key"`, and further levels with further arguments. A missing key is empty text, as
/// for Go's map of strings.
fn index(arguments: &[Argument<'_>]) -> Result<Value, TemplateError> {
    let mut levels = arguments.iter();
    let mut value = levels.next().map_or(&Value::Null, |value| &**value);
    for key in levels {
        let found = match (value, &**key) {
            (Value::Array(list), Value::Number(at)) => {
                let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| list.get(at)).ok_or_else(|| {
                    TemplateError::new(format!(
                        "index {} is out of range: the list has {}",
                        key.as_ref(),
                        list.len()
                    ))
                })?
            }
            (Value::Object(map), Value::String(key)) => match map.get(key) {
                Some(found) => found,
                None => return Ok("".into()),
            },
            _ => {
                let kinds = format!("index cannot take {} of {:?}", key.as_ref(), show::text(value));
                return Err(TemplateError::new(kinds + ": expected a position of a list or a key of a map"));
            }
        };
        value = found;
    }
    Ok(value.clone())
}

/// The first argument whose truth is `wanted`, else the last.
fn choose(arguments: Vec<Argument<'_>>, wanted: bool) -> Value {
    let mut last = Value::Null;
    for argument in arguments {
        last = argument.into_owned();
        if show::is_true(&last) == wanted {
            break;
        }
    }
    last
}

fn order(left: &Value, right: &Value) -> Result<Ordering, TemplateError> {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64().partial_cmp(&right.as_f64()),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    };
    order.ok_or_else(|| {
        let kinds = format!("{:?} and {:?} cannot be compared", show::text(left), show::text(right));
        TemplateError::new(kinds + ": expected two numbers or two texts")
    })
}

fn print(arguments: &[Argument<'_>], between: &str) -> String {
    let parts: Vec<String> = arguments.iter().map(|value| show::text(value)).collect();
    parts.join(between)
}

/// Go's `%s %v %d %t %q %%` with an optional `-`, zero padding and width.
fn printf(arguments: &[Argument<'_>]) -> Result<String, TemplateError> {
    let mut rest = text("printf", arguments.first().map_or(&Value::Null, |value| &**value))?;
    let mut values = arguments.iter().skip(1);
    let mut out = String::new();
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let end = after.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(after.len());
        let (flags, verb) = after.split_at(end);
        let wrong =
            || TemplateError::new(format!("printf: %{flags}{} is not known", verb.get(..1).unwrap_or("")));
        let value = values.next().ok_or_else(|| TemplateError::new("printf has fewer values than verbs"))?;
        let shown = match verb.bytes().next() {
            Some(b's' | b'v' | b'd' | b't') => show::text(value),
            Some(b'q') => Value::String(show::text(value)).to_string(),
            Some(_) | None => return Err(wrong()),
        };
        let digits = flags.trim_start_matches('-');
        let width: usize = if digits.is_empty() { 0 } else { digits.parse().map_err(|_reason| wrong())? };
        if width > MAX_WIDTH {
            return Err(wrong());
        }
        let padded = match (flags.starts_with('-'), digits.starts_with('0')) {
            (true, _zero) => format!("{shown:<width$}"),
            (false, true) => format!("{shown:0>width$}"),
            (false, false) => format!("{shown:>width$}"),
        };
        out.push_str(&padded);
        rest = verb.get(1..).unwrap_or("");
    }
    out.push_str(rest);
    Ok(out)
}
