//! Whether agents and controllers may do what they have to, by the rules that
//! the chart gives them. Needs the right to ask for others (SubjectAccessReview).

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::PostParams;
use kube::{Api, Client};

use super::{Accounts, Report, some};
use crate::store::Access;

const AGENT_RULES: &str = include_str!("../../../../charts/limosa/files/agent-rules.yaml");
const CONTROLLER_RULES: &str = include_str!("../../../../charts/limosa/files/controller-rules.yaml");

pub(super) async fn check(report: &mut Report, access: &Access, accounts: &Accounts) {
    let client = match access.client().await {
        Ok((client, _)) => client,
        Err(error) => return report.skip("permissions", error.to_string()),
    };
    let asked = [
        ("agent-rbac", &accounts.agent, AGENT_RULES),
        ("controller-rbac", &accounts.controller, CONTROLLER_RULES),
    ];
    for (name, account, rules) in asked {
        match refusals(&client, account, rules).await {
            Ok(refused) if refused.is_empty() => {
                report.ok(name, format!("service account {account} may do what it has to"));
            }
            Ok(refused) => report.fail(
                name,
                format!("service account {account} may not {}", some(&refused)),
                "install the chart's roles (charts/limosa/files), or name the account that is used (--agent-account, --controller-account)",
            ),
            Err(error) => report.skip(name, format!("cannot be asked: {error:#}")),
        }
    }
}

/// What the rules need and the account may not do, as `VERB RESOURCE.GROUP`.
async fn refusals(client: &Client, account: &str, rules: &str) -> anyhow::Result<Vec<String>> {
    let rules: Vec<PolicyRule> = serde_saphyr::from_str(rules)?;
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let (namespace, name) = account.split_once('/').unwrap_or(("default", account));
    let user = format!("system:serviceaccount:{namespace}:{name}");
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".to_owned(),
    ];
    let mut refused = Vec::new();
    for rule in rules {
        for (group, resource, verb) in needs(&rule) {
            let (resource, subresource) = match resource.split_once('/') {
                Some((resource, part)) => (resource.to_owned(), Some(part.to_owned())),
                None => (resource.to_owned(), None),
            };
            let what = match &subresource {
                Some(part) => format!("{verb} {resource}/{part}.{group}"),
                None => format!("{verb} {resource}.{group}"),
            };
            let resource_attributes = Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource),
                subresource,
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            });
            let spec = SubjectAccessReviewSpec {
                user: Some(user.clone()),
                groups: Some(groups.clone()),
                resource_attributes,
                ..SubjectAccessReviewSpec::default()
            };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let review = reviews.create(&PostParams::default(), &review).await?;
            if !review.status.is_some_and(|status| status.allowed) {
                refused.push(what.trim_end_matches('.').to_owned());
            }
        }
    }
    Ok(refused)
}

fn needs(rule: &PolicyRule) -> impl Iterator<Item = (&str, &str, &str)> {
    let groups = rule.api_groups.iter().flatten();
    groups.flat_map(move |group| {
        let resources = rule.resources.iter().flatten();
        resources.flat_map(move |resource| {
            rule.verbs.iter().map(move |verb| (group.as_str(), resource.as_str(), verb.as_str()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_rules_can_be_asked_for() {
        for rules in [AGENT_RULES, CONTROLLER_RULES] {
            let rules: Vec<PolicyRule> = serde_saphyr::from_str(rules).unwrap();
            let needs: Vec<_> = rules.iter().flat_map(needs).collect();
            assert!(needs.contains(&("limosa.io", "portmigrations/status", "patch")), "{needs:?}");
        }
    }
}
