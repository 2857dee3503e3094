//! Did it happen? What to make of a change whose answer was lost, from what the store shows afterwards.
//!
//! Pure: `client` reads, this decides. A change counts as made when everything that it writes is there, written by one
//! transaction after it was sent; one that others have since undone counts as not made, and its guards decide the retry.

use super::{Entry, Write};

/// What the store shows for one write of the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The key that it writes or deletes.
    Key(Option<Entry>),
    /// How many keys are in the range that it deletes.
    Count(i64),
}

/// The revision that made the change, if it was made after `base`, going by what the store showed at revision `now`.
pub(super) fn made_at(writes: &[Write], seen: &[Found], base: i64, now: i64) -> Option<i64> {
    let mut revision = None;
    if writes.len() != seen.len() {
        return None;
    }
    for (write, seen) in writes.iter().zip(seen) {
        let (value, lease) = match write {
            Write::Put(_, value) => (value, 0),
            Write::PutLeased(_, value, lease) => (value, *lease),
            Write::Delete(_) | Write::DeleteRange(_) => continue,
        };
        let Found::Key(Some(entry)) = seen else { return None };
        let ours = entry.value == *value && entry.lease == lease && entry.mod_revision > base;
        if !ours || revision.is_some_and(|other| other != entry.mod_revision) {
            return None;
        }
        revision = Some(entry.mod_revision);
    }
    let gone = |(write, seen): (&Write, &Found)| match write {
        Write::Put(..) | Write::PutLeased(..) => true,
        Write::Delete(_) | Write::DeleteRange(_) => matches!(seen, Found::Key(None) | Found::Count(0)),
    };
    // With puts to go by, deleted keys may be back already; without, deleting again would do no harm either.
    revision.or_else(|| writes.iter().zip(seen).all(gone).then_some(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::Vni,
        store::{Key, KeyRange},
    };

    fn key() -> Key {
        Key::Vni(Vni::new(1).unwrap())
    }

    fn has(value: &'static str, mod_revision: i64) -> Found {
        Found::Key(Some(Entry { key: key().to_string(), value: value.into(), mod_revision, lease: 0 }))
    }

    #[test]
    fn a_change_was_made_when_all_its_values_came_with_one_later_revision() {
        let writes = [Write::Put(key(), "a".into()), Write::Put(key(), "b".into()), Write::Delete(key())];
        let gone = Found::Key(None);
        assert_eq!(made_at(&writes, &[has("a", 8), has("b", 8), gone.clone()], 7, 9), Some(8));
        assert_eq!(made_at(&writes, &[has("a", 8), has("b", 8), has("back", 9)], 7, 9), Some(8));
        assert_eq!(made_at(&writes, &[has("a", 7), has("b", 7), gone.clone()], 7, 9), None, "it is older");
        assert_eq!(made_at(&writes, &[has("a", 8), has("b", 9), gone.clone()], 7, 9), None, "two changes");
        assert_eq!(made_at(&writes, &[has("a", 8), has("x", 8), gone.clone()], 7, 9), None, "another value");
        assert_eq!(made_at(&writes, &[has("a", 8), gone.clone(), gone], 7, 9), None, "a value is missing");
    }

    #[test]
    fn a_change_that_only_deletes_was_made_when_nothing_is_left() {
        let writes = [Write::Delete(key()), Write::DeleteRange(KeyRange::everything())];
        assert_eq!(made_at(&writes, &[Found::Key(None), Found::Count(0)], 7, 9), Some(9));
        assert_eq!(made_at(&writes, &[Found::Key(None), Found::Count(1)], 7, 9), None);
        assert_eq!(made_at(&writes, &[has("a", 3), Found::Count(0)], 7, 9), None);
    }

    #[test]
    fn a_lease_is_part_of_what_was_written() {
        assert_eq!(made_at(&[Write::PutLeased(key(), "a".into(), 5)], &[has("a", 8)], 7, 9), None);
    }
}
