//! Prints JSON values as Go's templates print theirs.

use serde_json::Value;

/// Appends `value` as `{{.}}` prints it: text as it is, `[a b]`, `map[k:v]`, `<no value>`.
pub(super) fn print(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("<no value>"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => out.push_str(text),
        Value::Array(list) => {
            out.push('[');
            for (at, element) in list.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                print(out, element);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push_str("map[");
            for (at, (key, element)) in map.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                out.push_str(key);
                out.push(':');
                print(out, element);
            }
            out.push(']');
        }
    }
}

/// The text that [`print`] appends.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    print(&mut out, value);
    out
}

/// Whether `{{if}}` takes the value for true: neither false, zero, empty nor absent.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}
