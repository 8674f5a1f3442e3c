//! RTMP and FLV.

use std::time::Duration;

use bytes::Bytes;
use media::flv::{self, Parsed};
use media::frame::{Codec, Frame, Kind};
use media::rtmp::amf0::{Reader as AmfReader, Value, Writer as AmfWriter};
use media::rtmp::chunk::{Bounds, Message, Reader};
use media::rtmp::handshake::Handshake;
use media::rtmp::{
    CHUNK_SIZE, Client, ClientConfig, Config, Event, PlayEnd, Role, Session, Viewer, ViewerEvent, limits,
};

const NOW: Duration = Duration::ZERO;

/// The first byte says into which pieces the rest is cut: 0 is one piece, else pieces of that size.
fn pieces(data: &[u8]) -> impl Iterator<Item = Bytes> {
    let (size, rest) = data.split_first().map_or((0, data), |(size, rest)| (usize::from(*size), rest));
    let size = if size == 0 { rest.len().max(1) } else { size };
    rest.chunks(size).map(Bytes::copy_from_slice)
}

/// Either side's handshake ends after as many bytes as the standard says, however they are cut.
pub(super) fn handshake(data: &[u8]) {
    for mut side in [Handshake::server(1), Handshake::client(1).0] {
        let mut taken = 0;
        for mut piece in pieces(data) {
            let before = piece.len();
            let Ok((progress, _)) = side.receive(&mut piece) else { break };
            taken += before - piece.len();
            if progress == media::rtmp::handshake::Progress::Done {
                assert_eq!(taken, 1 + 1536 + 1536);
                break;
            }
            assert!(piece.is_empty());
        }
    }
}

/// The same messages come out of one read and of many, and what is held stays within its bounds.
pub(super) fn chunk(data: &[u8]) {
    let read_all = |reader: &mut Reader, mut piece: Bytes, out: &mut Vec<Message>| loop {
        let message = reader.read(&mut piece);
        assert!(reader.held() <= Bounds::COMMANDS.partial_bytes);
        match message {
            Ok(Some(message)) => {
                // A peer's Set Chunk Size and Abort, as a session applies them.
                if let Some(number) = message.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) {
                    match message.kind {
                        1 => _ = reader.set_chunk_size(number),
                        2 => reader.abort(number),
                        _ => {}
                    }
                }
                out.push(message);
            }
            Ok(None) => {
                assert!(piece.is_empty());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    };
    let mut whole = (Reader::new(Bounds::COMMANDS), Vec::new());
    let rest = Bytes::copy_from_slice(data.get(1..).unwrap_or_default());
    let whole_end = read_all(&mut whole.0, rest, &mut whole.1);
    let mut cut = (Reader::new(Bounds::COMMANDS), Vec::new());
    let mut cut_end = Ok(());
    for piece in pieces(data) {
        cut_end = read_all(&mut cut.0, piece, &mut cut.1);
        if cut_end.is_err() {
            break;
        }
    }
    assert_eq!(whole.1, cut.1);
    assert_eq!(whole_end.is_ok(), cut_end.is_ok());
}

/// A value that was read and written reads as the same value.
pub(super) fn amf0(data: &[u8]) {
    let mut reader = AmfReader::new(data);
    while let Ok(value) = reader.value() {
        let mut writer = AmfWriter::new();
        write(&mut writer, &value);
        let written = writer.finish();
        let again = AmfReader::new(&written).value().expect("what was written can be read");
        assert_eq!(format!("{again:?}"), format!("{value:?}"));
    }
}

fn write(out: &mut AmfWriter, value: &Value) {
    match value {
        Value::Number(number) => _ = out.number(*number),
        Value::Boolean(boolean) => _ = out.boolean(*boolean),
        Value::String(string) => _ = out.string(string),
        Value::Object(properties) => {
            out.object(|out| {
                for (name, value) in properties {
                    write(out.name(name), value);
                }
            });
        }
        Value::Array(values) => {
            out.array(values.len() as u32, |out| values.iter().for_each(|value| write(out, value)));
        }
        Value::Null => _ = out.null(),
        Value::Omitted => _ = out.omitted(),
    }
}

/// A server session after nothing, connect, publish or play, or a viewer: it ends in an error or goes on, and holds little.
pub(super) fn session(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let mut session = Session::new(Config::default(), NOW);
    match mode % 5 {
        0 => {}
        1 => pair(&mut session, &mut Client::new(client_config(Role::Publish))),
        2 => connect(&mut session),
        _ => pair(&mut session, &mut Client::new(client_config(Role::Play))),
    }
    if mode % 5 == 4 {
        let end = [PlayEnd::Unpublished, PlayEnd::TooSlow, PlayEnd::Stopped][usize::from(mode / 5 % 3)];
        return view(session.into_viewer(), end, data);
    }
    for piece in pieces(data) {
        let result = session.receive(piece, NOW);
        while let Some(event) = session.poll_event() {
            answer(&mut session, event);
        }
        let waiting = std::iter::from_fn(|| session.poll_transmit()).map(|bytes| bytes.len()).sum::<usize>();
        assert!(waiting <= limits::TRANSMIT_BYTES_MAX + 4096);
        if result.is_err() {
            return;
        }
    }
}

fn view(mut viewer: Viewer, end: PlayEnd, data: &[u8]) {
    for piece in pieces(data) {
        let result = viewer.receive(piece, NOW);
        let waiting = std::iter::from_fn(|| viewer.poll_transmit()).map(|bytes| bytes.len()).sum::<usize>();
        assert!(waiting <= limits::TRANSMIT_BYTES_MAX + 4096);
        if result.is_err() || viewer.poll_event() == Some(ViewerEvent::Stop) {
            viewer.end_play(end, "");
            return;
        }
    }
}

/// Brings a session to where it has heard `connect` and no more.
fn connect(session: &mut Session) {
    let mut client = Client::new(client_config(Role::Play));
    let mut say = |client: &mut Client| {
        let said = client.poll_transmit().expect("a client speaks first");
        session.receive(said, NOW).expect("our client speaks RTMP");
        session.poll_transmit()
    };
    let answer = say(&mut client).expect("S0, S1 and S2");
    client.receive(answer, NOW).expect("our server speaks RTMP");
    say(&mut client);
}

/// A client whose server sends anything.
pub(super) fn client(data: &[u8]) {
    let Some((mode, data)) = data.split_first() else { return };
    let role = [Role::Publish, Role::Play, Role::Count][usize::from(mode % 3)];
    let mut client = Client::new(client_config(role));
    if mode & 0x80 == 0 {
        pair(&mut Session::new(Config::default(), NOW), &mut client);
    }
    for piece in pieces(data) {
        let result = client.receive(piece, NOW);
        while client.poll_event().is_some() {}
        while client.poll_transmit().is_some() {}
        if result.is_err() {
            return;
        }
    }
    // A publisher goes on, whatever it heard.
    for codec in [Codec::Script, Codec::H264] {
        let payload = Bytes::from_static(b"payload");
        client.send(&Frame { codec, kind: Kind::Key, dts_ms: 0, cts_ms: 0, payload }, 7);
    }
    client.stop();
    assert!(client.poll_transmit().is_some());
}

fn client_config(role: Role) -> ClientConfig {
    ClientConfig {
        role,
        host: "h".to_owned(),
        app: "live".to_owned(),
        key: "cam".to_owned(),
        chunk_size: 4096,
        seed: 2,
    }
}

/// Brings both to where media flows.
fn pair(session: &mut Session, client: &mut Client) {
    loop {
        let mut moved = false;
        while let Some(bytes) = client.poll_transmit() {
            session.receive(bytes, NOW).expect("our client speaks RTMP");
            moved = true;
        }
        while let Some(event) = session.poll_event() {
            answer(session, event);
        }
        while let Some(bytes) = session.poll_transmit() {
            client.receive(bytes, NOW).expect("our server speaks RTMP");
            moved = true;
        }
        while client.poll_event().is_some() {}
        if !moved {
            return;
        }
    }
}

fn answer(session: &mut Session, event: Event) {
    match event {
        Event::Publish(_) => session.accept_publish(),
        Event::Play(_) => session.accept_play(),
        Event::Frame(_) | Event::Leave(_) | Event::Unpublish => {}
    }
}

/// A frame that was read and written reads as the same frame.
pub(super) fn flv_body(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    let body = Bytes::copy_from_slice(body);
    let parse = if kind % 2 == 0 { flv::parse_audio } else { flv::parse_video };
    if let Ok(Parsed::Frame(mut frame)) = parse(body) {
        let Ok(Parsed::Frame(again)) = parse(flv::body(&frame)) else {
            panic!("{frame:?} is not read again")
        };
        // The classic tag of MP3 knows four rates; the frame's own header tells players the real one.
        if let (Codec::Mp3(sound), Codec::Mp3(classic)) = (&mut frame.codec, again.codec) {
            sound.rate_hz = classic.rate_hz;
        }
        assert_eq!(again, frame);
        let mut packed = media::rtmp::pack(&frame, 0x00ff_ffff);
        let mut reader = Reader::new(Bounds::MEDIA);
        reader.set_chunk_size(CHUNK_SIZE).expect("our own chunk size is allowed");
        let message = reader.read(&mut packed).expect("what was packed is in order").expect("and whole");
        assert_eq!((message.timestamp, message.payload), (0x00ff_ffff, flv::body(&frame)));
        assert!(packed.is_empty());
    }
}

/// What is sanitised is short, and sanitising it again changes nothing.
pub(super) fn flv_metadata(data: &[u8]) {
    if let Some(sane) = flv::sanitise(data) {
        assert!(sane.len() <= flv::METADATA_BYTES_MAX + 64);
        assert_eq!(flv::sanitise(&sane), Some(sane.clone()));
        for (video, audio) in [(None, None), (Some(Codec::H265), None), (Some(Codec::H264), Some(Codec::Aac))]
        {
            let made = flv::for_tracks(&sane, video, audio);
            assert_eq!(flv::for_tracks(&made, video, audio), made);
        }
    }
    flv::for_tracks(data, None, None);
}

/// Tags are cut from the front, and never more than there is.
pub(super) fn flv_tags(data: &[u8]) {
    let mut input = Bytes::copy_from_slice(data);
    flv::split_header(&mut input);
    while let Some(tag) = flv::split_tag(&mut input) {
        let parsed = match tag.kind {
            8 => flv::parse_audio(tag.body),
            9 => flv::parse_video(tag.body),
            _ => {
                flv::sanitise(&tag.body);
                continue;
            }
        };
        if let Ok(Parsed::Frame(frame)) = parsed {
            let mut packed = flv::pack_tag(&frame, tag.timestamp);
            let again = flv::split_tag(&mut packed).expect("what was packed is a tag");
            assert_eq!((again.kind, again.timestamp), (tag.kind, tag.timestamp));
            assert_eq!(again.body, flv::body(&frame));
        }
    }
}
