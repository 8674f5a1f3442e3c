//! `spec` of a PortPool.

use std::ops::RangeInclusive;

use serde_json::Value;
use tests::eventually::ensure;
use tests::ports::Block;
use tests::standalone::{SOON, Standalone, condition, over_rtp, reason};

use crate::effect::{CAM, Edit, Effect, unseen};
use crate::{Row, Seen};

pub(crate) const ROWS: &[Row] = &[
    Row { field: "portpools spec.default", seen: Seen::Here(default) },
    Row { field: "portpools spec.ranges.start", seen: Seen::Here(range_start) },
    Row { field: "portpools spec.ranges.end", seen: Seen::Here(range_end) },
    Row { field: "portpools spec.reserved", seen: Seen::Here(reserved) },
    Row { field: "portpools spec.nodeSelector", seen: Seen::Scenario("placement_edits.txt") },
    Row { field: "portpools spec.allowedNamespaces", seen: Seen::Here(allowed_namespaces) },
    Row { field: "portpools spec.cooldown", seen: Seen::Here(cooldown) },
    Row { field: "portpools spec.shrink.policy", seen: Seen::Here(shrink_policy) },
    Row { field: "portpools spec.shrink.deadline", seen: Seen::Here(shrink_deadline) },
    Row { field: "portpools spec.nearlyExhaustedPercent", seen: Seen::Here(nearly_exhausted) },
];

/// A stream that has a number of a pool.
struct Leased {
    standalone: Standalone,
    ports: Block,
    /// Its number.
    port: u64,
}

impl Leased {
    /// The pool's numbers are the first ones of ten.
    fn with(numbers: u16, more: &str) -> Leased {
        let ports = Block::take(10);
        let range = ports.first()..=ports.first() + numbers - 1;
        let files = [("pool.yaml", &*pool("pool", &range, more)), ("cam.yaml", &*over("cam"))];
        let standalone = Standalone::start(&files);
        let port = number(&standalone.wait_ready(CAM)).expect("it has a number");
        Leased { standalone, ports, port }
    }

    /// These of the ten.
    fn range(&self, from: u16, to: u16) -> RangeInclusive<u16> {
        self.ports.first() + from..=self.ports.first() + to
    }

    fn edit(
        &self,
        files: Vec<(&'static str, String)>,
        effect: Effect,
        now: &mut dyn FnMut() -> Result<(), String>,
        next: &mut dyn FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        Edit { standalone: &self.standalone, files, now, next }.takes_effect(effect)
    }

    /// An edit that changes where streams lease from: the one that is there goes on, and the next one is as `test` wants it.
    fn leases(
        &self,
        files: Vec<(&'static str, String)>,
        effect: Effect,
        test: impl Fn(&Value) -> bool,
    ) -> Result<(), String> {
        let mut asked = false;
        let next = || {
            if !asked {
                self.standalone.write("next.yaml", &over("next"));
                asked = true;
            }
            let next = self.standalone.object("/streams", "live/next")?;
            ensure(test(&next), || next["status"].to_string())
        };
        let lost = || {
            let cam = self.cam()?;
            let keeps = condition(&cam, "Ready") == "True" && number(&cam) == Some(self.port);
            ensure(!keeps, || "it keeps its number".to_owned())
        };
        self.edit(files, effect, &mut { lost }, &mut { next })
    }

    fn cam(&self) -> Result<Value, String> {
        self.standalone.object("/streams", CAM)
    }

    fn previous(&self) -> Result<Value, String> {
        Ok(self.cam()?["status"]["ports"]["previous"].clone())
    }
}

fn over(name: &str) -> String {
    over_rtp(name, "transport: TCPPassive, ssrcPolicy: Learn", "")
}

fn number(stream: &Value) -> Option<u64> {
    stream["status"]["ports"]["rtp"].as_u64()
}

fn pool(name: &str, range: &RangeInclusive<u16>, more: &str) -> String {
    let (start, end) = (range.start(), range.end());
    let default = if more.contains("default: ") { "" } else { "default: true, " };
    format!(
        "apiVersion: media.penstock.dev/v1alpha1\nkind: PortPool\nmetadata: {{name: {name}}}\nspec: {{{default}ranges: [{{start: \
         {start}, end: {end}}}]{more}}}\n"
    )
}

fn is_among(range: RangeInclusive<u16>) -> impl Fn(&Value) -> bool {
    move |stream| number(stream).is_some_and(|port| range.clone().any(|it| u64::from(it) == port))
}

fn default(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(2, "");
    let other = pool("other", &leased.range(4, 5), ", default: true");
    let pool = pool("pool", &leased.range(0, 1), ", default: false");
    leased.leases(vec![("pool.yaml", pool), ("other.yaml", other)], effect, is_among(leased.range(4, 5)))
}

fn range_start(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(2, "");
    let moved = pool("pool", &leased.range(2, 3), "");
    leased.leases(vec![("pool.yaml", moved)], effect, is_among(leased.range(2, 3)))
}

fn range_end(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(1, "");
    let grown = pool("pool", &leased.range(0, 1), "");
    leased.leases(vec![("pool.yaml", grown)], effect, is_among(leased.range(1, 1)))
}

fn reserved(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(2, "");
    let range = leased.range(0, 1);
    let reserved = pool("pool", &range, &format!(", reserved: [\"{}-{}\"]", range.start(), range.end()));
    leased.leases(vec![("pool.yaml", reserved)], effect, |next| {
        reason(next, "PortsAllocated") == "PoolExhausted"
    })
}

fn allowed_namespaces(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(2, "");
    let closed = pool("pool", &leased.range(0, 1), ", allowedNamespaces: [other]");
    leased.leases(vec![("pool.yaml", closed)], effect, |next| {
        reason(next, "PortsAllocated") == "NamespaceNotAllowed"
    })
}

fn cooldown(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(2, ", cooldown: 1h");
    let mut there = true;
    let free = || {
        if std::mem::take(&mut there) {
            // The pool as it is now is seen before.
            leased.standalone.wait_pool("pool", "the edit", SOON, |pool| {
                pool["status"]["observedGeneration"] == pool["metadata"]["generation"]
            });
            leased.standalone.remove("cam.yaml");
        }
        let pool = leased.standalone.object("/pools", "pool")?;
        ensure(pool["status"]["free"] == 2, || pool["status"].to_string())
    };
    let short = pool("pool", &leased.range(0, 1), ", cooldown: 100ms");
    leased.edit(vec![("pool.yaml", short)], effect, &mut { free }, &mut unseen)
}

fn shrink_policy(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(2, "");
    leased.standalone.write("pool.yaml", &pool("pool", &leased.range(2, 3), ""));
    leased.standalone.wait_pool("pool", "what the shrink waits for", SOON, |pool| {
        pool["status"]["blockedBy"].as_array().is_some_and(|streams| !streams.is_empty())
    });
    let moves = pool("pool", &leased.range(2, 3), ", shrink: {policy: Move}");
    let moving = || {
        leased.previous().and_then(|previous| ensure(!previous.is_null(), || "it has one port".to_owned()))
    };
    leased.edit(vec![("pool.yaml", moves)], effect, &mut { moving }, &mut unseen)
}

fn shrink_deadline(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(2, ", shrink: {policy: Move}");
    leased.standalone.write("pool.yaml", &pool("pool", &leased.range(2, 3), ", shrink: {policy: Move}"));
    leased
        .standalone
        .wait_stream(CAM, "two ports", SOON, |cam| cam["status"]["ports"]["previous"].is_object());
    let soon = pool("pool", &leased.range(2, 3), ", shrink: {policy: Move, deadline: 1s}");
    let moved = || {
        leased.previous().and_then(|previous| ensure(previous.is_null(), || "it has two ports".to_owned()))
    };
    leased.edit(vec![("pool.yaml", soon)], effect, &mut { moved }, &mut unseen)
}

fn nearly_exhausted(effect: Effect) -> Result<(), String> {
    let leased = Leased::with(10, "");
    let low = pool("pool", &leased.range(0, 9), ", nearlyExhaustedPercent: 5");
    let said = || {
        let pool = leased.standalone.object("/pools", "pool")?;
        ensure(condition(&pool, "NearlyExhausted") == "True", || pool["status"].to_string())
    };
    leased.edit(vec![("pool.yaml", low)], effect, &mut { said }, &mut unseen)
}
