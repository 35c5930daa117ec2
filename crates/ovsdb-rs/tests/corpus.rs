//! What the fuzz targets check (`fuzz/`), on the inputs that they have found worth keeping.

use std::fs;
use std::path::Path;

#[path = "../fuzz/bodies/framer.rs"]
mod framer;
#[path = "../fuzz/bodies/machine.rs"]
mod machine;
#[path = "../fuzz/bodies/remotes.rs"]
mod remotes;
#[path = "../fuzz/bodies/schema.rs"]
mod schema;
#[path = "../fuzz/bodies/server.rs"]
mod server;
#[path = "../fuzz/bodies/update2.rs"]
mod update2;

fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display())) {
        let path = entry.unwrap().path();
        let checked = std::panic::catch_unwind(|| check(&fs::read(&path).unwrap()));
        assert!(checked.is_ok(), "{}", path.display());
        files += 1;
    }
    assert!(files > 0, "{} is empty", corpus.display());
}

#[test]
fn streams_are_cut_into_the_same_values_wherever_they_are_split() {
    replay("framer", framer::check);
}

#[test]
fn whatever_a_server_says_is_an_error_or_not() {
    replay("machine", machine::check);
}

#[test]
fn differences_make_of_the_replica_what_the_server_has() {
    replay("update2", update2::check);
}

#[test]
fn schemas_and_the_values_they_describe() {
    replay("schema", schema::check);
}

#[test]
fn remotes_read_the_same_once_printed() {
    replay("remotes", remotes::check);
}
