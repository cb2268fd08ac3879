//! No text makes the reader of configurations panic, and what it takes passes its own check.
#![no_main]

use std::path::Path;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok((config, _warnings)) = albedo::config::parse(text, Path::new("fuzz.yaml")) {
        albedo::config::check(&config).expect("what was read is sound");
    }
});
