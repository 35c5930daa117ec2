//! What has gone wrong for others, as far as it is a matter of what to do when.
//! Each test says what was reported of Kube-OVN (issues and pull requests of
//! kubeovn/kube-ovn) and what must happen here.

mod support;

use limosa_protocol::object::Want;
use serde_json::json;
use support::{Api, PORT, Store, UID, labels};

const NEXT: &str = "aaaaaaaa-0000-4000-8000-000000000002";

/// A first migration n1 -> n2 that has succeeded, as KubeVirt leaves it: its
/// state stays on the instance, its object stays in the API.
fn after_success() -> Api {
    let mut api = Api::new();
    api.pod("pod-b", "n2", UID).phase(UID, "Succeeded").hand_off(UID, ("pod-a", "n1"), ("pod-b", "n2"));
    api.state(&json!({"completed": true, "targetNodeDomainReadyTimestamp": "2026-01-02T00:00:10Z"}));
    api.status(&json!({"nodeName": "n2"}));
    api.pods.get_mut("pod-a").unwrap()["status"]["phase"] = json!("Succeeded");
    api
}

/// 7419, first part: a restart of the controller replays every migration that
/// still exists. The last one that had ended still matched the instance's
/// state, and its clean-up stripped the options of the one under way.
#[test]
fn i7419_an_ended_migration_replayed_at_start_up_touches_nothing() {
    let mut api = after_success();
    api.phase(NEXT, "Pending").pod("pod-c", "n3", NEXT);
    let mut store = Store::default();
    let intent = store.turn(&api, UID);
    assert_eq!((intent.objects.len(), labels(&intent)), (0, vec!["Ended"]));
    store.turn(&api, NEXT);
    assert_eq!((store.spec().from.as_str(), store.spec().to.as_deref()), ("c2", Some("c3")));
    // And in whatever order they are looked at again.
    let before = format!("{:?}", store.objects);
    store.turn(&api, UID);
    store.turn(&api, NEXT);
    assert_eq!(before, format!("{:?}", store.objects));
}

/// 7419, second part: a migration that failed before its UID was written to the
/// instance was never cleaned up, because the state there was another's.
#[test]
fn i7419_a_failure_before_the_hand_off_is_rolled_back() {
    let mut api = after_success();
    let mut store = Store::default();
    store.turn(api.phase(NEXT, "Pending").pod("pod-c", "n3", NEXT), NEXT);
    assert_eq!(store.want(), Want::Complete);
    store.turn(api.phase(NEXT, "Failed"), NEXT);
    assert_eq!(store.want(), Want::Return);
}

/// 7419, third part: the deletion of a pod that had nothing to do with the
/// migration under way cleaned its options.
#[test]
fn i7419_other_pods_come_and_go() {
    let mut api = after_success();
    let mut store = Store::default();
    store.turn(api.phase(NEXT, "Pending").pod("pod-c", "n3", NEXT), NEXT);
    let before = format!("{:?}", store.objects);
    api.pods.remove("pod-a");
    store.turn(&api, NEXT);
    store.turn(api.pod("pod-x", "n1", "another"), NEXT);
    assert_eq!(before, format!("{:?}", store.objects));
}

/// 6823 (and 7416): the target pod had no node when the migration came to its
/// phase, the event was dropped, and the pod waited for its network until
/// KubeVirt gave up. With volumes that were plugged in later it has to be ready
/// while the migration is still Pending.
#[test]
fn i6823_the_target_is_taken_up_whenever_it_is_known() {
    let mut api = Api::new();
    let mut store = Store::default();
    store.turn(api.phase(UID, "Pending"), UID);
    assert_eq!(store.spec().to, None);
    store.turn(api.phase(UID, "Scheduling").pod("pod-b", "", UID), UID);
    assert_eq!(store.spec().to, None);
    store.turn(api.pod("pod-b", "n2", UID), UID);
    assert_eq!(store.spec().to.as_deref(), Some("c2"));
    // All of it in Pending.
    let (mut api, mut store) = (Api::new(), Store::default());
    store.turn(api.phase(UID, "Pending").pod("pod-b", "n2", UID), UID);
    assert_eq!(store.spec().to.as_deref(), Some("c2"));
}

/// 6220: the instance's state was read without looking whose it was. On the way
/// A, B, A the last migration's source was taken for this one's, source and
/// target were the same, and nothing was set up.
#[test]
fn i6220_the_state_of_the_migration_before_counts_for_nothing() {
    let mut api = after_success();
    let mut store = Store::default();
    store.turn(api.phase(NEXT, "Pending").pod("pod-c", "n1", NEXT), NEXT);
    assert_eq!((store.spec().from.as_str(), store.spec().to.as_deref()), ("c2", Some("c1")));
    assert_eq!(store.want(), Want::Complete, "the other one's completed and ready are not ours");
}

/// 5955: the options were set once more after the migration had succeeded, by an
/// event of the target pod that came late, and stayed.
#[test]
fn i5955_nothing_begins_again_after_the_end() {
    let mut api = Api::new();
    let mut store = Store::default();
    store.turn(api.phase(UID, "Running").pod("pod-b", "n2", UID), UID);
    let mut api = after_success();
    store.turn(&api, UID);
    assert_eq!(store.want(), Want::Activate);
    for object in store.objects.values_mut() {
        object.ended = true;
    }
    api.pods.get_mut("pod-b").unwrap()["metadata"]["annotations"]["late"] = json!("news");
    assert!(store.turn(&api, UID).objects.is_empty());
    // Nor when the object is forgotten, or its migration is not yet.
    store.objects.clear();
    assert!(store.turn(&api, UID).objects.is_empty());
    assert!(store.turn(api.phase(UID, "Running"), UID).objects.is_empty());
}

/// 5523: after a failed migration every further one got stuck, because what the
/// first had set was never taken away.
#[test]
fn i5523_a_second_attempt_after_a_failure() {
    let mut api = Api::new();
    let mut store = Store::default();
    store.turn(
        api.phase(UID, "Running").pod("pod-b", "n2", UID).hand_off(UID, ("pod-a", "n1"), ("pod-b", "n2")),
        UID,
    );
    api.state(&json!({"failed": true, "completed": true})).phase(UID, "Failed").phase(NEXT, "Pending");
    store.turn(&api, UID);
    assert_eq!(store.want(), Want::Return);
    // Not side by side with what is left of the first...
    let intent = store.turn(&api, NEXT);
    assert_eq!((labels(&intent), store.objects.len()), (vec!["PreviousMigration"], 1));
    // ...but as soon as that has ended.
    store.objects.values_mut().next().unwrap().ended = true;
    let intent = store.turn(api.pod("pod-c", "n2", NEXT), NEXT);
    let [wanted] = &intent.objects[..] else { panic!("{intent:?}") };
    assert_eq!((wanted.spec.from.as_str(), wanted.spec.to.as_deref()), ("c1", Some("c2")));
}

/// 3472: more than ten seconds without an answer, since nothing told the network
/// when the guest resumed; it took a patched KubeVirt that did. Everything is
/// asked for before the guest resumes, and the guest's own announcement decides:
/// a domain that exists on the target does not run there.
#[test]
fn i3472_all_is_asked_for_before_the_guest_resumes() {
    let mut api = Api::new();
    let mut store = Store::default();
    store.turn(api.phase(UID, "Scheduling").pod("pod-b", "n2", UID), UID);
    let prepared = store.spec().clone();
    assert_eq!((prepared.to.as_deref(), prepared.want), (Some("c2"), Want::Complete));
    api.phase(UID, "Running").hand_off(UID, ("pod-a", "n1"), ("pod-b", "n2"));
    store.turn(
        api.state(&json!({"startTimestamp": "2026-01-02T00:00:09Z", "targetNodeDomainDetected": true})),
        UID,
    );
    assert_eq!(*store.spec(), prepared);
}

/// Pull request 6261: two migrations right after each other (A, B, C) left the
/// traffic with the pod in the middle, which had completed.
#[test]
fn pr6261_a_second_migration_within_the_same_second() {
    let mut store = Store::default();
    let mut api = Api::new();
    store.turn(
        api.phase(UID, "Running").pod("pod-b", "n2", UID).hand_off(UID, ("pod-a", "n1"), ("pod-b", "n2")),
        UID,
    );
    // The guest has arrived, the hand-over is not through, and it goes on.
    let mut api = after_success();
    api.phase(NEXT, "Pending").pod("pod-c", "n3", NEXT);
    store.turn(&api, UID);
    let intent = store.turn(&api, NEXT);
    assert_eq!(labels(&intent), ["PreviousMigration"]);
    assert_eq!(store.want(), Want::Activate);
    // KubeVirt hands the second one off while the first still holds the port.
    api.phase(NEXT, "Running").hand_off(NEXT, ("pod-b", "n2"), ("pod-c", "n3"));
    api.vmims.remove(UID);
    store.turn(&api, UID);
    assert_eq!(store.want(), Want::Activate, "the guest is on n2 still");
    store.objects.values_mut().next().unwrap().ended = true;
    store.turn(&api, NEXT);
    let second = store.objects.values().find(|object| object.migration == NEXT).unwrap();
    assert_eq!(second.spec.port, PORT);
    assert_eq!((second.spec.from.as_str(), second.spec.to.as_deref()), ("c2", Some("c3")));
}
