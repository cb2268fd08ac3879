//! The keys of stickiness cookies over the generations: from the file that the configuration names, or made at start
//! and kept in memory. Requests see new ones without anything else changing. Never knows what the file looks like, and
//! no request ever waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::error::Unspecified;
use jiff::Timestamp;

use crate::handover::KnownKeys;
use crate::model::{self, Action, Config};
use crate::target::stickiness::{KeyRing, Keys, SPREAD, key_file};

/// How often the file is read again: a key that another process put into it is known here before anybody seals with it.
const LOOK_EVERY: Duration = Duration::from_secs(60);
const _: () = assert!(LOOK_EVERY.as_secs() < SPREAD.as_secs() as u64);

#[derive(Debug)]
pub(super) struct CookieKeys {
    in_use: Arc<ArcSwap<Keys>>,
    ring: KeyRing,
    /// Where they are kept; `None` where no cookie is used, or nothing says where.
    file: Option<model::CookieKeys>,
    /// What was wrong with the file at the last look; it is said once.
    complaint: Option<String>,
    next_look: Instant,
}

/// The keys of a configuration that is being applied.
#[derive(Debug)]
pub(super) struct Prepared {
    ring: KeyRing,
    keys: Keys,
    file: Option<model::CookieKeys>,
    complaint: Option<String>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    File(#[from] key_file::Error),
    #[error("the system gives no random numbers for cookie keys")]
    Random(#[from] Unspecified),
}

impl CookieKeys {
    /// Keys in memory, until a configuration says otherwise: those of another process, else one that is made now.
    pub(super) fn new(inherited: &KnownKeys, now: Timestamp) -> Result<Self, Unspecified> {
        let ring = match KeyRing::inherited(inherited) {
            Some(ring) => ring,
            None => KeyRing::generate(now)?,
        };
        Ok(Self {
            in_use: Arc::new(ArcSwap::from_pointee(ring.keys(now)?)),
            ring,
            file: None,
            complaint: None,
            next_look: Instant::now() + LOOK_EVERY,
        })
    }

    /// What the next process is told.
    pub(super) fn known(&self) -> KnownKeys {
        self.ring.known()
    }

    /// The keys that requests use, now and later.
    pub(super) fn in_use(&self) -> Arc<ArcSwap<Keys>> {
        Arc::clone(&self.in_use)
    }

    /// Whether `prepare` will find keys in the file that is there, if one is. Makes nothing.
    ///
    /// # Errors
    /// When the file holds anything but keys.
    pub(super) fn check(&self, config: &Config) -> Result<(), Error> {
        if let Some(file) = wanted_file(config) {
            key_file::read(&file.path)?;
        }
        Ok(())
    }

    /// Reads the keys that a configuration asks for. A file is only made where some group uses cookies.
    ///
    /// # Errors
    /// When the file holds anything but keys.
    pub(super) fn prepare(&self, config: &Config, now: Timestamp) -> Result<Prepared, Error> {
        let file = wanted_file(config).cloned();
        let (ring, complaint) = match &file {
            Some(file) => self.read(file, now)?,
            None => (self.ring.clone(), None),
        };
        Ok(Prepared {
            keys: ring.keys(now)?,
            ring,
            file,
            complaint,
        })
    }

    pub(super) fn commit(&mut self, prepared: Prepared) {
        self.in_use.store(Arc::new(prepared.keys));
        self.ring = prepared.ring;
        self.file = prepared.file;
        self.complain(prepared.complaint);
    }

    /// Looks whether there are other keys by now, if it is time to. What cannot be had changes nothing.
    pub(super) fn look(&mut self, now: Timestamp, clock: Instant) {
        if clock < self.next_look {
            return;
        }
        self.next_look = clock + LOOK_EVERY;
        let Some(file) = &self.file else {
            return;
        };
        let found = self.read(file, now).map_err(Error::from);
        let found = found.and_then(|(ring, complaint)| Ok((ring.keys(now)?, ring, complaint)));
        match found {
            Ok((keys, ring, complaint)) => {
                if ring != self.ring {
                    tracing::info!(keys = ring.len(), "cookie keys changed");
                }
                // Also where they are the same: the newest may have come of age.
                self.in_use.store(Arc::new(keys));
                self.ring = ring;
                self.complain(complaint);
            }
            Err(error) => self.complain(Some(format!("the cookie keys stay as they are: {error}"))),
        }
    }

    /// The keys in the file, renewed if that is due, and what stands in the way of keeping them there.
    fn read(
        &self,
        file: &model::CookieKeys,
        now: Timestamp,
    ) -> Result<(KeyRing, Option<String>), key_file::Error> {
        let found = match key_file::read(&file.path)? {
            Some(ring) => ring,
            None => match key_file::create(&file.path, &self.ring) {
                // Perhaps somebody else was quicker.
                Ok(()) => key_file::read(&file.path)?.unwrap_or_else(|| self.ring.clone()),
                Err(error) if error.is_unwritable() => {
                    let complaint = format!("sessions will end with this process: {error}");
                    return Ok((self.ring.clone(), Some(complaint)));
                }
                Err(error) => return Err(error),
            },
        };
        match file.rotation {
            Some(rotation) if found.is_due(rotation, now) => {
                match key_file::renew(&file.path, rotation, now) {
                    Ok(renewed) => Ok((renewed.unwrap_or(found), None)),
                    Err(error) => Ok((found, Some(format!("no new cookie key is made: {error}")))),
                }
            }
            _ => Ok((found, None)),
        }
    }

    fn complain(&mut self, complaint: Option<String>) {
        if let Some(text) = &complaint
            && self.complaint != complaint
        {
            tracing::warn!("load_balancer.cookie_keys: {text}");
        }
        self.complaint = complaint;
    }
}

/// Where keys are to be kept, if there are any to keep.
fn wanted_file(config: &Config) -> Option<&model::CookieKeys> {
    let file = config.load_balancer.cookie_keys.as_ref();
    file.filter(|_| uses_cookies(config))
}

/// Whether any answer under this configuration would carry a cookie of ours.
fn uses_cookies(config: &Config) -> bool {
    let actions = config.listeners.iter().flat_map(|listener| {
        let rules = listener.rules.iter().map(|rule| &rule.actions);
        rules.chain([&listener.default_actions])
    });
    let mut forwards = actions.filter_map(|actions| match &actions.terminal {
        Action::Forward(forward) => Some(forward),
        Action::FixedResponse(_) | Action::Redirect(_) => None,
    });
    forwards.any(|forward| {
        let mut groups = forward.target_groups.iter();
        let sticky = |name| {
            config
                .target_group(name)
                .is_some_and(|group| group.stickiness.is_some())
        };
        forward.stickiness.is_some() || groups.any(|group| sticky(&group.name))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use jiff::ToSpan;

    use super::*;
    use crate::model::{Actions, Listener, Protocol, Stickiness, TargetGroup};

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn now() -> Timestamp {
        "2026-11-21T14:00:00Z".parse().unwrap()
    }

    fn fresh() -> CookieKeys {
        CookieKeys::new(&KnownKeys::default(), now()).unwrap()
    }

    fn config(path: &Path, stickiness: Option<Stickiness>) -> Config {
        let name: model::TargetGroupName = "web".parse().unwrap();
        let mut group = TargetGroup::new(name.clone(), Protocol::Http, 80);
        group.stickiness = stickiness;
        let mut config = Config {
            listeners: vec![Listener::new(80, Protocol::Http, Actions::forward(name))],
            target_groups: vec![group],
            ..Config::default()
        };
        config.load_balancer.cookie_keys = Some(model::CookieKeys {
            path: path.to_owned(),
            rotation: Some(DAY),
        });
        config
    }

    fn sticky(path: &Path) -> Config {
        config(path, Some(Stickiness::LbCookie { duration: DAY }))
    }

    fn apply(keys: &mut CookieKeys, config: &Config, now: Timestamp) {
        let prepared = keys.prepare(config, now).unwrap();
        keys.commit(prepared);
    }

    #[test]
    fn a_file_is_made_only_where_cookies_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie.keys");
        let mut keys = fresh();
        apply(&mut keys, &config(&path, None), now());
        assert!(!path.exists());

        let mut forward = config(&path, None);
        if let Action::Forward(forward) = &mut forward.listeners[0].default_actions.terminal {
            forward.stickiness = Some(DAY);
        }
        apply(&mut keys, &forward, now());
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        apply(&mut keys, &sticky(&path), now());
        assert!(path.exists());
        let mut unused = sticky(&path);
        unused.listeners.clear();
        assert!(!uses_cookies(&unused));
    }

    #[test]
    fn keys_outlive_the_process_in_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie.keys");
        let mut first = fresh();
        let in_memory = first.ring.clone();
        apply(&mut first, &sticky(&path), now());
        assert_eq!(
            first.ring, in_memory,
            "no session ends when a file is given"
        );
        let mut second = fresh();
        apply(&mut second, &sticky(&path), now());
        assert_eq!(second.ring, first.ring);
    }

    #[test]
    fn a_folder_that_cannot_be_written_leaves_the_keys_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nowhere/cookie.keys");
        let mut keys = fresh();
        let in_memory = keys.ring.clone();
        apply(&mut keys, &sticky(&path), now());
        assert!(
            keys.complaint
                .as_ref()
                .unwrap()
                .contains("cannot be written")
        );
        apply(&mut keys, &sticky(&path), now());
        assert_eq!(keys.ring, in_memory);
        // As soon as it can be, they are.
        fs::create_dir(path.parent().unwrap()).unwrap();
        let clock = keys.next_look;
        keys.look(now(), clock);
        assert!(keys.complaint.is_none() && path.exists());
        assert_eq!(keys.ring, in_memory);
    }

    #[test]
    fn a_bad_file_refuses_a_configuration_and_is_only_said_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie.keys");
        let mut keys = fresh();
        apply(&mut keys, &sticky(&path), now());
        let before = keys.ring.clone();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = keys.prepare(&sticky(&path), now()).unwrap_err();
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        let clock = keys.next_look;
        keys.look(now(), clock);
        assert!(keys.complaint.as_ref().unwrap().contains("chmod 600"));
        assert_eq!(keys.ring, before);
    }

    #[test]
    fn a_look_is_taken_once_a_minute_and_finds_what_others_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie.keys");
        let mut keys = fresh();
        apply(&mut keys, &sticky(&path), now());
        let other = KeyRing::generate(now()).unwrap();
        fs::remove_file(&path).unwrap();
        key_file::create(&path, &other).unwrap();
        let clock = keys.next_look;
        keys.look(now(), clock - Duration::from_millis(1));
        assert_ne!(keys.ring, other);
        keys.look(now(), clock);
        assert_eq!(keys.ring, other);
        assert_eq!(keys.next_look, clock + LOOK_EVERY);
    }

    #[test]
    fn a_key_that_is_due_is_renewed_at_a_look_and_requests_see_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie.keys");
        let mut keys = fresh();
        apply(&mut keys, &sticky(&path), now());
        let in_use = keys.in_use();
        let before = Arc::as_ptr(&in_use.load_full());
        let clock = keys.next_look;
        keys.look(now() + 24.hours(), clock);
        assert_eq!(keys.ring.len(), 2);
        assert_ne!(Arc::as_ptr(&in_use.load_full()), before);
        // Where nothing is said of a rotation, none takes place.
        let mut fixed = sticky(&path);
        if let Some(file) = &mut fixed.load_balancer.cookie_keys {
            file.rotation = None;
        }
        apply(&mut keys, &fixed, now() + 480.hours());
        assert_eq!(keys.ring.len(), 2);
    }
}
