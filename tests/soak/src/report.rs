//! What is told at the end, and whether all of it is as it should be.

use crate::balancer::Holds;
use crate::clock::{Millis, shown};
use crate::ledger::Ledger;
use crate::plan::Phases;

pub(crate) const CALM: &str = "calm";
pub(crate) const UPHEAVAL: &str = "upheaval";
pub(crate) const ENDURANCE: &str = "endurance";

/// Part of the endurance that is not looked at: memory is still being got, pools are still filled.
const WARM_UP: f64 = 0.3;

/// What a process may hold more at the end of its endurance than at the beginning, by the slope of all samples: noise
/// of a load that is never the same twice.
const MEMORY_GROWTH_MAX: f64 = 6.0 * 1024.0 * 1024.0;
const DESCRIPTOR_GROWTH_MAX: f64 = 40.0;
const THREAD_GROWTH_MAX: f64 = 1.0;

/// Descriptors at rest beyond those of the start.
const DESCRIPTORS_LEFT_MAX: u64 = 4;

/// What a process held at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Millis,
    pub(crate) process: u32,
    pub(crate) holds: Holds,
}

pub(crate) struct Report {
    pub(crate) phases: Phases,
    pub(crate) lasted: Millis,
    pub(crate) seed: u64,
    pub(crate) samples: Vec<Sample>,
    pub(crate) at_first: Holds,
    pub(crate) at_rest: Holds,
    pub(crate) log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Clean,
    Dirty,
}

struct Checks {
    passed: u32,
    failed: u32,
}

impl Checks {
    fn check(&mut self, sentence: &str, holds: bool, detail: &str) {
        self.passed += u32::from(holds);
        self.failed += u32::from(!holds);
        let mark = if holds { "ok  " } else { "FAIL" };
        println!("{mark} {sentence}: {detail}");
    }
}

pub(crate) fn tell(report: &Report, ledger: &Ledger) -> Outcome {
    let mut checks = Checks {
        passed: 0,
        failed: 0,
    };
    println!("== after {}, seed {}", shown(report.lasted), report.seed);
    sums(ledger);
    let (lost, total) = {
        let sums = ledger.sums();
        (sums.lost, sums.kinds.values().sum::<u64>())
    };
    checks.check(
        "every request ended once, where and as it should",
        lost == 0,
        &format!("{total} requests, lost: {lost}"),
    );
    let (count, told) = ledger.violations();
    for violation in &told {
        println!("     {violation}");
    }
    checks.check(
        "the ledgers of clients, targets and the access log agree",
        count == 0,
        &format!("{count} violations"),
    );
    flat(&mut checks, report);
    at_rest(&mut checks, report);
    logged(&mut checks, report, ledger);
    if checks.failed > 0 {
        let minutes = report.phases.whole() as f64 / 60_000.0;
        println!(
            "replay: tests/soak/run --minutes {minutes} --seed {}",
            report.seed
        );
    }
    println!("{} passed, {} failed", checks.passed, checks.failed);
    if checks.failed == 0 {
        Outcome::Clean
    } else {
        Outcome::Dirty
    }
}

fn sums(ledger: &Ledger) {
    let mut sums = ledger.sums();
    for (kind, count) in &sums.kinds {
        println!("     {count:>9} {kind}");
    }
    for (end, count) in &sums.ends {
        println!("     {count:>9} ended: {end}");
    }
    for (why, count) in &sums.explained {
        println!("     {count:>9} explained by: {why}");
    }
    for (what, count) in &sums.notes {
        println!("     {count:>9} {what}");
    }
    println!(
        "     {:>9} executed again elsewhere after a fault",
        sums.repeated
    );
    println!(
        "     {:>9} ms at most from an event's sending to its client",
        sums.slowest_event
    );
    for (phase, times) in &mut sums.calm {
        times.sort_unstable();
        let at = |share: f64| {
            times
                .get((times.len() as f64 * share) as usize)
                .copied()
                .unwrap_or(0)
        };
        println!(
            "     {:>9} GETs of the calm group in the {phase}: median {} ms, 99% within {} ms",
            times.len(),
            at(0.5),
            at(0.99)
        );
    }
}

/// Whether what the last process held stayed the same.
fn flat(checks: &mut Checks, report: &Report) {
    let Phases {
        calm,
        upheaval,
        endurance,
    } = report.phases;
    let from = calm + upheaval + (endurance as f64 * WARM_UP) as Millis;
    let last = report.samples.last().map(|sample| sample.process);
    let samples: Vec<_> = report
        .samples
        .iter()
        .filter(|sample| sample.at >= from && Some(sample.process) == last)
        .collect();
    let seconds = samples.len();
    let of = |what: fn(&Holds) -> u64| -> Vec<(f64, f64)> {
        let points = samples.iter();
        points
            .map(|sample| (sample.at as f64, what(&sample.holds) as f64))
            .collect()
    };
    let mut one = |name: &str, unit: f64, points: Vec<(f64, f64)>, most: f64| {
        let grown = growth(&points);
        let mean = points.iter().map(|(_, y)| y).sum::<f64>() / points.len().max(1) as f64;
        let detail = format!(
            "{:.1} on average, {:+.1} over {seconds} s by the slope, {:.1} allowed",
            mean / unit,
            grown / unit,
            most / unit
        );
        checks.check(
            &format!("{name} stay flat"),
            points.len() > 10 && grown <= most,
            &detail,
        );
    };
    one(
        "MiB of memory",
        1024.0 * 1024.0,
        of(|holds| holds.memory),
        MEMORY_GROWTH_MAX,
    );
    one(
        "descriptors",
        1.0,
        of(|holds| holds.descriptors),
        DESCRIPTOR_GROWTH_MAX,
    );
    one("threads", 1.0, of(|holds| holds.threads), THREAD_GROWTH_MAX);
}

/// How much more the line of least squares has at the end than at the beginning.
fn growth(points: &[(f64, f64)]) -> f64 {
    let count = points.len().max(1) as f64;
    let (x, y) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let both: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    let length = match (points.first(), points.last()) {
        (Some(first), Some(last)) => last.0 - first.0,
        _ => 0.0,
    };
    if spread > 0.0 {
        both / spread * length
    } else {
        0.0
    }
}

fn at_rest(checks: &mut Checks, report: &Report) {
    let (before, after) = (report.at_first, report.at_rest);
    checks.check(
        "nothing is left when the clients are gone",
        after.descriptors <= before.descriptors + DESCRIPTORS_LEFT_MAX,
        &format!(
            "{} descriptors besides idle connections to targets, {} at the start; {:.1} MiB, {:.1} at the start",
            after.descriptors,
            before.descriptors,
            after.memory as f64 / 1_048_576.0,
            before.memory as f64 / 1_048_576.0
        ),
    );
}

fn logged(checks: &mut Checks, report: &Report, ledger: &Ledger) {
    let panicked = report.log.lines().find(|line| line.contains("panicked"));
    checks.check(
        "nobody panicked",
        panicked.is_none(),
        panicked.unwrap_or("not a word of it in the log"),
    );
    // Of targets that nothing happened to. A machine that is too busy for checks moves clients as well.
    let quiet = ["calm", "secure", "sticky", "red", "blue"];
    let is_alarm = |line: &&str| {
        let worse = line.contains("\"to\":\"unhealthy\"");
        worse
            && quiet
                .iter()
                .any(|group| line.contains(&format!("\"group\":\"{group}\"")))
    };
    let alarms: Vec<_> = report.log.lines().filter(is_alarm).collect();
    checks.check(
        "no target was taken for unhealthy that nothing happened to",
        alarms.is_empty(),
        &format!("{} were {}", alarms.len(), alarms.first().unwrap_or(&"")),
    );
    let sums = ledger.sums();
    let moved = sums
        .notes
        .get("clients that lost their target")
        .copied()
        .unwrap_or(0);
    checks.check(
        "clients with a cookie stayed with their target",
        moved == 0,
        &format!("{moved} moved"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_a_line_grows_by() {
        let points: Vec<_> = (0..100)
            .map(|x| (f64::from(x), 5.0 + 2.0 * f64::from(x)))
            .collect();
        assert!((growth(&points) - 198.0).abs() < 1e-6);
        assert_eq!(growth(&[(0.0, 1.0)]), 0.0);
    }
}
