//! Values and time to decisions.
