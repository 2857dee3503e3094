//! `ovctl`, the command line of ovnet.

fn main() {}
