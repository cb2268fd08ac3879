//! Asks the admin address of a running load balancer; what `albedo status` speaks with.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderValue};
use http::{Request, StatusCode, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::body::Whole;
use crate::model::AdminAddress;

/// How long a whole answer may take. The admin address is near, and whoever asks is waiting.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest answer, in bytes: the status of 100 groups of 1,000 targets takes half of it.
const ANSWER_SIZE_MAX: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Connect(io::Error),
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("the answer has more than {ANSWER_SIZE_MAX} bytes")]
    TooLarge,
    #[error("it answered {0}")]
    Status(StatusCode),
}

/// The body of the 200 that this path answers.
///
/// # Errors
/// When nobody answers in time, or answers anything else.
pub(crate) async fn get(address: &AdminAddress, path: &'static str) -> Result<Bytes, Error> {
    let answer = timeout(ANSWER_TIMEOUT, connect_and_ask(address, path)).await;
    answer.unwrap_or(Err(Error::Timeout))
}

async fn connect_and_ask(address: &AdminAddress, path: &'static str) -> Result<Bytes, Error> {
    let mut request = Request::new(Whole::default());
    *request.uri_mut() = Uri::from_static(path);
    match address {
        AdminAddress::Tcp(address) => {
            let host = HeaderValue::try_from(address.to_string());
            request
                .headers_mut()
                .insert(HOST, host.expect("an address is a header value"));
            let stream = TcpStream::connect(address).await.map_err(Error::Connect)?;
            ask(stream, request).await
        }
        AdminAddress::Unix(path) => {
            request
                .headers_mut()
                .insert(HOST, HeaderValue::from_static("localhost"));
            let stream = UnixStream::connect(path).await.map_err(Error::Connect)?;
            ask(stream, request).await
        }
    }
}

async fn ask<S>(stream: S, request: Request<Whole>) -> Result<Bytes, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        match response.status() {
            StatusCode::OK => collect(response.into_body()).await,
            status => Err(Error::Status(status)),
        }
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
