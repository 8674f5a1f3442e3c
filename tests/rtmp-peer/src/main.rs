//! An independent RTMP client, the crate `rtmp`, pushes a clip to penstock and plays it from there at the same time.
//!
//! `rtmp-peer HOST:PORT APP STREAM CLIP.flv` against a running penstock that declares APP/STREAM with a start timeout of some
//! seconds. It fails unless every picture and sound from the first key frame on comes back with the same bytes, in order, and with
//! timestamps that are the clip's plus one constant.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use media::flv;
use rtmp::session::client_session::{ClientSession, ClientSessionType};
use streamhub::define::{DataReceiver, FrameData, FrameDataReceiver, FrameDataSender, StreamHubEvent};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// The clip runs this much faster than real time.
const SPEED: u32 = 4;
/// The longest wait for the next frame, and for the server's answers.
const PATIENCE: Duration = Duration::from_secs(20);

type Failure = Box<dyn Error + Send + Sync>;

/// A picture or sound of the clip, or one that came back.
#[derive(Clone, PartialEq, Eq)]
struct Media {
    kind: u8,
    timestamp: u32,
    body: Bytes,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rtmp-peer: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<String, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, app, stream, clip] = arguments.as_slice() else {
        return Err("usage: rtmp-peer HOST:PORT APP STREAM CLIP.flv".into());
    };
    let clip = read_clip(std::fs::read(clip)?.into())?;
    let connect = async |role| -> Result<_, Failure> {
        let (events, hub) = mpsc::unbounded_channel();
        let socket = TcpStream::connect(address).await?;
        let session =
            ClientSession::new(socket, role, address.clone(), app.clone(), stream.clone(), events, 0);
        Ok((session, hub))
    };
    let (mut puller, pull_hub) = connect(ClientSessionType::Pull).await?;
    let (mut pusher, push_hub) = connect(ClientSessionType::Push).await?;
    let pull =
        async { Err::<(), Failure>(format!("the playing session ended: {:?}", puller.run().await).into()) };
    let push =
        async { Err::<(), Failure>(format!("the pushing session ended: {:?}", pusher.run().await).into()) };
    let feed = async {
        let frames = subscribed(push_hub).await?;
        feed(&clip, &frames).await?;
        // While the sender lives the session waits for more.
        std::future::pending::<()>().await;
        drop(frames);
        Ok::<(), Failure>(())
    };
    let compare = async {
        let frames = published(pull_hub).await?;
        compare(&clip, frames).await
    };
    tokio::select! {
        result = compare => result,
        result = pull => Err(result.expect_err("it never succeeds")),
        result = push => Err(result.expect_err("it never succeeds")),
        result = feed => Err(result.expect_err("it never ends well")),
    }
}

/// The coded pictures and sounds, and the configurations before them.
fn read_clip(mut bytes: Bytes) -> Result<Vec<Media>, Failure> {
    flv::split_header(&mut bytes).ok_or("the clip is not FLV")?;
    let mut clip = Vec::new();
    while let Some(tag) = flv::split_tag(&mut bytes) {
        if tag.kind == 8 || tag.kind == 9 {
            clip.push(Media { kind: tag.kind, timestamp: tag.timestamp, body: tag.body });
        }
    }
    if clip.is_empty() { Err("the clip has no media".into()) } else { Ok(clip) }
}

/// True for what decoders are fed with; a server may send configurations again.
fn is_coded(media: &Media) -> bool {
    media.body.get(1) == Some(&1)
}

/// Answers the pushing session when it asks the hub for frames: after NetStream.Publish.Start.
async fn subscribed(mut hub: mpsc::UnboundedReceiver<StreamHubEvent>) -> Result<FrameDataSender, Failure> {
    loop {
        if let StreamHubEvent::Subscribe { result_sender, .. } =
            next(&mut hub, "NetStream.Publish.Start").await?
        {
            let (sender, receiver) = mpsc::unbounded_channel();
            let receiver = DataReceiver { frame_receiver: Some(receiver), packet_receiver: None };
            result_sender.send(Ok((receiver, None))).map_err(|_| "the pushing session is gone")?;
            return Ok(sender);
        }
    }
}

/// Answers the playing session when it gives the hub frames: after NetStream.Play.Start.
async fn published(mut hub: mpsc::UnboundedReceiver<StreamHubEvent>) -> Result<FrameDataReceiver, Failure> {
    loop {
        if let StreamHubEvent::Publish { result_sender, .. } = next(&mut hub, "NetStream.Play.Start").await? {
            let (sender, receiver) = mpsc::unbounded_channel();
            result_sender.send(Ok((Some(sender), None, None))).map_err(|_| "the playing session is gone")?;
            return Ok(receiver);
        }
    }
}

async fn next<T>(queue: &mut mpsc::UnboundedReceiver<T>, what: &str) -> Result<T, Failure> {
    match timeout(PATIENCE, queue.recv()).await {
        Ok(Some(value)) => Ok(value),
        Ok(None) => Err(format!("the session ended before {what}").into()),
        Err(_) => Err(format!("no {what} within {PATIENCE:?}").into()),
    }
}

async fn feed(clip: &[Media], frames: &FrameDataSender) -> Result<(), Failure> {
    let start = Instant::now();
    for Media { kind, timestamp, body } in clip {
        sleep_until(start + Duration::from_millis((*timestamp).into()) / SPEED).await;
        let (timestamp, data) = (*timestamp, BytesMut::from(&body[..]));
        let frame = match kind {
            8 => FrameData::Audio { timestamp, data },
            _ => FrameData::Video { timestamp, data },
        };
        frames.send(frame).map_err(|_| "the pushing session is gone")?;
    }
    Ok(())
}

/// Reads until the clip's last picture and sound have come back.
async fn compare(clip: &[Media], mut frames: FrameDataReceiver) -> Result<String, Failure> {
    let mut expected: Option<std::iter::Peekable<std::vec::IntoIter<&Media>>> = None;
    let (mut offset, mut count, mut skipped) = (None, 0, 0);
    loop {
        let (kind, timestamp, data) = match next(&mut frames, "frame").await? {
            FrameData::Video { timestamp, data } => (9, timestamp, data),
            FrameData::Audio { timestamp, data } => (8, timestamp, data),
            FrameData::MetaData { .. } | FrameData::MediaInfo { .. } => continue,
        };
        let came = Media { kind, timestamp, body: data.freeze() };
        if !is_coded(&came) {
            continue;
        }
        let expected = match &mut expected {
            Some(expected) => expected,
            None => {
                let coded: Vec<&Media> = clip.iter().filter(|media| is_coded(media)).collect();
                let at = coded
                    .iter()
                    .position(|media| media.body == came.body)
                    .ok_or_else(|| format!("the first frame at {timestamp} is not the clip's"))?;
                if came.kind != 9 || came.body[0] >> 4 != 1 {
                    return Err("the first frame is not a key frame".into());
                }
                skipped = at;
                expected.insert(coded[at..].to_vec().into_iter().peekable())
            }
        };
        let wanted = expected.next().ok_or("more came back than was sent")?;
        let step = timestamp.wrapping_sub(wanted.timestamp);
        if (came.kind, &came.body) != (wanted.kind, &wanted.body) {
            return Err(format!(
                "frame {count} after the first, at {timestamp}, is not the clip's at {}",
                wanted.timestamp
            )
            .into());
        }
        if *offset.get_or_insert(step) != step {
            return Err(format!(
                "frame {count}: at {timestamp} instead of {} + {offset:?}",
                wanted.timestamp
            )
            .into());
        }
        count += 1;
        if expected.peek().is_none() {
            return Ok(format!(
                "{count} frames came back as they were sent; {skipped} were before the first key frame played"
            ));
        }
    }
}
