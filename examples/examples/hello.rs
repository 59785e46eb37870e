//! The smallest server that can be called.

fn main() {}
