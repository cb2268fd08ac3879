//! Claim: reading a request head whole (fields, spellings, host, framing) costs a small multiple of finding its names
//! and values, which is all that `httparse` does.
//!
//! Prints medians and their ratio; trust the ratio, not the nanoseconds.

use std::hint::black_box;
use std::time::Instant;

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

const ROUNDS: usize = 31;
const READS_PER_ROUND: u32 = 20_000;

fn main() {
    let found = median(|| {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut slots);
        assert!(
            request
                .parse(black_box(REQUEST))
                .is_ok_and(|status| status.is_complete())
        );
        black_box(&request);
    });
    let read = median(|| {
        let (requests, _end) = albedo::hatch::read_requests(black_box(REQUEST));
        assert_eq!(requests.len(), 1);
        black_box(&requests);
    });
    let report = format!(
        "request head: httparse {found:.0} ns, read whole {read:.0} ns, ratio {:.1}",
        read / found
    );
    #[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
    {
        println!("{report}");
    }
}

/// Nanoseconds of one call, the median of the rounds.
fn median(mut call: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..READS_PER_ROUND).for_each(|_| call());
            start.elapsed().as_nanos() as f64 / f64::from(READS_PER_ROUND)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
