//! What to do with a request. Never knows which rule sent it.

mod fixed_response;
mod redirect;

pub(crate) use fixed_response::FixedResponse;
pub(crate) use redirect::Redirect;
