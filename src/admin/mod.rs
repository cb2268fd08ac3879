//! The operator's door: health, readiness, metrics, status and the run-time verbs over HTTP. Never on the path of a
//! request, and never changes anything itself: it asks `control`.

mod answer;
mod body;
pub(crate) mod client;
mod guard;
mod listener;
pub(crate) mod segment;
mod token;

pub(crate) use body::Whole;
pub(crate) use listener::{Bound, adopt, bind};
pub(crate) use token::{Token, Unusable};

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{io, iter};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::control::WeakControl;
use answer::answer;
use guard::Entrance;
use listener::Visitor;

/// Connections at once: a few scrapers and a few people. Others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;

/// How long a client may take to send a request's head, and how long it may be idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest head, in bytes; nobody who comes here has much to say.
const HEAD_SIZE_MAX: usize = 16 * 1024;

/// Longest life of a connection, so that a reader who stops reading gives its place back.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// How long an answer may still take once its connection is to end.
const FAREWELL_TIME: Duration = Duration::from_secs(1);

/// Pause after a failed accept: most likely there are no descriptors left, and asking at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Descriptors that are held for this address alone: when the process has no other, so many people are still let in.
const SPARE_DESCRIPTORS: usize = 4;

/// Closes the door from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closing {
    stop: CancellationToken,
    passed_on: Arc<OnceLock<()>>,
    closed: CancellationToken,
}

impl Closing {
    /// Ends every connection, and with them the door.
    pub(crate) fn close(&self) {
        self.stop.cancel();
    }

    /// The same because another process answers there now. Returns when nobody comes in here any more; answers that
    /// are due are still given.
    pub(crate) async fn pass_on(&self) {
        // The first time is as good as any.
        let _ = self.passed_on.set(());
        self.stop.cancel();
        self.closed.cancelled().await;
    }
}

/// Answers at the door until it is closed, then ends every connection and returns. Whoever comes over the network has to
/// bring the token, if there is one.
pub(crate) async fn serve(
    mut listener: Bound,
    token: Option<Token>,
    control: WeakControl,
    closing: Closing,
) {
    listener.take_over();
    let stop = &closing.stop;
    let tasks = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut spare = Vec::with_capacity(SPARE_DESCRIPTORS);
    loop {
        let next = next(&listener, &places, &mut spare);
        let Some((visitor, place)) = stop.run_until_cancelled(next).await else {
            break;
        };
        let (control, stop) = (control.clone(), stop.clone());
        match visitor {
            Visitor::Tcp(stream) => {
                let entrance = Entrance::Network(token.clone());
                tasks.spawn(converse(stream, entrance, control, stop, place))
            }
            Visitor::Unix(stream) => {
                tasks.spawn(converse(stream, Entrance::SocketFile, control, stop, place))
            }
        };
    }
    if closing.passed_on.get().is_some() {
        listener.leave_file();
    }
    // With the spare descriptors, which are the listener's too: who comes now is refused.
    drop((listener, spare));
    closing.closed.cancel();
    tasks.close();
    tasks.wait().await;
}

/// The next connection, once there is a place for it.
async fn next(
    listener: &Bound,
    places: &Arc<Semaphore>,
    spare: &mut Vec<OwnedFd>,
) -> (Visitor, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.expect("the places are never closed");
    loop {
        // As far as there are any: more come with the next visitor.
        let spares = SPARE_DESCRIPTORS - spare.len();
        spare.extend(
            iter::repeat_with(|| listener.spare())
                .take(spares)
                .map_while(Result::ok),
        );
        match listener.accept().await {
            Ok(visitor) => return (visitor, place),
            Err(error) if is_out_of_descriptors(&error) && !spare.is_empty() => {
                spare.pop();
                if let Ok(visitor) = listener.accept().await {
                    return (visitor, place);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the admin address cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    [Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|none| number == Some(none.raw_os_error()))
}

/// One connection, from its first request to its end.
async fn converse<S>(
    stream: S,
    entrance: Entrance,
    control: WeakControl,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(async |request| {
        Ok::<_, Infallible>(answer(&request, &entrance, &control).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // Cancelling loses nothing: the connection lives on below.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    // What goes wrong with a client that is leaving concerns nobody.
    let _ = timeout(FAREWELL_TIME, connection).await;
}

#[cfg(test)]
mod tests;
