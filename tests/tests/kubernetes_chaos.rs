//! The world against an installation on a cluster of two nodes, for some seconds: what `chaos.rs` does to standalone, with workers killed and
//! stopped, nodes cut off, pods deleted and leaders killed. `cargo xtask soak chaos --cluster` is the long run.

mod stopped;

use tests::chaos::{self, Ground, Options};

#[test]
fn the_full_mix_breaks_no_invariant_of_a_cluster() {
    let options = Options::from_environment(Ground::Cluster, stopped::when_told());
    eprintln!("chaos: seed {} from step {} for {:?}", options.seed, options.from, options.length);
    match chaos::run(&options) {
        Ok(summary) => eprintln!("chaos: nothing was broken: {summary}"),
        Err(failure) => panic!("{failure}"),
    }
}
