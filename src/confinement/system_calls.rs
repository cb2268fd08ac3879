//! System calls that no proxy makes: they are refused, to this process and to all that it starts. Never looks at the
//! arguments of a call that a request needs: what is decided by its number alone, the kernel decides once (Linux 5.11).

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt;

use rustix::thread::{SecureComputingMode, secure_computing_mode};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};

/// Refused with `EPERM`, whatever their arguments. An upgrade hands the list on, so it holds nothing that a load balancer
/// of some later day may want.
const DENIED: &[i64] = &[
    // Looking into other processes, and taking what is theirs.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Another view of the file system, or ways around the names in it.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // A world of its own, in which it would be root.
    libc::SYS_unshare,
    libc::SYS_setns,
    // Other code in the kernel, or another kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    // Large parts of the kernel that few programs use, and that many break-ins have begun with.
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // The whole machine's settings.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    // Another user, and another kind of program.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_personality,
];

/// The same, of x86_64 alone: `uselib`, `modify_ldt`, `iopl`, `ioperm`, `kexec_file_load`. Others have none of these
/// numbers, or not these names.
const DENIED_ON_X86: &[i64] = &[134, 154, 172, 173, 320];

/// Families of sockets (socket(2)) that there are uses for; every other is refused.
const FAMILIES: [i32; 3] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// What a new process may not have of its own (clone(2)).
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Numbers from here on are those of a second set of calls on x86_64, which no list by number would hold. No system of
/// today has uses for it, and none of other processors has such numbers.
const SECOND_SET: u32 = 0x4000_0000;

/// Why no call is denied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no list for this processor: {0}")]
    Processor(#[from] BackendError),
    #[error("{0}")]
    Kernel(#[from] seccompiler::Error),
}

/// A list that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    calls: usize,
    fingerprint: u64,
}

impl Denied {
    /// How another process knows whether its own list says the same.
    pub(super) fn mark(&self) -> String {
        format!("{:016x}", self.fingerprint)
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} system calls denied", self.calls)
    }
}

/// What becomes of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    Denied(Denied),
    /// All are as before.
    Free,
}

/// As `deny`, where a service manager or a container has laid a list on this process already. Then ours costs nothing:
/// the kernel keeps one answer for all lists. The first one makes every call dearer by some 30 ns, a request by some
/// hundredths, and whether it is worth that is for operators to say.
///
/// # Errors
/// As `deny`.
pub(super) fn deny_where_it_is_free(found: impl Fn(&str) -> bool) -> Result<Calls, Error> {
    match holds_any() {
        true => deny(found),
        false => Ok(Calls::Free),
    }
}

/// Denies them to this thread, and to all threads and processes that come from it; for good. `found` says whether a list
/// of this mark holds already, left by whoever started this process.
///
/// # Errors
/// When there is no such list for the processor, or the kernel takes none; then every call is as before.
pub(super) fn deny(found: impl Fn(&str) -> bool) -> Result<Calls, Error> {
    let (program, denied) = compile()?;
    if !(holds_any() && found(&denied.mark())) {
        seccompiler::apply_filter(&program)?;
    }
    Ok(Calls::Denied(denied))
}

fn holds_any() -> bool {
    secure_computing_mode() == Ok(SecureComputingMode::Filter)
}

fn compile() -> Result<(BpfProgram, Denied), Error> {
    let rules = rules()?;
    let calls = rules.values().filter(|limits| limits.is_empty()).count();
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        ARCH.try_into()?,
    )?;
    let mut program = unknown().to_vec();
    program.extend(BpfProgram::try_from(filter)?);
    let fingerprint = fingerprint(&program);
    Ok((program, Denied { calls, fingerprint }))
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let of_x86 = match ARCH {
        "x86_64" => DENIED_ON_X86,
        _ => &[],
    };
    let by_number = DENIED.iter().chain(of_x86);
    let mut rules: BTreeMap<_, _> = by_number.map(|call| (*call, Vec::new())).collect();
    let strange = FAMILIES.map(|family| condition(SeccompCmpOp::Ne, family));
    let strange = strange.into_iter().collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(strange)?]);
    let spaces = NAMESPACES.map(|space| {
        let asked = condition(SeccompCmpOp::MaskedEq(space.cast_unsigned().into()), space)?;
        SeccompRule::new(vec![asked])
    });
    let spaces = spaces.into_iter().collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, spaces);
    Ok(rules)
}

/// Of a call's first argument.
fn condition(compared: SeccompCmpOp, with: i32) -> Result<SeccompCondition, BackendError> {
    let with = with.cast_unsigned().into();
    SeccompCondition::new(0, SeccompCmpArgLen::Dword, compared, with)
}

/// Calls that are answered as by a kernel that does not know them. `clone3` has its flags in memory, where no list can
/// look; whoever is told that there is none uses `clone`.
fn unknown() -> [sock_filter; 4] {
    let step = |code: u32, k: u32, (jt, jf)| sock_filter {
        // The operations are numbers below 256.
        code: code as u16,
        jt,
        jf,
        k,
    };
    let clone3 = u32::try_from(libc::SYS_clone3).expect("calls have small numbers");
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    [
        // The number stands first (seccomp(2), struct seccomp_data).
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, (0, 0)),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, clone3, (1, 0)),
        step(
            libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K,
            SECOND_SET,
            (0, 1),
        ),
        step(libc::BPF_RET | libc::BPF_K, unknown, (0, 0)),
    ]
}

/// FNV-1a: two lists that differ differ here, by all odds.
fn fingerprint(program: &[sock_filter]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for step in program {
        for part in [step.code.into(), step.jt.into(), step.jf.into(), step.k] {
            hash = (hash ^ u64::from(part)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// What holds where the list does.
#[cfg(test)]
pub(super) fn denied() -> Result<Denied, Error> {
    Ok(compile()?.1)
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::fs::chroot;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;
    use std::thread;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// In a thread that has the list for itself; the others go on without.
    fn confined(body: impl FnOnce() + Send + 'static) {
        let tried = thread::spawn(|| {
            deny(|_| false).unwrap();
            body();
        });
        tried.join().unwrap();
    }

    fn filters() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Seccomp_filters:"));
        line.unwrap().trim().to_owned()
    }

    #[test]
    fn what_no_proxy_does_is_refused() {
        let netlink = || Socket::new(Domain::from(libc::AF_NETLINK), Type::DGRAM, None);
        netlink().unwrap();
        confined(move || {
            let refused = |outcome: io::Result<()>| {
                assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EPERM));
            };
            refused(netlink().map(drop));
            refused(Socket::new(Domain::PACKET, Type::RAW, None).map(drop));
            refused(chroot("/"));
            let ran = Command::new("unshare").args(["--user", "true"]).status();
            assert!(!ran.unwrap().success());
        });
    }

    #[test]
    fn what_a_load_balancer_does_goes_on() {
        confined(|| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("file");
            std::fs::write(&file, "text").unwrap();
            std::fs::rename(&file, folder.path().join("renamed")).unwrap();
            let socket = folder.path().join("socket");
            let _listening = UnixListener::bind(&socket).unwrap();
            UnixStream::connect(&socket).unwrap();
            TcpListener::bind("127.0.0.1:0").unwrap();
            UdpSocket::bind("127.0.0.1:0").unwrap();
            assert!(Command::new("true").status().unwrap().success());
            assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
            let nowhere = TcpListener::bind("192.0.2.1:0").unwrap_err();
            assert_eq!(nowhere.kind(), ErrorKind::AddrNotAvailable);
        });
    }

    #[test]
    fn a_list_that_holds_is_not_laid_on_top_of_itself() {
        let ours = denied().unwrap();
        let tried = thread::spawn(move || {
            let none = filters();
            if !holds_any() {
                assert_eq!(deny_where_it_is_free(|_| false).unwrap(), Calls::Free);
                assert_eq!(filters(), none);
            }
            // Whoever says so without having left one.
            let found = |mark: &str| mark == ours.mark();
            assert_eq!(deny(found).unwrap(), Calls::Denied(ours));
            let one = filters();
            deny(found).unwrap();
            deny_where_it_is_free(found).unwrap();
            assert_eq!(filters(), one);
            assert_eq!(
                deny_where_it_is_free(|_| false).unwrap(),
                Calls::Denied(ours)
            );
            assert_ne!(filters(), one);
        });
        tried.join().unwrap();
    }

    #[test]
    fn another_list_has_another_mark() {
        let (mut program, denied) = compile().unwrap();
        assert_eq!(fingerprint(&program), denied.fingerprint);
        program.pop();
        assert_ne!(fingerprint(&program), denied.fingerprint);
    }
}
