//! How fast it starts, what it weighs when it idles, and how fast a thousand streams are Ready.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::census;
use tests::eventually::within;
use tests::nginx::Nginx;
use tests::ports::Block;
use tests::running::{Folder, signal_pid};
use tests::standalone::{Standalone, binary, condition, over_rtp, pushed};

use super::statistics::Quartiles;

const RUNS: usize = 10;
const LIMIT: Duration = Duration::from_secs(10);
/// Memory is looked at when this long nothing has happened: the allocator's decay is 1 s.
const IDLE: Duration = Duration::from_secs(5);

pub(crate) fn run() -> Result<(), String> {
    let (small, large) = (Setup::new(&[(20_000, 20_049), (20_100, 20_149)]), Setup::new(LARGE));
    let starts: [(&str, &dyn Fn() -> io::Result<Duration>); 3] =
        [("100 ports", &|| small.time()), ("30 000 ports", &|| large.time()), ("nginx-rtmp", &time_nginx)];
    let mut times = starts.map(|(name, _)| (name, Vec::new()));
    // One of each in turn, another one first each time, so that whatever else the machine does, the end of the one before
    // included, meets all alike. The first turn warms the caches.
    for turn in 0..=RUNS {
        for nth in 0..starts.len() {
            let at = (turn + nth) % starts.len();
            let (name, start) = starts[at];
            let time = start().map_err(|e| format!("{name}: {e}"))?;
            if turn > 0 {
                times[at].1.push(time.as_secs_f64() * 1e3);
            }
        }
    }
    println!("\n| exec to the last byte of S2, {RUNS} runs | median ms (quartiles) | best ms |");
    println!("|---|---|---|");
    for (name, times) in &times {
        let of = Quartiles::of(times);
        println!("| {name} | {} | {:.1} |", of.show(1), of.best);
    }
    idle()?;
    thousand_streams()
}

/// 30 000 ports in several ranges, clear of NodePorts and ephemeral ports.
const LARGE: &[(u16, u16)] = &[(2_000, 9_999), (10_000, 19_999), (20_000, 29_999), (61_000, 62_999)];

struct Setup {
    folder: Folder,
    ports: Block,
}

impl Setup {
    fn new(ranges: &[(u16, u16)]) -> Setup {
        let folder = Folder::new("bench-start");
        fs::write(folder.file("pool.yaml"), pool(ranges)).expect("a new folder can be filled");
        fs::write(folder.file("cam.yaml"), pushed("cam", "")).expect("a new folder can be filled");
        Setup { folder, ports: Block::take(4) }
    }

    fn time(&self) -> io::Result<Duration> {
        let address = |nth: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.first() + nth));
        let mut command = Command::new(binary());
        command.arg("standalone").arg(self.folder.path());
        for (nth, flag) in ["--rtmp", "--http", "--admin", "--health"].into_iter().enumerate() {
            command.args([flag, &address(nth as u16).to_string()]);
        }
        time(command, address(0))
    }
}

fn pool(ranges: &[(u16, u16)]) -> String {
    let ranges: Vec<String> =
        ranges.iter().map(|(start, end)| format!("{{start: {start}, end: {end}}}")).collect();
    format!(
        "apiVersion: media.penstock.dev/v1alpha1
kind: PortPool
metadata: {{name: pool}}
spec:
  default: true
  ranges: [{}]
",
        ranges.join(", ")
    )
}

fn time_nginx() -> io::Result<Duration> {
    let nginx = Nginx::configure();
    time(nginx.command(), nginx.rtmp)
}

/// From exec to the last byte of S2. The process is ended afterwards.
fn time(mut command: Command, rtmp: SocketAddr) -> io::Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let result = handshake(rtmp, begun).map(|()| begun.elapsed());
    end(&mut child);
    result
}

fn handshake(to: SocketAddr, begun: Instant) -> io::Result<()> {
    let mut socket = loop {
        match TcpStream::connect(to) {
            Ok(socket) => break socket,
            Err(e) if begun.elapsed() > LIMIT => return Err(e),
            // Refused until it listens. Short beside what is measured; spinning would take the core from it.
            Err(_) => std::thread::sleep(Duration::from_micros(100)),
        }
    };
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut hello = vec![0; 1 + 1536];
    hello[0] = 3;
    socket.write_all(&hello)?;
    let mut answer = vec![0; 1 + 1536 + 1536];
    socket.read_exact(&mut answer)
}

fn end(child: &mut Child) {
    signal_pid(child.id(), rustix::process::Signal::TERM);
    let ended = within(LIMIT, || match child.try_wait() {
        Ok(None) => Err(()),
        Ok(Some(_)) | Err(_) => Ok(()),
    });
    if ended.is_err() {
        eprintln!("pid {} does not end when it is asked to", child.id());
        // It is killed instead; an error says that it has ended.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn idle() -> Result<(), String> {
    let standalone = Standalone::start(&[("pool.yaml", &pool(LARGE)), ("cam.yaml", &pushed("cam", ""))]);
    standalone.wait_ready("live/cam");
    std::thread::sleep(IDLE);
    let mib = |pid: u32| census::rss_bytes(pid) as f64 / (1 << 20) as f64;
    let (worker, parent) = (mib(standalone.worker_pid()), mib(standalone.pid()));
    println!("\n| idle, 30 000 ports | RSS MiB |\n|---|---|");
    println!("| worker | {worker:.1} |\n| both processes | {:.1} |", worker + parent);
    Ok(())
}

fn thousand_streams() -> Result<(), String> {
    let mut files = vec![("pool.yaml".to_owned(), pool(LARGE))];
    for nth in 0..500 {
        files.push((format!("push-{nth}.yaml"), pushed(&format!("push-{nth}"), "")));
        let rtp = format!("transport: UDP, ssrc: \"{:010}\"", 100_000 + nth);
        files.push((format!("udp-{nth}.yaml"), over_rtp(&format!("udp-{nth}"), &rtp, "")));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let begun = Instant::now();
    let standalone = Standalone::start(&files);
    let at_start = all_ready(&standalone, begun)?;
    drop(standalone);
    let standalone = Standalone::start(&files[..1]);
    let begun = Instant::now();
    files[1..].iter().for_each(|(name, text)| standalone.write(name, text));
    let dropped_in = all_ready(&standalone, begun)?;
    println!("\n| 500 push and 500 UDP streams | all Ready after s |\n|---|---|");
    println!("| there when it is started | {:.2} |", at_start.as_secs_f64());
    println!("| put into the folder of one that runs | {:.2} |", dropped_in.as_secs_f64());
    Ok(())
}

fn all_ready(standalone: &Standalone, begun: Instant) -> Result<Duration, String> {
    within(Duration::from_secs(60), || {
        let list = standalone.page("/streams")?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = items.iter().filter(|item| condition(item, "Ready") == "True").count();
        if ready == 1000 { Ok(begun.elapsed()) } else { Err(format!("{ready} of 1000 are Ready")) }
    })
}
