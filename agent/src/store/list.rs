//! Lists: all keys of a range at one revision, in few pages.
//!
//! For each page etcd before 3.5 walks all that is left of the range, to count it: a list in many pages costs it the square of
//! their number. A page is as large as an answer may be with records of the usual size, and smaller where that was too much.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicI64, Ordering},
};

use super::{Entry, KeyRange, Listing, Store, StoreError, client::PAGE, history::History, wire};

/// Entries of a page over a line that brings no larger one in time.
const PAGE_MIN: i64 = 1000;
/// By how much a page gets smaller.
const LESS: i64 = 4;
/// Entries of a list: a thousand networks with a thousand endpoints each.
const ENTRIES_MAX: usize = 1_000_000;
/// How often a list starts again because its revision was compacted away meanwhile.
const TRIES: u32 = 3;
const OPERATION: &str = "list keys";

/// A list that is under way.
struct Pages {
    /// Where the next page begins.
    from: Vec<u8>,
    /// Of the first page, and so of all.
    history: Option<History>,
    entries: Vec<Entry>,
    count: u32,
}

impl Store {
    /// Everything in `range`, at one revision.
    ///
    /// # Errors
    /// No answer, a refusal, or more than a million entries.
    pub async fn list(&self, range: &KeyRange) -> Result<Listing, StoreError> {
        self.list_with_history(range).await.map(|(listing, _)| listing)
    }

    pub(super) async fn list_with_history(&self, range: &KeyRange) -> Result<(Listing, History), StoreError> {
        let mut tries = 1;
        loop {
            match self.list_once(range).await {
                Err(StoreError::Compacted { .. }) if tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    async fn list_once(&self, range: &KeyRange) -> Result<(Listing, History), StoreError> {
        let from = range.start.clone().into_bytes();
        let mut pages = Pages { from, history: None, entries: Vec::new(), count: 0 };
        let size = &self.shared.page;
        loop {
            match self.next_page(range, &mut pages).await {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(history)) => {
                    // The next list is of other keys, or the line a better one.
                    size.store(PAGE, Ordering::Relaxed);
                    let Pages { entries, count, .. } = pages;
                    return Ok((Listing { revision: history.revision, entries, pages: count }, history));
                }
                Err(StoreError::TooLarge { .. })
                    if pages.entries.len() <= ENTRIES_MAX && smaller(size, 1) => {}
                Err(error) => {
                    // Whoever lists again later asks for less at a time.
                    if error.is_late() {
                        smaller(size, PAGE_MIN);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// One page more. The history that all of them show comes back with the last one.
    async fn next_page(
        &self,
        range: &KeyRange,
        pages: &mut Pages,
    ) -> Result<ControlFlow<History>, StoreError> {
        let mut options = wire::ranged(range).with_limit(self.shared.page.load(Ordering::Relaxed));
        if let Some(history) = pages.history {
            options = options.with_revision(history.revision);
        }
        let (key, options, answer_max) = (&pages.from, &options, self.shared.answer_max);
        let mut page = self
            .read(OPERATION, |client| async move {
                let mut kv = client.kv_client().max_decoding_message_size(answer_max);
                kv.get(key.clone(), Some(options.clone())).await
            })
            .await?;
        let seen = self.history(OPERATION, page.header())?;
        let history = *pages.history.get_or_insert(seen);
        pages.count += 1;
        let more = page.more();
        // The next page starts right after the last key, text or not.
        let last = page.kvs().last().map(|kv| kv.key().to_vec());
        pages.entries.append(&mut wire::entries(&mut page));
        if pages.entries.len() > ENTRIES_MAX {
            let what = format!("there are more than {ENTRIES_MAX} keys");
            return Err(StoreError::TooLarge { operation: OPERATION, what });
        }
        match last {
            Some(last) if more => {
                pages.from = last;
                pages.from.push(0);
                Ok(ControlFlow::Continue(()))
            }
            Some(_) | None => Ok(ControlFlow::Break(history)),
        }
    }
}

/// Make pages smaller, to this many entries at least; false: they were that small already.
fn smaller(page: &AtomicI64, least: i64) -> bool {
    let less = |size: i64| (size > least).then(|| (size / LESS).max(least));
    page.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        model::Vni,
        store::{Commit, Embedded, Key},
    };

    #[tokio::test]
    async fn a_page_that_is_too_large_is_asked_for_again_smaller() {
        const COUNT: u32 = 30;
        let mut store = Store::embedded(&Embedded::open(None).unwrap());
        let value = Bytes::from(vec![b'x'; 100 << 10]);
        for number in 1..=COUNT {
            let key = Key::Vni(Vni::new(number).unwrap());
            store.commit(Commit::new().put(key, value.clone())).await.unwrap();
        }
        // Less than all of them have, as endpoints with very many published ports may have more than 64 MiB.
        Arc::get_mut(&mut store.shared).unwrap().answer_max = 1 << 20;
        let listing = store.list(&KeyRange::everything()).await.unwrap();
        assert_eq!(listing.entries.len(), COUNT as usize);
        assert!(listing.entries.is_sorted_by(|one, other| one.key < other.key));
        assert_eq!(listing.pages, 8, "of four keys each");
        assert_eq!(
            store.shared.page.load(Ordering::Relaxed),
            PAGE,
            "the next list may be of smaller records"
        );
    }

    #[tokio::test]
    async fn one_record_that_is_too_large_is_an_error() {
        let mut store = Store::embedded(&Embedded::open(None).unwrap());
        let commit = Commit::new().put(Key::Vni(Vni::new(1).unwrap()), vec![b'x'; 100 << 10]);
        store.commit(commit).await.unwrap();
        Arc::get_mut(&mut store.shared).unwrap().answer_max = 10 << 10;
        let error = store.list(&KeyRange::everything()).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");
    }

    #[test]
    fn a_page_gets_smaller_down_to_the_least() {
        let page = AtomicI64::new(PAGE);
        let sizes = std::iter::from_fn(|| smaller(&page, PAGE_MIN).then(|| page.load(Ordering::Relaxed)));
        assert_eq!(sizes.collect::<Vec<_>>(), [5000, 1250, PAGE_MIN]);
    }
}
