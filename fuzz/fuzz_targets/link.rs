//! See `pitaya_properties::link`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pitaya_properties::link(data));
