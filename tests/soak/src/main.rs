//! The ledger soak: everything at once for minutes or hours, and an account of every single request at the end.

mod balancer;
mod certificates;
mod client;
mod clock;
mod content;
mod fault;
mod frames;
mod history;
mod ledger;
mod plan;
mod report;
mod stage;
mod target;
mod wire;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// What the command line says.
struct Arguments {
    minutes: f64,
    seed: u64,
    albedo: PathBuf,
}

fn main() -> ExitCode {
    let outcome = arguments().and_then(|arguments| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(stage::play(&arguments))
    });
    match outcome {
        Ok(report::Outcome::Clean) => ExitCode::SUCCESS,
        Ok(report::Outcome::Dirty) => ExitCode::FAILURE,
        Err(error) => {
            println!("FAIL the soak cannot run: {error:#}\n0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments> {
    let mut found = Arguments {
        minutes: 2.0,
        seed: fastrand::u64(..1_000_000),
        albedo: PathBuf::from("target/release/albedo"),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} needs a value"))
        };
        match word.as_str() {
            "--minutes" => found.minutes = value()?.parse()?,
            "--seed" => found.seed = value()?.parse()?,
            "--albedo" => found.albedo = value()?.into(),
            _ => bail!("usage: run [--minutes N] [--seed S] [--albedo BINARY]"),
        }
    }
    if !(0.5..=6000.0).contains(&found.minutes) {
        bail!("--minutes is from 0.5 to 6000");
    }
    Ok(found)
}
