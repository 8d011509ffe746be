//! Any segments, errors and pauses on both sides of the SYN proxy: nothing leaves that may not, and every checksum of it is right.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| nva_tests::hostile::splice(bytes));
