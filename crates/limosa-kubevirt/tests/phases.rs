//! The orders in which KubeVirt writes (`updateStatus`, `processMigrationPhase`
//! in virt-controller, `migration-source.go` and `migration-target.go` in
//! virt-handler), each watched in whole and with anything missed.

mod support;

use limosa_protocol::object::Want;
use proptest::prelude::*;
use serde_json::json;
use support::{Api, MAC, PORT, Store, UID};

type Change = fn(&mut Api);

/// How a migration begins, until the guest is about to pause on the source.
const BEGIN: &[Change] = &[
    |api| {
        api.phase(UID, "");
    },
    |api| {
        api.phase(UID, "Pending");
    },
    |api| {
        api.pod("pod-b", "", UID);
    },
    |api| {
        api.pod("pod-b", "n2", UID);
    },
    |api| {
        api.phase(UID, "Scheduling");
    },
    |api| {
        api.phase(UID, "Scheduled");
    },
    |api| {
        api.hand_off(UID, ("pod-a", "n1"), ("pod-b", "n2"));
    },
    |api| {
        api.phase(UID, "PreparingTarget");
    },
    |api| {
        api.state(&json!({"targetNodeAddress": "192.0.2.2"}));
    },
    |api| {
        api.phase(UID, "TargetReady");
    },
    |api| {
        api.state(&json!({"startTimestamp": "2026-01-02T00:00:09Z", "mode": "PreCopy"}));
    },
    |api| {
        api.phase(UID, "Running");
    },
    |api| {
        api.state(&json!({"targetNodeDomainDetected": true}));
    },
];

const READY: Change = |api| {
    api.state(&json!({"targetNodeDomainReadyTimestamp": "2026-01-02T00:00:10Z"}));
};
const ANNOTATED: Change = |api| {
    let ready = json!("2026-01-02 00:00:10 +0000 UTC");
    api.pods.get_mut("pod-b").unwrap()["metadata"]["annotations"]["kubevirt.io/migration-target-ready-timestamp"] =
        ready;
};
const SUCCEEDED: &[Change] = &[
    READY,
    ANNOTATED,
    |api| {
        api.status(&json!({"nodeName": "n2", "migrationState": {"endTimestamp": "2026-01-02T00:00:11Z"}}));
    },
    |api| {
        api.state(&json!({"completed": true}));
    },
    |api| {
        api.phase(UID, "Succeeded");
    },
    |api| {
        api.pods.remove("pod-a");
    },
    |api| {
        api.vmims.remove(UID);
    },
];

const FAILED: Change = |api| {
    api.state(&json!({"failed": true, "completed": true, "failureReason": "aborted"}));
};
const GIVEN_UP: Change = |api| {
    api.phase(UID, "Failed");
};
const TARGET_GONE: Change = |api| {
    api.pods.remove("pod-b");
};
const DELETING: Change =
    |api| api.vmims.get_mut(UID).unwrap()["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:10Z");
const VMIM_GONE: Change = |api| {
    api.vmims.remove(UID);
};
const DEAD: Change = |api| {
    api.status(&json!({"phase": "Failed"}));
};
const VMI_GONE: Change = |api| api.vmi = None;

/// Name, how much of [`BEGIN`], what follows, what is wanted in the end.
const STORIES: &[(&str, usize, &[Change], Want)] = &[
    ("success", 13, SUCCEEDED, Want::Activate),
    (
        "too quick for the pod's annotation",
        13,
        &[READY, SUCCEEDED[2], SUCCEEDED[3], SUCCEEDED[4]],
        Want::Activate,
    ),
    ("paused by its user: ready, and no frame ever", 13, &[READY], Want::Activate),
    (
        "post-copy",
        13,
        &[
            |api| {
                api.state(&json!({"mode": "PostCopy"}));
            },
            READY,
            SUCCEEDED[2],
            SUCCEEDED[3],
        ],
        Want::Activate,
    ),
    ("never scheduled", 3, &[GIVEN_UP, TARGET_GONE, VMIM_GONE], Want::Return),
    ("cancelled before the hand-off", 6, &[DELETING, GIVEN_UP, TARGET_GONE, VMIM_GONE], Want::Return),
    (
        "cancelled while it runs",
        13,
        &[
            DELETING,
            |api| {
                api.state(&json!({"abortRequested": true}));
            },
            |api| {
                api.state(&json!({"abortStatus": "Aborting"}));
            },
            |api| {
                api.state(&json!({"abortStatus": "Succeeded", "failed": true, "completed": true}));
            },
            GIVEN_UP,
            TARGET_GONE,
            VMIM_GONE,
        ],
        Want::Return,
    ),
    (
        "cancelled too late",
        13,
        &[
            DELETING,
            |api| {
                api.state(&json!({"abortRequested": true, "abortStatus": "Failed"}));
            },
            READY,
            SUCCEEDED[2],
            SUCCEEDED[3],
            SUCCEEDED[4],
        ],
        Want::Activate,
    ),
    (
        "only asked to cancel",
        13,
        &[DELETING, |api| {
            api.state(&json!({"abortRequested": true}));
        }],
        Want::Complete,
    ),
    ("failed before the guest resumed", 13, &[FAILED, GIVEN_UP, TARGET_GONE], Want::Return),
    (
        "the answer to the last step was lost: back on the source",
        13,
        &[READY, ANNOTATED, FAILED, GIVEN_UP, TARGET_GONE],
        Want::Return,
    ),
    ("the target pod is gone in mid-copy", 13, &[TARGET_GONE, GIVEN_UP, FAILED], Want::Return),
    ("given up after the hand-off, nobody says how", 9, &[TARGET_GONE, GIVEN_UP], Want::Abort),
    ("and forgotten", 9, &[GIVEN_UP, VMIM_GONE], Want::Abort),
    (
        "the migration was removed by force and another took over",
        13,
        &[VMIM_GONE, |api| {
            api.hand_off("other", ("pod-a", "n1"), ("pod-c", "n3"));
        }],
        Want::Return,
    ),
    ("post-copy failed: the guest is nowhere", 13, &[READY, DEAD, GIVEN_UP], Want::Return),
    ("the source's node is dead", 11, &[DEAD, GIVEN_UP], Want::Return),
    ("shut down in mid-migration", 13, &[GIVEN_UP, VMI_GONE, VMIM_GONE], Want::Return),
    (
        "moved on while nobody looked",
        13,
        &[
            SUCCEEDED[2],
            SUCCEEDED[3],
            VMIM_GONE,
            |api| {
                api.hand_off("other", ("pod-b", "n2"), ("pod-c", "n3"));
            },
            |api| {
                api.status(&json!({"nodeName": "n3"}));
            },
        ],
        Want::Return,
    ),
    (
        "phases that nobody has heard of",
        13,
        &[
            |api| {
                api.phase(UID, "Dreaming");
            },
            READY,
            SUCCEEDED[2],
            SUCCEEDED[3],
        ],
        Want::Activate,
    ),
];

fn story(begin: usize, then: &[Change]) -> Vec<Api> {
    let mut api = Api::new();
    let mut states = vec![api.clone()];
    for change in BEGIN[..begin].iter().chain(then) {
        change(&mut api);
        states.push(api.clone());
    }
    states
}

#[test]
fn a_migration_that_is_watched_from_the_start() {
    let mut store = Store::default();
    let mut seen = Vec::new();
    for api in story(13, SUCCEEDED) {
        let intent = store.turn(&api, UID);
        assert!(intent.objects.is_empty() || intent.left_alone.is_empty(), "{intent:?}");
        seen.push(store.objects.values().next().map(|object| (object.spec.to.clone(), object.spec.want)));
    }
    let to = |to: Option<&str>, want| Some((to.map(str::to_owned), want));
    let mut expected = vec![None; 2];
    expected.extend(vec![to(None, Want::Complete); 2]);
    expected.extend(vec![to(Some("c2"), Want::Complete); 10]);
    expected.extend(vec![to(Some("c2"), Want::Activate); 7]);
    assert_eq!(seen, expected);
    let spec = store.spec();
    assert_eq!((spec.port.as_str(), spec.from.as_str()), (PORT, "c1"));
    assert_eq!(spec.mac.unwrap().to_string(), MAC);
    let guest = spec.guest.as_ref().unwrap();
    assert_eq!([&guest.vm, &guest.nic, &guest.migration], ["vm1", "default", "move"]);
}

#[test]
fn every_story_ends_as_it_should() {
    for (name, begin, then, want) in STORIES {
        let mut store = Store::default();
        for api in story(*begin, then) {
            store.turn(&api, UID);
        }
        assert_eq!(store.want(), *want, "{name}");
    }
}

#[test]
fn a_controller_that_comes_when_all_is_over_touches_nothing() {
    for (name, begin, then, _) in STORIES {
        let api = story(*begin, then).pop().unwrap();
        let over = api.vmims.get(UID).is_none_or(|vmim| {
            ["Succeeded", "Failed"].contains(&vmim["status"]["phase"].as_str().unwrap_or_default())
        });
        let mut store = Store::default();
        store.turn(&api, UID);
        assert!(!over || store.objects.is_empty(), "{name}: {store:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever was missed on the way, the end is the same.
    #[test]
    fn what_was_missed_does_not_matter(n in 0..STORIES.len(), seen in any::<u32>()) {
        let (name, begin, then, want) = STORIES[n];
        let states = story(begin, then);
        let mut store = Store::default();
        let last = states.len() - 1;
        for (i, api) in states.iter().enumerate() {
            if i == last || seen & (1 << i) != 0 {
                store.turn(api, UID);
            }
        }
        // Once it has an object, that is what counts; without one nothing was
        // seen in time, and nothing was done.
        if let Some(object) = store.objects.values().next() {
            prop_assert_eq!(object.spec.want, want, "{}", name);
            prop_assert_eq!(object.spec.from.as_str(), "c1");
            prop_assert!(object.spec.to.as_deref().is_none_or(|to| to == "c2"));
        }
        // And again: nothing more changes.
        let before = format!("{:?}", store.objects);
        store.turn(&states[last], UID);
        prop_assert_eq!(before, format!("{:?}", store.objects));
    }

    /// Watches of three kinds of objects lag behind each other.
    #[test]
    fn what_comes_late_does_not_matter(n in 0..STORIES.len(), lags in prop::collection::vec(0..4_usize, 3)) {
        let (name, begin, then, want) = STORIES[n];
        let states = story(begin, then);
        let mut store = Store::default();
        for i in 0..states.len() + 4 {
            let at = |lag: usize| &states[i.saturating_sub(lag).min(states.len() - 1)];
            let api = Api {
                vmims: at(lags[0]).vmims.clone(),
                vmi: at(lags[1]).vmi.clone(),
                pods: at(lags[2]).pods.clone(),
            };
            store.turn(&api, UID);
        }
        prop_assert_eq!(store.want(), want, "{}", name);
    }
}
