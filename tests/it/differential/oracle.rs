//! Another parser's reading of the same bytes: hyper's HTTP/1 server on a connection in memory. Used by the test
//! beside this file and by a fuzz target.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;

use albedo::hatch::{End, Request, read_requests};
use http::{HeaderMap, Method, Response, Version, header};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Asserts that both parsers read these bytes alike, or that ours refuses them.
pub(crate) fn assert_agreement(bytes: &[u8]) {
    let (ours, end) = read_requests(bytes);
    let theirs = read_with_hyper(bytes);
    let shown = text(bytes);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours.method, theirs.method, "{shown}");
        // We answer CONNECT with 405 and never look at its target.
        if ours.method != Method::CONNECT {
            assert_eq!(text(&ours.target), text(&theirs.target), "{shown}");
        }
        assert_eq!(headers(ours), headers(theirs), "{shown}");
        assert!(ours.body == theirs.body, "{shown}");
    }
    if ours.len() > theirs.len() {
        let refused = &ours[theirs.len()];
        assert!(
            may_be_ours_alone(refused),
            "hyper refuses request {}: {shown}",
            theirs.len()
        );
    }
    // We may refuse what hyper takes; but we may not see an end where it goes on.
    if ours.len() < theirs.len() && !ours.last().is_some_and(ends_for_us_alone) {
        assert_eq!(end, End::Refused, "hyper reads more: {shown}");
    }
}

/// A length that is repeated once, one that a coding overrides not at all (RFC 9112 §6.3): hyper drops them where it
/// reads, we where we write.
fn headers(request: &Request) -> HeaderMap {
    let mut headers = request.headers.clone();
    let length = headers.remove(header::CONTENT_LENGTH);
    if let (Some(length), false) = (length, headers.contains_key(header::TRANSFER_ENCODING)) {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    headers
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What hyper refuses and we take, with the reason.
fn may_be_ours_alone(request: &Request) -> bool {
    // hyper's URIs are narrower than its request lines; a load balancer passes targets on as they are.
    let target_is_no_uri = http::Uri::try_from(request.target.as_slice()).is_err();
    // ALB takes this coding, which says that there is none.
    let coding = request.headers.get(header::TRANSFER_ENCODING);
    let is_identity =
        coding.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    target_is_no_uri || is_identity
}

/// Whether a request says `close` where hyper does not look: it skips Connection headers with bytes beyond ASCII.
fn ends_for_us_alone(request: &Request) -> bool {
    let mut options = request.headers.get_all(header::CONNECTION).iter();
    options.any(|value| value.to_str().is_err())
}

/// The requests that hyper reads whole.
fn read_with_hyper(bytes: &[u8]) -> Vec<Request> {
    let read = Rc::new(RefCell::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(bytes.len() + 1);
        client.write_all(bytes).await.expect("room for all bytes");
        client.shutdown().await.expect("an open pipe");
        let seen = Rc::clone(&read);
        let service = hyper::service::service_fn(move |request| {
            let seen = Rc::clone(&seen);
            async move {
                let request = whole(request).await?;
                seen.borrow_mut().push(request);
                Ok::<_, hyper::Error>(Response::new(Nothing))
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .header_read_timeout(None)
            .max_headers(256)
            .serve_connection(TokioIo::new(server), service);
        // What hyper says to refused bytes is not compared.
        let mut answers = Vec::new();
        let _ = tokio::join!(connection, client.read_to_end(&mut answers));
    });
    read.take()
}

async fn whole(request: http::Request<Incoming>) -> Result<Request, hyper::Error> {
    let (head, mut incoming) = request.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    debug_assert!(head.version <= Version::HTTP_11);
    let target = match head.uri.query() {
        Some(query) => format!("{}?{query}", head.uri.path()),
        None => head.uri.path().to_owned(),
    };
    Ok(Request {
        method: head.method,
        target: target.into_bytes(),
        headers: head.headers,
        body,
    })
}

/// An answer's body.
struct Nothing;

impl Body for Nothing {
    type Data = &'static [u8];
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Infallible>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
