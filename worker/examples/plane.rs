//! The media plane alone, for measurements: `plane RTMP_ADDR HTTP_ADDR PATH...` publishes each path until it is killed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops where its world is not as it set it up"
)]

#[path = "../tests/common/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod common;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let mut args = std::env::args().skip(1);
    let mut address = || args.next().and_then(|arg| arg.parse().ok()).expect("RTMP_ADDR HTTP_ADDR PATH...");
    let mut plane = common::Plane::start(1, address(), address());
    for path in args {
        plane.declare(&path, common::publish_policy(), common::play_policy());
    }
    loop {
        if plane.reports.blocking_recv().is_none() {
            return;
        }
    }
}
