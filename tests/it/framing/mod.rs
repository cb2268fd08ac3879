//! Where messages begin and end: raw bytes in, raw bytes out. What two readers might read differently goes nowhere.

mod desync;
mod refusals;
mod requests;
mod responses;
