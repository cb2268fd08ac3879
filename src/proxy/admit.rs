//! What may enter. Heads and framing are checked where they are read; here is what is left for both HTTPs.

use http::{Method, Version};

use crate::http1::desync::{self, Class, Verdict};
use crate::http1::{FramingHeader, Persistence};
use crate::message::{Error, Exchange, Limit, Request, Size};
use crate::model::DesyncMitigationMode;

/// Refuses what ALB refuses whatever the rules say.
pub(super) fn admit(
    request: &mut Request,
    mode: DesyncMitigationMode,
    exchange: &mut Exchange,
) -> Result<(), Error> {
    if request.version == Version::HTTP_2 {
        exchange.desync = verdict_downgraded(request);
    }
    if exchange.desync != Verdict::COMPLIANT {
        mitigate(request, mode, exchange.desync.class())?;
    }
    // The listener counted, since it knows the client. Not before the judgement: a connection that is to end ends.
    if exchange.limit == Some(Limit::RequestsPerClient) {
        return Err(Error::TooManyRequests);
    }
    match request.method {
        // ALB user guide, "HTTP 405": TRACE is not allowed. CONNECT is for proxies that a client chose.
        Method::TRACE | Method::CONNECT => Err(Error::MethodNotAllowed),
        _ => Ok(()),
    }
}

/// ALB user guide, "Desync mitigation mode". Whatever goes on is framed anew, from what was read, so that the target
/// finds the end that we found.
fn mitigate(request: &mut Request, mode: DesyncMitigationMode, class: Class) -> Result<(), Error> {
    use DesyncMitigationMode::{Defensive, Monitor, Strictest};
    match (mode, class) {
        (_, Class::Compliant) => {}
        (Strictest, _) | (Defensive, Class::Severe) => return Err(Error::Desync),
        (Monitor | Defensive, Class::Acceptable) => {}
        (Monitor, Class::Ambiguous | Class::Severe) => clear(request),
        (Defensive, Class::Ambiguous) => {
            clear(request);
            request.connections = Persistence::Close;
        }
    }
    Ok(())
}

/// Names that a target may take for framing say nothing that it should hear.
fn clear(request: &mut Request) {
    request.headers.remove_where(desync::is_suspicious);
}

/// The verdict on a request that came over HTTP/2, which has an end that nobody can misread, as it will go on. What
/// opens a tunnel is not framed at all.
fn verdict_downgraded(request: &Request) -> Verdict {
    let framing = match request.body.size() {
        _ if request.upgrade.is_some() => FramingHeader::None,
        Size::Known(0) => FramingHeader::None,
        Size::Known(length) => FramingHeader::Length(length),
        Size::Unknown => FramingHeader::Chunked,
    };
    desync::of_generated(&request.method, &request.headers, framing)
}
