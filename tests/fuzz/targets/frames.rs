//! Any bytes as frames over time through the whole path: no panic, one verdict a frame, every buffer back at the end.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nva_tests::hostile::frames(bytes));
