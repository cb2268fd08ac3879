//! The cookies of one request and of its answer: which group and which target the client comes back to. Never sees a
//! cookie of another name.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Forward;
use crate::headers::Name;
use crate::message::cookie::{self, Found};
use crate::message::{Error, Exchange, Request, Response};
use crate::model::Stickiness;
use crate::target::stickiness::{Keys, Mark, Opened, Pair, Stays, app};
use crate::target::{Group, Lease};
use crate::upstream::PoolId;
use crate::worker;

/// ALB's word for an AWSALBTG that it cannot read. The request is served all the same.
const GROUP_COOKIE_INVALID: &str = "AWSALBTGCookieInvalid";

/// What a client's cookies have settled for this request.
#[derive(Debug)]
pub(super) struct Session<'a> {
    forward: &'a Forward,
    group: &'a Arc<Group>,
    /// What the client's cookies hold; nothing where they are not used.
    group_stays: Stays,
    target_stays: Stays,
    app_cookie: AppCookie,
}

/// What a client has of AWSALBAPP, apart from its stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AppCookie {
    /// None, or one that is good for something.
    Sound,
    /// Good for nothing: forged, expired, or without the cookie of the application.
    Stale,
}

impl<'a> Session<'a> {
    /// Decides the group: the one that the client's cookie names while it is in the forward, else one by weight.
    ///
    /// # Errors
    /// When every weight is 0.
    pub(super) fn open(
        forward: &'a Forward,
        request: &Request,
        keys: &ArcSwap<Keys>,
        now: u32,
        exchange: &mut Exchange,
    ) -> Result<Self, Error> {
        let mut group_stays = Stays::default();
        if forward.stickiness.is_some() {
            let opened = Pair::Group.open(&keys.load(), &request.headers, now);
            if opened == Opened::Unusable {
                exchange.error_reason = Some(GROUP_COOKIE_INVALID);
            }
            group_stays = opened.into_stays();
        }
        let named = group_stays.find(|mark| forward.groups.find(mark).is_some());
        let named = named.and_then(|mark| forward.groups.find(&mark));
        let group = named.or_else(|| forward.groups.draw(|end| fastrand::u32(..end)));
        let group = group.ok_or(Error::NoTargets)?;
        let mut session = Self {
            forward,
            group,
            group_stays,
            target_stays: Stays::default(),
            app_cookie: AppCookie::Sound,
        };
        match group.stickiness() {
            Some(Stickiness::LbCookie { .. }) => {
                let opened = Pair::Target.open(&keys.load(), &request.headers, now);
                session.target_stays = opened.into_stays();
            }
            Some(Stickiness::AppCookie { cookie_name, .. }) => {
                session.open_app_cookie(cookie_name, request, keys, now);
            }
            None => {}
        }
        Ok(session)
    }

    /// AWSALBAPP binds only beside the cookie of the application that the group goes by.
    fn open_app_cookie(
        &mut self,
        cookie_name: &str,
        request: &Request,
        keys: &ArcSwap<Keys>,
        now: u32,
    ) {
        let opened = app::open(&keys.load(), &request.headers, now);
        let came = opened != Opened::Nothing;
        let mut stays = opened.into_stays();
        if cookie::find(&request.headers, cookie_name) == Found::Nothing {
            stays.forget(|mark| mark.is_within(self.group.mark()));
        }
        if came && stays.is_empty() {
            self.app_cookie = AppCookie::Stale;
        }
        self.target_stays = stays;
    }

    pub(super) fn group(&self) -> &'a Group {
        self.group
    }

    /// The target that the client's cookie names while it is eligible, else the next in turn.
    pub(super) fn pick(&self, tried: &[PoolId]) -> Option<Lease> {
        let here = |mark: &Mark| mark.is_within(self.group.mark());
        match self.target_stays.find(here) {
            Some(mark) => self.group.pick_sticky(worker::index(), tried, &mark),
            None => self.group.pick(worker::index(), tried),
        }
    }

    /// Has the client come back to where it was answered: to the target that was chosen in the end, so a session that
    /// had to move stays where it moved to.
    pub(super) fn keep(
        self,
        request: &Request,
        response: &mut Response,
        lease: &Lease,
        keys: &ArcSwap<Keys>,
    ) {
        let now = worker::epoch_seconds();
        if let Some(duration) = self.forward.stickiness {
            let of_forward = |mark: &Mark| self.forward.groups.find(mark).is_some();
            let mut stays = self.group_stays;
            stays.renew(*self.group.mark(), duration, now, of_forward);
            set(response, flat(Pair::Group.seal(&keys.load(), &stays, now)));
        }
        let here = |mark: &Mark| mark.is_within(self.group.mark());
        let mut stays = self.target_stays;
        match self.group.stickiness() {
            Some(&Stickiness::LbCookie { duration }) => {
                stays.renew(*lease.mark(), duration, now, here);
                set(response, flat(Pair::Target.seal(&keys.load(), &stays, now)));
            }
            Some(Stickiness::AppCookie {
                cookie_name,
                duration,
            }) => {
                let bound = stays.find(here).is_some();
                if bound || cookie::is_set(&response.headers, cookie_name) {
                    stays.renew(*lease.mark(), *duration, now, here);
                    set(response, app::seal(&keys.load(), &stays, now, request));
                } else if self.app_cookie == AppCookie::Stale {
                    // ALB sends these with every answer to everyone who is not bound.
                    set(response, app::removal(now));
                }
            }
            None => {}
        }
    }
}

fn flat(pair: Option<[String; 2]>) -> impl Iterator<Item = String> {
    pair.into_iter().flatten()
}

fn set(response: &mut Response, cookies: impl IntoIterator<Item = String>) {
    for cookie in cookies {
        response.headers.append(Name::SetCookie, cookie.as_bytes());
    }
}
