//! Between the API's types and the planner's: an object in, checked (parse, then trust); a status out, and back after a restart.

mod object;
mod status;

pub use object::{pool_object, stream_object, unreadable_pool, unreadable_stream};
pub use status::{api_pool_status, api_stream_status};
