//! See `pitaya_properties::web_socket`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pitaya_properties::web_socket(data));
