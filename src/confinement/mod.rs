//! What the process of a load balancer gives up at its start, so that whoever breaks into it gains little: capabilities,
//! new privileges, its neighbours, system calls that no proxy makes. Never what a reload or the next process needs, and never
//! anything of a program that embeds a load balancer.

mod capabilities;
mod neighbours;
mod system_calls;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;

use landlock::RulesetError;
use rustix::process::geteuid;
use rustix::thread::set_no_new_privs;

use capabilities::Kept;
use neighbours::Distance;
use system_calls::{Calls, Error};

/// How much is to be given up, where an operator wants more or less than what costs no request anything.
const VARIABLE: &str = "ALBEDO_CONFINEMENT";
const FULL: &str = "full";
const OFF: &str = "off";

/// Tells the next process what it finds: what is given up once stays so, and the same again on top of it makes things
/// dearer, or is refused. Only that process ever sees it, which has all of it from this one.
const INHERITED_VARIABLE: &str = "ALBEDO_CONFINED";

/// What holds from now on, for this process and for all that it starts.
#[derive(Debug)]
pub(crate) enum Confinement {
    Off,
    On {
        capabilities: io::Result<Kept>,
        new_privileges: io::Result<()>,
        neighbours: Result<Distance, RulesetError>,
        system_calls: Result<Calls, Error>,
        /// What the operator wrote, where it is no word that we know.
        puzzling: Option<OsString>,
    },
}

/// Gives up what can be. No thread may run yet: each has its own capabilities and its own rules, and a new one those of
/// the thread that starts it.
pub(crate) fn enter() -> Confinement {
    let wish = env::var_os(VARIABLE).filter(|wish| !wish.is_empty());
    let is = |word: &str| wish.as_ref().is_some_and(|wish| wish == word);
    if is(OFF) {
        return Confinement::Off;
    }
    let inherited = env::var_os(INHERITED_VARIABLE).unwrap_or_default();
    let inherited = inherited.to_string_lossy();
    let found = |mark: &str| inherited.split(' ').any(|word| word == mark);
    let capabilities = capabilities::drop_most();
    // Without this, what follows would need a capability that is gone.
    let new_privileges = set_no_new_privs(true).map_err(io::Error::from);
    Confinement::On {
        capabilities,
        new_privileges,
        neighbours: match Distance::inherited(found) {
            Some(distance) => Ok(distance),
            None => neighbours::keep_away(),
        },
        system_calls: match is(FULL) {
            true => system_calls::deny(found),
            false => system_calls::deny_where_it_is_free(found),
        },
        puzzling: wish.filter(|wish| wish != FULL),
    }
}

impl Confinement {
    /// What the environment of the next process has to say of this.
    pub(crate) fn variable(&self) -> Option<(&'static str, String)> {
        let (neighbours, system_calls) = match self {
            Self::Off => return None,
            Self::On {
                neighbours,
                system_calls,
                ..
            } => (neighbours, system_calls),
        };
        let mut marks = Vec::new();
        if let Some(mark) = neighbours
            .as_ref()
            .ok()
            .and_then(|distance| distance.mark())
        {
            marks.push(mark.to_owned());
        }
        if let Ok(Calls::Denied(denied)) = system_calls {
            marks.push(denied.mark());
        }
        Some((INHERITED_VARIABLE, marks.join(" ")))
    }

    /// Says what holds. Where the kernel lacks a part, the load balancer runs without.
    pub(crate) fn log(&self) {
        match self.is_whole() {
            true => tracing::info!("{self}"),
            false => tracing::warn!("{self}"),
        }
        if let Self::On {
            puzzling: Some(wish),
            ..
        } = self
        {
            let wish = wish.display();
            tracing::warn!("{VARIABLE}='{wish}' is neither '{FULL}' nor '{OFF}', and ignored");
        }
        if geteuid().is_root() {
            tracing::warn!(
                "albedo runs as root, and root's files stay within its reach; give it a user of its own"
            );
        }
    }

    /// Whether everything is given up that was to be, as far as the kernel has the means.
    fn is_whole(&self) -> bool {
        match self {
            Self::Off => false,
            Self::On {
                capabilities,
                new_privileges,
                neighbours,
                system_calls,
                puzzling: _,
            } => {
                capabilities.is_ok()
                    && new_privileges.is_ok()
                    && neighbours.is_ok()
                    && system_calls.is_ok()
            }
        }
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::On {
            capabilities,
            new_privileges,
            neighbours,
            system_calls,
            puzzling: _,
        } = self
        else {
            return write!(f, "not confined: {VARIABLE} is '{OFF}'");
        };
        match capabilities {
            Ok(kept) => write!(f, "confined: capabilities {kept}")?,
            Err(error) => write!(f, "confined: capabilities as before ({error})")?,
        }
        match new_privileges {
            Ok(()) => write!(f, "; no new privileges")?,
            Err(error) => write!(f, "; new privileges as before ({error})")?,
        }
        match neighbours {
            Ok(distance) => write!(f, "; {distance}")?,
            Err(error) => write!(f, "; other processes in reach ({error})")?,
        }
        match system_calls {
            Ok(Calls::Denied(denied)) => write!(f, "; {denied}"),
            Ok(Calls::Free) => write!(f, "; system calls as before, where not {VARIABLE}={FULL}"),
            Err(error) => write!(f, "; system calls as before ({error})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confinement(capabilities: io::Result<Kept>, system_calls: Calls) -> Confinement {
        Confinement::On {
            capabilities,
            new_privileges: Ok(()),
            neighbours: Ok(Distance::Whole),
            system_calls: Ok(system_calls),
            puzzling: None,
        }
    }

    #[test]
    fn the_log_says_what_holds_and_what_does_not() {
        let denied = Calls::Denied(system_calls::denied().unwrap());
        let whole = confinement(Ok(Kept::Nothing), denied);
        let text = whole.to_string();
        assert!(
            text.starts_with("confined: capabilities none; no new privileges; other"),
            "{text}"
        );
        assert!(text.ends_with(" system calls denied"), "{text}");
        assert!(whole.is_whole());
        let part = confinement(Err(io::ErrorKind::PermissionDenied.into()), denied);
        assert!(part.to_string().contains("capabilities as before ("));
        assert!(!part.is_whole());
        assert_eq!(
            Confinement::Off.to_string(),
            "not confined: ALBEDO_CONFINEMENT is 'off'"
        );
    }

    #[test]
    fn the_next_process_is_told_what_it_finds() {
        let marks = |confinement: Confinement| confinement.variable().map(|(_, marks)| marks);
        assert_eq!(marks(Confinement::Off), None);
        let free = confinement(Ok(Kept::LowPorts), Calls::Free);
        let whole = Distance::Whole.mark().unwrap();
        assert_eq!(marks(free).unwrap(), whole);
        let denied = system_calls::denied().unwrap();
        let full = marks(confinement(Ok(Kept::LowPorts), Calls::Denied(denied))).unwrap();
        assert_eq!(full, format!("{whole} {}", denied.mark()));
        for distance in [Distance::Whole, Distance::InPart] {
            let mark = distance.mark().unwrap();
            assert_eq!(Distance::inherited(|word| word == mark), Some(distance));
        }
        assert_eq!(Distance::inherited(|_| false), None);
    }
}
