//! Other processes, mounts and devices, which are put out of reach by Landlock. Never takes files away: where the next
//! configuration has its logs and keys, and where the next binary lies, nobody knows yet, and nothing of this can be taken
//! back. (Any rules at all forbid to rename a file from one folder into another, which nobody here does.) Costs no request
//! anything: the kernel asks only where such a thing is tried.

use std::fmt;

use landlock::{AccessFs, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};

/// Tells the next process that it finds these rules; other rules get another number. Not more than 16 layers of rules can
/// lie on each other.
const WHOLE: &str = "neighbours-1";
/// The same, of a kernel that knows a part of them.
const PART: &str = "neighbours-1-part";

/// How much of it the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distance {
    /// Linux 6.12.
    Whole,
    /// No signals, or no calls to devices, are kept back.
    InPart,
    /// Linux before 5.13, or one that was built or started without.
    None,
}

impl Distance {
    /// What the next process is told, if it is to lay no rules over these.
    pub(super) fn mark(self) -> Option<&'static str> {
        match self {
            Self::Whole => Some(WHOLE),
            Self::InPart => Some(PART),
            Self::None => None,
        }
    }

    /// What a process before this one has said.
    pub(super) fn inherited(found: impl Fn(&str) -> bool) -> Option<Self> {
        let kept = [Self::Whole, Self::InPart];
        kept.into_iter()
            .find(|distance| distance.mark().is_some_and(&found))
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "other processes, mounts and devices out of reach",
            Self::InPart => "other processes and mounts out of reach, as far as the kernel knows",
            Self::None => "other processes in reach, as the kernel has no Landlock",
        })
    }
}

/// Puts them out of reach of this thread, and of all threads and processes that come from it; for good.
///
/// Any rules at all forbid to change mounts and to look into a process that does not have them (landlock(7)).
///
/// # Errors
/// What the system says, where it has Landlock.
pub(super) fn keep_away() -> Result<Distance, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)?
        .scope(Scope::Signal)?
        .create()?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Distance::Whole,
        RulesetStatus::PartiallyEnforced => Distance::InPart,
        RulesetStatus::NotEnforced => Distance::None,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::thread;

    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// Waits for the end of its input.
    fn other() -> Child {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    fn kill(child: &Child) -> Result<(), Errno> {
        kill_process(Pid::from_child(child), Signal::KILL)
    }

    #[test]
    fn others_are_left_alone_and_own_processes_are_not() {
        let mut before = other();
        let out_of_reach = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if keep_away().unwrap() != Distance::Whole {
                    return None;
                }
                let mut own = other();
                kill(&own).unwrap();
                own.wait().unwrap();
                std::fs::read_to_string("/proc/self/status").unwrap();
                Some(kill(&before))
            });
            thread.join().unwrap()
        });
        match out_of_reach {
            Some(outcome) => assert_eq!(outcome, Err(Errno::PERM)),
            None => eprintln!("this kernel has too little of Landlock: nothing is shown"),
        }
        kill(&before).unwrap();
        before.wait().unwrap();
    }
}
