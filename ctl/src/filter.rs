//! `--filter KEY=VALUE`: values of one key are alternatives, different keys must all hold; labels must all hold.

use std::collections::BTreeMap;

/// One `--filter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    key: &'static str,
    value: String,
}

impl Filter {
    /// The filter in `text`, whose key is one of `keys`.
    ///
    /// # Errors
    /// No `=`, or another key.
    pub(crate) fn parse(text: &str, keys: &'static [&'static str]) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected one of {}",
                keys.iter().map(|key| format!("{key}=…")).collect::<Vec<_>>().join(", ")
            )
        };
        let (name, value) = text.split_once('=').ok_or_else(|| format!("it has no '=': {}", expected()))?;
        let key = keys.iter().find(|key| **key == name);
        let key = key.ok_or_else(|| format!("there is no filter {name:?}: {}", expected()))?;
        Ok(Self { key, value: value.to_owned() })
    }
}

/// Whether all `filters` hold by `test`, which is given a key and a value.
pub(crate) fn admits(filters: &[Filter], test: impl Fn(&str, &str) -> bool) -> bool {
    filters.iter().all(|filter| {
        let mut alternatives = filters.iter().filter(|other| other.key == filter.key);
        if filter.key == "label" {
            test(filter.key, &filter.value)
        } else {
            alternatives.any(|other| test(other.key, &other.value))
        }
    })
}

/// Whether `labels` has the wanted `KEY` or `KEY=VALUE`.
pub(crate) fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|own| own == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str]) -> Vec<Filter> {
        texts.iter().map(|text| Filter::parse(text, &["name", "label", "driver"]).unwrap()).collect()
    }

    #[test]
    fn values_of_a_key_are_alternatives_and_keys_must_all_hold() {
        let test = |key: &str, value: &str| key == "name" && value == "a" || key == "driver";
        assert!(admits(&filters(&[]), test));
        assert!(admits(&filters(&["name=a", "name=b", "driver=x"]), test));
        assert!(!admits(&filters(&["name=b", "driver=x"]), test));
    }

    #[test]
    fn all_labels_must_hold() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let test = |_key: &str, value: &str| has_label(&labels, value);
        assert!(admits(&filters(&["label=a", "label=a=1"]), test));
        assert!(!admits(&filters(&["label=a", "label=b"]), test));
        assert!(!admits(&filters(&["label=a=2"]), test));
    }

    #[test]
    fn an_unknown_filter_is_refused_with_the_known_ones() {
        let error = Filter::parse("size=1", &["name", "label"]).unwrap_err();
        assert_eq!(error, "there is no filter \"size\": expected one of name=…, label=…");
        assert!(Filter::parse("name", &["name"]).is_err());
    }
}
