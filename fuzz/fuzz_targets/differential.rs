//! hyper reads the same requests, or we refuse them.
#![no_main]

#[path = "../../tests/it/differential/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::assert_agreement(bytes));
