//! How far a sync is, seen from outside.

use serde_json::Value;

use crate::common::wait_until;
use crate::{held_up_sync, metrics, serve, status};

fn run_file(ferry: &crate::Ferry) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(ferry.file("log/run.json")).ok()?).ok()
}

#[test]
fn a_sync_that_is_held_up_shows_where_and_how_far_it_came() {
    let (registry, ferry, running, admin) = held_up_sync();
    let told = status(&admin);
    let run = &told["run"];
    assert_eq!(
        [&run["phase"], &run["total"], &run["processed"], &run["ok"], &run["errors"]],
        [&Value::from("fetch"), &14.into(), &7.into(), &7.into(), &0.into()]
    );
    assert!(run["version"].is_string() && run["uptime_sec"].is_u64() && run["rate_per_sec"].is_number(), "{run}");
    assert_eq!(told["mirror_id"], ferry.status()["mirror_id"], "the rest is what `status --json` says");

    let stage = |name: &str| {
        run["stages"].as_array().unwrap().iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("{run}"))
    };
    assert_eq!(stage("fetch")["in_hand"], 7, "{run}");
    assert_eq!(stage("store")["in_hand"], 0);
    let names: Vec<_> = run["stages"].as_array().unwrap().iter().map(|stage| &stage["name"]).collect();
    assert_eq!(names, ["work", "enforce", "fetch", "verify", "describe", "store"]);

    let told = metrics(&admin);
    assert_eq!(told.value("crateferry_stage_in_hand", &[("stage", "fetch")]).to_string(), "7");
    assert_eq!(told.value("crateferry_stage_in_hand_limit", &[("stage", "fetch")]).to_string(), "1024");
    assert_eq!(told.value("crateferry_sync_due_releases", &[]).to_string(), "14");
    assert!(told.value("crateferry_sync_stored_bytes_total", &[]) > 0.0);
    registry.heal().let_go();
    running.wait().expect(0);
}

#[test]
fn a_run_is_told_of_in_the_mirror_until_it_is_done() {
    let (registry, ferry, running, admin) = held_up_sync();
    wait_until("the run is told of", || run_file(&ferry).is_some_and(|run| run["processed"] == 7));
    let before = run_file(&ferry).unwrap();
    assert_eq!([&before["phase"], &before["pid"]], [&Value::from("fetch"), &running.id().into()]);
    wait_until("it is told of anew", || run_file(&ferry).unwrap()["updated_at"] != before["updated_at"]);

    // A server in another process shows it too.
    let (_server, other) = serve(&ferry);
    assert_eq!(status(&other)["run"]["phase"], "fetch");
    assert_ne!(other, admin);

    registry.heal().let_go();
    running.wait().expect(0);
    let after = run_file(&ferry).unwrap();
    assert_eq!([&after["phase"], &after["ok"]], [&Value::from("done"), &14.into()]);
    assert!(!ferry.file("log/run.json.part").exists());
    assert_eq!(status(&other)["run"]["phase"], "done");
}

#[test]
fn a_sync_that_nobody_can_be_told_of_is_complete_all_the_same() {
    let (registry, ferry) = crate::mirrored();
    // A folder where the file should be: it can be neither written nor replaced.
    std::fs::remove_file(ferry.file("log/run.json")).unwrap();
    std::fs::create_dir_all(ferry.file("log/run.json/in the way")).unwrap();
    registry.release("c00000", "99.0.0");
    ferry.sync(&[]).expect(0);
    assert_eq!(ferry.status()["releases"]["held"], 15);
}

#[test]
fn a_run_that_was_killed_is_not_taken_for_running_for_long() {
    let (_registry, ferry, running, _admin) = held_up_sync();
    wait_until("the run is told of", || run_file(&ferry).is_some_and(|run| run["phase"] == "fetch"));
    running.kill();
    let (_server, admin) = serve(&ferry);
    assert_eq!(status(&admin)["run"]["phase"], "fetch", "nobody knows yet");
    // Eleven seconds later:
    let mut run = run_file(&ferry).unwrap();
    run["updated_at"] = (run["updated_at"].as_u64().unwrap() - 11).into();
    std::fs::write(ferry.file("log/run.json"), run.to_string()).unwrap();
    assert_eq!(status(&admin)["run"]["phase"], "lost");
}
