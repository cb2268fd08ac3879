//! Every configuration that is shipped in config/ is one that albedo takes.

use std::fs;
use std::path::Path;

#[test]
fn every_shipped_configuration_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut shipped: Vec<_> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    shipped.sort();
    assert!(!shipped.is_empty());
    for path in shipped {
        if let Err(problems) = albedo::config::read(&path) {
            panic!("{}: {problems:?}", path.display());
        }
    }
}
