//! The part of the kill matrix that every run of the tests can afford: each
//! process once, each boundary once. `make chaos` tries all of it.

use limosa_lab::chaos::{self, Boundary};

#[tokio::test]
async fn whatever_is_killed_the_migration_converges() {
    let out = tempfile::tempdir().unwrap();
    let options = chaos::Options {
        out: out.path().to_owned(),
        killed: None,
        at: None,
        quick: true,
        wipes: false,
        rate: 500,
    };
    let report = chaos::run(&options).await.unwrap();
    assert!(report.ok, "{report}");
    for at in Boundary::ALL.map(|at| at.to_string()) {
        assert!(report.cells.iter().any(|cell| cell.at == at), "nothing was killed {at}");
    }
    let written = std::fs::read_to_string(out.path().join("report.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    let cells = written["cells"].as_array().unwrap();
    assert_eq!(cells.len(), report.cells.len());
    for cell in cells {
        assert_eq!((&cell["converged"], &cell["lost"]), (&true.into(), &0.into()), "{cell}");
        assert_eq!(cell["left_behind"], serde_json::json!([]), "{cell}");
        let duration = cell["away_ms"].as_f64().unwrap();
        assert!(duration > 0.0, "nothing struck: {cell}");
    }
}

/// They share what they ask of all chassis: each time makes every ovn-controller answer.
#[tokio::test]
async fn a_hundred_guests_leave_a_chassis_at_once() {
    let evacuation = chaos::evacuation::run().await.unwrap();
    println!("{evacuation:#?}");
    assert_eq!(evacuation.failures, [""; 0], "{evacuation:#?}");
    assert_eq!(evacuation.completed, evacuation.migrations, "{evacuation:#?}");
    assert!(evacuation.barriers * 2 < evacuation.barriers_alone, "{evacuation:#?}");
}
