//! See `pitaya_properties::message_decode`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pitaya_properties::message_decode(data));
