//! `cargo xtask cluster`: the Kubernetes of the tests, for a person.

use std::time::Duration;

use tests::cluster::Cluster;
use tests::installation::Installation;
use tests::tools::find;

use crate::setup;

const USAGE: &str = "usage: cargo xtask cluster up [NODES] | install [VALUE=…] … | down | kubectl … | helm … | exec NODE PROGRAM …";
const NODES: u8 = 2;
/// A rollout takes one worker after the other, each of which may drain for 60 s.
const READY: Duration = Duration::from_secs(300);

/// Runs one of its verbs.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    match words {
        ["up", rest @ ..] => {
            let nodes = match rest {
                [] => NODES,
                [nodes] => {
                    nodes.parse().ok().filter(|nodes| (1..=9).contains(nodes)).ok_or("NODES is 1 to 9")?
                }
                _ => return Err(USAGE.into()),
            };
            setup::cluster()?;
            Cluster::up(nodes)?.keep()?;
            println!("cargo xtask cluster kubectl get nodes -o wide");
            Ok(())
        }
        ["install", values @ ..] => install(values),
        ["down"] => Cluster::find()?.down(),
        ["kubectl", words @ ..] => pass(Cluster::find()?.kubectl().args(words)),
        ["helm", words @ ..] => pass(Cluster::find()?.helm().args(words)),
        ["exec", node, program, words @ ..] => {
            let cluster = Cluster::find()?;
            let nodes = cluster.nodes();
            let node =
                nodes.iter().find(|each| each.name() == *node).ok_or_else(|| format!("no node {node}"))?;
            let program = find(program).ok_or_else(|| format!("{program} is not installed"))?;
            pass(node.command(&program)?.args(words))
        }
        _ => Err(USAGE.into()),
    }
}

/// The chart and the image as they are in the checkout, whether or not an earlier one is there.
fn install(values: &[&str]) -> Result<(), String> {
    setup::image()?;
    let cluster = Cluster::find()?;
    let installation = match Installation::find(&cluster) {
        Ok(earlier) => {
            earlier.upgrade(values)?;
            earlier.renew()?;
            earlier
        }
        Err(_) => Installation::with(&cluster, values)?,
    };
    installation.wait_ready(READY)?;
    println!("cargo xtask cluster kubectl apply -f manifests/examples");
    Ok(())
}

fn pass(command: &mut std::process::Command) -> Result<(), String> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("it ended with {status}")) }
}
