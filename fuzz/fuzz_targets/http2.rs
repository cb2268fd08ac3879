//! No bytes of an HTTP/2 client stop the whole server: it ends their connection, and greets the next one.
#![no_main]

use std::sync::LazyLock;

use albedo::hatch::Http2Server;

static SERVER: LazyLock<Http2Server> = LazyLock::new(Http2Server::start);

libfuzzer_sys::fuzz_target!(|frames: &[u8]| {
    let heard = SERVER.hear(frames);
    // SETTINGS come first, whatever the client says (RFC 9113 §3.4).
    assert!(heard.get(3).is_none_or(|&kind| kind == 4));
});
