//! List, follow and commit on the etcd v3 API: a real etcd or the embedded server.
