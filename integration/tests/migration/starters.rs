//! Controllers on a store that elects nobody.

use std::process::Command;

use limosa_lab::CENTRAL;
use limosa_lab::demo::Limosa;

use super::{DEADLINE, GUEST_MAC, Stage, eventually};

/// The first one's last change might reach the database after the second has looked: the database refuses it.
#[tokio::test]
async fn of_two_controllers_the_one_that_started_last_works() {
    let mut stage = Stage::new(2).await;
    let Stage { lab, limosa, .. } = &stage;
    let source = lab.endpoint("ch1", "vm1").await.unwrap();
    let leader_is = async |term: &str| {
        eventually(async || {
            let leader =
                lab.nbctl(&["--if-exists", "get", "NB_Global", ".", "external_ids:limosa-leader"]).await;
            let leader = leader.unwrap();
            if leader.trim().trim_matches('"').ends_with(term) { Ok(()) } else { Err(leader) }
        })
        .await;
    };
    let target = stage.to_armed("m").await;
    leader_is("/0").await;
    let mut second = Command::new(Limosa::binary().unwrap());
    second.args(["controller", "--nb", &lab.nb(), "--sb", &lab.sb(), "--store"]).arg(limosa.store());
    let second = lab.spawn_in(CENTRAL, &second).await.unwrap();
    leader_is("/1").await;

    // The first learns of it as soon as it has something to write.
    lab.send_rarp(&target.ns, GUEST_MAC).await.unwrap();
    let first = limosa.controller().unwrap();
    assert!(!first.wait_exit(DEADLINE).await.unwrap().success());
    assert!(first.log().contains("another controller has started"), "{}", first.log());
    assert!(second.alive(), "{}", second.log_tail());
    limosa.wait(lab, "m", "released").await.unwrap();
    source.remove(lab).await.unwrap();
    limosa.wait(lab, "m", "completed").await.unwrap();
    stage.assert_nothing_of_ours().await;
    stage.assert_foreign_is_as_it_was().await;
}
