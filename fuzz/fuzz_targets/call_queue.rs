//! See `pitaya_properties::call_queue`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pitaya_properties::call_queue(data));
