//! What the tools of the comparison share. None of it measures: that is the driver's part.

pub mod answer;
pub mod connection;
pub mod http2;
pub mod poll;
pub mod report;
pub mod slots;
pub mod socket;
pub mod websocket;
pub mod words;
