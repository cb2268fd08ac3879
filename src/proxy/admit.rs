//! What may enter. Heads and framing are checked where they are read; here is what is left for both HTTPs.

use http::Method;

use crate::message::{Error, Request};

/// Refuses what ALB refuses whatever the rules say.
pub(super) fn admit(request: &Request) -> Result<(), Error> {
    match request.method {
        // ALB user guide, "HTTP 405": TRACE is not allowed. CONNECT is for proxies that a client chose.
        Method::TRACE | Method::CONNECT => Err(Error::MethodNotAllowed),
        _ => Ok(()),
    }
}
