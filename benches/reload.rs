//! Claim: a change of 1,000 rules, 100 target groups and 2,000 targets is live in under 100 ms, and ten times as much
//! takes ten times as long.
//!
//! Prints medians of the steps: read (text to model, every check), prepare (model to what runs), commit (the change),
//! taken up (every worker has seen it). `one` changes one rule, `all` every rule, group and target.

use std::fmt::Write;
use std::time::Duration;

use albedo::hatch::{Changing, Steps};

const ROUNDS: usize = 15;

/// Rules, target groups and targets.
#[derive(Clone, Copy)]
struct Size {
    rules: usize,
    groups: usize,
    targets: usize,
}

const PROMISED: Size = Size {
    rules: 1_000,
    groups: 100,
    targets: 2_000,
};

fn main() {
    let mut report = String::new();
    for factor in [1, 2, 4] {
        let size = Size {
            rules: PROMISED.rules * factor,
            groups: PROMISED.groups * factor,
            targets: PROMISED.targets * factor,
        };
        let base = text(size, 0, 0);
        let variants = [("one", text(size, 0, 1)), ("all", text(size, 1, 1))];
        for (name, variant) in variants {
            let mut changing = Changing::start(&base);
            let mut rounds: Vec<Steps> = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push(changing.change(&variant));
                rounds.push(changing.change(&base));
            }
            changing.stop();
            let step = |step: fn(&Steps) -> Duration| median(&rounds, step);
            let [read, prepare, commit, taken_up] = [
                step(|steps| steps.read),
                step(|steps| steps.prepare),
                step(|steps| steps.commit),
                step(|steps| steps.taken_up),
            ];
            let whole = step(|steps| steps.read + steps.prepare + steps.commit + steps.taken_up);
            writeln!(
                report,
                "{} rules, {name}: {whole:.1} ms (read {read:.1}, prepare {prepare:.1}, commit {commit:.1}, taken up {taken_up:.1})",
                size.rules
            )
            .expect("memory takes every character");
        }
    }
    #[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
    {
        print!("{report}");
    }
}

/// A configuration of this size; another `everything` changes every group, target and rule, another `rule` the last.
fn text(size: Size, everything: usize, rule: usize) -> String {
    let mut text =
        "admin: 127.0.0.1:0\nworkers: 2\nlisteners:\n  - port: 0\n    address: 127.0.0.1\n    \
                    protocol: HTTP\n    default_actions: [ { forward: group-0 } ]\n    rules:\n"
            .to_owned();
    let mut line = |indent: usize, line: String| {
        writeln!(text, "{:indent$}{line}", "").expect("memory takes every character");
    };
    for number in 0..size.rules {
        let group = number % size.groups;
        let last = if number + 1 == size.rules { rule } else { 0 };
        line(6, format!("- priority: {}", number + 1));
        line(8, "conditions:".to_owned());
        line(
            10,
            format!("- path_pattern: [\"/service-{number}/v{everything}/{last}/*\"]"),
        );
        line(8, format!("actions: [ {{ forward: group-{group} }} ]"));
    }
    line(0, "target_groups:".to_owned());
    let each = size.targets / size.groups;
    for group in 0..size.groups {
        line(2, format!("- name: group-{group}"));
        line(4, "protocol: HTTP".to_owned());
        line(4, "port: 1".to_owned());
        line(4, format!("deregistration_delay: {everything}s"));
        line(4, "targets:".to_owned());
        for target in 0..each {
            // Refused at once, wherever it is.
            let (high, low) = (group / 250, group % 250);
            let address = format!("127.{}.{low}.{}", high + 2 * everything, target + 1);
            line(6, format!("- {address}"));
        }
    }
    text
}

/// Milliseconds, the median of the rounds.
fn median(rounds: &[Steps], step: fn(&Steps) -> Duration) -> f64 {
    let mut rounds: Vec<f64> = rounds
        .iter()
        .map(|steps| step(steps).as_secs_f64() * 1_000.0)
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
