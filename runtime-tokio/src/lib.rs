//! Pitaya on tokio.
