//! The store's file. After an I/O error redb serves nothing more until the file is opened anew: it is closed then, and
//! opened again when it is next needed, so that a disk that was full for a while costs no restart.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction,
    backends::InMemoryBackend,
};

use super::fault::Fault;

/// Pages of the file that are kept in memory, in bytes.
const CACHE: usize = 1 << 20;

/// The database, while it is open.
pub(super) struct StoreFile {
    /// None: in memory.
    path: Option<PathBuf>,
    db: Mutex<Option<Database>>,
    /// It was closed since the last [`StoreFile::was_closed`].
    closed: AtomicBool,
}

impl StoreFile {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, DatabaseError> {
        let db = open(path)?;
        Ok(Self { path: path.map(Path::to_owned), db: Mutex::new(Some(db)), closed: AtomicBool::new(false) })
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        self.with(|db| Ok(db.begin_write()?))
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, Fault> {
        self.with(|db| Ok(db.begin_read()?))
    }

    /// Whether what was known of its contents has to be read again. The answer is given once.
    pub(super) fn was_closed(&self) -> bool {
        self.closed.swap(false, Ordering::AcqRel)
    }

    /// Take note of how a transaction ended, all of whose parts have been dropped.
    pub(super) fn ended<T>(&self, outcome: Result<T, Fault>) -> Result<T, Fault> {
        if outcome.as_ref().is_err_and(Fault::is_io) {
            self.close();
        }
        outcome
    }

    fn close(&self) {
        if self.path.is_some() {
            self.closed.store(true, Ordering::Release);
            drop(self.lock().take());
        }
    }

    fn with<T>(&self, begin: impl FnOnce(&Database) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut db = self.lock();
        let open = match db.take() {
            Some(open) => open,
            None => open(self.path.as_deref()).map_err(|error| Fault::Storage(Box::new(error.into())))?,
        };
        begin(db.insert(open))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Database>> {
        // Nobody leaves it half changed.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: Option<&Path>) -> Result<Database, DatabaseError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    match path {
        Some(path) => builder.create(path),
        None => builder.create_with_backend(InMemoryBackend::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_closed_after_an_error_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = StoreFile::open(Some(&dir.path().join("store.redb"))).unwrap();
        let full = || Err::<(), _>(Fault::Storage(Box::new(redb::Error::PreviousIo)));
        assert!(file.ended(full()).is_err());
        assert!(file.was_closed() && !file.was_closed(), "told once");
        file.begin_write().unwrap().commit().unwrap();
        assert!(file.ended(Err::<(), _>(Fault::KeyNotFound)).is_err());
        assert!(!file.was_closed(), "a refusal is no reason to close it");
    }
}
