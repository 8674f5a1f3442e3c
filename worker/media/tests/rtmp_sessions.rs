//! Both ends of RTMP: our client and our server, and a client that does what it should not.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use media::frame::{Codec, Frame, Kind, Sound};
use media::rtmp::amf0::Writer;
use media::rtmp::chunk::{Bounds, Reader};
use media::rtmp::{
    Client, ClientConfig, ClientEvent, Config, Error, Event, Leave, PlayEnd, PlayRefusal, PublishEnd,
    PublishRefusal, Role, Session, Viewer, ViewerEvent, limits, pack,
};

const NOW: Duration = Duration::ZERO;

fn client(role: Role, key: &str) -> Client {
    Client::new(ClientConfig {
        role,
        host: "127.0.0.1:1935".to_owned(),
        app: "live/a".to_owned(),
        key: key.to_owned(),
        chunk_size: 4096,
        seed: 7,
    })
}

/// Moves bytes in pieces of `size` until both are silent or the server has an event.
fn exchange(session: &mut Session, client: &mut Client, size: usize) -> Result<Option<Event>, Error> {
    loop {
        let up: Vec<Bytes> = std::iter::from_fn(|| client.poll_transmit()).collect();
        for bytes in &up {
            for piece in bytes.chunks(size) {
                session.receive(Bytes::copy_from_slice(piece), NOW)?;
            }
        }
        let down: Vec<Bytes> = std::iter::from_fn(|| session.poll_transmit()).collect();
        for bytes in &down {
            for piece in bytes.chunks(size) {
                client.receive(Bytes::copy_from_slice(piece), NOW)?;
            }
        }
        if let Some(event) = session.poll_event() {
            return Ok(Some(event));
        }
        if up.is_empty() && down.is_empty() {
            return Ok(None);
        }
    }
}

/// A session that has been asked for what the role asks.
fn asked(role: Role, key: &str, size: usize) -> (Session, Client) {
    let (mut session, mut client) = (Session::new(Config::default(), NOW), client(role, key));
    let request = match (role, exchange(&mut session, &mut client, size)) {
        (Role::Publish, Ok(Some(Event::Publish(request)))) => request,
        (Role::Play | Role::Count, Ok(Some(Event::Play(request)))) => request,
        (_, other) => panic!("instead of a request came {other:?}"),
    };
    assert_eq!(request.path, "live/a/cam");
    assert!(request.capabilities.hevc);
    (session, client)
}

fn publishing(size: usize) -> (Session, Client) {
    let (mut session, mut client) = asked(Role::Publish, "cam?token=t", size);
    session.accept_publish();
    assert_eq!(exchange(&mut session, &mut client, size), Ok(None));
    assert_eq!(client.poll_event(), Some(ClientEvent::Started));
    (session, client)
}

fn playing(role: Role) -> (Viewer, Client) {
    let (mut session, mut client) = asked(role, "cam", 4096);
    session.accept_play();
    let viewer = session.into_viewer();
    let mut viewer = viewer;
    while let Some(bytes) = viewer.poll_transmit() {
        client.receive(bytes, NOW).unwrap();
    }
    assert_eq!(
        std::iter::from_fn(|| client.poll_event()).last(),
        Some(ClientEvent::Started),
        "Play.Reset comes first"
    );
    (viewer, client)
}

/// One frame of each codec and kind, with timestamps on the wire.
fn frames() -> Vec<Frame> {
    let frame = |codec, kind, dts_ms, cts_ms, bytes: usize| {
        let payload = (0..bytes).map(|n| n as u8).collect::<Vec<u8>>().into();
        Frame { codec, kind, dts_ms, cts_ms, payload }
    };
    let sound = Sound { rate_hz: 8_000, channels: 1 };
    vec![
        frame(Codec::H264, Kind::Config, 0, 0, 40),
        frame(Codec::Aac, Kind::Config, 0, 0, 2),
        frame(Codec::H264, Kind::Key, 0, 80, 200_000),
        frame(Codec::Aac, Kind::Key, 21, 0, 300),
        frame(Codec::H264, Kind::Inter, 40, -40, 5_000),
        frame(Codec::H265, Kind::Config, 40, 0, 90),
        frame(Codec::H265, Kind::Key, 80, 0, 70_000),
        frame(Codec::H265, Kind::Inter, 120, 40, 1),
        frame(Codec::Mp3(Sound { rate_hz: 44_100, channels: 2 }), Kind::Key, 121, 0, 417),
        frame(Codec::PcmA(sound), Kind::Key, 0x00ff_ffff, 0, 160),
        frame(Codec::PcmU(sound), Kind::Key, 0x0100_0000, 0, 160),
        frame(Codec::H264, Kind::Key, 0x0100_0020, 0, 9_000),
    ]
}

#[test]
fn what_is_published_comes_out_as_it_went_in() {
    for size in [1, 3, 1000, usize::MAX] {
        let (mut session, mut client) = publishing(size);
        let mut got = Vec::new();
        for frame in frames() {
            client.send(&frame, frame.dts_ms as u32);
            while let Some(event) = exchange(&mut session, &mut client, size).unwrap() {
                match event {
                    Event::Frame(frame) => got.push(frame),
                    other => panic!("{other:?} is no frame"),
                }
            }
        }
        assert_eq!(got, frames());
        client.stop();
        assert_eq!(exchange(&mut session, &mut client, size), Ok(Some(Event::Unpublish)));
    }
}

/// Cuts bytes where the seed says: one byte, a header's worth, or much.
fn cut(mut bytes: Bytes, seed: &mut u64) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = match *seed >> 62 {
            0 => 1,
            1 => 1 + (*seed >> 40) as usize % 20,
            _ => 1 + (*seed >> 40) as usize % 20_000,
        };
        pieces.push(bytes.split_to(size.min(bytes.len())));
    }
    pieces
}

#[test]
fn a_link_may_cut_bytes_anywhere_in_either_direction() {
    for first in 0..100 {
        let mut seed = first;
        let (mut session, mut client) = (Session::new(Config::default(), NOW), client(Role::Publish, "cam"));
        let (mut got, mut sent) = (Vec::new(), false);
        loop {
            let Some(up) = client.poll_transmit() else { break };
            for piece in cut(up, &mut seed) {
                session.receive(piece, NOW).unwrap_or_else(|error| panic!("seed {first}: {error}"));
            }
            while let Some(event) = session.poll_event() {
                match event {
                    Event::Publish(_) => session.accept_publish(),
                    Event::Frame(frame) => got.push(frame),
                    other => panic!("seed {first}: {other:?}"),
                }
            }
            for piece in session.poll_transmit().map(|down| cut(down, &mut seed)).unwrap_or_default() {
                client.receive(piece, NOW).unwrap_or_else(|error| panic!("seed {first}: {error}"));
            }
            if client.poll_event() == Some(ClientEvent::Started) && !sent {
                frames().iter().for_each(|frame| client.send(frame, frame.dts_ms as u32));
                sent = true;
            }
        }
        assert_eq!(got, frames(), "seed {first}");
    }
}

#[test]
fn what_is_packed_comes_out_of_a_player_as_it_went_in() {
    let (_, mut client) = playing(Role::Play);
    let mut got = Vec::new();
    for frame in frames() {
        for piece in pack(&frame, frame.dts_ms as u32).chunks(1400) {
            client.receive(Bytes::copy_from_slice(piece), NOW).unwrap();
        }
        while let Some(event) = client.poll_event() {
            match event {
                ClientEvent::Frame(frame) => got.push(frame),
                other => panic!("{other:?} is no frame"),
            }
        }
    }
    assert_eq!(got, frames());
}

#[test]
fn a_counting_player_tells_sizes_and_timestamps() {
    let (_, mut client) = playing(Role::Count);
    let frame = &frames()[3];
    client.receive(pack(frame, 21), NOW).unwrap();
    assert_eq!(client.poll_event(), Some(ClientEvent::Message { timestamp: 21, bytes: 302 }));
}

#[test]
fn the_clock_of_a_publisher_runs_on_over_32_bits() {
    let (mut session, mut client) = publishing(4096);
    let audio = &frames()[3];
    let mut dts = Vec::new();
    for timestamp in [u32::MAX - 20, 0, 5, 1_000_000] {
        client.send(audio, timestamp);
        if let Some(Event::Frame(frame)) = exchange(&mut session, &mut client, 4096).unwrap() {
            dts.push(frame.dts_ms - i64::from(u32::MAX));
        }
    }
    assert_eq!(dts, [-20, 1, 6, 1_000_001]);
}

#[test]
fn a_configuration_or_metadata_stamped_0_is_no_step_of_the_clock() {
    let (mut session, mut client) = publishing(4096);
    let mut script = Writer::new();
    script.string("onMetaData").object(|out| _ = out.name("width").number(64.0));
    let payload = script.finish().freeze();
    let script = Frame { codec: Codec::Script, kind: Kind::Config, dts_ms: 0, cts_ms: 0, payload };
    let [config, audio] = [&frames()[0], &frames()[3]];
    let mut dts = Vec::new();
    for (frame, timestamp) in [(&script, 7), (audio, 5000), (&script, 0), (config, 0), (audio, 5021)] {
        client.send(frame, timestamp);
        if let Some(Event::Frame(frame)) = exchange(&mut session, &mut client, 4096).unwrap() {
            dts.push((frame.codec.name(), frame.dts_ms));
        }
    }
    assert_eq!(dts, [("Script", 0), ("AAC", 5000), ("Script", 5000), ("H264", 5000), ("AAC", 5021)]);
}

#[test]
fn refusals_reach_the_client_by_code_and_words() {
    let refused = |role, refuse: &dyn Fn(&mut Session)| {
        let (mut session, mut client) = asked(role, "cam", 4096);
        refuse(&mut session);
        match exchange(&mut session, &mut client, 4096) {
            Err(Error::Refused { code, description }) => format!("{code}: {description}"),
            other => panic!("{other:?}"),
        }
    };
    let publish = |refusal| refused(Role::Publish, &|session| session.refuse_publish(refusal, "why"));
    assert_eq!(publish(PublishRefusal::BadName), "NetStream.Publish.BadName: why");
    assert_eq!(publish(PublishRefusal::Denied), "NetStream.Publish.Denied: why");
    let play = |refusal| refused(Role::Play, &|session| session.refuse_play(refusal, "why"));
    assert_eq!(play(PlayRefusal::StreamNotFound), "NetStream.Play.StreamNotFound: why");
    assert_eq!(play(PlayRefusal::Denied), "NetStream.Play.Failed: why");
    for (end, code) in [
        (PublishEnd::TakenOver, "NetStream.Publish.BadName"),
        (PublishEnd::Idle, "NetStream.Publish.Idle"),
        (PublishEnd::Rejected, "NetStream.Publish.Rejected"),
        (PublishEnd::Stopped, "NetStream.Failed"),
    ] {
        let (mut session, mut client) = publishing(4096);
        session.end_publish(end, "why");
        let result = exchange(&mut session, &mut client, 4096);
        assert_eq!(result, Err(Error::Refused { code: code.to_owned(), description: "why".to_owned() }));
    }
}

#[test]
fn the_end_of_a_play_is_told() {
    let ended = |end| {
        let (mut viewer, mut client) = playing(Role::Play);
        viewer.end_play(end, "why");
        let result = client.receive(viewer.poll_transmit().unwrap(), NOW);
        let codes: Vec<String> = std::iter::from_fn(|| client.poll_event())
            .map(|event| match event {
                ClientEvent::Status { code, .. } => code,
                other => format!("{other:?}"),
            })
            .collect();
        (codes.join(" "), result.err().map(|error| error.to_string()).unwrap_or_default())
    };
    let unpublished = "StreamEof NetStream.Play.UnpublishNotify NetStream.Play.Stop";
    assert_eq!(ended(PlayEnd::Unpublished), (unpublished.to_owned(), String::new()));
    let error = |code| (String::new(), format!("the server answered {code}: why"));
    assert_eq!(ended(PlayEnd::TooSlow), error("NetStream.Play.InsufficientBW"));
    assert_eq!(ended(PlayEnd::Stopped), error("NetStream.Play.Failed"));
}

#[test]
fn a_viewer_is_heard_when_it_pauses_and_stops() {
    let (mut viewer, mut client) = playing(Role::Play);
    let pause = |flag: bool| command(1, "pause", 0.0, |out| _ = out.null().boolean(flag).number(0.0));
    viewer.receive(pause(true), NOW).unwrap();
    assert_eq!(viewer.poll_event(), Some(ViewerEvent::Pause));
    viewer.receive(pause(false), NOW).unwrap();
    assert_eq!(viewer.poll_event(), Some(ViewerEvent::Resume));
    client.receive(viewer.poll_transmit().unwrap(), NOW).unwrap();
    let status = |code: &str| ClientEvent::Status { code: code.to_owned(), description: String::new() };
    assert_eq!(client.poll_event(), Some(status("NetStream.Pause.Notify")));
    assert_eq!(client.poll_event(), Some(status("NetStream.Unpause.Notify")));
    client.stop();
    viewer.receive(client.poll_transmit().unwrap(), NOW).unwrap();
    viewer.receive(pause(true), NOW).unwrap();
    assert_eq!(viewer.poll_event(), Some(ViewerEvent::Stop), "a stop is not undone by a pause");
    assert_eq!(viewer.poll_event(), None);
}

#[test]
fn a_viewer_is_small_and_may_not_send_much() {
    assert!(size_of::<Viewer>() < 512, "{} bytes", size_of::<Viewer>());
    let (mut viewer, _) = playing(Role::Play);
    let error = viewer.receive(message(8, 0, &vec![0; limits::COMMAND_BYTES_MAX + 1]), NOW).unwrap_err();
    assert!(matches!(error, Error::MessageSize { .. }), "{error}");
}

/// A message of any type in one chunk stream, with the chunk size that our client sets.
fn message(kind: u8, stream: u32, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(3);
    out.put_uint(0, 3);
    out.put_uint(body.len() as u64, 3);
    out.put_u8(kind);
    out.put_u32_le(stream);
    for (n, chunk) in body.chunks(4096).enumerate() {
        if n > 0 {
            out.put_u8(0xc3);
        }
        out.put_slice(chunk);
    }
    out.freeze()
}

fn command(stream: u32, name: &str, transaction: f64, fill: impl FnOnce(&mut Writer)) -> Bytes {
    let mut out = Writer::new();
    out.string(name).number(transaction);
    fill(&mut out);
    message(20, stream, &out.finish())
}

/// A session to which our client has said `connect` and no more, with its answers read off.
fn connected() -> Session {
    let mut session = Session::new(Config::default(), NOW);
    let mut client = client(Role::Play, "cam");
    session.receive(client.poll_transmit().unwrap(), NOW).unwrap();
    client.receive(session.poll_transmit().unwrap(), NOW).unwrap();
    session.receive(client.poll_transmit().unwrap(), NOW).unwrap();
    assert!(session.poll_transmit().is_some());
    session
}

/// What a session answers, as the names of the commands.
fn answers(session: &mut Session) -> Vec<String> {
    let mut reader = Reader::new(Bounds::MEDIA);
    reader.set_chunk_size(60_000).unwrap();
    let mut names = Vec::new();
    while let Some(mut bytes) = session.poll_transmit() {
        while let Some(message) = reader.read(&mut bytes).unwrap() {
            let values = media::rtmp::amf0::Reader::new(&message.payload).value();
            names.push(match (message.kind, values) {
                (20, Ok(value)) => value.string().unwrap_or("?").to_owned(),
                (kind, _) => format!("type {kind} {:02x?}", &message.payload[..]),
            });
        }
    }
    names
}

#[test]
fn calls_are_answered_as_clients_expect() {
    for (name, transaction, expected) in [
        ("createStream", 2.0, "_result"),
        ("releaseStream", 2.0, ""),
        ("FCPublish", 2.0, "onFCPublish"),
        ("FCSubscribe", 2.0, "_result"),
        ("FCUnpublish", 2.0, "onFCUnpublish"),
        ("getStreamLength", 2.0, "_result"),
        ("_checkbw", 2.0, "_result"),
        ("_checkbw", 0.0, ""),
        ("deleteStream", 0.0, ""),
        ("closeStream", 0.0, ""),
        ("somethingElse", 2.0, "_error"),
        ("somethingElse", 0.0, ""),
        ("receiveAudio", 0.0, ""),
        ("_result", 2.0, ""),
    ] {
        let mut session = connected();
        let call = command(0, name, transaction, |out| _ = out.null().string("cam"));
        assert_eq!(session.receive(call, NOW), Ok(()));
        assert_eq!(answers(&mut session).join(" "), expected, "{name}");
        assert_eq!(session.poll_event(), None);
    }
}

#[test]
fn commands_in_the_amf3_message_type_are_read() {
    let mut session = connected();
    let mut out = Writer::new();
    out.string("createStream").number(3.0).null();
    session.receive(message(17, 0, &[&[0], &out.finish()[..]].concat()), NOW).unwrap();
    assert_eq!(answers(&mut session), ["_result"]);
}

#[test]
fn requests_that_make_no_sense_end_the_session_with_their_reason() {
    let error = |input: Bytes| connected().receive(input, NOW).unwrap_err().to_string();
    // facts/crates.md §3: one crate unwraps the name of `play`.
    let unnamed = command(1, "play", 0.0, |out| _ = out.null().number(1.0));
    assert_eq!(error(unnamed), "command play: the stream key is not a string");
    assert_eq!(error(command(1, "publish", 0.0, |_| {})), "command publish: the stream key is not a string");
    let long = "x".repeat(2000);
    assert_eq!(
        error(command(1, "publish", 0.0, |out| _ = out.null().string(&long))),
        "command publish: app and stream key are longer than 1024 bytes together"
    );
    assert_eq!(error(command(0, "connect", 1.0, |out| _ = out.null())), "command connect came twice");
    assert_eq!(error(message(20, 0, &[5])), "command (unnamed): its name is not a string");
    assert_eq!(error(message(20, 0, &[])), "command: the value ends early");
    assert_eq!(error(message(1, 0, &[0, 0, 0, 1])), "set chunk size 1: allowed are 64 to 2147483647");
    assert_eq!(error(message(5, 0, &[0, 0, 1])), "control message of type 5 has 3 bytes");
    assert_eq!(error(message(4, 0, &[6])), "control message of type 4 has 1 bytes");
}

#[test]
fn a_refused_name_is_told_before_the_end() {
    let mut session = connected();
    assert!(session.receive(command(1, "play", 0.0, |out| _ = out.null().number(1.0)), NOW).is_err());
    assert_eq!(answers(&mut session), ["onStatus"]);
    assert_eq!(session.receive(Bytes::from_static(&[0xff; 100]), NOW), Ok(()), "what follows is not read");
}

#[test]
fn publish_before_connect_and_a_second_publish_are_out_of_order() {
    let mut session = Session::new(Config::default(), NOW);
    let mut client = client(Role::Play, "cam");
    session.receive(client.poll_transmit().unwrap(), NOW).unwrap();
    let publish = || command(1, "publish", 0.0, |out| _ = out.null().string("cam"));
    session.receive(Bytes::from(vec![0; 1536]), NOW).unwrap();
    let mut small = BytesMut::from(&publish()[..]);
    assert!(small.len() < 128);
    let error = session.receive(small.split().freeze(), NOW).unwrap_err();
    assert!(matches!(error, Error::OutOfOrder { command: "publish", .. }), "{error}");
    let (mut session, _) = publishing(4096);
    let error = session.receive(publish(), NOW).unwrap_err();
    assert!(matches!(error, Error::OutOfOrder { command: "publish", .. }), "{error}");
}

/// facts/clients.md 7: 200 000 nested objects or strict arrays in `connect` kill three of five servers. Here it is the length that ends it; what fits
/// into a command's length meets the bound of depth.
#[test]
fn a_command_has_its_bound_from_a_publisher_too() {
    let padded = |length: usize| {
        let short = command(0, "a", 0.0, |out| _ = out.string(""));
        let text = "x".repeat(length - (short.len() - 12));
        command(0, "a", 0.0, |out| _ = out.string(&text))
    };
    let (mut session, _) = publishing(4096);
    assert_eq!(session.receive(padded(limits::COMMAND_BYTES_MAX), NOW), Ok(()));
    let error = session.receive(padded(limits::COMMAND_BYTES_MAX + 1), NOW).unwrap_err();
    assert_eq!(error.to_string(), "message of 16385 bytes on chunk stream 3: the most is 16384");
}

#[test]
fn nested_objects_in_connect_end_only_the_session() {
    let nested = |level: &[u8], levels: usize| {
        let mut body = BytesMut::new();
        body.put_slice(b"\x02\x00\x07connect\x00\x3f\xf0\0\0\0\0\0\0");
        (0..levels).for_each(|_| body.put_slice(level));
        let mut session = connected();
        session.receive(message(20, 0, &body), NOW).unwrap_err().to_string()
    };
    let (object, array) = (b"\x03\x00\x01a", b"\x0a\x00\x00\x00\x01");
    assert_eq!(nested(object, 200_000), "message of 800019 bytes on chunk stream 3: the most is 16384");
    assert_eq!(nested(object, 4_000), "command: nested deeper than 16");
    assert_eq!(nested(array, 200_000), "message of 1000019 bytes on chunk stream 3: the most is 16384");
    assert_eq!(nested(array, 3_000), "command: nested deeper than 16");
}

#[test]
fn a_codec_that_is_not_carried_is_refused_by_name() {
    let (mut session, mut client) = publishing(4096);
    let error = session.receive(message(8, 1, b"\x90Opus"), NOW).unwrap_err();
    assert_eq!(error.to_string(), "media: audio codec Opus is not carried: send AAC, MP3 or G.711");
    let told = client.receive(session.poll_transmit().unwrap(), NOW).unwrap_err();
    assert_eq!(
        told.to_string(),
        "the server answered NetStream.Publish.Rejected: audio codec Opus is not carried: send AAC, MP3 or G.711"
    );
}

#[test]
fn media_that_is_left_out_is_told() {
    let (mut session, _) = publishing(4096);
    let mut event = |kind, body: &[u8]| {
        session.receive(message(kind, 1, body), NOW).unwrap();
        session.poll_event()
    };
    assert_eq!(event(9, b"\x96\x00hvc1\x01"), Some(Event::Leave(Leave::Multitrack)));
    assert_eq!(event(18, b"\x02\x00\x03abc"), Some(Event::Leave(Leave::Data)));
    assert_eq!(event(8, b""), Some(Event::Leave(Leave::Empty)));
    assert_eq!(event(9, b"\x57\x00"), None);
}

#[test]
fn an_aggregate_is_its_tags_with_their_time() {
    let (mut session, _) = publishing(4096);
    let tag = |timestamp: u8, body: u8| [8, 0, 0, 3, 0, 0, timestamp, 0, 0, 0, 0, 0xaf, 1, body, 0, 0, 0, 14];
    let mut aggregate = BytesMut::from(&message(22, 1, &[tag(100, 1), tag(121, 2)].concat())[..]);
    // The message's own time is 9 ms.
    aggregate[3] = 9;
    session.receive(aggregate.freeze(), NOW).unwrap();
    let mut got = Vec::new();
    while let Some(Event::Frame(frame)) = session.poll_event() {
        got.push((frame.dts_ms, frame.payload[0]));
    }
    assert_eq!(got, [(9, 1), (30, 2)]);
}

#[test]
fn a_small_part_of_a_message_does_not_hold_it() {
    let (mut session, _) = publishing(4096);
    let tag = |kind: u8, body: &[u8]| {
        let mut tag = BytesMut::new();
        tag.put_u8(kind);
        tag.put_uint(body.len() as u64, 3);
        tag.put_slice(&[0; 7]);
        tag.put_slice(body);
        tag.put_u32(11 + body.len() as u32);
        tag
    };
    let sound = [&[0xaf, 1][..], &[7; 3000]].concat();
    let picture = [&[0x93][..], b"avc1", &[7; 3000]].concat();
    // Sound beside data that nobody is sent; a picture behind a ModEx of 65 536 bytes.
    let aggregate = [tag(8, &sound), tag(18, &[5; 60_000])].concat();
    let mod_ex = [&[0x97, 255, 0xff, 0xff][..], &[0; 65_536], &[0x03], &picture[1..]].concat();
    for input in [message(22, 1, &aggregate), message(9, 1, &mod_ex)] {
        session.receive(input, NOW).unwrap();
        let Some(Event::Frame(frame)) = session.poll_event() else { panic!("no frame came") };
        while session.poll_event().is_some() {}
        assert_eq!(frame.payload, [7; 3000][..]);
        let held = frame.payload.try_into_mut().expect("nobody else has it");
        assert_eq!(held.capacity(), 3000);
    }
}

#[test]
fn media_of_one_who_does_not_publish_is_not_looked_at() {
    let mut session = connected();
    session.receive(message(8, 1, b"\x90Opus"), NOW).unwrap();
    assert_eq!(session.poll_event(), None);
}

#[test]
fn media_may_come_before_publish_is_accepted() {
    let (mut session, mut client) = asked(Role::Publish, "cam", 4096);
    client.send(&frames()[2], 0);
    let event = exchange(&mut session, &mut client, 4096);
    assert_eq!(event, Ok(Some(Event::Frame(frames()[2].clone()))));
}

#[test]
fn a_peer_has_until_the_deadline_to_say_what_it_wants() {
    let start = Duration::from_secs(100);
    let mut session = Session::new(Config::default(), start);
    let deadline = session.deadline().unwrap();
    assert_eq!(deadline, start + limits::START_DEADLINE);
    assert_eq!(session.timeout(deadline - Duration::from_millis(1)), Ok(()));
    assert_eq!(session.timeout(deadline), Err(Error::StartDeadline(limits::START_DEADLINE)));
    // One byte a second does not put it off.
    let error = session.receive(Bytes::from_static(&[3]), deadline).unwrap_err();
    assert_eq!(error.to_string(), "no publish or play within 10s of connecting");
    let (mut session, _) = asked(Role::Publish, "cam", 4096);
    assert_eq!(session.deadline(), None);
    assert_eq!(session.timeout(deadline), Ok(()));
}

#[test]
fn pings_are_answered_and_a_peer_that_reads_no_answers_is_ended() {
    let (mut session, _) = publishing(4096);
    let ping = message(4, 0, &[0, 6, 1, 2, 3, 4]);
    session.receive(ping.clone(), NOW).unwrap();
    assert_eq!(answers(&mut session), ["type 4 [00, 07, 01, 02, 03, 04]"]);
    let error = (0..limits::TRANSMIT_BYTES_MAX).find_map(|_| session.receive(ping.clone(), NOW).err());
    assert!(matches!(error, Some(Error::RepliesUnread { .. })), "{error:?}");
}

#[test]
fn a_player_is_answered_no_more_than_the_bound_in_a_minute_though_its_answers_are_taken() {
    let ping = message(4, 0, &[0, 6, 1, 2, 3, 4]);
    // Before media and while it flows. 18 bytes answer each.
    let (mut waiting, _) = asked(Role::Play, "cam", 4096);
    let (mut viewer, _) = playing(Role::Play);
    let mut say = |now| {
        let told = [waiting.receive(ping.clone(), now).err(), viewer.receive(ping.clone(), now).err()];
        while waiting.poll_transmit().is_some() || viewer.poll_transmit().is_some() {}
        told
    };
    let (second, times) = (Duration::from_secs(1), limits::TRANSMIT_BYTES_MAX / 18 - 40);
    for minute in 1..4 {
        for n in 0..times {
            assert_eq!(say(second * 60 * minute), [None, None], "ping {n} of minute {minute}");
        }
    }
    for told in (0..80).map(|_| say(second * 239)).last().unwrap() {
        assert!(matches!(told, Some(Error::RepliesUnread { .. })), "{told:?}");
    }
}

#[test]
fn a_read_full_of_calls_is_answered_no_further_than_the_bound() {
    let mut session = connected();
    let call = command(0, "a", 1.0, |_| {});
    let error = session.receive(Bytes::from(call.repeat(10_000)), NOW).unwrap_err();
    assert!(matches!(error, Error::RepliesUnread { .. }), "{error}");
    let answered: usize = std::iter::from_fn(|| session.poll_transmit()).map(|bytes| bytes.len()).sum();
    assert!(answered < limits::TRANSMIT_BYTES_MAX + 200, "{answered}");
}

#[test]
fn bytes_are_acknowledged_by_the_window_that_the_peer_sets() {
    let (mut session, _) = publishing(4096);
    session.receive(message(5, 0, &1000u32.to_be_bytes()), NOW).unwrap();
    answers(&mut session);
    for _ in 0..3 {
        session.receive(message(8, 1, &[0xaf; 600]), NOW).unwrap();
    }
    let acknowledged = answers(&mut session);
    assert!(
        matches!(acknowledged.as_slice(), [one] | [one, _] if one.starts_with("type 3")),
        "{acknowledged:?}"
    );
    // 0 switches them off; Set Peer Bandwidth is answered by our window.
    session.receive(message(5, 0, &[0; 4]), NOW).unwrap();
    session.receive(message(8, 1, &[0xaf; 3000]), NOW).unwrap();
    assert!(answers(&mut session).is_empty());
    session.receive(message(6, 0, &[0, 0, 0, 9, 2]), NOW).unwrap();
    assert_eq!(answers(&mut session), ["type 5 [00, 26, 25, a0]"]);
}

#[test]
fn one_read_holds_no_more_messages_than_real_media_can() {
    let (mut session, _) = publishing(4096);
    let empty = message(8, 1, &[]);
    let flood = empty.repeat(limits::EVENTS_MAX + 1);
    assert_eq!(session.receive(flood.into(), NOW), Err(Error::TooManyMessages { max: limits::EVENTS_MAX }));
    let (mut session, _) = publishing(4096);
    let tag = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    let flood = message(22, 1, &tag.repeat(limits::EVENTS_MAX + 1));
    assert_eq!(session.receive(flood, NOW), Err(Error::TooManyMessages { max: limits::EVENTS_MAX }));
    assert_eq!(std::iter::from_fn(|| session.poll_event()).count(), limits::EVENTS_MAX);
}

#[test]
fn a_player_that_stops_before_it_is_accepted_is_not_forgotten() {
    let (mut session, mut client) = asked(Role::Play, "cam", 4096);
    client.stop();
    session.receive(client.poll_transmit().unwrap(), NOW).unwrap();
    session.accept_play();
    assert_eq!(session.into_viewer().poll_event(), Some(ViewerEvent::Stop));
}
