//! What a server does under attack: in each siege a great many attackers of one kind, and honest
//! clients beside them that must not notice. Each siege is held once more without the one limit
//! that holds it, and then the harm must be seen: so these tests can fail.
//!
//! Most run in simulated time. What each saw is printed as one row, also when it holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

#[path = "abuse/crowd.rs"]
mod crowd;
#[path = "abuse/files.rs"]
mod files;
#[path = "abuse/flood.rs"]
mod flood;
#[path = "abuse/hall.rs"]
mod hall;
#[path = "abuse/readers.rs"]
mod readers;
#[path = "abuse/siege.rs"]
mod siege;
#[path = "abuse/size.rs"]
mod size;
#[path = "abuse/slow.rs"]
mod slow;

/// For a deadline that is switched off.
const NEVER: Duration = Duration::from_secs(1_000_000);
