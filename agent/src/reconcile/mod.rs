//! The standing loop: what changed, what is wanted, what is there, apply.
