//! Encoders that push over RTMP, and how they end.

use std::net::SocketAddr;
use std::time::Instant;

use super::Life;
use crate::chaos::script::End;
use crate::load;
use crate::rtmp::Connection;
use crate::running::Running;

/// Publishes until its life is over; one that falls silent does so at half of it.
pub(in crate::chaos) fn publish(to: SocketAddr, path: &str, end: End, life: &Life) {
    let Ok(mut connection) = Connection::try_publish(to, path) else { return };
    let half = Instant::now() + life.end.saturating_duration_since(Instant::now()) / 2;
    let silent = |at: Instant| end == End::Silence && at >= half;
    if load::feed(&mut connection, || life.over() || silent(Instant::now())).is_err() {
        return;
    }
    match end {
        End::Politely => drop(connection.stop()),
        End::Reset | End::Killed => drop(connection.reset()),
        End::Silence => life.sit_out(),
    }
}

/// Lets a program of somebody else publish, and kills it.
pub(in crate::chaos) fn kill(mut program: Running, life: &Life) {
    life.sit_out();
    program.kill();
}
