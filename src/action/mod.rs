//! What to do with a request once its rule is found. Never knows which rule sent it.

mod fixed_response;
mod forward;
mod groups;
mod redirect;
mod session;
mod tunnel;

pub(crate) use fixed_response::FixedResponse;
pub(crate) use forward::Forward;
pub(crate) use redirect::Redirect;
pub(crate) use tunnel::Tunnel;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::message::headers::Forwarding;
use crate::message::{self, Client, Error, Exchange, Request, Response};
use crate::model::{self, BodyRate, TargetGroupName};
use crate::target::Group;
use crate::target::stickiness::Keys;
use crate::worker::{self, Alarm};

/// The actions of a rule: exactly one that ends it.
#[derive(Debug)]
pub(crate) struct Actions {
    terminal: Terminal,
}

#[derive(Debug)]
enum Terminal {
    Forward(Forward),
    FixedResponse(FixedResponse),
    Redirect(Redirect),
}

/// What an action knows besides the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop<'a> {
    pub(crate) client: &'a Client,
    pub(crate) forwarding: &'a Forwarding,
    /// Looked at only where cookies are used.
    pub(crate) cookie_keys: &'a ArcSwap<Keys>,
    pub(crate) idle_timeout: Duration,
    pub(crate) body_rate: Option<BodyRate>,
    pub(crate) alarm: &'a Alarm,
}

impl Actions {
    /// Links the written actions to live groups. `group` finds every group that a checked configuration names.
    pub(crate) fn build(
        actions: &model::Actions,
        group: impl Fn(&TargetGroupName) -> Arc<Group>,
    ) -> Self {
        let terminal = match &actions.terminal {
            model::Action::Forward(forward) => Terminal::Forward(Forward::build(forward, group)),
            model::Action::FixedResponse(fixed) => {
                Terminal::FixedResponse(FixedResponse::build(fixed))
            }
            model::Action::Redirect(redirect) => Terminal::Redirect(Redirect::build(redirect)),
        };
        Self { terminal }
    }

    /// Answers the request.
    pub(crate) async fn run(
        &self,
        request: &mut Request,
        hop: Hop<'_>,
        exchange: &mut Exchange,
    ) -> Result<Response, Error> {
        match &self.terminal {
            Terminal::Forward(forward) => forward.run(request, hop, exchange).await,
            Terminal::FixedResponse(fixed) => {
                exchange.action = message::Action::FixedResponse;
                Ok(fixed.respond(request, &worker::date()))
            }
            Terminal::Redirect(redirect) => {
                exchange.action = message::Action::Redirect;
                redirect.respond(request, hop.client, &worker::date())
            }
        }
    }
}
