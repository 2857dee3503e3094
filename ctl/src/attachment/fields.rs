//! Fields between commas, where double quotes keep a comma: `a,"b=1,2"` (RFC 4180, and a quote may also stand inside a field).

/// The fields of `text`.
///
/// # Errors
/// A quote is not closed.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // Two quotes within quotes are one that belongs to the field.
            '"' if quoted && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(format!("the quote in {text:?} is not closed: expected a second '\"'"));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quotes_keep_commas() {
        assert_eq!(split("a=1,\"b=2,3\",c"), Ok(vec!["a=1".into(), "b=2,3".into(), "c".into()]));
        assert_eq!(split("b=\"2,3\""), Ok(vec!["b=2,3".into()]));
        assert_eq!(split("\"say \"\"a\"\"\""), Ok(vec!["say \"a\"".into()]));
        assert_eq!(split(""), Ok(vec![String::new()]));
        assert!(split("a,\"b").unwrap_err().contains("is not closed"));
    }

    proptest! {
        #[test]
        fn quoted_fields_come_back(fields in prop::collection::vec("[a-c=,\" ]{0,8}", 1..5)) {
            let quoted: Vec<_> = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            prop_assert_eq!(split(&quoted.join(",")), Ok(fields));
        }
    }
}
