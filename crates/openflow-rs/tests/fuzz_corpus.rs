//! What the fuzz target asserts (`fuzz/`), on the inputs that it has found worth keeping.

#[path = "../fuzz/bodies/machine.rs"]
mod machine;

use std::fs;
use std::path::Path;

#[test]
fn machine() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz_corpus/machine");
    let mut inputs = 0;
    for entry in fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("a file").path();
        // Seen if it fails.
        println!("{}", path.display());
        machine::check(&fs::read(&path).expect("a file that can be read"));
        inputs += 1;
    }
    assert!(inputs >= 10, "{inputs} inputs are too few");
}
