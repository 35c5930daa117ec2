//! What the chart makes of its values. The manifests in `integration/kubernetes/golden` are reviewed; `LIMOSA_RENEW=1`
//! writes them anew.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use limosa_lab::kube::limosa::{NAMESPACE, chart, helm, manifests, render};
use limosa_lab::kube::{ApiServer, apply};
use serde_json::{Value, json};

/// The newest that Helm is told of here.
const RECENT: &str = "1.34.0";
/// That of the tests' server; older than policy/v1.
const OLD: &str = "1.20.2";

/// A file's name, a server's version, and values.
const CASES: [(&str, &str, &[&str]); 5] = [
    ("kube-ovn", RECENT, &["cni=kube-ovn"]),
    ("kube-ovn-tls", OLD, &["cni=kube-ovn", "ovn.tls.enabled=true", "ovn.hosts={10.0.0.1,fd00::1}"]),
    ("ovn-kubernetes", RECENT, &["cni=ovn-kubernetes", "ovn.tls.enabled=true"]),
    ("plain", RECENT, &["cni=plain", "ovn.nb=ssl:db:16641", "ovn.sb=ssl:db:16642"]),
    (
        "everything",
        RECENT,
        &[
            "cni=plain",
            "ovn.hosts={db1,db2}",
            "ovn.tls.enabled=true",
            "ovn.tls.secretName=mine",
            "ovn.tls.caConfigMap=authority",
            "fullnameOverride=handover",
            "watchNamespace=vms",
            "image.repository=example.org/limosa",
            "image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "image.pullSecrets={pull}",
            "agent.runAsUser=42",
            "agent.ovsRundir=/srv/ovs",
            "agent.hostNetwork=true",
            "agent.seLinuxOptions.type=spc_t",
            "agent.updateStrategy.type=OnDelete",
            "agent.updateStrategy.rollingUpdate=null",
            "agent.extraArgs={--chassis=hv1}",
            "agent.podLabels.team=net",
            "controller.podAnnotations.note=\"1\"",
            "controller.replicas=3",
            "controller.kubevirt.takeOver=true",
            "controller.traces.endpoint=http://collector.traces:4318",
            "controller.extraEnv[0].name=RUST_BACKTRACE",
            "controller.extraEnv[0].value=full",
            "monitoring.serviceMonitor.enabled=true",
            "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring",
        ],
    ),
];

#[test]
fn the_manifests_are_those_that_were_reviewed() {
    let renew = std::env::var("LIMOSA_RENEW").is_ok_and(|value| value == "1");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/golden");
    for (name, version, values) in CASES {
        let path = dir.join(format!("{name}.yaml"));
        let made = manifests(version, values).unwrap();
        if renew {
            std::fs::write(&path, &made).unwrap();
        }
        let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            made == reviewed,
            "{} is not what the chart makes: LIMOSA_RENEW=1, then review it",
            path.display()
        );
    }
}

#[test]
fn the_chart_is_tidy() {
    let chart = chart();
    let path = chart.to_str().unwrap();
    for cni in ["cni=kube-ovn", "cni=ovn-kubernetes", "cni=plain,ovn.hosts={db}"] {
        helm(["lint", "--strict", "--quiet", "--set", cni, path]).unwrap();
    }
    let version = format!("version: {}\nappVersion: {0}\n", env!("CARGO_PKG_VERSION"));
    assert!(
        std::fs::read_to_string(chart.join("Chart.yaml")).unwrap().contains(&version),
        "of another version"
    );
}

/// Each with what the refusal has to name.
const REFUSED: [(&str, &str); 11] = [
    ("cni=calico", "/cni"),
    ("cni=plain", "ovn.hosts"),
    ("ovn.nb=10.0.0.1:6641", "/ovn/nb"),
    ("ovn.nb=unix:/run/ovn/ovnnb_db.sock", "/ovn/nb"),
    ("agent.ovsRundir=run", "/agent/ovsRundir"),
    ("agent.lingerSeconds=-1", "/agent/lingerSeconds"),
    ("agent.lingerseconds=1", "lingerseconds"),
    ("controller.runAsUser=0", "/controller/runAsUser"),
    ("controller.lease.name=Limosa", "/controller/lease/name"),
    ("metrics.port=70000", "/metrics/port"),
    ("uninstall.timeout=soon", "/uninstall/timeout"),
];

#[test]
fn bad_values_are_refused_by_name() {
    for (value, named) in REFUSED {
        let error = format!("{:#}", render(RECENT, &[value]).expect_err(value));
        assert!(error.contains(named), "{value}: {error}");
    }
    let no_secret = ["cni=plain", "ovn.hosts={db}", "ovn.tls.enabled=true"];
    let error = format!("{:#}", render(RECENT, &no_secret).unwrap_err());
    assert!(error.contains("ovn.tls.secretName"), "{error}");
}

/// What a security review looks for, whatever the values are.
#[test]
fn no_pod_has_more_than_it_needs() {
    for (name, version, values) in CASES {
        let objects = render(version, values).unwrap();
        let mut pods = 0;
        for object in &objects {
            let spec = match object["kind"].as_str().unwrap() {
                "DaemonSet" | "Deployment" | "Job" => &object["spec"]["template"]["spec"],
                "Pod" => &object["spec"],
                _ => continue,
            };
            pods += 1;
            let container = &spec["containers"][0]["securityContext"];
            let what = format!("{name}: {}", object["metadata"]["name"]);
            assert_eq!(container["capabilities"]["drop"][0], "ALL", "{what}");
            assert!(container["capabilities"].get("add").is_none(), "{what}");
            assert_eq!(container["readOnlyRootFilesystem"], true, "{what}");
            assert_eq!(container["allowPrivilegeEscalation"], false, "{what}");
            assert_eq!(container["seccompProfile"]["type"], "RuntimeDefault", "{what}");
            assert!(container.get("privileged").is_none(), "{what}");
            assert!(spec.get("hostPID").is_none(), "{what}");
            let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
            let of_the_node: Vec<_> = volumes.iter().filter_map(|volume| volume.get("hostPath")).collect();
            assert_eq!(
                of_the_node.len(),
                usize::from(object["kind"] == "DaemonSet"),
                "{what}: {of_the_node:?}"
            );
            let mounts = spec["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
            assert!(mounts.iter().all(|mount| mount["readOnly"] == true), "{what}: {mounts:?}");
        }
        assert_eq!(pods, 4, "{name}");
    }
}

/// Dashboards and rules are whatever files there are.
#[test]
fn dashboards_and_rules_are_the_files_themselves() {
    let objects =
        render(RECENT, &["monitoring.rules.enabled=true", "monitoring.dashboards.enabled=true"]).unwrap();
    let names = |dir: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(chart().join("files").join(dir)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let read =
        |dir: &str, name: &str| std::fs::read_to_string(chart().join("files").join(dir).join(name)).unwrap();
    let of_kind =
        |kind: &str| -> Vec<&Value> { objects.iter().filter(|object| object["kind"] == kind).collect() };
    let dashboards = of_kind("ConfigMap");
    assert_eq!(dashboards.len(), names("dashboards").len());
    for name in names("dashboards") {
        let text = read("dashboards", &name);
        assert!(dashboards.iter().any(|map| map["data"][&name] == text.as_str()), "{name}");
    }
    let rules = of_kind("PrometheusRule");
    assert_eq!(rules.len(), names("rules").len());
    for name in names("rules") {
        let groups: Value = serde_saphyr::from_str(&read("rules", &name)).unwrap();
        assert!(rules.iter().any(|rule| rule["spec"] == groups), "{name}");
    }
}

/// `helm template | kubectl apply` on a real server, which checks every field.
#[tokio::test]
async fn a_server_takes_what_the_chart_makes() {
    let server = ApiServer::shared().await.unwrap();
    let client = server.client().await.unwrap();
    let version = client.apiserver_version().await.unwrap().git_version;
    for namespace in [NAMESPACE, "vms"] {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        apply(&client, &object.to_string()).await.unwrap();
    }
    for (name, _, values) in CASES {
        // Not of Kubernetes itself.
        let known: Vec<&str> =
            values.iter().copied().filter(|value| !value.contains("serviceMonitor")).collect();
        let list = manifests(&version, &known).unwrap();
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(server.kubeconfig()).args(["apply", "--dry-run=server", "-f", "-"]);
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut child = kubectl.spawn()?;
            child.stdin.take().map(|mut stdin| stdin.write_all(list.as_bytes())).transpose()?;
            child.wait_with_output()
        });
        let output = output.await.unwrap().expect("kubectl: run integration/install.sh");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
