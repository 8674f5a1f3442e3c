//! Byte streams of real RTMP clients, replayed in pieces: the same events come out wherever a read ends.
//!
//! The `.bin` files are what ffmpeg, GStreamer, librtmp and rtmpdump sent to a penstock session; `UPDATE=1` rewrites the `.out` files.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use media::rtmp::{Config, Event, Session, Viewer, ViewerEvent};

/// The server's side, as far as one stream needs it.
enum Server {
    Session(Box<Session>),
    Viewer(Viewer),
}

/// Feeds the pieces, accepts what is asked, and tells what came out.
fn replay<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut out = String::new();
    let mut server = Server::Session(Box::new(Session::new(Config::default(), Duration::ZERO)));
    for piece in pieces {
        let input = Bytes::copy_from_slice(piece);
        let result = match &mut server {
            Server::Session(session) => session.receive(input, Duration::ZERO),
            Server::Viewer(viewer) => viewer.receive(input, Duration::ZERO),
        };
        while let Some(line) = next_line(&mut server) {
            writeln!(out, "{line}").unwrap();
        }
        if let Err(error) = result {
            writeln!(out, "error: {error}").unwrap();
            break;
        }
        // The switch happens where a worker makes it: between two reads.
        server = match server {
            Server::Session(session) if out.starts_with("play") => Server::Viewer(session.into_viewer()),
            server => server,
        };
    }
    out
}

fn next_line(server: &mut Server) -> Option<String> {
    match server {
        Server::Session(session) => Some(match session.poll_event()? {
            Event::Publish(request) => {
                session.accept_publish();
                format!("publish {} token {:?} {:?}", request.path, request.token, request.capabilities)
            }
            Event::Play(request) => {
                session.accept_play();
                format!("play {} token {:?} {:?}", request.path, request.token, request.capabilities)
            }
            Event::Frame(frame) => format!(
                "{} {:?} dts {} cts {} {} bytes, sum {:08x}",
                frame.codec.name(),
                frame.kind,
                frame.dts_ms,
                frame.cts_ms,
                frame.payload.len(),
                sum(&frame.payload),
            ),
            Event::Leave(leave) => format!("left out: {leave:?}"),
            Event::Unpublish => "end".to_owned(),
        }),
        Server::Viewer(viewer) => Some(match viewer.poll_event()? {
            ViewerEvent::Stop | ViewerEvent::Pause | ViewerEvent::Resume => "end".to_owned(),
        }),
    }
}

/// FNV-1a: enough to see that no byte went missing.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("rtmp-") && name.ends_with(".bin")
        })
        .collect();
    found.sort();
    assert!(found.len() >= 10, "recordings are missing: {found:?}");
    found
}

#[test]
fn a_recorded_peer_says_what_its_golden_file_says() {
    for path in recordings() {
        let recorded = fs::read(&path).unwrap();
        let got = replay(std::iter::once(recorded.as_slice()));
        let golden = path.with_extension("out");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&golden, &got).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(got, expected, "{}: UPDATE=1 rewrites it", golden.display());
    }
}

#[test]
fn a_read_may_end_after_any_byte() {
    for path in recordings() {
        let recorded = fs::read(&path).unwrap();
        let whole = replay(std::iter::once(recorded.as_slice()));
        // Past handshake and commands the same headers come again and again.
        let splits = (0..recorded.len()).filter(|at| *at < 4500 || at % 13 == 0);
        for at in splits {
            let (first, second) = recorded.split_at(at);
            assert_eq!(replay([first, second].into_iter()), whole, "{} split at {at}", path.display());
        }
    }
}

#[test]
fn reads_may_be_of_any_size() {
    for path in recordings() {
        let recorded = fs::read(&path).unwrap();
        let whole = replay(std::iter::once(recorded.as_slice()));
        for size in 1..=64 {
            assert_eq!(replay(recorded.chunks(size)), whole, "{} in pieces of {size}", path.display());
        }
    }
}
