//! What is recorded when a stream ends, however it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::listener::connection::Current;
use crate::message::{Exchange, Outstanding};
use crate::proxy;
use crate::snapshot::Ledger;

/// One exchange on its way into the ledger; it gets there by being dropped.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) exchange: Exchange,
    pub(super) kept_by: Keeper,
    pub(super) outstanding: Option<Outstanding>,
    /// Bytes of the head as they came out of HPACK, and those of a tunnel.
    pub(super) received: u64,
    /// Whether the answer has begun, and neither was all of it handed over nor did we break it off.
    pub(super) is_underway: bool,
    /// Bytes of the body, where there is one.
    pub(super) body: Option<Rc<Cell<u64>>>,
}

/// Where a record goes.
#[derive(Debug)]
pub(super) enum Keeper {
    /// Counted up, this costs no other worker anything.
    Listener(Rc<Current>),
    /// For a tunnel, which may outlive many generations and shall not keep the one it began in.
    Ledger(Arc<Ledger>),
}

impl Keeper {
    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        match self {
            Self::Listener(listener) => &listener.ledger,
            Self::Ledger(ledger) => ledger,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.exchange.elb_status.is_none() || self.is_underway {
            proxy::client_gone(&mut self.exchange);
        }
        let body = self.body.as_ref().map_or(0, |body| body.get());
        self.exchange.received_bytes = self.received + body;
        self.kept_by.ledger().finish(&mut self.exchange);
    }
}
