//! The albedo program: an allocator, the command line, an exit code.

use std::process::ExitCode;

use anyhow::Context;

/// Many small allocations on many threads, freed where they were not made: what mimalloc is for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match albedo::cli::main(std::env::args_os()).context("the answer could not be given") {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("albedo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
