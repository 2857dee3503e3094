//! The configuration: flags, environment, file; every mistake is reported at once.
