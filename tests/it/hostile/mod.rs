//! Attacks by name: a test for each id of the table in `README.md` beside this file, with raw bytes in and what must
//! hold asserted, over HTTP/1.1 in clear and under TLS, and over HTTP/2 where it fits.

mod control; // C
mod costs; // D: what they cost
mod floods; // D
mod framing; // S
mod headers; // F
mod price; // what a byte may cost
mod routes; // P
mod siege; // H, what it costs
mod streams; // H
mod tls; // T
mod tunnels; // U

use std::sync::Arc;
use std::time::Duration;

use albedo::app::Running;
use albedo::model::Config;

use crate::http2::Frames;
use crate::scene::{
    Authority, Conversation, Http2, Target, config, connect, group, http, http2, https, start,
};

/// A request that shows that the others are served.
const FINE: &str = "GET /fine HTTP/1.1\r\nHost: web.example\r\n\r\n";

/// A load balancer with one door in clear and one of TLS before one target.
struct Fort {
    running: Running,
    authority: Authority,
    target: Target,
}

impl Fort {
    /// Before a target that answers with what it saw: the head, and a body that has a length.
    async fn new() -> Self {
        Self::with(echo().await, |_| {}).await
    }

    async fn with(target: Target, change: impl FnOnce(&mut Config)) -> Self {
        let authority = Authority::new();
        let certificate = authority.sign(&["web.example"]);
        let mut config = config(
            [http("web"), https("web", &[&certificate])],
            [group("web", &[target.address])],
        );
        // One check at the start, and none between the lines of a test.
        config.target_groups[0].health_check.interval = Duration::from_secs(60);
        change(&mut config);
        Self {
            running: start(config).await,
            authority,
            target,
        }
    }

    async fn clear(&self) -> Conversation {
        Conversation::to(self.running.listeners()[0]).await
    }

    async fn tls(&self) -> Conversation {
        let client = Arc::new(self.authority.client(&["http/1.1"]));
        let stream = connect(self.running.listeners()[1], &client, "web.example").await;
        Conversation::over(stream.unwrap())
    }

    /// Both ways to speak HTTP/1.1.
    async fn doors(&self) -> [Conversation; 2] {
        [self.clear().await, self.tls().await]
    }

    async fn frames(&self) -> Frames {
        Frames::open(self.running.listeners()[1], &self.authority).await
    }

    async fn http2(&self) -> Http2 {
        http2(self.running.listeners()[1], &self.authority).await
    }

    /// Sends bytes through both doors: one answer with this status, the end, and nothing for the target.
    async fn refuses(&self, status: u16, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let shown = bytes[..bytes.len().min(300)].escape_ascii();
        let before = self.target.requests();
        for mut client in self.doors().await {
            client.say(bytes).await;
            let heard = client.end().await;
            assert!(
                heard.starts_with(&format!("HTTP/1.1 {status} ")),
                "{shown}: {heard}"
            );
            assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{shown}: {heard}");
            assert!(heard.contains("\r\nConnection: close\r\n"), "{shown}");
        }
        assert_eq!(self.target.requests(), before, "{shown}");
    }

    /// What the target saw of a request that came through each door.
    async fn passes(&self, request: &str) -> [String; 2] {
        let mut seen = [String::new(), String::new()];
        for (client, seen) in self.doors().await.iter_mut().zip(&mut seen) {
            let (head, body) = client.ask(request).await;
            assert!(head.starts_with("HTTP/1.1 200 "), "{request:?}: {head}");
            *seen = body;
        }
        seen
    }

    /// Whoever comes by each way is served.
    async fn serves(&self) {
        self.passes(FINE).await;
        assert_eq!(self.http2().await.get("/fine").await.0, 200);
    }
}

/// A target that answers with the head that it saw, and a body of a known length behind it.
async fn echo() -> Target {
    Target::playing(async |head: String, mut client: Conversation| {
        let length = crate::scene::header(&head, "content-length");
        let length = length.map_or(0, |length| length.parse().unwrap());
        let body = client.body(length).await;
        let body = String::from_utf8_lossy(&body).into_owned();
        client.answer(&format!("{head}\r\n\r\n{body}")).await;
        Some(client)
    })
    .await
}
