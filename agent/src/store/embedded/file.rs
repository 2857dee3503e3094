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
        match &self.path {
            Some(path) => outcome.map_err(|fault| fault.of(path)),
            None => outcome,
        }
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
        Some(path) => {
            if !path.exists() {
                make(&builder, path)?;
            }
            builder.create(path)
        }
        None => builder.create_with_backend(InMemoryBackend::new()),
    }
}

/// Make the file, whole or not at all: a disk that is full in the middle must not leave one that is no database.
fn make(builder: &Builder, path: &Path) -> Result<(), DatabaseError> {
    let part = path.with_extension("part");
    // Of an earlier try that was killed.
    drop(std::fs::remove_file(&part));
    let made = builder.create(&part).and_then(|db| {
        drop(db);
        std::fs::rename(&part, path).map_err(|error| DatabaseError::Storage(error.into()))
    });
    if made.is_err() {
        // It may not even be there.
        drop(std::fs::remove_file(&part));
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_whole_although_half_of_one_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        // A half-made one of an earlier try is in the way of nobody.
        std::fs::write(dir.path().join("store.part"), "half").unwrap();
        drop(StoreFile::open(Some(&path)).unwrap());
        let files: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["store.redb"]);
    }

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
