//! The file that cookie keys are kept in: reads it, makes it, puts a new key into it. Several processes may share one.
//! Never overwrites what it cannot read, never decides when a key is due, never shows a key.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::keys::KEY_LEN;
use super::ring::{KEYS_MAX, Kept, KeyRing};

/// What stands above the keys.
const HEADER: &str = "\
# albedo's keys of stickiness cookies. Whoever can read them can make such cookies: keep this file to yourself, and
# give the same to every albedo that serves the same clients.
# A line is a key: when it was made (UTC), then 32 random bytes in hexadecimal (openssl rand -hex 32). The newest seals,
# all of them open; one that was taken out ends the sessions that it sealed. At most 16.
";

/// Largest file in bytes; many times what sixteen keys with a word about each need.
const SIZE_MAX: u64 = 64 * 1024;

/// Why keys cannot be had from a file, or not be kept in it.
#[derive(Debug, thiserror::Error)]
#[error("'{}' {problem}", .path.display())]
pub(crate) struct Error {
    path: PathBuf,
    problem: Problem,
}

/// What is wrong with a key file, and how to mend it.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("cannot be read: {0}; let albedo's user read it")]
    Unreadable(io::Error),
    #[error("is not a file; name another path")]
    NotAFile,
    #[error(
        "can be read by others, its mode is {0:03o}; run 'chmod 600' on it, and put another key into it if somebody did"
    )]
    Exposed(u32),
    #[error("is too large for a file of keys; name another path")]
    TooLarge,
    #[error(
        "has no key in line {0}; write when it was made and 64 hexadecimal digits, or remove the file and it is made anew"
    )]
    Malformed(usize),
    #[error("holds no key; remove it, and it is made anew")]
    Empty,
    #[error("holds more than {KEYS_MAX} keys; remove the oldest")]
    TooMany,
    #[error(
        "cannot be written: {0}; let albedo's user write in its folder, or name a path elsewhere"
    )]
    Unwritable(io::Error),
}

impl Error {
    /// Whether nothing is wrong with the keys but that they cannot be written down.
    pub(crate) fn is_unwritable(&self) -> bool {
        matches!(self.problem, Problem::Unwritable(_))
    }
}

/// The keys in the file; `None` where there is no file.
///
/// # Errors
/// When it holds anything but keys that this process alone may read.
pub(crate) fn read(path: &Path) -> Result<Option<KeyRing>, Error> {
    match text(path) {
        Ok(text) => parse(&text).map(Some).map_err(at(path)),
        Err(Problem::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(problem) => Err(at(path)(problem)),
    }
}

/// Makes the file with these keys, for nobody else to read. Where somebody else is making it, theirs stays.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn create(path: &Path, keys: &KeyRing) -> Result<(), Error> {
    let created = Draft::write(path, keys).and_then(|draft| {
        // Unlike a renamed file, a linked one takes no other's place; and it is never seen half written.
        fs::hard_link(&draft.0, path)
    });
    match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map_err(Problem::Unwritable).map_err(at(path)),
    }
}

/// Puts a new key into the file if one is due, and takes out those that are of no use any more. Gives the keys that the
/// file holds then; `None` where another process is at it.
///
/// # Errors
/// As `read`, and when it cannot be written.
pub(crate) fn renew(
    path: &Path,
    rotation: Duration,
    now: Timestamp,
) -> Result<Option<KeyRing>, Error> {
    // What a link leads to is renewed, the link stays.
    let path = &fs::canonicalize(path)
        .map_err(Problem::Unreadable)
        .map_err(at(path))?;
    let unwritable = |error| at(path)(Problem::Unwritable(error));
    let locked = OpenOptions::new().read(true).write(true).open(path);
    let locked = locked.map_err(unwritable)?;
    match locked.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(unwritable(error)),
    }
    // Read again, under the lock: somebody may have renewed it since. Whoever did that has put another file here.
    let Some(keys) = read(path)? else {
        return Ok(None);
    };
    if !is_at(&locked, path) || !keys.is_due(rotation, now) {
        return Ok(Some(keys));
    }
    let renewed = keys.renewed(now).map_err(io::Error::other);
    let renewed = renewed.map_err(unwritable)?;
    let draft = Draft::write(path, &renewed).map_err(unwritable)?;
    fs::rename(&draft.0, path).map_err(unwritable)?;
    Ok(Some(renewed))
}

fn at(path: &Path) -> impl Fn(Problem) -> Error {
    move |problem| Error {
        path: path.to_owned(),
        problem,
    }
}

fn text(path: &Path) -> Result<String, Problem> {
    // Looked at first: opening a pipe would wait for somebody to write into it.
    let metadata = fs::metadata(path).map_err(Problem::Unreadable)?;
    if !metadata.is_file() {
        return Err(Problem::NotAFile);
    }
    let mode = metadata.mode() & 0o777;
    // As ssh has it: nobody else may read a file of ours. In one that another user gave us the group's right may be
    // all that lets us read it, as in Kubernetes' secrets.
    let forbidden = match is_ours(&metadata) {
        true => 0o077,
        false => 0o037,
    };
    if mode & forbidden != 0 {
        return Err(Problem::Exposed(mode));
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > SIZE_MAX => Err(Problem::TooLarge),
        Ok(_) => Ok(text),
        // Not UTF-8.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(Problem::Malformed(1)),
        Err(error) => Err(Problem::Unreadable(error)),
    }
}

fn is_ours(file: &fs::Metadata) -> bool {
    rustix::process::geteuid().as_raw() == file.uid()
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (opened, standing) = (file.metadata(), fs::metadata(path));
    opened.ok().map(identity) == standing.ok().map(identity)
}

fn parse(text: &str) -> Result<KeyRing, Problem> {
    let mut keys = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        keys.push(key(line).ok_or(Problem::Malformed(number))?);
    }
    if keys.is_empty() {
        return Err(Problem::Empty);
    }
    KeyRing::of(keys).ok_or(Problem::TooMany)
}

fn key(line: &str) -> Option<Kept> {
    let (made, digits) = line.split_once([' ', '\t'])?;
    let digits = digits.trim_start().as_bytes();
    let mut bytes = [0; KEY_LEN];
    if digits.len() != 2 * KEY_LEN {
        return None;
    }
    for (two, byte) in digits.as_chunks::<2>().0.iter().zip(&mut bytes) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(two[0])? << 4 | digit(two[1])?).ok()?;
    }
    let made = made.parse().ok()?;
    Some(Kept { made, bytes })
}

fn written(keys: &KeyRing) -> String {
    let mut text = HEADER.to_owned();
    for key in keys.iter() {
        let digits = key.bytes.iter().fold(String::new(), |mut digits, byte| {
            // Memory takes every byte.
            let _ = write!(digits, "{byte:02x}");
            digits
        });
        text += &format!("{} {digits}\n", key.made);
    }
    text
}

/// A file beside the one that is meant, whole and on the disk. It goes when this is dropped, unless it was renamed.
struct Draft(PathBuf);

impl Draft {
    fn write(path: &Path, keys: &KeyRing) -> io::Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}-{:08x}", std::process::id(), fastrand::u32(..)));
        let draft = Self(path.with_file_name(name));
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft.0)?;
        file.write_all(written(keys).as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use jiff::ToSpan;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> Timestamp {
        "2026-11-21T14:00:00Z".parse().unwrap()
    }

    fn ring() -> KeyRing {
        KeyRing::generate(now()).unwrap()
    }

    /// A folder, and the path of a file in it that is not there yet.
    fn scene() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie.keys");
        (folder, path)
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn complaint(path: &Path) -> String {
        let text = read(path).unwrap_err().to_string();
        text.replace(&path.display().to_string(), "FILE")
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_that_is_made_is_ours_alone_and_leaves_no_other_behind() {
        let (folder, path) = scene();
        let keys = ring();
        assert_eq!(read(&path).unwrap(), None);
        create(&path, &keys).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(read(&path).unwrap(), Some(keys));
        assert_eq!(names(&folder), ["cookie.keys"]);
        let text = fs::read_to_string(&path).unwrap();
        let (header, key) = text.trim_end().rsplit_once('\n').unwrap();
        assert!(header.lines().all(|line| line.starts_with("# ")));
        assert!(key.starts_with("2026-11-21T14:00:00Z "));
    }

    #[test]
    fn whoever_makes_the_file_second_takes_what_is_there() {
        let (folder, path) = scene();
        let first = ring();
        create(&path, &first).unwrap();
        create(&path, &ring()).unwrap();
        assert_eq!(read(&path).unwrap(), Some(first));
        assert_eq!(names(&folder), ["cookie.keys"]);
    }

    #[test]
    fn many_who_start_at_once_agree() {
        let (_folder, path) = scene();
        let start = |_| {
            let path = path.clone();
            std::thread::spawn(move || {
                create(&path, &ring()).unwrap();
                read(&path).unwrap().unwrap()
            })
        };
        let threads: Vec<_> = (0..8).map(start).collect();
        let mut rings = threads.into_iter().map(|thread| thread.join().unwrap());
        let first = rings.next().unwrap();
        assert!(rings.all(|ring| ring == first));
    }

    #[test]
    fn a_file_that_cannot_be_made_says_so() {
        let (_folder, path) = scene();
        let path = path.join("below/a/file");
        let error = create(&path, &ring()).unwrap_err();
        assert!(error.is_unwritable());
        assert!(error.to_string().contains("cannot be written: "));
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let (_folder, path) = scene();
        create(&path, &ring()).unwrap();
        for mode in [0o644, 0o640, 0o604, 0o602, 0o610, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                complaint(&path),
                format!(
                    "'FILE' can be read by others, its mode is {mode:03o}; run 'chmod 600' on it, and put another \
                     key into it if somebody did"
                )
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read(&path).is_ok());
    }

    #[test]
    fn a_bad_file_is_named_with_its_remedy_and_left_as_it_is() {
        let (_folder, path) = scene();
        let key = format!("2026-11-21T14:00:00Z {}\n", "0f".repeat(32));
        for (text, complained) in [
            (String::new(), "'FILE' holds no key; "),
            ("# nothing\n\n".to_owned(), "'FILE' holds no key; "),
            (key.repeat(17), "'FILE' holds more than 16 keys; "),
            ("#".repeat(70_000), "'FILE' is too large "),
            (
                format!("# one\n{key}nonsense\n"),
                "'FILE' has no key in line 3; ",
            ),
            (format!("{key}more"), "'FILE' has no key in line 2; "),
            (key.replace("0f\n", "0"), "'FILE' has no key in line 1; "),
            (
                key.replace("0f\n", "0f0\n"),
                "'FILE' has no key in line 1; ",
            ),
            (key.replace("0f\n", "+f\n"), "'FILE' has no key in line 1; "),
            (key.replace("T14", "T25"), "'FILE' has no key in line 1; "),
        ] {
            write(&path, &text);
            assert!(
                complaint(&path).starts_with(complained),
                "{}",
                complaint(&path)
            );
            assert!(!complaint(&path).contains("0f0f"));
            create(&path, &ring()).unwrap();
            assert!(renew(&path, DAY, now()).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(complaint(path.parent().unwrap()).contains("is not a file"));
    }

    #[test]
    fn keys_are_read_as_people_write_them_newest_first_or_not() {
        let (_folder, path) = scene();
        let [one, two] = ["0a".repeat(32), "0B".repeat(32)];
        let text = format!(
            "\n# by hand\n2026-11-20T00:00:00Z\t {one}  \r\n  2026-11-21T12:00:00+01:00 {two}"
        );
        write(&path, &text);
        let ring = read(&path).unwrap().unwrap();
        let bytes: Vec<u8> = ring.iter().map(|key| key.bytes[0]).collect();
        assert_eq!(bytes, [0x0b, 0x0a]);
    }

    #[test]
    fn a_new_key_comes_in_front_when_it_is_due() {
        let (folder, path) = scene();
        let first = ring();
        create(&path, &first).unwrap();
        let later = |hours: i64| now() + hours.hours();
        assert_eq!(renew(&path, DAY, later(23)).unwrap(), Some(first.clone()));
        let second = renew(&path, DAY, later(24)).unwrap().unwrap();
        assert_eq!(second.iter().nth(1), first.iter().next());
        assert_eq!(second.iter().count(), 2);
        assert_eq!(read(&path).unwrap(), Some(second.clone()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // The other process finds it done.
        assert_eq!(renew(&path, DAY, later(24)).unwrap(), Some(second));
        assert_eq!(names(&folder), ["cookie.keys"]);
    }

    #[test]
    fn a_file_that_another_process_renews_is_left_to_it() {
        let (_folder, path) = scene();
        create(&path, &ring()).unwrap();
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        assert_eq!(renew(&path, DAY, now() + 48.hours()).unwrap(), None);
        drop(other);
        assert!(renew(&path, DAY, now() + 48.hours()).unwrap().is_some());
    }

    #[test]
    fn many_who_renew_at_once_lose_no_key() {
        let (_folder, path) = scene();
        create(&path, &ring()).unwrap();
        let renew = |_| {
            let path = path.clone();
            std::thread::spawn(move || renew(&path, DAY, now() + 48.hours()).unwrap())
        };
        let threads: Vec<_> = (0..8).map(renew).collect();
        let rings: Vec<_> = threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap())
            .collect();
        let kept = read(&path).unwrap().unwrap();
        assert_eq!(kept.iter().count(), 2);
        assert!(rings.iter().all(|ring| *ring == kept));
    }

    #[test]
    fn a_link_stays_a_link() {
        let (folder, path) = scene();
        let real = folder.path().join("real.keys");
        create(&real, &ring()).unwrap();
        symlink("real.keys", &path).unwrap();
        renew(&path, DAY, now() + 48.hours()).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(read(&real).unwrap().unwrap().iter().count(), 2);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(2026-11-2[0-9]T1[0-9]:00:00Z [0-9a-f]{63,65}\n|#?.{0,30}\n?){0,20}") {
            if let Ok(ring) = parse(&text) {
                let again = parse(&written(&ring));
                prop_assert_eq!(again.unwrap(), ring);
            }
        }
    }
}
