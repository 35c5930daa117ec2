//! The example `ofp-print`.

#[path = "../../examples/ofp-print.rs"]
#[allow(dead_code, reason = "its main is that of the example")]
mod ofp_print;

#[test]
fn lines_become_texts_and_bad_lines_errors() {
    let input = "# a comment\n\n 06 05 00 08 0000 0001\n06 0\nxyz\n0614000800000002\n0614000900000002\n";
    let run = |reencode| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let good =
            ofp_print::run(input.as_bytes(), &mut out, &mut err, reencode).expect("memory does not fail");
        assert!(!good);
        [out, err].map(|bytes| String::from_utf8(bytes).expect("text"))
    };
    let [out, err] = run(false);
    assert_eq!(out, "OFPT_FEATURES_REQUEST (OF1.5) (xid=0x1):\nOFPT_BARRIER_REQUEST (OF1.5) (xid=0x2):\n");
    let lines: Vec<_> = err.lines().collect();
    assert_eq!(lines.len(), 3, "{err}");
    assert_eq!(lines[0], "line 4: an odd number of hexadecimal digits: each byte needs two");
    assert_eq!(lines[1], "line 5: column 1: not a hexadecimal digit");
    assert!(lines[2].starts_with("line 7: cannot decode message at byte 0"), "{err}");
    assert_eq!(run(true), ["0605000800000001\n0614000800000002\n".to_owned(), err]);
}
