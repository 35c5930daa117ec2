//! Which port belongs to an interface, and what is left alone.

mod support;

use limosa_kubevirt::pin::{Pin, pins};
use limosa_kubevirt::{Nodes, Pod, Vmi, Vmim, object_name};
use limosa_protocol::object::Want;
use serde_json::{Value, json};
use support::{Api, PORT, Store, UID, labels, nodes};

/// An instance with these interfaces and networks, on a pod with these annotations.
fn api(interfaces: Value, networks: Value, annotations: Value) -> Api {
    let mut api = Api::new();
    let vmi = api.vmi.as_mut().unwrap();
    vmi["spec"]["domain"]["devices"]["interfaces"] = interfaces;
    vmi["spec"]["networks"] = networks;
    api.pods.get_mut("pod-a").unwrap()["metadata"]["annotations"] = annotations;
    api.phase(UID, "Pending");
    api
}

/// The ports, by interface, or why not.
fn resolved(api: &Api) -> Vec<String> {
    let intent = Store::default().turn(api, UID);
    let ports =
        intent.objects.into_iter().map(|wanted| wanted.spec).map(|spec| (spec.guest.unwrap().nic, spec.port));
    let left = intent.left_alone.into_iter();
    let left = left.map(|left| (left.nic.unwrap_or_default(), left.why.label().to_owned()));
    ports.chain(left).map(|(nic, what)| format!("{nic}={what}")).collect()
}

#[test]
fn kube_ovn_names_ports_after_the_virtual_machine() {
    let multus = |name: &str, network: &str| json!({"name": name, "multus": {"networkName": network}});
    let bridge = |name: &str| json!({"name": name, "bridge": {}});
    let mut api = api(
        json!([bridge("default"), bridge("blue"), bridge("red1"), bridge("red2"), bridge("ipam")]),
        json!([
            {"name": "default", "pod": {}},
            multus("blue", "nets/blue"),
            multus("red1", "red"),
            multus("red2", "red"),
            multus("ipam", "macvlan"),
        ]),
        json!({
            "ovn.kubernetes.io/virtualmachine": "vm1",
            "blue.nets.ovn.kubernetes.io/virtualmachine": "vm1",
            "red.ns.ovn.pod11.kubernetes.io/virtualmachine": "vm1",
            "red.ns.ovn.pod22.kubernetes.io/virtualmachine": "vm1",
            "macvlan.ns.kubernetes.io/virtualmachine": "vm1",
        }),
    );
    api.vmi.as_mut().unwrap()["status"]["interfaces"] =
        json!([{"name": "red1", "podInterfaceName": "pod11"}, {"name": "red2", "podInterfaceName": "pod22"}]);
    assert_eq!(
        resolved(&api),
        [
            "default=vm1.ns",
            "blue=vm1.ns.blue.nets.ovn",
            "red1=vm1.ns.red.ns.ovn.pod11",
            "red2=vm1.ns.red.ns.ovn.pod22",
            "ipam=NotOvn",
        ]
    );
}

/// Without `--keep-vm-ip` there are two ports with one address (kube-ovn issue
/// 6634); with OVN-Kubernetes always, and a port of its own for each pod.
#[test]
fn a_port_for_each_pod_cannot_be_handed_over() {
    let one = || (json!([{"name": "default", "bridge": {}}]), json!([{"name": "default", "pod": {}}]));
    let why = |annotations| {
        let (interfaces, networks) = one();
        let intent = Store::default().turn(&api(interfaces, networks, annotations), UID);
        intent.left_alone[0].why.to_string()
    };
    assert!(why(json!({"ovn.kubernetes.io/allocated": "true"})).contains("(pod-a.ns on the source)"));
    let networks = json!({"default": {"role": "primary"}}).to_string();
    assert!(why(json!({"k8s.ovn.org/pod-networks": networks})).contains("(ns_pod-a on the source)"));
    let networks =
        json!({"default": {"role": "infrastructure-locked"}, "ns/my-net": {"role": "primary"}}).to_string();
    assert!(
        why(json!({"k8s.ovn.org/pod-networks": networks})).contains("(ns.my.net_ns_pod-a on the source)")
    );
    for broken in ["", "[]", "{", "{\"other\": {}}"] {
        let (interfaces, networks) = one();
        assert_eq!(
            resolved(&api(interfaces, networks, json!({"k8s.ovn.org/pod-networks": broken}))),
            ["default=NotOvn"]
        );
    }
}

#[test]
fn an_annotation_names_the_port_outright() {
    let interfaces = json!([{"name": "a", "bridge": {}}, {"name": "b", "bridge": {}}, {"name": "c", "binding": {"name": "own"}}]);
    let network = |name: &str| json!({"name": name, "multus": {"networkName": name}});
    let networks = json!([network("a"), network("b"), network("c")]);
    let annotations = json!({"limosa.io/logical-port": "first", "limosa.io/logical-port.c": "third"});
    let mut api = api(interfaces, networks, annotations);
    assert_eq!(resolved(&api), ["a=first", "c=third", "b=NotOvn"]);
    // The instance's word comes first, an interface's own name before any other.
    api.vmi.as_mut().unwrap()["metadata"]["annotations"]["limosa.io/logical-port.a"] = json!("mine");
    assert_eq!(resolved(&api), ["a=mine", "c=third", "b=NotOvn"]);
}

#[test]
fn what_has_no_frame_of_the_guest_on_ovn_is_left_alone() {
    let interfaces = json!([
        {"name": "m", "masquerade": {}},
        {"name": "p", "passtBinding": {}},
        {"name": "q", "binding": {"name": "passt"}},
        {"name": "s", "sriov": {}},
        {"name": "x", "binding": {"name": "macvtap"}},
        {"name": "n"},
        {"name": "l", "binding": {"name": "l2bridge"}},
        {"name": "gone", "bridge": {}, "state": "absent"},
        {"name": "new", "bridge": {}},
    ]);
    let networks = json!([{"name": "l", "pod": {}}, {"name": "new", "multus": {"networkName": "later"}}]);
    let mut api = api(interfaces, networks, json!({"ovn.kubernetes.io/virtualmachine": "vm1"}));
    let expected = [
        "l=vm1.ns",
        "m=Masquerade",
        "p=Passt",
        "q=Passt",
        "s=Sriov",
        "x=UnknownBinding",
        "n=UnknownBinding",
        "gone=Unplugged",
        "new=NotOvn",
    ];
    assert_eq!(resolved(&api), expected);
    // A masquerade is one whatever is said of it.
    api.vmi.as_mut().unwrap()["metadata"]["annotations"]["limosa.io/logical-port.m"] = json!("vm1");
    assert_eq!(resolved(&api), expected);
}

#[test]
fn a_bridge_on_the_pod_network_has_to_be_allowed() {
    let mut api = Api::new();
    api.phase(UID, "Pending").vmi.as_mut().unwrap()["metadata"]["annotations"] = json!({});
    assert_eq!(resolved(&api), ["default=BridgeNotAllowed"]);
    api.vmi.as_mut().unwrap()["spec"]["networks"] =
        json!([{"name": "default", "multus": {"networkName": "n", "default": true}}]);
    api.pods.get_mut("pod-a").unwrap()["metadata"]["annotations"] =
        json!({"n.ns.ovn.kubernetes.io/virtualmachine": "vm1"});
    assert_eq!(resolved(&api), ["default=vm1.ns.n.ns.ovn"]);
}

/// An interface that is plugged in while the instance migrates gets its object
/// as long as the guest is on the source.
#[test]
fn a_second_interface_may_come_late() {
    let mut store = Store::default();
    let mut api = Api::new();
    store.turn(api.phase(UID, "Pending"), UID);
    api.vmi.as_mut().unwrap()["spec"] = json!({
        "domain": {"devices": {"interfaces": [{"name": "default", "bridge": {}}, {"name": "late", "bridge": {}}]}},
        "networks": [{"name": "default", "pod": {}}, {"name": "late", "multus": {"networkName": "blue"}}],
    });
    store.turn(&api, UID);
    assert_eq!(store.objects.len(), 1, "it is not in the source pod yet");
    api.pods.get_mut("pod-a").unwrap()["metadata"]["annotations"]["blue.ns.ovn.kubernetes.io/virtualmachine"] =
        json!("vm1");
    store.turn(&api, UID);
    let ports: Vec<&str> = store.objects.values().map(|object| object.spec.port.as_str()).collect();
    assert_eq!((ports.len(), ports.contains(&"vm1.ns.blue.ns.ovn")), (2, true));
}

#[test]
fn what_is_not_ours_is_said() {
    let said = |edit: &dyn Fn(&mut Api)| {
        let mut api = Api::new();
        api.phase(UID, "Pending");
        edit(&mut api);
        let mut store = Store::default();
        let intent = store.turn(&api, UID);
        assert!(store.objects.is_empty());
        labels(&intent)
    };
    assert_eq!(
        said(&|api| {
            api.phase(UID, "");
        }),
        ["NotAccepted"]
    );
    assert_eq!(
        said(&|api| {
            api.phase(UID, "WaitingForSync");
        }),
        ["Decentralized"]
    );
    assert_eq!(
        said(&|api| {
            api.phase(UID, "Synchronizing");
        }),
        ["Decentralized"]
    );
    for way in ["sendTo", "receive"] {
        let edit = |api: &mut Api| api.vmims.get_mut(UID).unwrap()["spec"][way] = json!({"migrationID": "x"});
        assert_eq!(said(&edit), ["Decentralized"]);
    }
    assert_eq!(
        said(&|api| {
            api.pod("pod-b", "n1", UID);
        }),
        ["SameNode"]
    );
    let elsewhere = |api: &mut Api| {
        api.status(&json!({"nodeName": "n9"})).pod("pod-a", "n9", "");
    };
    assert_eq!(said(&elsewhere), ["UnknownNode"]);
    assert_eq!(said(&|api| api.pods.clear()), ["NoSourcePod"]);
    assert_eq!(said(&|api| api.vmi = None), ["NoGuest"]);
    assert_eq!(
        said(&|api| {
            api.status(&json!({"phase": "Succeeded"}));
        }),
        ["NoGuest"]
    );
    let deleting = |api: &mut Api| {
        api.vmims.get_mut(UID).unwrap()["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:05Z")
    };
    assert_eq!(said(&deleting), ["Ended"]);
    // A virtual machine that was started anew is another.
    let younger = |api: &mut Api| {
        api.vmi.as_mut().unwrap()["metadata"]["creationTimestamp"] = json!("2026-01-03T00:00:00Z")
    };
    assert_eq!(said(&younger), ["NoGuest"]);
    let arrived = |api: &mut Api| {
        api.phase(UID, "Running").pod("pod-b", "n2", UID).hand_off(UID, ("pod-a", "n1"), ("pod-b", "n2"));
        api.state(&json!({"targetNodeDomainReadyTimestamp": "2026-01-02T00:00:10Z"}));
    };
    assert_eq!(said(&arrived), ["AlreadyThere"]);
}

/// The port stays pinned to the source, and what is missing is said.
#[test]
fn a_target_node_without_a_chassis_is_waited_for() {
    let mut store = Store::default();
    let mut api = Api::new();
    let intent = store.turn(api.phase(UID, "Pending").pod("pod-b", "n9", UID), UID);
    assert_eq!((store.spec().to.clone(), labels(&intent)), (None, vec!["UnknownNode"]));
    // If none comes before the guest does, the pin is all that there is to take away.
    api.phase(UID, "Running").hand_off(UID, ("pod-a", "n1"), ("pod-b", "n9"));
    store.turn(api.state(&json!({"targetNodeDomainReadyTimestamp": "2026-01-02T00:00:10Z"})), UID);
    assert_eq!(store.want(), Want::Complete);
    store.turn(api.status(&json!({"nodeName": "n9"})), UID);
    assert_eq!(store.want(), Want::Return);
}

/// A guest without any port of OVN is nobody's business, wherever it runs.
#[test]
fn without_a_port_no_chassis_is_missed() {
    let interfaces = json!([{"name": "m", "masquerade": {}}]);
    let mut api = api(interfaces, json!([{"name": "m", "pod": {}}]), json!({}));
    api.status(&json!({"nodeName": "n8"})).pod("pod-b", "n9", UID);
    api.pods.get_mut("pod-a").unwrap()["spec"]["nodeName"] = json!("n8");
    assert_eq!(resolved(&api), ["m=Masquerade"]);
}

#[test]
fn a_controller_that_was_down_comes_in_while_the_memory_is_copied() {
    let mut store = Store::default();
    let mut api = Api::new();
    api.phase(UID, "Running").pod("pod-b", "n2", UID).hand_off(UID, ("pod-a", "n1"), ("pod-b", "n2"));
    // Also if somebody has asked to cancel it, which may come to nothing.
    api.vmims.get_mut(UID).unwrap()["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:05Z");
    store.turn(api.state(&json!({"startTimestamp": "2026-01-02T00:00:09Z"})), UID);
    assert_eq!((store.spec().from.as_str(), store.spec().to.as_deref()), ("c1", Some("c2")));
}

#[test]
fn taking_over_is_asked_for_by_annotation() {
    let take_over = |edit: &dyn Fn(&mut Api)| {
        let mut api = Api::new();
        api.phase(UID, "Pending");
        edit(&mut api);
        let mut store = Store::default();
        store.turn(&api, UID);
        store.spec().take_over
    };
    let annotations = || json!({"limosa.io/take-over": "true"});
    assert!(!take_over(&|_| ()));
    assert!(take_over(&|api| {
        api.vmi.as_mut().unwrap()["metadata"]["annotations"]["limosa.io/take-over"] = json!("true");
    }));
    assert!(take_over(&|api| api.vmims.get_mut(UID).unwrap()["metadata"]["annotations"] = annotations()));
}

#[test]
fn names_are_stable_short_and_never_used_twice() {
    let vmim =
        |name: &str, uid: &str| Vmim::decode(&json!({"metadata": {"name": name, "uid": uid}})).unwrap();
    let move_ = vmim("move", UID);
    assert_eq!(object_name(&move_, "default"), "move-default-aa92a169");
    let others = [
        object_name(&move_, "default"),
        object_name(&vmim("move", "another"), "default"),
        object_name(&move_, "Default"),
        object_name(&move_, "de_fault"),
        object_name(&vmim(&"m".repeat(253), UID), "default"),
        object_name(&vmim(&"m".repeat(253), UID), "other"),
        object_name(&vmim("a.b", UID), "-"),
    ];
    for (i, name) in others.iter().enumerate() {
        assert!(
            name.len() <= 63
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        );
        assert!(name.starts_with(|c: char| c.is_ascii_alphanumeric()));
        assert!(!others[..i].contains(name), "{name}");
    }
}

/// Fields of another type, missing ones, unknown ones: all count as absent.
#[test]
fn nothing_that_kubevirt_says_is_unreadable() {
    let odd = json!({
        "metadata": {"name": "x", "uid": "u", "namespace": 3, "creationTimestamp": "yesterday", "annotations": [], "labels": 7},
        "spec": {"vmiName": {}, "nodeName": 1, "networks": "none", "domain": {"devices": {"interfaces": [1, {}, {"name": "n", "macAddress": "x"}]}}},
        "status": {"phase": 5, "nodeName": null, "migrationState": [], "interfaces": {"a": 1}},
    });
    assert_eq!(Vmim::decode(&odd).unwrap().vmi, "");
    assert_eq!(Pod::decode(&odd).unwrap().node, "");
    let vmi = Vmi::decode(&odd).unwrap();
    assert_eq!((vmi.node.as_str(), vmi.state, vmi.nics.len(), vmi.meta.created), ("", None, 1, None));
    for nothing in [json!(null), json!([]), json!({}), json!({"metadata": {"name": "x"}})] {
        assert!(
            Vmim::decode(&nothing).is_none()
                && Vmi::decode(&nothing).is_none()
                && Pod::decode(&nothing).is_none()
        );
    }
}

#[test]
fn a_standing_pin_is_asked_for_by_annotation() {
    let pins_of = |api: &Api, nodes: &Nodes| {
        let pods: Vec<Pod> = api.pods.values().filter_map(Pod::decode).collect();
        pins(&Vmi::decode(api.vmi.as_ref().unwrap()).unwrap(), &pods.iter().collect::<Vec<_>>(), nodes)
    };
    let mut api = Api::new();
    assert_eq!(pins_of(&api, &nodes()), []);
    api.vmi.as_mut().unwrap()["metadata"]["annotations"]["limosa.io/pin"] = json!("true");
    let pin = Pin { vmi: "ns/vm1".to_owned(), chassis: "c1".to_owned() };
    assert_eq!(pins_of(&api, &nodes()), [(PORT.to_owned(), pin)]);
    assert_eq!(pins_of(&api, &Nodes::default()), []);
    api.status(&json!({"phase": "Succeeded"}));
    assert_eq!(pins_of(&api, &nodes()), []);
}
