//! On a terminal: a live table of streams below the log lines.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use operator_core::api::{EndpointUse, MediaStream};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    time::interval,
};
use tracing_subscriber::fmt::MakeWriter;

use crate::{limits, store::Shared};

/// The terminal: log lines scroll by above, the table stays below.
#[derive(Clone)]
pub(crate) struct Screen(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    lines: Vec<String>,
    shown: usize,
}

impl Screen {
    /// The terminal, if standard output and the log go to one.
    pub(crate) fn of_terminal() -> Option<Self> {
        (io::stdout().is_terminal() && io::stderr().is_terminal()).then(|| Self(Arc::default()))
    }

    /// Shows the table again whenever something changes. Ends with the process.
    pub(crate) async fn follow(self, store: Shared) {
        let (mut ticks, mut seen) = (interval(limits::TABLE_EVERY), None);
        loop {
            ticks.tick().await;
            let lines = {
                let store = store.lock();
                if seen == Some(store.version()) {
                    continue;
                }
                seen = Some(store.version());
                lines(store.streams(), width())
            };
            let mut table = self.lock();
            table.lines = lines;
            table.print(&[]);
        }
    }

    /// Puts the worker's log lines above the table, as they come.
    pub(crate) async fn copy_lines(self, from: impl AsyncRead + Unpin) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while matches!(from.read_until(b'\n', &mut line).await, Ok(1..)) {
            self.lock().print(&line);
            line.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Takes the table off, writes `log` and draws the table again, in one write so that nothing flickers.
    fn print(&mut self, log: &[u8]) {
        let mut out = Vec::new();
        if self.shown > 0 {
            out.extend_from_slice(format!("\x1b[{}A\r\x1b[J", self.shown).as_bytes());
        }
        out.extend_from_slice(log);
        for line in &self.lines {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
        self.shown = self.lines.len();
        // A terminal that is gone takes nothing; the media goes on.
        let _ = io::stderr().lock().write_all(&out);
    }
}

/// A log line, written at once above the table.
pub(crate) struct Above(Screen);

impl io::Write for Above {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().print(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Above;

    fn make_writer(&'a self) -> Above {
        Above(self.clone())
    }
}

fn width() -> usize {
    rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col)).max(40)
}

/// The rows, cut at the terminal's width: a line that wraps could not be taken off again.
fn lines<'a>(streams: impl Iterator<Item = &'a MediaStream>, width: usize) -> Vec<String> {
    let mut rows: Vec<[String; 5]> = streams.map(row).collect();
    let more = rows.len().saturating_sub(limits::TABLE_ROWS);
    rows.truncate(limits::TABLE_ROWS);
    if rows.is_empty() {
        return vec!["no streams: put a MediaStream into the folder".to_owned()];
    }
    rows.insert(0, ["STREAM", "PHASE", "SOURCE", "PUBLISH", "PLAY"].map(str::to_owned));
    let columns: [usize; 5] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(columns) {
                let _ = write!(line, "{cell:width$}  ");
            }
            line.trim_end().chars().take(width).collect()
        })
        .collect();
    if more > 0 {
        lines.push(format!("and {more} more: GET /streams on the admin port"));
    }
    lines
}

fn row(stream: &MediaStream) -> [String; 5] {
    let name = stream.metadata.name.as_deref().unwrap_or_default();
    let namespace = stream.metadata.namespace.as_deref().unwrap_or_default();
    let status = stream.status.clone().unwrap_or_default();
    let urls = |usage| {
        let urls: Vec<&str> = status
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.use_ == usage)
            .map(|endpoint| endpoint.url.as_str())
            .collect();
        urls.join(" ")
    };
    [
        format!("{namespace}/{name}"),
        status.phase.map_or_else(|| "Pending".to_owned(), |phase| format!("{phase:?}")),
        status.source.clone().unwrap_or_default(),
        urls(EndpointUse::Publish),
        urls(EndpointUse::Play),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_says_what_to_do() {
        assert_eq!(lines(std::iter::empty(), 80), ["no streams: put a MediaStream into the folder"]);
    }

    #[test]
    fn rows_are_aligned_and_cut() {
        let stream = |name: &str| {
            let mut stream =
                MediaStream::new(name, serde_json::from_str(r#"{"source": {"push": {}}}"#).unwrap());
            stream.metadata.namespace = Some("default".to_owned());
            stream
        };
        let streams = [stream("a"), stream("long-name")];
        assert_eq!(
            lines(streams.iter(), 25),
            ["STREAM             PHASE ", "default/a          Pendin", "default/long-name  Pendin"]
        );
    }
}
