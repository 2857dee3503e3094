//! `ovagent`, the per-host agent of ovnet.

fn main() {}
