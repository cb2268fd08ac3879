//! The two sides with each other, and the one side with programs that are no other side.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::wire::Broken;
use super::*;

fn sides() -> (Successor, Predecessor) {
    let (one, other) = UnixStream::pair().unwrap();
    (Successor::at(one), Predecessor::at(other))
}

#[tokio::test]
async fn a_successor_serves_when_it_is_told_to() {
    let (mut successor, predecessor) = sides();
    let left = Inheritance {
        known: Known {
            generation: 7,
            ..Known::default()
        },
        ..Inheritance::default()
    };
    let other_side = async {
        let (found, mut predecessor) = predecessor.inheritance().await.unwrap();
        assert_eq!(found.known.generation, 7);
        predecessor.prepared().await.unwrap();
        predecessor.serving().await;
    };
    let this_side = async {
        successor.prepare(&left).await.unwrap();
        successor.take_over().await.unwrap();
    };
    tokio::join!(this_side, other_side);
}

#[tokio::test]
async fn a_refusal_is_told_at_any_time() {
    let (mut successor, predecessor) = sides();
    let other_side = async {
        let (_, predecessor) = predecessor.inheritance().await.unwrap();
        predecessor.refuse("no such file").await;
    };
    let nothing = Inheritance::default();
    let (prepared, ()) = tokio::join!(successor.prepare(&nothing), other_side);
    let failed = prepared.unwrap_err();
    assert_eq!(failed.to_string(), "the new process refuses: no such file");

    let (mut successor, predecessor) = sides();
    let other_side = async {
        let (_, mut predecessor) = predecessor.inheritance().await.unwrap();
        predecessor.prepared().await.unwrap();
        predecessor.refuse("the port is lost").await;
    };
    let this_side = async {
        successor.prepare(&Inheritance::default()).await.unwrap();
        successor.take_over().await.unwrap_err()
    };
    let (failed, ()) = tokio::join!(this_side, other_side);
    assert!(failed.to_string().contains("the port is lost"), "{failed}");
}

#[tokio::test]
async fn who_changes_its_mind_is_not_waited_for() {
    let (mut successor, predecessor) = sides();
    let other_side = async {
        let (_, mut predecessor) = predecessor.inheritance().await.unwrap();
        predecessor.prepared().await.unwrap_err()
    };
    let this_side = async {
        successor.prepare(&Inheritance::default()).await.unwrap();
        drop(successor);
    };
    let (lost, ()) = tokio::join!(other_side, this_side);
    assert!(matches!(lost, Lost::Broken(Broken::Closed)), "{lost:?}");
}

fn shell(script: &str) -> Program {
    Program {
        path: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        variable: None,
    }
}

async fn start(program: &Program, limit: Duration) -> Failed {
    let started = Successor::start_within(limit, program, &Inheritance::default()).await;
    started.unwrap_err()
}

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_program_that_is_no_successor_is_told_from_one() {
    let failed = start(&shell("exit 7"), LONG).await;
    assert!(
        matches!(&failed, Failed::Ended(status) if status.code() == Some(7)),
        "{failed}"
    );
    let failed = start(&shell("printf nonsense >&0; sleep 30"), LONG).await;
    assert!(
        matches!(failed, Failed::Broken(Broken::NotUnderstood)),
        "{failed}"
    );
    let nowhere = Program {
        path: "/nowhere/at/all".into(),
        arguments: Vec::new(),
        variable: None,
    };
    let failed = start(&nowhere, LONG).await;
    assert!(failed.to_string().contains("/nowhere/at/all"), "{failed}");
}

#[tokio::test]
async fn a_program_that_hangs_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000",
        file.display()
    );
    let failed = start(&shell(&script), Duration::from_millis(500)).await;
    assert!(matches!(failed, Failed::Late(_)), "{failed}");
    // A machine under load may not have come far enough to be seen.
    if let Ok(pid) = std::fs::read_to_string(file) {
        let process = Path::new("/proc").join(pid.trim());
        let deadline = Instant::now() + LONG;
        while process.exists() {
            assert!(Instant::now() < deadline, "it goes on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn a_form_that_is_not_understood_is_refused() {
    let (one, other) = UnixStream::pair().unwrap();
    let mut line = wire::Line::new(one).unwrap();
    let will = serde_json::json!({
        "inherit": { "version": 2, "listeners": [], "admin": null, "known": {} }
    });
    line.say(will).await.unwrap();
    let lost = Predecessor::at(other).inheritance().await.unwrap_err();
    assert!(matches!(lost, Lost::Version(2)), "{lost}");
    let (words, _) = line.hear::<serde_json::Value>().await.unwrap();
    assert!(words["refused"]["why"].as_str().unwrap().contains("form 2"));
}
