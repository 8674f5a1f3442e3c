//! The planner against small stories: each `scenarios/*.txt` is run, and what it prints is compared with the `.out` beside it.
//! `UPDATE=1` rewrites those; the diff is read by a person. Every invariant is checked after each event.

#[path = "scenarios/print.rs"]
mod print;
#[path = "scenarios/script.rs"]
mod script;
#[path = "scenarios/world.rs"]
mod world;

use std::path::Path;

#[test]
fn each_story_ends_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let update = std::env::var_os("UPDATE").is_some();
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut stories: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scenarios is there")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter(|path| path.to_string_lossy().contains(&only))
        .collect();
    stories.sort();
    assert!(!stories.is_empty());
    let mut wrong = Vec::new();
    for story in stories {
        let text = std::fs::read_to_string(&story).expect("a scenario is text");
        let printed = script::run(&text, &story);
        let golden = story.with_extension("out");
        if update {
            std::fs::write(&golden, &printed).expect("the golden text can be written");
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != printed {
            wrong.push(format!("{}:\n{printed}", golden.display()));
        }
    }
    assert!(wrong.is_empty(), "these differ; UPDATE=1 rewrites them:\n{}", wrong.join("\n"));
}
