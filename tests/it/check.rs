//! Configurations good and bad. Each broken file stands with every line it gives in tests/config/snapshots.

use std::fs;
use std::path::{Path, PathBuf};

use albedo::config::{self, Severity};
use albedo::model;

/// The files of a folder, relative to the crate, so that what is printed is the same on every machine.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("tests run in the crate's folder");
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    let mut files: Vec<PathBuf> = paths.collect();
    files.sort();
    files
}

fn snapshot(file: &Path, text: &str) {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let name = stem.expect("a file with a plain name");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../config/snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn a_broken_file_gives_every_problem_with_its_place() {
    let files = files("tests/config/bad");
    assert!(files.len() >= 10);
    for file in files {
        let problems = config::read(&file).expect_err("broken on purpose");
        assert!(problems.error_count() > 0);
        // Scripts split a line at its only "; ".
        for problem in &problems {
            assert_eq!(problem.to_string().matches("; ").count(), 1, "{problem}");
        }
        snapshot(&file, &problems.to_string());
    }
}

#[test]
fn a_good_file_is_read() {
    for file in files("tests/config/good") {
        let (_, warnings) = config::read(&file).unwrap_or_else(|problems| panic!("{problems}"));
        let lines: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        snapshot(&file, &lines.join("\n"));
        assert!(
            warnings
                .iter()
                .all(|warning| warning.severity == Severity::Warning)
        );
    }
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let (config, _) = config::read(Path::new("tests/config/good/contract.yaml")).unwrap();
    let certificate = &config.listeners[0].certificates[0];
    let expected = PathBuf::from("tests/config/good/tls/fullchain.pem");
    assert_eq!(certificate.certificate, model::Pem::File(expected));
    let log = config.load_balancer.access_log.unwrap();
    let absolute = PathBuf::from("/var/log/albedo/access.log");
    assert_eq!(log.sink, model::AccessLogSink::File(absolute));
}

#[test]
fn rules_stand_in_the_order_of_their_priorities() {
    let (config, _) = config::read(Path::new("tests/config/good/loose.yaml")).unwrap();
    let priorities = config.listeners[1]
        .rules
        .iter()
        .map(|rule| rule.priority.value());
    assert_eq!(priorities.collect::<Vec<_>>(), [10, 20]);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let problems = config::read(Path::new("tests/config/nowhere.yaml")).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "tests/config/nowhere.yaml:1:1 configuration: there is no such file; name one that exists"
    );
    let problems = config::read(Path::new("tests/config")).unwrap_err();
    assert!(problems.to_string().contains("this is a folder"));
    let problems = config::read(Path::new("/dev/zero")).unwrap_err();
    assert!(problems.to_string().contains("larger than 4 MiB"));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), [0xff, 0xfe]).unwrap();
    let problems = config::read(file.path()).unwrap_err();
    assert!(problems.to_string().contains("not UTF-8"));
}

#[test]
fn a_configuration_without_a_file_is_checked_all_the_same() {
    let name: model::TargetGroupName = "web".parse().unwrap();
    let actions = model::Actions::forward(name.clone());
    let listener = model::Listener::new(0, model::Protocol::Http, actions);
    let mut config = model::Config {
        listeners: vec![listener],
        ..model::Config::default()
    };
    let problems = config::check(&config).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "listeners[0].default_actions[0].forward.target_groups[0].name: target group 'web' does not exist; \
         write it under 'target_groups', or name one that stands there"
    );
    config.target_groups = vec![model::TargetGroup::new(name, model::Protocol::Http, 80)];
    config.target_groups[0].targets = vec!["127.0.0.1:9000".parse().unwrap()];
    assert_eq!(config::check(&config), Ok(vec![]));
}
