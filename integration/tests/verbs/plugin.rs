//! On a real API server: `kubectl limosa`, and permissions that are missing.

use std::os::unix::fs::symlink;
use std::process::Command;

use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{Patch, PatchParams};
use limosa_lab::demo::Limosa;
use limosa_lab::kube::{ApiServer, fresh_namespace, limosa};
use serde_json::{Value, json};

use super::findings::{AGENT_MAY_NOT, NO_NORTHBOUND, NO_SOUTHBOUND, assert_found};

#[tokio::test]
async fn kubectl_has_the_verbs_and_missing_permissions_are_found() {
    let server = ApiServer::launch().await.unwrap();
    let client = server.client().await.unwrap();
    limosa::install(&client).await.unwrap();
    let namespace = fresh_namespace(&client).await.unwrap();
    let binary = Limosa::binary().unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink(&binary, dir.path().join("kubectl-limosa")).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let kubectl = |args: &[&str]| {
        let mut command = Command::new("kubectl");
        command.arg("limosa").args(args).env("PATH", &path).env("KUBECONFIG", server.kubeconfig());
        let output = command.output().expect("kubectl: run integration/install.sh");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (fine, _) = kubectl(&["migrate", "vm1", "--from", "a", "--to", "b", "--name", "m", "-n", &namespace]);
    assert!(fine);
    let (fine, shown) = kubectl(&["status", "m", "-n", &namespace, "-o", "json"]);
    assert!(fine && shown.contains("\"PortMigration\""), "{shown}");

    // There is no OVN here, and the check says so as well.
    let dead = format!("unix:{}/nothing.sock", dir.path().display());
    let check = || {
        let (fine, shown) = kubectl(&["check", "--nb", &dead, "--sb", &dead, "-o", "json"]);
        assert!(!fine);
        let report: Value = serde_json::from_str(&shown).unwrap();
        let checks = report["checks"].as_array().unwrap().clone();
        let verdict = |name: &str| checks.iter().find(|c| c["name"] == name).unwrap().clone();
        assert_found(&verdict("northbound"), NO_NORTHBOUND);
        assert_found(&verdict("southbound"), NO_SOUTHBOUND);
        assert_eq!(verdict("store")["verdict"], "ok");
        (verdict("agent-rbac"), verdict("controller-rbac"))
    };
    let (agent, controller) = check();
    assert_eq!((agent["verdict"].as_str(), controller["verdict"].as_str()), (Some("ok"), Some("ok")));

    let roles: Api<ClusterRole> = Api::all(client);
    let less = json!({"rules": [{"apiGroups": ["limosa.io"], "resources": ["portmigrations"], "verbs": ["get", "list"]}]});
    roles.patch("limosa-agent", &PatchParams::default(), &Patch::Merge(less)).await.unwrap();
    // The server's authorizer follows its own watch.
    let deadline = tokio::time::Instant::now() + super::DEADLINE;
    loop {
        let (agent, controller) = check();
        assert_eq!(controller["verdict"], "ok");
        if agent["verdict"] == "failed" {
            assert_found(&agent, AGENT_MAY_NOT);
            let found = agent["found"].as_str().unwrap();
            assert!(
                found.contains("watch portmigrations.limosa.io")
                    && found.contains("patch portmigrations/status"),
                "{found}"
            );
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{agent}");
    }
}
