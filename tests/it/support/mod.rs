//! Load balancers, clients and targets for tests. A test plays client and target itself, in turn, on raw bytes; the
//! load balancer between them is a real one, in this process, on ports of its own. Never sleeps: whatever is waited
//! for has a deadline.

mod client;
mod load_balancer;
mod message;
mod target;

pub(crate) use client::Client;
pub(crate) use load_balancer::{LoadBalancer, eventually};
pub(crate) use message::{End, Framed, Message};
pub(crate) use target::{Refusing, Served, Target};

use std::time::Duration;

/// Longest wait for anything. Far more than anything takes, so that a slow machine fails no test.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for `future`, and says what for if it does not come.
async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// An answer of a target with this body.
pub(crate) fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Lets a client and a target exchange one request and one answer; gives what each of them saw.
pub(crate) async fn pass(
    client: &mut Client,
    request: impl AsRef<[u8]>,
    served: &mut Served,
    answer: impl AsRef<[u8]>,
) -> (Message, Message) {
    client.send(request).await;
    let request = served.request().await;
    served.send(answer).await;
    (request, client.response().await)
}
