use std::fmt::Write;

use super::*;
use crate::frame::Codec;
use crate::policy::Access;

fn policy(on_duplicate: OnDuplicate) -> PublishPolicy {
    PublishPolicy {
        on_duplicate,
        start_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(10),
        resume_window: Duration::from_secs(15),
        access: Access::default(),
        rtmp: true,
    }
}

/// Runs a script and returns what happened, one line a step that had an effect.
///
/// `@5000` the clock goes to 5 s, doing on its way what falls due; `pub`, `leave1`, `heard1`: publishers are numbered as they come;
/// `cfg key pic snd asc meta`: frames of the newest publisher (`key1`: of the first), at the clock's time.
fn run(on_duplicate: OnDuplicate, script: &str) -> String {
    let budget = Budget::new(1 << 20);
    let mut now = Duration::ZERO;
    let mut stream = Stream::new(policy(on_duplicate), 0, 5000, now, budget.clone());
    let mut tokens = vec![];
    let mut out = String::new();
    for step in script.split_whitespace() {
        let mut did = String::new();
        let name = step.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = step[name.len()..].parse::<usize>();
        match name {
            "@" => {
                let to = Duration::from_millis(number.unwrap() as u64);
                while let Some(at) = stream.deadline().filter(|&at| at <= to) {
                    stream.timeout(at);
                    events(&mut stream, &format!("at {} ", at.as_millis()), &mut did);
                }
                now = to;
            }
            "pub" => match stream.publish(now) {
                Ok(token) => tokens.push(token),
                Err(duplicate) => write!(did, " {duplicate}").unwrap(),
            },
            "leave" => stream.leave(tokens[number.unwrap() - 1], now),
            "heard" => stream.heard(tokens[number.unwrap() - 1], now),
            _ => {
                let (codec, kind, payload) = match name {
                    "cfg" => (Codec::H264, Kind::Config, "sps"),
                    "key" => (Codec::H264, Kind::Key, "key"),
                    "pic" => (Codec::H264, Kind::Inter, "pic"),
                    "asc" => (Codec::Aac, Kind::Config, "asc"),
                    "snd" => (Codec::Aac, Kind::Key, "snd"),
                    "meta" => (Codec::Script, Kind::Config, "videocodecid audiocodecid"),
                    _ => (Codec::Script, Kind::Config, "videocodecid"),
                };
                let frame =
                    Frame { codec, kind, dts_ms: now.as_millis() as i64, cts_ms: 0, payload: payload.into() };
                let token = tokens[number.map_or(tokens.len(), |n| n) - 1];
                match stream.push(token, frame, now) {
                    Ok(Pushed::Taken { .. }) => {
                        let seq = stream.ring().end() - 1;
                        let packed = stream.ring().frame(seq).unwrap();
                        write!(did, " #{seq} {}", packed.dts_ms).unwrap();
                    }
                    Ok(other) => write!(did, " {other:?}").unwrap(),
                    Err(error) => write!(did, " {error}").unwrap(),
                }
            }
        }
        events(&mut stream, "", &mut did);
        if !did.is_empty() {
            writeln!(out, "{step}:{did}").unwrap();
        }
    }
    let start = stream.start(Form::Flv, Opening::First);
    writeln!(out, "start {:?}", start.map(|(seq, opening)| (seq, opening[4]))).unwrap();
    drop(stream);
    assert_eq!(budget.used(), 0);
    out
}

fn events(stream: &mut Stream, prefix: &str, out: &mut String) {
    while let Some(event) = stream.poll_event() {
        match event {
            Event::Ended(token, reason) => write!(out, " {prefix}ended {} {}", token.0, reason.as_str()),
            Event::Opened => write!(out, " {prefix}opened"),
            Event::Live(live) => write!(out, " {prefix}live={live}"),
            Event::Tracks => write!(out, " tracks={}", stream.tracks().names().join("+")),
            Event::Over => write!(out, " {prefix}over"),
        }
        .unwrap();
    }
}

fn check(on_duplicate: OnDuplicate, script: &str, want: &str) {
    let got = run(on_duplicate, script);
    let want: String = want.lines().map(|line| format!("{}\n", line.trim())).collect();
    assert!(got.trim() == want.trim(), "{script}\ngot:\n{got}\nwant:\n{want}");
}

#[test]
fn viewers_begin_when_it_is_known_which_tracks_come() {
    use OnDuplicate::Reject;
    // both configurations come first, as RTMP encoders send them: at once
    check(
        Reject,
        "pub meta cfg asc key snd @40 pic",
        "meta: Known tracks=
         cfg: #0 5000 tracks=H264
         asc: #1 5000 tracks=H264+AAC
         key: #2 5000 live=true opened
         snd: #3 5000
         pic: #4 5040
         start Some((2, 5))",
    );
    // metadata that speaks of one track only: at once, too
    check(
        Reject,
        "pub one cfg key",
        "one: Known tracks=
         cfg: #0 5000 tracks=H264
         key: #1 5000 live=true opened
         start Some((1, 1))",
    );
    // no metadata: sound that comes soon is waited for, and the header announces it
    check(
        Reject,
        "pub cfg key @40 snd",
        "cfg: #0 5000 tracks=H264
         key: #1 5000 live=true
         snd: #2 5040 tracks=H264+AAC opened
         start Some((1, 5))",
    );
    // and what doesn't come is not
    check(
        Reject,
        "pub cfg key @40 pic @400",
        "cfg: #0 5000 tracks=H264
         key: #1 5000 live=true
         pic: #2 5040
         @400: at 300 opened
         start Some((1, 1))",
    );
    // sound alone
    check(
        Reject,
        "pub snd @20 snd @1100",
        "snd: #0 5000 live=true tracks=AAC
         snd: #1 5020
         @1100: at 1000 opened
         start Some((1, 4))",
    );
    // sound ahead of the first key frame; a picture that leans on nothing is left out
    check(
        Reject,
        "pub snd @20 cfg @40 pic @1100 snd @1200 key",
        "snd: #0 5000 live=true tracks=AAC
         cfg: #1 5000 tracks=H264+AAC
         pic: Undecodable
         snd: #2 6100
         key: #3 6200 opened
         start Some((3, 5))",
    );
}

/// facts/clients.md 5: players that run get nothing of it; those who come later are told.
#[test]
fn metadata_that_comes_late_disturbs_no_player() {
    check(
        OnDuplicate::Reject,
        "pub cfg asc key snd @40 meta @80 pic meta",
        "cfg: #0 5000 tracks=H264
         asc: #1 5000 tracks=H264+AAC
         key: #2 5000 live=true opened
         snd: #3 5000
         meta: Known tracks=H264+AAC
         pic: #4 5080
         meta: Known
         start Some((2, 5))",
    );
}

#[test]
fn a_holder_that_is_heard_keeps_its_path() {
    check(
        OnDuplicate::Reject,
        "pub cfg asc key @1999 pub heard1 @3900 pub @4001 pub key1 key2",
        "cfg: #0 5000 tracks=H264
         asc: #1 5000 tracks=H264+AAC
         key: #2 5000 live=true opened
         pub: the path has a publisher that was heard 1.999s ago
         pub: the path has a publisher that was heard 1.901s ago
         pub: ended 1 PublisherTakenOver
         key1: the publisher was ended
         key2: #3 9001 tracks=H264
         start None",
    );
    check(
        OnDuplicate::Takeover,
        "pub cfg asc key pub cfg asc key",
        "cfg: #0 5000 tracks=H264
         asc: #1 5000 tracks=H264+AAC
         key: #2 5000 live=true opened
         pub: ended 1 PublisherTakenOver
         cfg: #3 5001 tracks=H264
         asc: #4 5001 tracks=H264+AAC
         key: #5 5001 opened
         start Some((5, 5))",
    );
}

#[test]
fn each_wait_for_a_publisher_ends() {
    use OnDuplicate::Reject;
    check(
        Reject,
        "pub meta @20000 @30000",
        "meta: Known tracks=
         @20000: at 10000 ended 1 PublisherNeverStarted
         @30000: at 25000 over
         start None",
    );
    check(
        Reject,
        "pub cfg asc key @8000 heard1 @9000 snd @30000 @40000",
        "cfg: #0 5000 tracks=H264
         asc: #1 5000 tracks=H264+AAC
         key: #2 5000 live=true opened
         snd: #3 14000
         @30000: at 19000 ended 1 PublisherStalled at 19000 live=false
         @40000: at 34000 over
         start None",
    );
    // back within the window: viewers' frames go on, time goes on from the clock
    check(
        Reject,
        "pub cfg asc key @1000 leave1 @6000 pub cfg asc key @90000",
        "cfg: #0 5000 tracks=H264
         asc: #1 5000 tracks=H264+AAC
         key: #2 5000 live=true opened
         cfg: #3 11000 tracks=H264
         asc: #4 11000 tracks=H264+AAC
         key: #5 11000 opened
         @90000: at 16000 ended 2 PublisherStalled at 16000 live=false at 31000 over
         start None",
    );
    // one that comes back and says nothing doesn't hold viewers for ever
    check(
        Reject,
        "pub cfg asc key leave1 @14000 pub @90000",
        "cfg: #0 5000 tracks=H264
         asc: #1 5000 tracks=H264+AAC
         key: #2 5000 live=true opened
         @14000: at 10000 live=false
         @90000: at 24000 ended 2 PublisherNeverStarted at 39000 over
         start None",
    );
}

#[test]
fn a_frame_holds_at_most_twice_what_it_counts() {
    let mut stream = Stream::new(policy(OnDuplicate::Reject), 0, 0, Duration::ZERO, Budget::new(1 << 20));
    let token = stream.publish(Duration::ZERO).unwrap();
    // A publisher's read buffer has 64 KiB.
    for (length, is_shared) in [(1, false), (COPIED_BYTES_MAX, false), (COPIED_BYTES_MAX + 1, true)] {
        let read = Bytes::from(vec![0; 64 << 10]);
        let payload = read.slice(..length);
        let frame = Frame { codec: Codec::H264, kind: Kind::Key, dts_ms: 0, cts_ms: 0, payload };
        assert!(matches!(stream.push(token, frame, Duration::ZERO), Ok(Pushed::Taken { .. })));
        assert_eq!(!read.is_unique(), is_shared, "{length}");
        assert!(!is_shared || 2 * length >= read.len());
    }
}

#[test]
fn a_frame_without_room_in_the_budget_is_left_out_and_so_is_what_leans_on_it() {
    let budget = Budget::new(3000);
    let mut stream = Stream::new(policy(OnDuplicate::Reject), 0, 0, Duration::ZERO, budget.clone());
    let token = stream.publish(Duration::ZERO).unwrap();
    let mut push = |kind, length| {
        let payload = vec![0; length].into();
        stream
            .push(token, Frame { codec: Codec::H264, kind, dts_ms: 0, cts_ms: 0, payload }, Duration::ZERO)
            .unwrap()
    };
    let taken = |start| Pushed::Taken { picture: true, start };
    assert_eq!(push(Kind::Key, 500), taken(true));
    assert_eq!(push(Kind::Inter, 1000), taken(false));
    // the oldest half makes room
    assert_eq!(push(Kind::Inter, 1000), taken(false));
    assert_eq!(push(Kind::Inter, 4000), Pushed::Refused(Unpackable::Budget));
    assert_eq!(push(Kind::Inter, 10), Pushed::Undecodable);
    assert_eq!(push(Kind::Key, 10), taken(true));
    drop(stream);
    assert_eq!(budget.used(), 0);
}
