//! The product on a cluster: what a person applies plays at the endpoints that its status names.

mod devices;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::clips::{self, Clip, Pictures, Sound};
use tests::cluster::Cluster;
use tests::eventually::{ensure, eventually};
use tests::installation::Installation;
use tests::nal::{Media, Times, same_from_first_key};
use tests::objects::{address, endpoint, nothing_is_written, stream, viewer, wait_all_ready, wait_live};
use tests::player::Viewer;
use tests::ps_sender::{self, AudioChoice, Options, Transport, VideoChoice};
use tests::publisher;
use tests::running::Folder;
use tests::standalone::binary;
use tests::tools::root;

const STARTED: Duration = Duration::from_secs(60);
/// For a state that needs no pod to start.
const SOON: Duration = Duration::from_secs(20);
const SECONDS: u32 = 8;

fn is_whole(original: &Media, viewer: &Viewer, times: Times) {
    viewer.wait_end(STARTED);
    let played = viewer.media();
    assert!(played.video.len() * 10 >= original.video.len() * 7, "{} pictures", played.video.len());
    if let Err(wrong) = same_from_first_key(original, &played, times) {
        panic!("{wrong}");
    }
}

#[test]
fn what_the_examples_declare_is_ready_and_plays() {
    let cluster = Cluster::up(2).expect("root on Debian can run one");
    let installed = Installation::with(&cluster, &devices::VALUES).expect("the chart installs");
    installed.wait_ready(STARTED).expect("operator and workers start");

    let begun = Instant::now();
    installed.apply(&root().join("manifests/examples").display().to_string()).expect("the API takes them");
    let wait = ["wait", "--for=condition=Ready", "mst", "--all", "--timeout=20s"];
    cluster.ask(&wait).expect("all examples are Ready");
    eprintln!("the examples are Ready {:?} after they are applied", begun.elapsed());

    push_plays(&cluster);
    camera_plays(&cluster, "door", Transport::Tcp, 200_000_001);
    camera_plays(&cluster, "yard", Transport::Udp, 200_000_002);
    a_person_sees_the_story(&cluster);
    a_person_asks_why(&cluster);
    wait_all_ready(&cluster, 3, SOON).expect("streams are Ready again");
    nothing_is_written(&cluster, Duration::from_secs(5));
    devices::play_and_survive_their_worker(&cluster, &installed);
}

fn push_plays(cluster: &Cluster) {
    let folder = Folder::new("kubernetes");
    let clip = clips::h264_aac(SECONDS);
    let file = folder.file("original.flv");
    clips::as_flv(clip, &file);
    let original = Media::of_file(&file).expect("ffmpeg writes valid FLV");
    let declared = stream(cluster, "cam-1");
    let url = endpoint(&declared, "Publish", "RTMP");
    let mut publisher = publisher::ffmpeg(&folder, clip, publisher::Times::Once, &url);
    wait_live(cluster, "cam-1", SOON);
    let viewer = viewer(&declared, "/live/cam-1.flv");
    publisher.wait_success(STARTED);
    is_whole(&original, &viewer, Times::Exact);
}

fn camera_plays(cluster: &Cluster, name: &str, transport: Transport, ssrc: u32) {
    let clip = Clip { pictures: Pictures::H264, sound: Sound::PcmA, seconds: SECONDS, gop_seconds: 2 };
    let file = clip.file();
    let clip = ps_sender::read(&file, VideoChoice::Auto, AudioChoice::Auto).expect("ffmpeg reads its own");
    let declared = stream(cluster, name);
    let to = address(&endpoint(&declared, "Publish", "RTP"));
    assert_eq!(declared["status"]["ports"]["rtp"].as_u64(), Some(to.port().into()));
    let options = Options::new(file, to, transport, ssrc);
    let original = Media::of_camera(&clip);
    let sender = std::thread::spawn(move || ps_sender::send(&options, &clip));
    wait_live(cluster, name, SOON);
    let viewer = viewer(&declared, &format!("/live/{name}.flv"));
    sender.join().expect("the sender does not panic").expect("the clip is sent");
    is_whole(&original, &viewer, Times::Within(1));
}

fn a_person_sees_the_story(cluster: &Cluster) {
    let streams = cluster.ask(&["get", "mst,ppool", "-o", "wide"]).expect("kubectl lists both kinds");
    for word in ["READY", "PHASE", "SOURCE", "NODE", "ADDRESS", "PORT", "live/door", "RTP/TCPPassive"] {
        assert!(streams.contains(word), "{word} is not in\n{streams}");
    }
    let story = cluster.ask(&["describe", "mst", "door"]).expect("kubectl describes it");
    for word in ["Epoch", "Ports Allocated", "Assignment", "Endpoints"] {
        let squeezed = |text: &str| text.replace(' ', "");
        assert!(squeezed(&story).contains(&squeezed(word)), "{word} is not in\n{story}");
    }
}

/// `penstock why` where kubectl works, with the rights of whoever runs it.
fn a_person_asks_why(cluster: &Cluster) {
    let kubectl = cluster.kubectl();
    let folder = Path::new(kubectl.get_program()).parent().expect("kubectl is a file");
    let path = std::env::var("PATH").unwrap_or_default();
    let why = |stream: &str| {
        let mut why = Command::new(binary());
        why.args(["why", stream, "--cluster"]).env("KUBECONFIG", cluster.kubeconfig());
        let said = why.env("PATH", format!("{}:{path}", folder.display())).output();
        String::from_utf8(said.expect("the binary can be started").stdout).expect("it says text")
    };
    eventually("the word that nobody publishes", SOON, || {
        let said = why("default/door");
        let words = ["default/door does not play: nobody publishes it (NoPublisher).", "the SSRC 0200000001"];
        ensure(words.iter().all(|words| said.contains(words)), || said)
    });
    let said = why("default/dor");
    assert!(said.starts_with("There is no MediaStream default/dor; there is default/door"), "{said}");
    let said = why("live/door");
    assert!(said.contains("the path live/door is that of default/door"), "{said}");
}
