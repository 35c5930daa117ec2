//! What the fuzz targets assert (`fuzz/`), on the inputs that they have found worth keeping.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use std::fs;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz_corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("a file").path();
        // Seen if it fails.
        println!("{}", path.display());
        check(&fs::read(&path).expect("a file that can be read"));
        inputs += 1;
    }
    assert!(inputs >= 10, "{inputs} inputs are too few");
}

#[test]
fn message() {
    replay("message", bodies::message);
}

#[test]
fn body() {
    replay("body", bodies::body);
}

#[test]
fn multipart() {
    replay("multipart", bodies::multipart);
}

#[test]
fn flow_mod() {
    replay("flow_mod", bodies::flow_mod);
}

#[test]
fn reassembly() {
    replay("reassembly", bodies::reassembly);
}

#[test]
fn match_text() {
    replay("match_text", bodies::match_text);
}

#[test]
fn actions_text() {
    replay("actions_text", bodies::actions_text);
}

#[test]
fn flow_text() {
    replay("flow_text", bodies::flow_text);
}
