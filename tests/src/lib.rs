//! The simulator, a third runtime, and the tests that use it and the real ones.

pub mod raw;
pub mod sim;
