//! A request that our reader takes is judged as AWS's own classifier judges it.
#![no_main]

use albedo::hatch::judge_request;
use http_desync_guardian::request_analyzer::HttpRequestData;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((head, class, reason)) = judge_request(bytes) {
        let aws = HttpRequestData::analyze_raw_request(head);
        let ours = (class.to_owned(), reason.to_owned());
        assert_eq!(ours, (format!("{:?}", aws.tier), format!("{:?}", aws.reason)));
    }
});
