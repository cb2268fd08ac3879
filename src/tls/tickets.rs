//! Session tickets of one listener: the session itself, sealed, so that any worker resumes it without a shared table.
//! Says which key seals and when another is due. Never opens what another listener has sealed, or what was sealed while
//! this one had another policy or stood for other names; never reads a clock, never shows a key, and no handshake waits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, MAX_TAG_LEN, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::error::Unspecified;
use jiff::{SignedDuration, Timestamp};
use rustls::server::ProducesTickets;

use super::certificate::Fingerprint;

/// How long a key seals. Tickets are good for that long at least, and for twice as long at most. In this time no
/// listener seals the 2^32 tickets that one key may (NIST SP 800-38D §8.3): it would have to make 200,000 handshakes
/// in each second of it.
const PERIOD: SignedDuration = SignedDuration::from_hours(6);

/// How long clients are told to keep a ticket; they ask for nothing by it but a handshake that may turn out a full one.
const LIFETIME: Duration = Duration::from_secs(2 * PERIOD.as_secs().unsigned_abs());

/// Longest ticket. A session has its secret, a server name and little else.
const TICKET_MAX: usize = 2048;

const KEY_LEN: usize = 32;

/// Bytes at the front of a ticket that hint at its key.
const HINT_LEN: usize = 4;

/// What is around the session: a hint at the key, the nonce, the tag.
const FRAME_LEN: usize = HINT_LEN + NONCE_LEN + MAX_TAG_LEN;

/// Seals and opens the tickets of one listener.
pub(super) struct Tickets {
    /// The same for all the settings that the listener has had.
    keys: Arc<ArcSwap<Keys>>,
    /// What the sessions were agreed on under.
    scope: Fingerprint,
}

/// The newest seals; both open.
struct Keys {
    newest: Arc<Key>,
    previous: Option<Arc<Key>>,
}

struct Key {
    kept: TicketKey,
    hint: [u8; HINT_LEN],
    aead: RandomizedNonceKey,
}

/// A key as it is handed over: when it was made, and its bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TicketKey {
    pub(crate) made: Timestamp,
    pub(crate) bytes: [u8; KEY_LEN],
}

impl Tickets {
    /// With a key that is made now.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) fn new(scope: Fingerprint, now: Timestamp) -> Result<Self, Unspecified> {
        let keys = Keys {
            newest: Arc::new(Key::generate(now)?),
            previous: None,
        };
        Ok(Self::with(keys, scope))
    }

    /// With the keys of another process; `None` where there are none of use.
    pub(super) fn inherited(keys: &[TicketKey], scope: Fingerprint) -> Option<Self> {
        // In their order, the newest first: a clock that was put back makes times of no use for that.
        let ready = keys.iter().filter_map(|key| key.clone().ready());
        let mut keys = ready.map(Arc::new);
        let keys = Keys {
            newest: keys.next()?,
            previous: keys.next(),
        };
        Some(Self::with(keys, scope))
    }

    /// The same keys, for sessions that are agreed on under something else.
    pub(super) fn under(&self, scope: Fingerprint) -> Self {
        Self {
            keys: Arc::clone(&self.keys),
            scope,
        }
    }

    /// Puts a new key in front if it is time to.
    ///
    /// # Errors
    /// When the system gives no random numbers; nothing has changed then.
    pub(super) fn rotate(&self, now: Timestamp) -> Result<(), Unspecified> {
        let keys = self.keys.load();
        let age = now.duration_since(keys.newest.kept.made);
        // A key of the future was made before the clock was put back, and would never grow old.
        if !age.is_negative() && age < PERIOD {
            return Ok(());
        }
        // Where nobody looked for long, as in a machine that slept, its tickets are over too.
        let previous = (age < PERIOD + PERIOD).then(|| Arc::clone(&keys.newest));
        let newest = Arc::new(Key::generate(now)?);
        self.keys.store(Arc::new(Keys { newest, previous }));
        Ok(())
    }

    /// What the next process is told, the newest first.
    pub(super) fn known(&self) -> Vec<TicketKey> {
        let keys = self.keys.load();
        keys.all().map(|key| key.kept.clone()).collect()
    }

    fn with(keys: Keys, scope: Fingerprint) -> Self {
        Self {
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            scope,
        }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    /// Without a ticket the handshake goes on all the same.
    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        if session.len() + FRAME_LEN > TICKET_MAX {
            return None;
        }
        let keys = self.keys.load();
        let key = &keys.newest;
        let mut ticket = Vec::with_capacity(session.len() + FRAME_LEN);
        ticket.extend_from_slice(&key.hint);
        ticket.extend_from_slice(&[0; NONCE_LEN]);
        ticket.extend_from_slice(session);
        let content = &mut ticket[HINT_LEN + NONCE_LEN..];
        let sealing = key
            .aead
            .seal_in_place_separate_tag(Aad::from(self.scope), content);
        let (nonce, tag) = sealing.ok()?;
        ticket[HINT_LEN..][..NONCE_LEN].copy_from_slice(nonce.as_ref());
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_MAX {
            return None;
        }
        let (hint, rest) = ticket.split_first_chunk::<HINT_LEN>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.keys.load();
        let mut hinted = keys.all().filter(|key| key.hint == *hint);
        hinted.find_map(|key| {
            let mut session = rest.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened = key
                .aead
                .open_in_place(nonce, Aad::from(self.scope), &mut session);
            let length = opened.ok()?.len();
            session.truncate(length);
            Some(session)
        })
    }
}

impl Keys {
    fn all(&self) -> impl Iterator<Item = &Key> {
        let both = [Some(&self.newest), self.previous.as_ref()];
        both.into_iter().flatten().map(Arc::as_ref)
    }
}

impl Key {
    fn generate(now: Timestamp) -> Result<Self, Unspecified> {
        let mut bytes = [0; KEY_LEN];
        aws_lc_rs::rand::fill(&mut bytes)?;
        TicketKey { made: now, bytes }.ready().ok_or(Unspecified)
    }
}

impl TicketKey {
    /// Ready for use; `None` for one that nobody has drawn, which everybody would know.
    fn ready(self) -> Option<Key> {
        if self.bytes == [0; KEY_LEN] {
            return None;
        }
        let mut context = Context::new(&SHA256);
        context.update(b"albedo ticket key\0");
        context.update(&self.bytes);
        let mut hint = [0; HINT_LEN];
        hint.copy_from_slice(&context.finish().as_ref()[..HINT_LEN]);
        Some(Key {
            aead: RandomizedNonceKey::new(&AES_256_GCM, &self.bytes).ok()?,
            kept: self,
            hint,
        })
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({})", self.made)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    const SESSION: &[u8] = b"a session";

    fn now() -> Timestamp {
        "2026-11-21T14:00:00Z".parse().unwrap()
    }

    fn scope(text: &str) -> Fingerprint {
        Fingerprint::of(text.as_bytes())
    }

    fn tickets() -> Tickets {
        Tickets::new(scope("one"), now()).unwrap()
    }

    /// Has another key seal, whatever the time.
    pub(in crate::tls) fn rotate_now(tickets: &Tickets) {
        let made = tickets.keys.load().newest.kept.made;
        tickets.rotate(made + PERIOD).unwrap();
    }

    fn opens(tickets: &Tickets, ticket: &[u8]) -> bool {
        let opened = tickets.decrypt(ticket);
        assert!(opened.as_ref().is_none_or(|session| session == SESSION));
        opened.is_some()
    }

    #[test]
    fn a_ticket_opens_where_it_was_sealed_and_nowhere_else() {
        let here = tickets();
        let ticket = here.encrypt(SESSION).unwrap();
        assert!(opens(&here, &ticket));
        assert!(!opens(&tickets(), &ticket));
        let under_another = here.under(scope("another"));
        assert!(!opens(&under_another, &ticket));
        assert!(!opens(&here, &under_another.encrypt(SESSION).unwrap()));
        assert!(opens(&under_another.under(scope("one")), &ticket));
    }

    #[test]
    fn a_key_seals_for_six_hours_and_opens_for_six_more() {
        let tickets = tickets();
        let ticket = tickets.encrypt(SESSION).unwrap();
        let first = tickets.known();
        tickets.rotate(now() + 6.hours() - 1.seconds()).unwrap();
        assert_eq!(tickets.known(), first);
        tickets.rotate(now() + 6.hours()).unwrap();
        assert_eq!(tickets.known()[1..], first);
        assert!(opens(&tickets, &ticket));
        let second = tickets.encrypt(SESSION).unwrap();
        tickets.rotate(now() + 12.hours()).unwrap();
        assert!(!opens(&tickets, &ticket));
        assert!(opens(&tickets, &second));
        assert_eq!(tickets.known().len(), 2);
    }

    #[test]
    fn all_settings_of_a_listener_change_keys_together() {
        let old = tickets();
        let new = old.under(scope("another"));
        new.rotate(now() + 6.hours()).unwrap();
        assert_eq!(old.known(), new.known());
    }

    #[test]
    fn nothing_opens_that_is_older_than_its_time() {
        let tickets = tickets();
        let ticket = tickets.encrypt(SESSION).unwrap();
        tickets.rotate(now() + 12.hours()).unwrap();
        assert!(!opens(&tickets, &ticket));
        assert_eq!(tickets.known().len(), 1);
    }

    #[test]
    fn a_clock_that_is_put_back_keeps_no_key_for_ever() {
        let tickets = tickets();
        let ticket = tickets.encrypt(SESSION).unwrap();
        let back = now() - 900.hours();
        tickets.rotate(back).unwrap();
        assert_eq!(tickets.known()[0].made, back);
        assert!(opens(&tickets, &ticket));
        tickets.rotate(back + 6.hours()).unwrap();
        assert!(!opens(&tickets, &ticket));
    }

    #[test]
    fn the_next_process_opens_what_this_one_sealed() {
        let old = tickets();
        let first = old.encrypt(SESSION).unwrap();
        rotate_now(&old);
        let second = old.encrypt(SESSION).unwrap();
        let new = Tickets::inherited(&old.known(), scope("one")).unwrap();
        assert!(opens(&new, &first) && opens(&new, &second));
        assert_eq!(new.known(), old.known());
        assert!(opens(&old, &new.encrypt(SESSION).unwrap()));
        let elsewhere = Tickets::inherited(&old.known(), scope("other")).unwrap();
        assert!(!opens(&elsewhere, &second));
    }

    #[test]
    fn a_key_of_zeros_is_none() {
        let key = |bytes| TicketKey { made: now(), bytes };
        assert!(Tickets::inherited(&[], scope("one")).is_none());
        assert!(Tickets::inherited(&[key([0; KEY_LEN])], scope("one")).is_none());
        let mixed = [key([0; KEY_LEN]), key([1; KEY_LEN])];
        let inherited = Tickets::inherited(&mixed, scope("one")).unwrap();
        assert_eq!(inherited.known(), [key([1; KEY_LEN])]);
        for _ in 0..100 {
            let made = tickets();
            rotate_now(&made);
            assert!(made.known().iter().all(|key| key.bytes != [0; KEY_LEN]));
            assert_ne!(made.known()[0].bytes, made.known()[1].bytes);
        }
    }

    #[test]
    fn no_two_tickets_are_alike_and_none_shows_its_session() {
        let tickets = tickets();
        let sealed = || tickets.encrypt(SESSION).unwrap();
        assert_ne!(sealed(), sealed());
        assert_eq!(sealed().len(), SESSION.len() + FRAME_LEN);
        assert!(!sealed().windows(SESSION.len()).any(|part| part == SESSION));
    }

    #[test]
    fn what_is_too_long_is_not_looked_at() {
        let tickets = tickets();
        let longest = vec![1; TICKET_MAX - FRAME_LEN];
        let mut ticket = tickets.encrypt(&longest).unwrap();
        assert_eq!(tickets.decrypt(&ticket), Some(longest.clone()));
        ticket.push(0);
        assert_eq!(tickets.decrypt(&ticket), None);
        assert_eq!(tickets.encrypt(&[longest, vec![1]].concat()), None);
    }

    #[test]
    fn keys_stay_out_of_logs() {
        let tickets = tickets();
        let secret = tickets.known()[0].bytes.map(|byte| byte.to_string());
        let shown = format!("{tickets:?} {:?}", tickets.known());
        assert_eq!(shown, "Tickets { .. } [TicketKey(2026-11-21T14:00:00Z)]");
        assert!(!shown.contains(&secret.join(", ")));
    }

    proptest! {
        #[test]
        fn strangers_bytes_open_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let tickets = tickets();
            prop_assert_eq!(tickets.decrypt(&bytes), None);
            // Behind the right hint too.
            let hint = tickets.keys.load().newest.hint;
            prop_assert_eq!(tickets.decrypt(&[&hint[..], &bytes].concat()), None);
        }

        #[test]
        fn a_damaged_ticket_opens_nothing(place in 0..SESSION.len() + FRAME_LEN, bit in 0..8) {
            let tickets = tickets();
            let mut ticket = tickets.encrypt(SESSION).unwrap();
            ticket[place] ^= 1_u8 << bit;
            prop_assert_eq!(tickets.decrypt(&ticket), None);
            prop_assert_eq!(tickets.decrypt(&ticket[..place]), None);
        }
    }
}
