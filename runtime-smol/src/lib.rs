//! Pitaya on smol.
