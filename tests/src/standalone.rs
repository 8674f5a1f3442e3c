//! `penstock standalone DIR` as a process: started on free ports, asked for its state, gone at the end.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::eventually::{ensure, eventually, throughout, within};
use crate::ports::Block;
use crate::running::{Folder, Running};
use crate::tools::target;
use crate::{census, http};

/// How long a start, or a stream's way to a state that needs nobody else, may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// The product, running.
pub struct Standalone {
    // Dropped first: the log is told while the folder is there.
    process: Option<Running>,
    /// The folder it watches.
    pub dir: PathBuf,
    /// A folder for files of the test.
    pub folder: Folder,
    /// Where RTMP is served.
    pub rtmp: SocketAddr,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// Where the admin pages are.
    pub admin: SocketAddr,
    /// Where health is asked for.
    pub health: SocketAddr,
    listens: Listens,
    _ports: Block,
}

/// From where publishers and players are served.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listens {
    Here,
    Everywhere,
}

/// The release binary of the product.
///
/// # Panics
/// When it has not been built.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PENSTOCK_BIN") {
        return path.into();
    }
    let binary = target().join("release/penstock");
    assert!(
        binary.exists(),
        "{} is not there; run `cargo build --release`, or `cargo xtask test`, which does",
        binary.display()
    );
    binary
}

impl Standalone {
    /// Starts it on a folder with these files, as (name, text), and waits for the admin page.
    pub fn start(files: &[(&str, &str)]) -> Standalone {
        Standalone::start_with(&[], files)
    }

    /// The same with further arguments.
    pub fn start_with(arguments: &[&str], files: &[(&str, &str)]) -> Standalone {
        Standalone::start_on(Listens::Here, arguments, files)
    }

    /// Starts it so that publishers and players in other network namespaces reach it.
    pub fn start_everywhere(files: &[(&str, &str)]) -> Standalone {
        Standalone::start_everywhere_with(&[], files)
    }

    /// The same with further arguments.
    pub fn start_everywhere_with(arguments: &[&str], files: &[(&str, &str)]) -> Standalone {
        Standalone::start_on(Listens::Everywhere, arguments, files)
    }

    fn start_on(listens: Listens, arguments: &[&str], files: &[(&str, &str)]) -> Standalone {
        let folder = Folder::new("standalone");
        let dir = folder.file("watched");
        fs::create_dir(&dir).expect("a new folder can be filled");
        for (name, text) in files {
            fs::write(dir.join(name), text).expect("a new folder can be filled");
        }
        let ports = Block::take(4);
        let address = |nth: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, ports.first() + nth));
        let (rtmp, http, admin, health) = (address(0), address(1), address(2), address(3));
        let mut standalone =
            Standalone { process: None, dir, folder, rtmp, http, admin, health, listens, _ports: ports };
        standalone.run(arguments);
        standalone
    }

    /// Starts the process again on the same folder and ports, after [`Standalone::stop`].
    pub fn run(&mut self, arguments: &[&str]) {
        assert!(self.process.is_none(), "it runs");
        let mut command = Command::new(binary());
        command.arg("standalone").arg(&self.dir);
        let open = |address: SocketAddr| match self.listens {
            Listens::Here => address,
            Listens::Everywhere => (Ipv4Addr::UNSPECIFIED, address.port()).into(),
        };
        let (rtmp, http) = (open(self.rtmp), open(self.http));
        for (flag, address) in
            [("--rtmp", rtmp), ("--http", http), ("--admin", self.admin), ("--health", self.health)]
        {
            command.args([flag, &address.to_string()]);
        }
        command.args(arguments);
        let process = Running::start("penstock", command, self.folder.file("penstock.log"));
        let process = self.process.insert(process);
        let (admin, mut last) = (self.admin, String::new());
        let answered = within(SOON, || {
            if let Some(status) = process.ended() {
                last = format!("it ended with {status}");
                return Ok(false);
            }
            match http::get(admin, "/streams") {
                Ok(page) if page.status == 200 => Ok(true),
                Ok(page) => Err(format!("GET /streams: {}", page.status)),
                Err(e) => Err(format!("GET /streams: {e}")),
            }
        });
        match answered {
            Ok(true) => {}
            Ok(false) => panic!("penstock does not start: {last}"),
            Err(reason) => panic!("waited {SOON:?} for the admin page: {reason}"),
        }
    }

    /// The parent process.
    pub fn process(&mut self) -> &mut Running {
        self.process.as_mut().expect("it was started")
    }

    /// The parent's process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it was started").pid()
    }

    /// The worker's process id.
    #[track_caller]
    pub fn worker_pid(&self) -> u32 {
        eventually("the worker process", SOON, || {
            census::children(self.pid()).first().copied().ok_or("no child")
        })
    }

    /// Ends both processes as Ctrl-C does.
    #[track_caller]
    pub fn stop(&mut self, limit: Duration) {
        let mut process = self.process.take().expect("it was started");
        process.interrupt(limit);
    }

    /// Writes a file into the watched folder, whole: under another name first, then renamed, as editors do.
    pub fn write(&self, name: &str, text: &str) {
        let unfinished = self.dir.join(format!(".{name}.new"));
        fs::write(&unfinished, text).expect("the watched folder can be written");
        fs::rename(&unfinished, self.dir.join(name)).expect("the watched folder can be written");
    }

    /// The same with a modification time in the past, which becomes the object's creationTimestamp. That has seconds:
    /// two files that are written one after the other may be of one age.
    pub fn write_aged(&self, name: &str, text: &str, age: Duration) {
        let unfinished = self.dir.join(format!(".{name}.new"));
        fs::write(&unfinished, text).expect("the watched folder can be written");
        let file = fs::File::options().append(true).open(&unfinished).expect("it was written");
        file.set_modified(std::time::SystemTime::now() - age).expect("a file of ours has any time");
        fs::rename(&unfinished, self.dir.join(name)).expect("the watched folder can be written");
    }

    /// Removes a file from the watched folder.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.dir.join(name)).expect("the watched folder can be written");
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Running::output).unwrap_or_default()
    }

    /// A page of the admin port, as JSON.
    pub fn page(&self, path: &str) -> Result<Value, String> {
        let page = http::get(self.admin, path).map_err(|e| format!("GET {path}: {e}"))?;
        if page.status != 200 {
            return Err(format!("GET {path}: {} {}", page.status, page.body));
        }
        serde_json::from_str(&page.body).map_err(|e| format!("GET {path}: {e}: {}", page.body))
    }

    /// An object of a list page, by its name (`namespace/name` or `name`).
    pub fn object(&self, page: &str, name: &str) -> Result<Value, String> {
        let list = self.page(page)?;
        let items = list["items"].as_array().ok_or_else(|| format!("{page} is no List: {list}"))?;
        let found = items.iter().find(|item| {
            let metadata = &item["metadata"];
            match name.split_once('/') {
                Some((namespace, name)) => metadata["namespace"] == namespace && metadata["name"] == name,
                None => metadata["name"] == name,
            }
        });
        found.cloned().ok_or_else(|| format!("{name} is not among the {} of {page}", items.len()))
    }

    /// Waits until a stream is as `test` wants it, and returns it.
    #[track_caller]
    pub fn wait_stream(
        &self,
        name: &str,
        what: &str,
        limit: Duration,
        test: impl Fn(&Value) -> bool,
    ) -> Value {
        self.wait_object("/streams", name, what, limit, test)
    }

    /// Waits until a pool is as `test` wants it, and returns it.
    #[track_caller]
    pub fn wait_pool(&self, name: &str, what: &str, limit: Duration, test: impl Fn(&Value) -> bool) -> Value {
        self.wait_object("/pools", name, what, limit, test)
    }

    #[track_caller]
    fn wait_object(
        &self,
        page: &str,
        name: &str,
        what: &str,
        limit: Duration,
        test: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(&format!("{name}: {what}"), limit, || {
            let object = self.object(page, name)?;
            if test(&object) { Ok(object) } else { Err(format!("status {}", object["status"])) }
        })
    }

    /// Waits until a stream is Ready, and returns it.
    #[track_caller]
    pub fn wait_ready(&self, name: &str) -> Value {
        self.wait_stream(name, "Ready", SOON, |stream| condition(stream, "Ready") == "True")
    }

    /// Waits until a stream is Live, and returns it.
    #[track_caller]
    pub fn wait_live(&self, name: &str) -> Value {
        self.wait_stream(name, "Live", SOON, |stream| condition(stream, "Live") == "True")
    }

    /// One number of the metrics: the sum of the series of `name` whose labels hold all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, String> {
        let page = http::get(self.admin, "/metrics").map_err(|e| format!("GET /metrics: {e}"))?;
        sum_of(&page.body, name, labels)?.ok_or_else(|| format!("no series {name} with {labels:?}"))
    }

    /// The open descriptors of the worker while nobody comes or goes: its canaries' kept sessions are there, and no visit.
    #[track_caller]
    pub fn descriptors_at_rest(&self) -> usize {
        eventually("the canaries' media", SOON, || {
            let page = http::get(self.admin, "/metrics").map_err(|e| format!("GET /metrics: {e}"))?.body;
            let count = |name: &str| {
                let series = page.lines().filter(|line| line.starts_with(name));
                series.filter(|series| series.contains("listener=\"private\"")).count()
            };
            let (came, all) =
                (count("penstock_canary_latency_seconds{"), count("penstock_canary_age_seconds{"));
            ensure(all > 0 && came == all, || format!("{came} of {all}"))
        });
        let (worker, mut fewest) = (self.worker_pid(), usize::MAX);
        throughout("a second with a visit", Duration::from_secs(1), || {
            fewest = fewest.min(census::descriptors(worker));
            Ok::<(), String>(())
        });
        fewest
    }

    /// The URL of a path over RTMP.
    pub fn rtmp_url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.rtmp)
    }

    /// The URL of a path over HTTP-FLV.
    pub fn flv_url(&self, path: &str) -> String {
        format!("http://{}/{path}.flv", self.http)
    }
}

/// The sum of the series of `name` on a page of metrics whose labels hold all of `labels`, if there are any.
pub fn sum_of(page: &str, name: &str, labels: &[&str]) -> Result<Option<f64>, String> {
    let mut sum = None;
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (series_name, series_labels) = series.split_once('{').unwrap_or((series, ""));
        if series_name == name && labels.iter().all(|label| series_labels.contains(label)) {
            let value: f64 = value.parse().map_err(|e| format!("{line}: {e}"))?;
            sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    Ok(sum)
}

/// The status of a condition of an object ("True", "False", "Unknown"), or "" where it has none.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition_field(object, kind, "status")
}

/// The reason of a condition of an object, or "".
pub fn reason<'a>(object: &'a Value, kind: &str) -> &'a str {
    condition_field(object, kind, "reason")
}

fn condition_field<'a>(object: &'a Value, kind: &str, field: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition[field].as_str()).unwrap_or("")
}

/// A pool over `range` that is the default, with a cooldown of 100 ms.
pub fn pool(range: &std::ops::RangeInclusive<u16>) -> String {
    let (start, end) = (range.start(), range.end());
    format!(
        "apiVersion: media.penstock.dev/v1alpha1
kind: PortPool
metadata: {{name: pool}}
spec:
  default: true
  ranges: [{{start: {start}, end: {end}}}]
  cooldown: 100ms
"
    )
}

/// A stream in the namespace `live` that an encoder pushes; `more` is further YAML of its spec.
pub fn pushed(name: &str, more: &str) -> String {
    stream(name, "  source: {push: {protocols: [RTMP]}}\n", more)
}

/// A stream in the namespace `live` that comes as PS over RTP; `rtp` is YAML inside of `rtp: {}`.
pub fn over_rtp(name: &str, rtp: &str, more: &str) -> String {
    stream(name, &format!("  source: {{rtp: {{{rtp}}}}}\n"), more)
}

fn stream(name: &str, source: &str, more: &str) -> String {
    format!(
        "apiVersion: media.penstock.dev/v1alpha1
kind: MediaStream
metadata: {{name: {name}, namespace: live}}
spec:
{source}{more}"
    )
}
