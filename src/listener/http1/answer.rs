//! An answer on its way out: head, body, and how its end is shown. Never decides whether the connection goes on.

use std::task::{Context, Poll};
use std::time::Duration;

use http::{StatusCode, Version};

use super::Asked;
use crate::headers::{Headers, Name};
use crate::http1::{
    Connection, FramingHeader, Persistence, Upgraded, encode_response, encode_switch,
};
use crate::message::{self, Answer, Body, Outgoing, Outstanding, Response, Size};
use crate::worker::{self, Alarm};

/// How far an answer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Whole,
    /// The body broke on its way here; the client sees it by the connection's end.
    CutShort,
    ClientGone,
}

/// Writes an answer, head and body, as its client takes it.
pub(super) async fn write(
    connection: &Connection,
    response: Response,
    asked: &Asked,
    persistence: Persistence,
    idle_timeout: Duration,
    alarm: &Alarm,
) -> Written {
    // The target's count goes down when this function ends.
    let Response {
        status,
        mut headers,
        mut body,
        outstanding,
    } = response;
    headers.remove(Name::Connection);
    let (framing, mut end) = framing(asked, status, &headers, &body);
    if asked.answer == Answer::HeadOnly || end.is_none() {
        body = Body::Empty;
    }
    let mut head = true;
    let writing = |cx: &mut Context<'_>| loop {
        if !head {
            if outstanding.as_ref().is_some_and(Outstanding::is_over) {
                return Poll::Ready(Written::CutShort);
            }
            match connection.poll_flush(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Written::ClientGone),
                Poll::Pending => {
                    body.poll_other_way(cx);
                    return Poll::Pending;
                }
            }
            if end.is_none() {
                return Poll::Ready(Written::Whole);
            }
        }
        let framed = end.unwrap_or(Outgoing::Plain);
        let pushed = worker::with_outgoing(|out| {
            if head {
                let reason = message::reason_phrase(status);
                encode_response(out, status, reason, &headers, framing, persistence);
                // A long body shall not hold them.
                headers = Headers::default();
            }
            match body.poll_lend(cx, |cx, piece| {
                message::push(connection, cx, out, framed, piece)
            }) {
                Poll::Ready(Ok(Some(outcome))) => Pushed::Some(outcome),
                Poll::Ready(Ok(None)) => {
                    Pushed::End(message::push_end(connection, cx, out, framed))
                }
                Poll::Ready(Err(_)) => Pushed::Broken(connection.push(cx, &[out])),
                Poll::Pending if head => Pushed::Some(connection.push(cx, &[out])),
                Poll::Pending => Pushed::Nothing,
            }
        });
        head = false;
        match pushed {
            Pushed::Some(Ok(())) => {
                if end == Some(Outgoing::Plain) && body.is_done() {
                    end = None;
                }
            }
            Pushed::End(Ok(())) => end = None,
            Pushed::Nothing => return Poll::Pending,
            Pushed::Broken(Ok(())) => return Poll::Ready(Written::CutShort),
            Pushed::Some(Err(_)) | Pushed::End(Err(_)) | Pushed::Broken(Err(_)) => {
                return Poll::Ready(Written::ClientGone);
            }
        }
    };
    connection.touch();
    // Silence of either side: the target's shows here too, since its bytes are ours.
    alarm
        .while_active(idle_timeout, || connection.last_active(), writing)
        .await
        .unwrap_or(Written::CutShort)
}

/// Tells the client that what it asked for is spoken from here on.
pub(super) async fn agree(
    connection: &Connection,
    target: &Upgraded,
    mut headers: Headers,
    idle_timeout: Duration,
    alarm: &Alarm,
) -> Written {
    headers.remove(Name::Connection);
    let mut head = true;
    let writing = |cx: &mut Context<'_>| {
        if std::mem::take(&mut head) {
            worker::with_outgoing(|out| {
                encode_switch(out, target.protocol(), &headers);
                connection.push(cx, &[out])
            })?;
        }
        connection.poll_flush(cx)
    };
    connection.touch();
    let written = alarm
        .while_active(idle_timeout, || connection.last_active(), writing)
        .await;
    match written {
        Some(Ok(())) => Written::Whole,
        Some(Err(_)) | None => Written::ClientGone,
    }
}

/// What one step of writing an answer did.
enum Pushed {
    Some(std::io::Result<()>),
    End(std::io::Result<()>),
    Broken(std::io::Result<()>),
    Nothing,
}

/// How the answer's end is shown in its head, and by what after its body; `None` where no body follows.
fn framing(
    asked: &Asked,
    status: StatusCode,
    headers: &Headers,
    body: &Body,
) -> (FramingHeader, Option<Outgoing>) {
    let announced = || {
        let length = headers.get(Name::ContentLength)?;
        str::from_utf8(length).ok()?.parse().ok()
    };
    match body.size() {
        // RFC 9110 §8.6: an answer to HEAD and a 304 may say how long the content would be.
        _ if asked.answer == Answer::HeadOnly || status == StatusCode::NOT_MODIFIED => (
            announced().map_or(FramingHeader::None, FramingHeader::Length),
            None,
        ),
        _ if status == StatusCode::NO_CONTENT => (FramingHeader::None, None),
        Size::Known(0) => (FramingHeader::Length(0), None),
        Size::Known(length) => (FramingHeader::Length(length), Some(Outgoing::Plain)),
        Size::Unknown if asked.version == Version::HTTP_10 => {
            (FramingHeader::None, Some(Outgoing::Plain))
        }
        Size::Unknown => (FramingHeader::Chunked, Some(Outgoing::Chunked)),
    }
}
