//! x
mod output;
fn main() {}
