//! Steps of a run: each is a command, told with its time; test counts are added up over all of them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What has been run so far.
pub(crate) struct Steps {
    begun: Instant,
    counts: Counts,
    failed: Vec<String>,
}

#[derive(Default, Clone, Copy)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Steps {
    /// Begins a run.
    pub(crate) fn begin() -> Steps {
        Steps { begun: Instant::now(), counts: Counts::default(), failed: Vec::new() }
    }

    /// Runs a command that counts as one test.
    pub(crate) fn check(&mut self, name: &str, command: &mut Command) -> bool {
        self.step(name, || command.status().map(|status| status.success()).map_err(|e| e.to_string()))
    }

    /// Runs a function that counts as one test.
    pub(crate) fn step(&mut self, name: &str, run: impl FnOnce() -> Result<bool, String>) -> bool {
        let begun = self.tell(name);
        // A step that panics has failed; the steps behind it still run.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        let ok = outcome.unwrap_or_else(|_| Err(format!("{name} panicked"))).unwrap_or_else(|e| {
            eprintln!("{e}");
            false
        });
        if ok {
            self.counts.passed += 1;
        } else {
            self.counts.failed += 1;
        }
        self.close(name, begun, ok)
    }

    /// Runs `cargo test` and adds its counts up.
    pub(crate) fn cargo_test(&mut self, name: &str, command: &mut Command) -> bool {
        let begun = self.tell(name);
        let counted = passing_through(command);
        let ok = match counted {
            Ok((counts, success)) => {
                self.counts.passed += counts.passed;
                self.counts.failed += counts.failed;
                self.counts.ignored += counts.ignored;
                if !success && counts.failed == 0 {
                    // It did not compile, or a test ended the whole process.
                    self.counts.failed += 1;
                }
                success
            }
            Err(e) => {
                eprintln!("{e}");
                self.counts.failed += 1;
                false
            }
        };
        self.close(name, begun, ok)
    }

    fn tell(&self, name: &str) -> Instant {
        println!("=== {name}");
        Instant::now()
    }

    fn close(&mut self, name: &str, begun: Instant, ok: bool) -> bool {
        let word = if ok { "ok" } else { "FAILED" };
        println!("=== {name}: {word} after {:.1} s", begun.elapsed().as_secs_f64());
        if !ok {
            self.failed.push(name.to_owned());
        }
        ok
    }

    /// Tells the whole in the form of cargo test's own last line.
    pub(crate) fn end(self) -> Result<(), String> {
        let Counts { passed, failed, ignored } = self.counts;
        if !self.failed.is_empty() {
            println!("failed: {}", self.failed.join(", "));
        }
        println!(
            "\ntest result: {}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out; finished in {:.2}s",
            if self.failed.is_empty() { "ok" } else { "FAILED" },
            self.begun.elapsed().as_secs_f64()
        );
        if self.failed.is_empty() {
            Ok(())
        } else {
            Err(format!("{} of the steps failed", self.failed.len()))
        }
    }
}

fn passing_through(command: &mut Command) -> Result<(Counts, bool), String> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("{command:?}: {e}"))?;
    let mut counts = Counts::default();
    let output = child.stdout.take().expect("standard output is a pipe");
    for line in BufReader::new(output).split(b'\n') {
        let line = line.map_err(|e| format!("the output of {command:?}: {e}"))?;
        let line = String::from_utf8_lossy(&line);
        // Nobody may be there to read it; the run goes on.
        let _ = writeln!(std::io::stdout(), "{line}");
        if line.starts_with("test result: ") {
            counts.passed += number_before(&line, " passed");
            counts.failed += number_before(&line, " failed");
            counts.ignored += number_before(&line, " ignored");
        }
    }
    let status = child.wait().map_err(|e| format!("{command:?}: {e}"))?;
    Ok((counts, status.success()))
}

fn number_before(line: &str, word: &str) -> u64 {
    let digits = line.split_once(word).map_or("", |(before, _)| before).rsplit(' ').next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
