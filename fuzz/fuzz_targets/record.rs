#![no_main]
#![allow(unsafe_code)] // the entry point that libFuzzer looks for has a name of its choice

libfuzzer_sys::fuzz_target!(|data: &[u8]| parti_fuzz::record(data));
