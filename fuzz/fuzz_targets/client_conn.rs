//! See `pitaya_properties::client_conn`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| pitaya_properties::client_conn(data));
