//! `cargo xtask soak NAME`: the long runs, of which `cargo xtask test` runs a few minutes' part.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use serde_json::Value;
use tests::cluster::Programs;
use tests::tools::cargo_path;

use crate::setup;

/// A long run. Tests are those of the workspace, as in the gate: of one package alone, dependencies would have other features, and be
/// compiled once more.
struct Soak {
    name: &'static str,
    about: &'static str,
    needs: Needs,
    kind: Kind,
}

/// What has to be on the machine beside what cargo builds.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    /// Real clients.
    Clients,
    /// These, and a Kubernetes of real parts.
    Cluster,
}

enum Kind {
    /// A test with larger sizes, which the environment gives.
    Test { arguments: &'static [&'static str], sizes: &'static [(&'static str, &'static str)] },
    /// The same against the release binary, which is built first.
    Release { arguments: &'static [&'static str], sizes: &'static [(&'static str, &'static str)] },
    /// The chaos, which has options.
    Chaos,
    /// Tests that a plain run leaves out.
    Ignored { arguments: &'static [&'static str] },
    /// Each fuzz target, one after the other.
    Fuzz { runs: &'static str },
}

const SOAKS: &[Soak] = &[
    Soak {
        name: "simulation",
        about: "10 000 seeds of operators, workers, a faulty API and links",
        needs: Needs::Nothing,
        kind: Kind::Test {
            arguments: &["test", "--release", "--workspace", "--test", "simulation"],
            sizes: &[("PENSTOCK_SEEDS", "10000")],
        },
    },
    Soak {
        name: "rounds-simulated",
        about: "100 000 rounds of kill, stop, partition and delete over 20 pairs a node, in simulated worlds",
        needs: Needs::Nothing,
        kind: Kind::Test {
            arguments: &["test", "--release", "--workspace", "--test", "simulation", "rounds"],
            sizes: &[("PENSTOCK_ROUNDS", "100000")],
        },
    },
    Soak {
        name: "rounds-cluster",
        about: "200 rounds of the same on a cluster of two nodes",
        needs: Needs::Cluster,
        kind: Kind::Test {
            arguments: &["test", "--workspace", "--test", "kubernetes_rounds"],
            sizes: &[("PENSTOCK_ROUNDS", "200")],
        },
    },
    Soak {
        name: "mutants",
        about: "small bugs in the core, each of which 500 seeds of the simulation must catch",
        needs: Needs::Nothing,
        kind: Kind::Ignored { arguments: &["test", "--workspace", "--test", "mutants"] },
    },
    Soak {
        name: "rounds",
        about: "2 000 rounds of make, send, end over 20 pairs of ports",
        needs: Needs::Clients,
        kind: Kind::Test {
            arguments: &["test", "--workspace", "--test", "failure_3_leaked_port", "rounds"],
            sizes: &[("PENSTOCK_ROUNDS", "2000")],
        },
    },
    Soak {
        name: "thieves",
        about: "10 minutes in which others take and free a tenth of the pool while streams come and go; needs an idle machine",
        needs: Needs::Clients,
        kind: Kind::Release {
            arguments: &["test", "--workspace", "--test", "failure_3_thieves"],
            sizes: &[("PENSTOCK_SECONDS", "600"), ("PENSTOCK_BOUNDS", "1")],
        },
    },
    Soak {
        name: "f2",
        about: "10 minutes of second publishers, peers that vanish without a word and peers that stop halfway; needs an idle machine",
        needs: Needs::Clients,
        kind: Kind::Release {
            arguments: &["test", "--workspace", "--test", "failure_2_hostile_peers"],
            sizes: &[("PENSTOCK_SECONDS", "600"), ("PENSTOCK_BOUNDS", "1")],
        },
    },
    Soak {
        name: "vanish",
        about: "200 000 connections that vanish, at most 5 000 at once, beside viewers that lose nothing",
        needs: Needs::Clients,
        kind: Kind::Release {
            arguments: &["test", "--release", "--workspace", "--test", "failure_5_vanishing_connections"],
            sizes: &[("PENSTOCK_CONNECTIONS", "200000"), ("PENSTOCK_BOUNDS", "1")],
        },
    },
    Soak {
        name: "churn",
        about: "viewers of 20 streams that come and go 100 times, up to 500 of them, and 10 000 short streams; what of it stays in memory",
        needs: Needs::Clients,
        kind: Kind::Release {
            arguments: &["test", "--release", "--workspace", "--test", "failure_5_memory_return"],
            sizes: &[
                ("PENSTOCK_ROUNDS", "100"),
                ("PENSTOCK_STREAMS", "20"),
                ("PENSTOCK_VIEWERS", "500"),
                ("PENSTOCK_SHORT_STREAMS", "10000"),
                ("PENSTOCK_BOUNDS", "1"),
            ],
        },
    },
    Soak {
        name: "failover",
        about: "20 runs of each fault on a cluster of three nodes with 100 streams",
        needs: Needs::Cluster,
        kind: Kind::Test {
            arguments: &["test", "--workspace", "--test", "kubernetes_failover"],
            sizes: &[("PENSTOCK_FAILOVERS", "20"), ("PENSTOCK_STREAMS", "100")],
        },
    },
    Soak {
        name: "outage",
        about: "a minute without operators and a minute without the API server, under media",
        needs: Needs::Cluster,
        kind: Kind::Test {
            arguments: &["test", "--workspace", "--test", "kubernetes_outage"],
            sizes: &[("PENSTOCK_OUTAGE", "60")],
        },
    },
    Soak {
        name: "drain",
        about: "a node drained and all workers replaced, under 60 encoders that come back at once",
        needs: Needs::Cluster,
        kind: Kind::Test {
            arguments: &["test", "--workspace", "--test", "kubernetes_drain"],
            sizes: &[("PENSTOCK_STREAMS", "60")],
        },
    },
    Soak {
        name: "scale",
        about: "10 000 streams on 200 simulated workers, beside a bare loop of the same writes; needs an idle machine",
        needs: Needs::Cluster,
        kind: Kind::Release {
            arguments: &["test", "--release", "--workspace", "--test", "kubernetes_scale"],
            sizes: &[
                ("PENSTOCK_STREAMS", "10000"),
                ("PENSTOCK_WORKERS", "200"),
                ("PENSTOCK_REST", "60"),
                ("PENSTOCK_BOUNDS", "1"),
            ],
        },
    },
    Soak {
        name: "chaos",
        about: "20 minutes of all that the world does to a media server, at random [--minutes N] [--seed S] [--resume] [--cluster]",
        // Those of its ground.
        needs: Needs::Nothing,
        kind: Kind::Chaos,
    },
    Soak {
        name: "fuzz",
        about: "10^6 executions of each fuzz target; needs a nightly toolchain",
        needs: Needs::Nothing,
        kind: Kind::Fuzz { runs: "1000000" },
    },
];

/// Tells what there is.
pub(crate) fn list() -> Result<(), String> {
    for Soak { name, about, needs: _, kind: _ } in SOAKS {
        println!("{name:12} {about}");
    }
    Ok(())
}

/// Runs one, with the words behind its name.
pub(crate) fn run(name: &str, words: &[&str]) -> Result<(), String> {
    let names = || SOAKS.iter().map(|soak| soak.name).collect::<Vec<_>>().join(", ");
    let soak = SOAKS.iter().find(|soak| soak.name == name);
    let soak = soak.ok_or_else(|| format!("no soak {name}; there are {}", names()))?;
    if !words.is_empty() && !matches!(soak.kind, Kind::Chaos) {
        return Err(format!("{name} takes no options; its sizes are variables of the environment"));
    }
    soak.needs.bring()?;
    match soak.kind {
        Kind::Test { arguments, sizes } => test(arguments, sizes),
        Kind::Release { arguments, sizes } => {
            build()?;
            test(arguments, sizes)
        }
        Kind::Chaos => chaos(words),
        Kind::Ignored { arguments } => {
            succeed(Command::new(cargo_path()).args(arguments).args(["--", "--ignored", "--nocapture"]))
        }
        Kind::Fuzz { runs } => fuzz(runs),
    }
}

impl Needs {
    /// Brings what is missing, before anything is measured.
    fn bring(self) -> Result<(), String> {
        match self {
            Needs::Nothing => Ok(()),
            Needs::Clients => setup::run(),
            Needs::Cluster => {
                setup::run()?;
                setup::cluster()?;
                setup::image()?;
                Programs::build().map(drop)
            }
        }
    }
}

fn test(arguments: &[&str], sizes: &[(&str, &str)]) -> Result<(), String> {
    let mut cargo = Command::new(cargo_path());
    // What the environment says already goes first, so that a run can be made longer or repeated by its seed.
    let sizes = sizes.iter().filter(|(name, _)| env::var_os(name).is_none());
    cargo.args(arguments).args(["--", "--nocapture", "--test-threads", "1"]).envs(sizes.copied());
    succeed(&mut cargo)
}

/// Has the test of the chaos take the place of this process, so that Ctrl-C and SIGTERM reach it: it stops, and can be gone on with.
fn chaos(words: &[&str]) -> Result<(), String> {
    let (mut variables, mut cluster) = (Vec::new(), false);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut number = |name| {
            let value = rest.next().filter(|value| value.parse::<u64>().is_ok());
            value.map(|value| (name, *value)).ok_or_else(|| format!("{word}: needs a number"))
        };
        match *word {
            "--minutes" => variables.push(number("PENSTOCK_MINUTES")?),
            "--seed" => variables.push(number("PENSTOCK_SEED")?),
            "--resume" => variables.push(("PENSTOCK_RESUME", "1")),
            "--cluster" => cluster = true,
            _ => {
                return Err(format!("{word}: the options are --minutes N, --seed S, --resume and --cluster"));
            }
        }
    }
    if !variables.iter().any(|(name, _)| *name == "PENSTOCK_MINUTES") {
        variables.push(("PENSTOCK_MINUTES", "20"));
    }
    let target = if cluster {
        Needs::Cluster.bring()?;
        "kubernetes_chaos"
    } else {
        Needs::Clients.bring()?;
        build()?;
        "chaos"
    };
    let mut cargo = Command::new(cargo_path());
    cargo.args(["test", "--workspace", "--test", target, "--no-run", "--message-format", "json"]);
    let built = cargo.stderr(Stdio::inherit()).output().map_err(|e| format!("{cargo:?}: {e}"))?;
    let executable = String::from_utf8_lossy(&built.stdout).lines().find_map(|line| {
        let told: Value = serde_json::from_str(line).ok()?;
        told["executable"].as_str().filter(|_| told["target"]["name"] == target).map(str::to_owned)
    });
    let mut test = Command::new(executable.ok_or_else(|| format!("{cargo:?} ended with {}", built.status))?);
    test.args(["the_full_mix", "--nocapture"]).envs(variables).current_dir(env!("CARGO_MANIFEST_DIR"));
    // It returns only where it could not.
    Err(format!("{test:?}: {}", test.exec()))
}

fn build() -> Result<(), String> {
    succeed(Command::new(cargo_path()).args(["build", "--release", "--package", "operator"]))
}

fn fuzz(runs: &str) -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/fuzz");
    let corpora = fs::read_dir(folder.join("corpus")).map_err(|e| format!("worker/fuzz/corpus: {e}"))?;
    let mut targets: Vec<_> = corpora.flatten().map(|entry| entry.file_name()).collect();
    targets.sort();
    for target in targets {
        println!("=== fuzz {}", target.display());
        // rustup's proxy: the toolchain that runs us cannot be told `+nightly`.
        succeed(Command::new(folder.join("run")).arg(&target).arg(runs).env_remove("CARGO"))?;
    }
    Ok(())
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}
