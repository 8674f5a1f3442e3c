//! What a viewer costs: 500 of them, 2 Mbit/s each, at the segment size of an Ethernet path.
//!
//! The server has core 0 to itself and the load core 1, as in the figures of peers. CPU time is the scheduler's count
//! for all threads of the serving process.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use tests::census;
use tests::eventually::eventually;
use tests::load::{Protocol, Source, Viewers};
use tests::nginx::Nginx;
use tests::ports::Block;
use tests::running::{Folder, Running};
use tests::standalone::{SOON, Standalone, pushed};

use super::statistics::Quartiles;

const VIEWERS: usize = 500;
const RUNS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(4);
const MEASURE: Duration = Duration::from_secs(20);

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    PenstockRtmp,
    PenstockFlv,
    NginxRtmp,
    BareLoop,
}

const SERVERS: [(Server, &str); 4] = [
    (Server::BareLoop, "bare send loop, one send a picture"),
    (Server::PenstockRtmp, "penstock, RTMP"),
    (Server::PenstockFlv, "penstock, HTTP-FLV"),
    (Server::NginxRtmp, "nginx-rtmp, RTMP"),
];

struct Run {
    /// Core seconds a Gbit.
    cost: f64,
    latency_ms: Quartiles,
    mbit_a_viewer: f64,
}

pub(crate) fn run() -> Result<(), String> {
    let mut runs: Vec<(Server, &str, Vec<Run>)> =
        SERVERS.map(|(server, name)| (server, name, Vec::new())).into();
    // `PENSTOCK_BENCH_ONLY=nginx` runs only those whose name holds the word.
    let only = std::env::var("PENSTOCK_BENCH_ONLY").unwrap_or_default();
    runs.retain(|(server, name, _)| *server == Server::BareLoop || name.contains(&only));
    for turn in 1..=RUNS {
        for (server, name, done) in &mut runs {
            eprintln!("run {turn} of {RUNS}: {name}");
            done.push(measure(*server)?);
        }
    }
    println!(
        "\n| {VIEWERS} viewers, MSS 1448, {RUNS} runs of {} s | core s/Gbit (quartiles) | × bare loop | latency p50 ms (quartiles) | Mbit/s a viewer |",
        MEASURE.as_secs()
    );
    println!("|---|---|---|---|---|");
    let cost = |runs: &[Run]| Quartiles::of(&runs.iter().map(|run| run.cost).collect::<Vec<_>>());
    let bare = cost(&runs[0].2).median;
    for (_, name, runs) in &runs {
        let cost = cost(runs);
        let latency = Quartiles::of(&runs.iter().map(|run| run.latency_ms.median).collect::<Vec<_>>());
        let rate = Quartiles::of(&runs.iter().map(|run| run.mbit_a_viewer).collect::<Vec<_>>()).median;
        println!(
            "| {name} | {} | {:.2} | {} | {rate:.2} |",
            cost.show(3),
            cost.median / bare,
            latency.show(1)
        );
    }
    Ok(())
}

fn measure(server: Server) -> Result<Run, String> {
    // Children inherit the core; threads of ours that are started later have the other.
    pin(0)?;
    match server {
        Server::PenstockRtmp | Server::PenstockFlv => {
            let standalone = Standalone::start(&[("cam.yaml", &pushed("cam", ""))]);
            standalone.wait_ready("live/cam");
            let pid = standalone.worker_pid();
            pin(1)?;
            let source = Source::start(standalone.rtmp, "live/cam");
            let (protocol, to) = match server {
                Server::PenstockFlv => (Protocol::HttpFlv, standalone.http),
                Server::PenstockRtmp | Server::NginxRtmp | Server::BareLoop => {
                    (Protocol::Rtmp, standalone.rtmp)
                }
            };
            watch(pid, protocol, to, &source)
        }
        Server::NginxRtmp => {
            let nginx = Nginx::start();
            let pid = nginx.worker_pid();
            pin(1)?;
            let source = Source::start(nginx.rtmp, "live/cam");
            watch(pid, Protocol::Rtmp, nginx.rtmp, &source)
        }
        Server::BareLoop => {
            let (folder, ports) = (Folder::new("bare-loop"), Block::take(2));
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.first()));
            let this = std::env::current_exe().map_err(|e| e.to_string())?;
            let mut command = Command::new(this);
            command.args(["bare-loop", &to.to_string()]);
            let bare = Running::start("the bare send loop", command, folder.file("log"));
            eventually("the bare send loop", SOON, || TcpStream::connect(to).map(|_| ()));
            pin(1)?;
            watch_viewers(bare.pid(), Protocol::HttpFlv, to)
        }
    }
}

fn watch(pid: u32, protocol: Protocol, to: SocketAddr, source: &Source) -> Result<Run, String> {
    let run = watch_viewers(pid, protocol, to)?;
    if source.runs() { Ok(run) } else { Err("the publisher was ended".to_owned()) }
}

fn watch_viewers(pid: u32, protocol: Protocol, to: SocketAddr) -> Result<Run, String> {
    let viewers = Viewers::start(protocol, to, "live/cam", VIEWERS).map_err(|e| e.to_string())?;
    viewers.wait_playing(VIEWERS, Duration::from_secs(60));
    std::thread::sleep(WARM_UP);
    let (begun, cpu, bytes) = (Instant::now(), census::cpu(pid), viewers.bytes());
    viewers.take_ages();
    std::thread::sleep(MEASURE);
    let (took, cpu, bytes) = (begun.elapsed(), census::cpu(pid) - cpu, viewers.bytes() - bytes);
    let ages: Vec<f64> = viewers.take_ages().iter().map(|age| age.as_secs_f64() * 1e3).collect();
    if viewers.ended() > 0 || ages.is_empty() {
        return Err(format!("{} viewers were ended, {} pictures were dated", viewers.ended(), ages.len()));
    }
    let gbit = bytes as f64 * 8e-9;
    Ok(Run {
        cost: cpu.as_secs_f64() / gbit,
        latency_ms: Quartiles::of(&ages),
        mbit_a_viewer: gbit * 1e3 / took.as_secs_f64() / VIEWERS as f64,
    })
}

fn pin(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|e| format!("cannot run on core {core}: {e}; two cores are needed"))
}
