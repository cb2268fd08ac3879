//! The file of a configuration: reads it, and notices when it, or a file that it names, has changed. Never says what
//! follows from a change, and keeps nothing of what it read.
//!
//! It asks for the metadata of a handful of files again and again. inotify would have to watch folders instead, since
//! an editor renames over the file and Kubernetes swaps a symlink somewhere else on the way to it; network file systems
//! tell it nothing, and a full queue loses the one event that counts. `stat` follows every link and sees all of it
//! alike.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Place, Problem, Problems};
use crate::model::{Config, Pem, UpstreamTls};

/// How often to look for a change: nobody who saves a file waits longer than two of these.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A configuration's file, and how it was when it was last read.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// What the configuration named when it could last be read.
    named: Vec<PathBuf>,
    /// Its own stamp, then those of `named`, from just before each was read.
    read: Vec<Stamp>,
    /// A change that may still go on: what was seen at the last look.
    changing: Option<Vec<Stamp>>,
}

/// What tells one content of a path from another; none where there is no file.
type Stamp = Option<Metadata>;

#[derive(Debug, PartialEq, Eq)]
struct Metadata {
    /// Device and inode: a file that was put in the place of another.
    file: (u64, u64),
    size: u64,
    /// Seconds and nanoseconds: a file that was written to.
    modified: (i64, i64),
    /// The same for owner and mode: a key that albedo may read from now on.
    changed: (i64, i64),
}

impl File {
    /// The file at this path; it is not looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            named: Vec::new(),
            read: Vec::new(),
            changing: None,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it. Gives the configuration and its warnings, or everything that is wrong. Either way, nothing has changed
    /// until something changes again.
    pub fn load(&mut self) -> Result<(Config, Vec<Problem>), Problems> {
        // Stamped before it is read: what is written meanwhile is a change. The files that it names are read later.
        let own = stamp(&self.path);
        let loaded = super::read(&self.path);
        if let Ok((config, _warnings)) = &loaded {
            self.named = named(config);
        }
        self.read = [own].into_iter().chain(self.stamps_of_named()).collect();
        self.changing = None;
        loaded
    }

    /// Whether there is something else to read than before, and nobody is writing it any more: true when a change is
    /// seen at two looks in a row.
    pub(crate) fn has_changed(&mut self) -> bool {
        let own = stamp(&self.path);
        let now = [own].into_iter().chain(self.stamps_of_named()).collect();
        self.observe(now)
    }

    fn observe(&mut self, now: Vec<Stamp>) -> bool {
        if now == self.read {
            self.changing = None;
            return false;
        }
        let settled = self.changing.as_ref() == Some(&now);
        self.changing = Some(now);
        settled
    }

    /// Where the value of this path stands, as far as the file still has it.
    pub(crate) fn locate(&self, path: &str) -> Option<Place> {
        super::locate(&self.path, path)
    }

    fn stamps_of_named(&self) -> impl Iterator<Item = Stamp> {
        self.named.iter().map(|path| stamp(path))
    }
}

/// What is at a path, links followed.
fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some(Metadata {
        file: (found.dev(), found.ino()),
        size: found.size(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// The files that a configuration names and that are read when it is applied.
fn named(config: &Config) -> Vec<PathBuf> {
    let certificates = config
        .listeners
        .iter()
        .flat_map(|listener| &listener.certificates);
    let pems = certificates.flat_map(|certificate| [&certificate.certificate, &certificate.key]);
    let pems = pems.filter_map(|pem| match pem {
        Pem::File(path) => Some(path),
        Pem::Inline(_) => None,
    });
    let bundles = config
        .target_groups
        .iter()
        .filter_map(|group| match &group.tls {
            UpstreamTls::Verified { ca_file } => Some(ca_file),
            UpstreamTls::Unverified => None,
        });
    let mut files: Vec<PathBuf> = pems.chain(bundles).cloned().collect();
    files.sort_unstable();
    files.dedup();
    files
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    const PLAIN: &str = "listeners:\n  - port: 80\n    protocol: HTTP\n    default_actions: \
                         [ { fixed_response: { status_code: 200 } } ]\n";

    /// A folder with a configuration, which has been read.
    fn scene(text: &str) -> (TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("albedo.yaml");
        fs::write(&path, text).unwrap();
        let mut file = File::new(path);
        let _outcome = file.load();
        (folder, file)
    }

    /// Looks until nothing is new any more, and says how often there was something to read.
    fn changes(file: &mut File) -> usize {
        let mut changes = 0;
        for _ in 0..4 {
            if file.has_changed() {
                changes += 1;
                let _outcome = file.load();
            }
        }
        changes
    }

    #[test]
    fn an_untouched_file_has_not_changed() {
        let (_folder, mut file) = scene(PLAIN);
        assert_eq!(changes(&mut file), 0);
    }

    #[test]
    fn a_file_that_is_written_to_has_changed_once() {
        let (_folder, mut file) = scene(PLAIN);
        fs::write(file.path(), format!("{PLAIN}# more\n")).unwrap();
        assert_eq!(changes(&mut file), 1);
    }

    #[test]
    fn a_file_that_is_still_being_written_is_left_alone() {
        let (_folder, mut file) = scene(PLAIN);
        for length in 1..PLAIN.len() {
            fs::write(file.path(), &PLAIN[..length]).unwrap();
            assert!(!file.has_changed());
        }
        assert!(file.has_changed());
    }

    #[test]
    fn a_file_that_is_renamed_over_has_changed() {
        let (folder, mut file) = scene(PLAIN);
        let new = folder.path().join("albedo.yaml.new");
        fs::write(&new, PLAIN).unwrap();
        fs::rename(&new, file.path()).unwrap();
        assert_eq!(changes(&mut file), 1);
    }

    #[test]
    fn a_link_on_the_way_that_is_swapped_is_a_change() {
        // As Kubernetes mounts a ConfigMap: albedo.yaml -> ..data/albedo.yaml, ..data -> a folder of this version.
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["..one", "..two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("albedo.yaml"), PLAIN).unwrap();
        }
        symlink("..one", at("..data")).unwrap();
        symlink("..data/albedo.yaml", at("albedo.yaml")).unwrap();
        let mut file = File::new(at("albedo.yaml"));
        file.load().unwrap();
        assert_eq!(changes(&mut file), 0);

        symlink("..two", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        assert_eq!(changes(&mut file), 1);
    }

    #[test]
    fn a_certificate_that_is_replaced_is_a_change_even_while_the_file_is_refused() {
        let text = PLAIN.replace(
            "HTTP\n",
            "HTTPS\n    certificates: [ { certificate: a.pem, key: a.key } ]\n",
        );
        let (folder, mut file) = scene(&text);
        let key = folder.path().join("a.key");
        // What is not there yet is waited for.
        fs::write(&key, "key").unwrap();
        assert_eq!(changes(&mut file), 1);
        // So is the right to read it.
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(changes(&mut file), 1);

        fs::write(file.path(), "nonsense").unwrap();
        assert_eq!(changes(&mut file), 1);
        fs::write(folder.path().join("a.pem"), "certificate").unwrap();
        assert_eq!(changes(&mut file), 1);
    }

    #[test]
    fn a_bundle_of_a_target_group_is_watched() {
        let groups = "target_groups:\n  - name: web\n    protocol: HTTPS\n    port: 443\n    \
                      verify: true\n    ca_file: ca.pem\n    targets: []\n";
        let (folder, mut file) = scene(&format!("{PLAIN}{groups}"));
        fs::write(folder.path().join("ca.pem"), "bundle").unwrap();
        assert_eq!(changes(&mut file), 1);
    }

    #[test]
    fn a_value_is_found_in_the_file_by_its_path() {
        let (_folder, file) = scene(PLAIN);
        let place = file.locate("listeners[0].protocol").unwrap();
        assert_eq!((place.line, place.column), (3, 15));
        // What is not written is looked for at what would hold it.
        let place = file.locate("listeners[0].certificates").unwrap();
        assert_eq!(place.line, 2);
        assert!(file.locate("workers").is_some());
    }
}
