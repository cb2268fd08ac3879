//! Asks the admin address of a running load balancer; what the verbs of the command line speak with.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::body::Whole;
use super::token::Token;
use crate::model::AdminAddress;

/// How long a whole answer may take. The admin address is near, and whoever asks is waiting; a change is answered when
/// every worker has taken it up, for which they have five seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer, in bytes: the status of 100 groups of 1,000 targets takes half of it.
const ANSWER_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Connect(io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer has more than {ANSWER_SIZE_MAX} bytes")]
    TooLarge,
    #[error("it cannot be asked for this")]
    Path,
}

/// Asks for this path, with the token if there is one; gives status and body of the answer.
///
/// # Errors
/// When nobody answers in time, or what comes is not HTTP.
pub(crate) async fn ask(
    address: &AdminAddress,
    token: Option<&Token>,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), Error> {
    ask_within(ANSWER_TIMEOUT, address, token, method, path).await
}

/// As `ask`, for what takes longer.
///
/// # Errors
/// As `ask`.
pub(crate) async fn ask_within(
    limit: Duration,
    address: &AdminAddress,
    token: Option<&Token>,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), Error> {
    let mut request = Request::new(Whole::default());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().map_err(|_| Error::Path)?;
    let token = token.map(|token| (AUTHORIZATION, token.header()));
    request.headers_mut().extend(token);
    let answer = timeout(limit, connect_and_send(address, request)).await;
    answer.unwrap_or(Err(Error::Timeout(limit)))
}

async fn connect_and_send(
    address: &AdminAddress,
    mut request: Request<Whole>,
) -> Result<(StatusCode, Bytes), Error> {
    match address {
        AdminAddress::Tcp(address) => {
            let host = HeaderValue::try_from(address.to_string());
            request
                .headers_mut()
                .insert(HOST, host.expect("an address is a header value"));
            let stream = TcpStream::connect(address).await.map_err(Error::Connect)?;
            send(stream, request).await
        }
        AdminAddress::Unix(path) => {
            request
                .headers_mut()
                .insert(HOST, HeaderValue::from_static("localhost"));
            let stream = UnixStream::connect(path).await.map_err(Error::Connect)?;
            send(stream, request).await
        }
    }
}

async fn send<S>(stream: S, request: Request<Whole>) -> Result<(StatusCode, Bytes), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok((status, collect(response.into_body()).await?))
    };
    // The connection ends once the sender is gone; what becomes of it then does not change the answer.
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

async fn collect(mut body: Incoming) -> Result<Bytes, Error> {
    let mut collected = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(piece) = frame?.into_data() else {
            continue;
        };
        if collected.len() + piece.len() > ANSWER_SIZE_MAX {
            return Err(Error::TooLarge);
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected.freeze())
}
