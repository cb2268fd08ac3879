//! Claim: each step of a request's way costs what `stated.json` says it does, in instructions and in allocations.
//!
//! Does one step many times: `albedo-counts STEP SIZE COUNT`. Under callgrind `benches/counts/run` holds two such runs
//! against each other, so that what it takes to begin does not count.

use std::fmt::Write;
use std::hint::black_box;
use std::thread;

use albedo::hatch::{Cookies, Hallway, arrive, pass_response};

/// The one of the program albedo, so that allocations cost what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a browser sends, more or less.
const REQUEST: &[u8] = b"GET /api/v2/projects/5f0c/models?limit=25&offset=50 HTTP/1.1\r\n\
    Host: datarobot.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: application/json, text/plain, */*\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark\r\n\
    DNT: 1\r\n\
    Connection: keep-alive\r\n\
    Referer: https://datarobot.example.com/projects\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx\r\n\
    Date: Fri, 02 Jan 2026 03:04:05 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 1024\r\n\
    Connection: keep-alive\r\n\
    Vary: Accept-Encoding\r\n\
    Cache-Control: no-store\r\n\
    X-Request-Id: 5f0c8f14e45fceea167a5a36dedd4bea\r\n\r\n";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [step, size, count] = &arguments[..] else {
        panic!("usage: STEP SIZE COUNT");
    };
    let number = |text: &str| -> usize { text.parse().expect("SIZE and COUNT are numbers") };
    let (size, count) = (number(size), number(count));
    match step.as_str() {
        "rule-lookup" => {
            let hallway = Hallway::build(&text(size, 1));
            // The last rule's path, so that no order of looking is lucky.
            let head = format!("GET /service-{size}/items HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
            apart(|| {
                let request = arrive(head.as_bytes());
                assert_eq!(usize::from(hallway.find_rule(&request)), size);
                repeat(count, || hallway.find_rule(black_box(&request)));
            });
        }
        "pick" => {
            let hallway = Hallway::build(&text(0, size));
            assert!(hallway.pick());
            apart(|| repeat(count, || hallway.pick()));
        }
        "cookie-seal" => {
            let cookies = Cookies::generate();
            apart(|| repeat(count, || cookies.seal()));
        }
        "cookie-open" => {
            let cookies = Cookies::generate();
            assert!(cookies.open());
            apart(|| repeat(count, || cookies.open()));
        }
        "request-head" => {
            let hallway = Hallway::build(&text(0, 1));
            apart(|| repeat(count, || hallway.pass_request(black_box(REQUEST))));
        }
        "response-head" => apart(|| repeat(count, || pass_response(black_box(RESPONSE)))),
        step => panic!("no step is called {step}"),
    }
}

/// Does it on a thread that did nothing else: callgrind counts each thread for itself.
fn apart(steps: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(steps);
    });
}

fn repeat<T>(count: usize, mut step: impl FnMut() -> T) {
    for _ in 0..count {
        black_box(step());
    }
}

/// A configuration of so many rules, and a group of so many targets.
fn text(rules: usize, targets: usize) -> String {
    let mut text = "listeners:\n  - port: 8080\n    protocol: HTTP\n    \
                    default_actions: [ { forward: web } ]\n"
        .to_owned();
    let mut line = |line: String| writeln!(text, "{line}").expect("memory takes every character");
    if rules > 0 {
        line("    rules:".to_owned());
    }
    for number in 1..=rules {
        line(format!("      - priority: {number}"));
        line(format!(
            "        conditions: [ {{ path_pattern: [\"/service-{number}/*\"] }} ]"
        ));
        line("        actions: [ { forward: web } ]".to_owned());
    }
    line(
        "target_groups:\n  - name: web\n    protocol: HTTP\n    port: 80\n    targets:".to_owned(),
    );
    for number in 0..targets {
        line(format!(
            "      - 10.0.{}.{}",
            number / 250,
            number % 250 + 1
        ));
    }
    text
}
