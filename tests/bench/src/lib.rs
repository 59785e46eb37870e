//! Ratios against the limits of the machine.
