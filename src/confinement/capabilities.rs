//! Parts of root's power. Never keeps more than it takes to open a port below 1024, and that only where it was there.

use std::fmt;
use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

/// A listener that a reload adds may be on any port, and the next process has to open it as well.
const NEEDED: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// What is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    LowPorts,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "none",
            Self::LowPorts => "CAP_NET_BIND_SERVICE",
        })
    }
}

/// Gives up every capability but one, before anything is read or bound: what works at the start works at every reload.
///
/// # Errors
/// What the system says.
pub(super) fn drop_most() -> io::Result<Kept> {
    let held = capabilities(None)?;
    let kept = held.permitted & NEEDED;
    // First, as it needs one of those that go; they go even where a sandbox forbids this.
    let bounded = match held.effective.contains(CapabilitySet::SETPCAP) {
        true => bound_by(kept),
        false => Ok(()),
    };
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: kept,
    };
    // A service manager may have done so, and may have taken the call away with the rest.
    if held != sets {
        set_capabilities(None, sets)?;
    }
    bounded?;
    if kept.is_empty() {
        return Ok(Kept::Nothing);
    }
    // So that the next process has it, too, if its file does not bring it. One of root's has it anyway, and where a
    // system forbids it nothing is lost but that.
    let _ = configure_capability_in_ambient_set(kept, true);
    Ok(Kept::LowPorts)
}

/// Nothing that this process starts can have more than `kept`, whatever its file says.
fn bound_by(kept: CapabilitySet) -> io::Result<()> {
    let all = (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit));
    for capability in all.filter(|capability| *capability != kept) {
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The kernel knows no more.
            Err(_) => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn nothing_is_kept_but_low_ports_and_those_only_where_they_were() {
        // Capabilities are a thread's own.
        let tried = thread::spawn(|| {
            let before = capabilities(None).unwrap().permitted;
            let kept = drop_most().unwrap();
            let after = capabilities(None).unwrap();
            assert_eq!(after.permitted, before & NEEDED);
            assert_eq!(after.effective, after.permitted);
            assert_eq!(kept == Kept::LowPorts, before.contains(NEEDED));
            // Whoever takes over does the same, with what is left.
            assert_eq!(drop_most().unwrap(), kept);
            assert_eq!(capabilities(None).unwrap(), after);
        });
        tried.join().unwrap();
    }
}
