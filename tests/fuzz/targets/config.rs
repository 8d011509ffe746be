//! Any bytes as a configuration: it ends, and every problem has a place in the file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nva_tests::hostile::config(bytes));
