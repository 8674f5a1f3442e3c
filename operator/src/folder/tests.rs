//! Files come, change, break and go; what is told of objects.

use std::time::Duration;

use operator_core::{Event, spec::Source};

use super::*;

/// A folder of its own, its store, and a clock.
struct World {
    folder: Folder,
    store: Shared,
    log: EventLog,
    now: Instant,
    _dir: TempDir,
}

struct TempDir(PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl World {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("penstock-folder-{}-{test}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let (store, log) = (Shared::default(), EventLog::default());
        let folder = Folder::new(dir.clone(), store.clone(), log.clone());
        Self { folder, store, log, now: Instant::now(), _dir: TempDir(dir) }
    }

    fn write(&mut self, file: &str, text: &str) -> Vec<String> {
        fs::write(self.folder.dir.join(file), text).unwrap();
        let events = self.folder.change(Change::File(file.to_owned()), self.now);
        told(&events)
    }

    fn remove(&mut self, file: &str) -> Vec<String> {
        fs::remove_file(self.folder.dir.join(file)).unwrap();
        let events = self.folder.change(Change::File(file.to_owned()), self.now);
        told(&events)
    }

    /// Time passes, and what is due happens.
    fn pass(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        let events = self.folder.expire(self.now);
        told(&events)
    }

    fn streams(&self) -> Vec<String> {
        self.store.lock().streams().map(|stream| stream.metadata.name.clone().unwrap()).collect()
    }

    /// The newest mistake that was reported.
    fn said(&self) -> String {
        let list = self.log.list();
        list["items"]
            .as_array()
            .unwrap()
            .last()
            .map(|item| item["message"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    }
}

fn told(events: &[Event]) -> Vec<String> {
    let word = |event: &Event| match event {
        Event::StreamSeen(stream) => {
            let spec = stream.spec.as_ref().unwrap();
            let Source::Push { .. } = spec.source else { panic!("these tests only push") };
            format!("{} g{}{}", stream.name.name, stream.generation, if spec.paused { " paused" } else { "" })
        }
        Event::StreamGone { .. } => "gone".to_owned(),
        Event::PoolSeen(pool) => format!("pool {}", pool.name),
        Event::PoolGone { name, .. } => format!("pool {name} gone"),
        Event::SecretSeen { name, .. } => format!("secret {name}"),
        Event::SecretGone { name } => format!("secret {name} gone"),
        other => panic!("{other:?}"),
    };
    events.iter().map(word).collect()
}

fn stream(name: &str, more: &str) -> String {
    format!(
        "apiVersion: media.penstock.dev/v1alpha1\nkind: MediaStream\nmetadata: {{name: {name}}}\nspec: {{source: {{push: {{}}}}{more}}}\n"
    )
}

const POOL: &str = "apiVersion: media.penstock.dev/v1alpha1\nkind: PortPool\nmetadata: {name: p}\nspec: {ranges: [{start: 20000, end: 20009}]}\n";
const SECRET: &str = "apiVersion: v1\nkind: Secret\ntype: media.penstock.dev/token\nmetadata: {name: t}\nstringData: {token: x}\n";
const NONE: [&str; 0] = [];
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_file_comes_changes_and_goes() {
    let mut world = World::new("comes");
    assert_eq!(world.write("a.yaml", &stream("a", "")), ["a g1"]);
    assert_eq!(world.write("a.yaml", &stream("a", ", paused: true")), ["a g2 paused"]);
    assert_eq!(world.remove("a.yaml"), NONE);
    assert_eq!(world.streams(), ["a"], "it may be back in a moment");
    assert_eq!(world.pass(SECOND), ["gone"]);
    assert_eq!(world.streams(), NONE);
}

#[test]
fn a_file_that_is_back_within_a_second_was_edited() {
    let mut world = World::new("back");
    world.write("a.yaml", &stream("a", ""));
    world.remove("a.yaml");
    assert_eq!(world.pass(SECOND - Duration::from_millis(1)), NONE);
    assert_eq!(world.write("a.yaml", &stream("a", ", paused: true")), ["a g2 paused"]);
    assert_eq!(world.pass(SECOND), NONE);
}

#[test]
fn a_file_that_is_back_later_holds_another_object() {
    let mut world = World::new("later");
    world.write("a.yaml", &stream("a", ""));
    world.remove("a.yaml");
    assert_eq!(world.pass(SECOND), ["gone"]);
    assert_eq!(world.write("a.yaml", &stream("a", "")), ["a g1"]);
}

#[test]
fn an_object_may_move_to_another_file() {
    let mut world = World::new("move");
    world.write("a.yaml", &stream("a", ""));
    world.remove("a.yaml");
    assert_eq!(world.write("b.yaml", &stream("a", "")), NONE);
    assert_eq!(world.pass(SECOND), NONE);
    assert_eq!(world.streams(), ["a"]);
}

#[test]
fn text_that_is_no_yaml_changes_nothing() {
    let mut world = World::new("broken");
    world.write("a.yaml", &format!("{}---\n{}", stream("a", ""), stream("b", "")));
    assert_eq!(world.write("a.yaml", "spec: ["), NONE);
    assert!(world.said().starts_with("is not YAML: "), "{}", world.said());
    assert_eq!(world.pass(SECOND), NONE);
    assert_eq!(world.streams(), ["a", "b"]);
    assert_eq!(world.write("a.yaml", &stream("b", ", paused: true")), ["b g2 paused"]);
    assert_eq!(world.pass(SECOND), ["gone"]);
}

#[test]
fn a_refused_object_stays_as_it_was_and_disturbs_no_other() {
    let mut world = World::new("refused");
    world.write("a.yaml", &format!("{}---\n{}", stream("a", ""), stream("b", "")));
    let broken = format!("{}---\n{}", stream("a", ", play: {latency: Fast}"), stream("b", ", paused: true"));
    assert_eq!(world.write("a.yaml", &broken), ["b g2 paused"]);
    assert_eq!(
        world.said(),
        "MediaStream default/a: spec.play.latency: unknown variant `Fast`, expected one of `Normal`, `Low`, `Bulk`; it stays as it was"
    );
    assert_eq!(world.pass(SECOND), NONE);
    let fixed = format!("{}---\n{}", stream("a", ", path: live/other"), stream("b", ", paused: true"));
    assert_eq!(world.write("a.yaml", &fixed), NONE);
    assert!(
        world.said().starts_with("MediaStream default/a: spec.path: path can't be changed"),
        "{}",
        world.said()
    );
}

#[test]
fn a_new_object_that_is_refused_is_not_made() {
    let mut world = World::new("new");
    assert_eq!(world.write("a.yaml", &stream("a", ", path: nothing")), NONE);
    assert!(!world.said().contains("stays"), "{}", world.said());
    assert_eq!(world.streams(), NONE);
}

#[test]
fn a_typo_in_the_name_of_the_kind_takes_nothing_away() {
    let mut world = World::new("kind");
    world.write("a.yaml", &stream("a", ""));
    assert_eq!(world.write("a.yaml", &stream("a", "").replace("MediaStream", "MediaStrem")), NONE);
    assert_eq!(world.pass(SECOND), NONE);
    assert_eq!(world.streams(), ["a"]);
}

#[test]
fn of_two_files_with_one_object_the_first_counts_until_it_goes() {
    let mut world = World::new("two");
    world.write("a.yaml", &stream("a", ""));
    assert_eq!(world.write("b.yaml", &stream("a", ", paused: true")), NONE);
    assert_eq!(
        world.said(),
        "MediaStream default/a: is in a.yaml too, which counts: remove one of the two, or rename it"
    );
    world.remove("a.yaml");
    assert_eq!(world.pass(SECOND), ["gone", "a g1 paused"]);
}

#[test]
fn an_object_twice_in_one_file_counts_once() {
    let mut world = World::new("twice");
    let twice = format!("{}---\n{}", stream("a", ""), stream("a", ", paused: true"));
    assert_eq!(world.write("a.yaml", &twice), ["a g1"]);
    assert!(world.said().contains("is in this file twice"), "{}", world.said());
}

#[test]
fn a_scan_tells_what_streams_need_before_the_streams() {
    let mut world = World::new("scan");
    fs::write(world.folder.dir.join("a.yaml"), stream("a", "")).unwrap();
    fs::write(world.folder.dir.join("b.yml"), POOL).unwrap();
    fs::write(world.folder.dir.join("c.json"), SECRET).unwrap();
    for ignored in [".hidden.yaml", "a.yaml~", "notes.txt", "4913"] {
        fs::write(world.folder.dir.join(ignored), stream("x", "")).unwrap();
    }
    assert_eq!(told(&world.folder.scan(world.now)), ["secret default/t", "pool p", "a g1"]);
    assert_eq!(told(&world.folder.scan(world.now)), NONE, "nothing has changed");
    fs::remove_file(world.folder.dir.join("b.yml")).unwrap();
    assert_eq!(told(&world.folder.scan(world.now)), NONE);
    assert_eq!(world.pass(SECOND), ["pool p gone"]);
}

#[test]
fn a_stream_that_its_ttl_took_comes_back_when_its_file_changes() {
    let mut world = World::new("ttl");
    world.write("a.yaml", &stream("a", ", ttlAfterIdle: 1s"));
    let key = Key::Stream(operator_core::ids::ObjectName::new("default", "a"));
    // As the planner's delete does.
    world.store.lock().remove(&key);
    assert_eq!(told(&world.folder.scan(world.now)), NONE);
    assert_eq!(world.write("a.yaml", &stream("a", ", ttlAfterIdle: 1s")), ["a g1"]);
}

#[test]
fn a_folder_named_like_a_file_is_reported() {
    let mut world = World::new("dir");
    fs::create_dir(world.folder.dir.join("d.yaml")).unwrap();
    assert_eq!(told(&world.folder.scan(world.now)), NONE);
    assert!(world.said().contains("it is no file"), "{}", world.said());
}

#[tokio::test]
async fn the_kernel_tells_of_whole_files_only() {
    let world = World::new("kernel");
    let dir = world.folder.dir.clone();
    let mut watch = Watch::new(&dir).unwrap();
    fs::write(dir.join("plain.yaml"), "x").unwrap();
    fs::write(dir.join(".new"), "x").unwrap();
    fs::rename(dir.join(".new"), dir.join("renamed.yaml")).unwrap();
    std::os::unix::fs::symlink("plain.yaml", dir.join("link.yaml")).unwrap();
    fs::remove_file(dir.join("plain.yaml")).unwrap();
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("plain.yaml") || seen.len() < 2 {
        match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap() {
            Change::File(name) if is_ours(&name) => seen.push(name),
            Change::File(_) => {}
            Change::Everything => panic!("nothing was lost"),
        }
    }
    assert_eq!(seen, ["plain.yaml", "renamed.yaml", "link.yaml", "plain.yaml"]);
}

#[tokio::test]
async fn a_folder_that_is_replaced_is_found_again() {
    let world = World::new("replaced");
    let dir = world.folder.dir.clone();
    let mut watch = Watch::new(&dir).unwrap();
    fs::remove_dir(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    let next = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap();
    assert_eq!(next, Change::Everything);
}
