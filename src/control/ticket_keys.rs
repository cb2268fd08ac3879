//! The keys of session tickets over the generations, and from one process to the next. Never sees a ticket.

use jiff::Timestamp;

use super::Controller;
use crate::handover::{KnownKey, KnownKeys, KnownTickets};
use crate::model;
use crate::tls::TicketKey;

impl Controller {
    /// Gives every listener another key that is due one.
    pub(super) fn rotate_ticket_keys(&self, now: Timestamp) {
        for settings in self.tls.values() {
            if let Err(error) = settings.rotate_ticket_keys(now) {
                tracing::warn!("ticket keys stay as they are: {error}");
            }
        }
    }

    /// What the next process is told.
    pub(super) fn known_tickets(&self) -> Vec<KnownTickets> {
        let open = self.listeners.open().iter();
        open.filter_map(|open| {
            let (address, port) = open.asked;
            let keys = self.tls.get(&open.id)?.ticket_keys();
            let known = |key: TicketKey| KnownKey {
                made: key.made.as_second(),
                bytes: key.bytes,
            };
            Some(KnownTickets {
                address,
                port,
                keys: KnownKeys(keys.into_iter().map(known).collect()),
            })
        })
        .collect()
    }
}

/// The keys that another process had for this listener, which are nobody else's from now on.
pub(super) fn take(left: &mut Vec<&KnownTickets>, listener: &model::Listener) -> Vec<TicketKey> {
    let asked =
        |known: &&KnownTickets| (known.address, known.port) == (listener.address, listener.port);
    let Some(index) = left.iter().position(asked) else {
        return Vec::new();
    };
    let known = &left.remove(index).keys.0;
    let key = |known: &KnownKey| {
        Some(TicketKey {
            made: Timestamp::from_second(known.made).ok()?,
            bytes: known.bytes,
        })
    };
    known.iter().filter_map(key).collect()
}
