//! Which binary to start as the next process: what stands now where this one was started from.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Behind the name of a running binary whose file was replaced (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

/// A binary and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(super) path: PathBuf,
    pub(super) arguments: Vec<OsString>,
    /// What its environment has beside this process' own.
    pub(super) variable: Option<(&'static str, String)>,
}

impl Program {
    /// This process' own. To be asked at its start, before its file is replaced; `None` where the system does not say.
    /// `variable` tells the next process what it finds.
    pub(crate) fn of_this_process(variable: Option<(&'static str, String)>) -> Option<Self> {
        let mut arguments = env::args_os();
        let called = arguments.next().unwrap_or_default();
        let itself = fs::metadata("/proc/self/exe").ok()?;
        let is_this = |path: &Path| {
            fs::metadata(path)
                .is_ok_and(|found| (found.dev(), found.ino()) == (itself.dev(), itself.ino()))
        };
        let folders = env::var_os("PATH").unwrap_or_default();
        let names = names(&called, &folders, &env::current_dir().ok()?);
        let path = match names.into_iter().find(|path| is_this(path)) {
            Some(path) => path,
            None => without_mark(env::current_exe().ok()?),
        };
        Some(Self {
            path,
            arguments: arguments.collect(),
            variable,
        })
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// Where a program of this name may have been found. Links are not followed: packages put another target behind them.
fn names(called: &OsStr, folders: &OsStr, here: &Path) -> Vec<PathBuf> {
    if called.as_bytes().contains(&b'/') {
        return vec![here.join(called)];
    }
    let folders = env::split_paths(folders);
    folders
        .map(|folder| here.join(folder).join(called))
        .collect()
}

fn without_mark(path: PathBuf) -> PathBuf {
    let mut bytes = path.into_os_string().into_vec();
    if bytes.ends_with(DELETED) {
        bytes.truncate(bytes.len() - DELETED.len());
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_a_shell_would() {
        let found =
            |called: &str| names(called.as_ref(), "/usr/bin:bin".as_ref(), "/home".as_ref());
        assert_eq!(found("/opt/albedo"), [Path::new("/opt/albedo")]);
        assert_eq!(found("./albedo"), [Path::new("/home/./albedo")]);
        let searched = ["/usr/bin/albedo", "/home/bin/albedo"].map(Path::new);
        assert_eq!(found("albedo"), searched);
    }

    #[test]
    fn a_replaced_file_is_named_without_the_mark() {
        let named = |path: &str| without_mark(path.into());
        assert_eq!(named("/opt/albedo (deleted)"), Path::new("/opt/albedo"));
        assert_eq!(named("/opt/albedo"), Path::new("/opt/albedo"));
    }

    #[test]
    fn this_process_knows_itself() {
        let program = Program::of_this_process(None).unwrap();
        assert_eq!(
            fs::canonicalize(program.path).unwrap(),
            env::current_exe().unwrap()
        );
    }
}
