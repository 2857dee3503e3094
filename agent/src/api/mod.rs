//! The gRPC service over the unix socket: thin over the verbs.
