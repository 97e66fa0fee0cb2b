#![no_main]
#![allow(missing_docs)] // what the target does is told in the library
#![allow(unsafe_code)] // the entry point has the name that libFuzzer looks for

libfuzzer_sys::fuzz_target!(|data: &[u8]| parti_fuzz::recording(data));
