//! Any bytes as an export of the cloud's: the import ends, and what comes out is a good configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nva_tests::hostile::import(bytes));
