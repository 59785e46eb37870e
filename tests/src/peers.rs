//! The table of peers, of which each run of tests against one adds a row.

/// Adds a row. They have a mark of their own, by which `.ci/run` finds them among all else.
pub fn add(peer: &str, transport: &str, runtime: &str, passed: usize, failed: usize) {
    println!("PEER  {peer:35}  {transport:4}  {runtime:18}  {passed:4} passed  {failed:3} failed");
}
