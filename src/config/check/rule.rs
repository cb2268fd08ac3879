//! Checks one rule's conditions and transforms against ALB's limits.

use super::Findings;
use crate::config::field_path::FieldPath;
use crate::model::{Condition, Rule, Transform, quoted};

/// Values of one condition (ELB quota "match evaluations per condition", fixed).
const VALUES_PER_CONDITION: usize = 3;
/// Networks of one condition (ELBv2 `SourceIpConditionConfig`).
const NETWORKS_PER_CONDITION: usize = 5;
/// Values of all conditions of a rule (ELB quota "match evaluations per rule"). More cost nothing here, so more are
/// only warned about.
const VALUES_PER_RULE: usize = 5;
/// Wildcards of a rule (ELB quota, fixed).
const WILDCARDS_PER_RULE: usize = 6;
/// Longest regular expression and longest replacement of a transform, in characters.
const REWRITE_MAX: usize = 1024;

pub(super) fn check(rule: &Rule, path: &FieldPath, findings: &mut Findings) {
    let conditions = path.field("conditions");
    if rule.conditions.is_empty() {
        let remedy = "write at least one, or move its action to default_actions";
        findings.error(
            &conditions,
            "a rule without conditions would match everything",
            remedy,
        );
    }
    for (index, condition) in rule.conditions.iter().enumerate() {
        let path = conditions.index(index);
        check_condition(condition, &path, findings);
        check_repeated(
            &rule.conditions[..index],
            condition,
            &path,
            &conditions,
            findings,
        );
    }
    let values: usize = rule.conditions.iter().map(Condition::value_count).sum();
    if values > VALUES_PER_RULE {
        let message =
            format!("the rule compares with {values} values, and an ALB takes {VALUES_PER_RULE}");
        findings.warning(
            &conditions,
            message,
            "keep it, or split it in two rules before moving to an ALB",
        );
    }
    let wildcards: usize = rule.conditions.iter().map(Condition::wildcard_count).sum();
    if wildcards > WILDCARDS_PER_RULE {
        let message = format!("the rule has {wildcards} wildcards, '*' and '?' counted together");
        let remedy = format!(
            "use at most {WILDCARDS_PER_RULE}, or split it in two rules with the same action"
        );
        findings.error(&conditions, message, remedy);
    }
    check_transforms(rule, &path.field("transforms"), findings);
}

fn check_condition(condition: &Condition, path: &FieldPath, findings: &mut Findings) {
    let path = path.field(condition.field());
    let path = match condition {
        Condition::HttpHeader { .. } => path.field("values"),
        _ => path,
    };
    let most = match condition {
        Condition::SourceIp(_) => NETWORKS_PER_CONDITION,
        _ => VALUES_PER_CONDITION,
    };
    match condition.value_count() {
        0 => {
            findings.error(
                &path,
                "the condition compares with nothing",
                "write at least one value",
            );
        }
        count if count > most => {
            let message = format!("the condition has {count} values");
            let remedy = format!(
                "write at most {most}, and put the others in another rule with the same action"
            );
            findings.error(&path, message, remedy);
        }
        _ => {}
    }
    if let Condition::PathPattern(patterns) = condition {
        for pattern in patterns {
            let text = pattern.as_str();
            if !text.starts_with(['/', '*', '?']) {
                let message = format!(
                    "{} never matches, because every path begins with '/'",
                    quoted(text)
                );
                findings.warning(
                    &path,
                    message,
                    format!("write {}", quoted(&format!("/{text}"))),
                );
            }
        }
    }
}

/// ELB takes headers and queries any number of times, the other conditions once a rule.
fn check_repeated(
    earlier: &[Condition],
    condition: &Condition,
    path: &FieldPath,
    conditions: &FieldPath,
    findings: &mut Findings,
) {
    if matches!(
        condition,
        Condition::HttpHeader { .. } | Condition::QueryString(_)
    ) {
        return;
    }
    let field = condition.field();
    if let Some(first) = earlier.iter().position(|other| other.field() == field) {
        let message = format!("a rule has one '{field}' condition, and conditions[{first}] is it");
        let remedy = "put its values in one list: they are alternatives";
        findings
            .error(&path.field(field), message, remedy)
            .rests_on([path.clone(), conditions.index(first)]);
    }
}

fn check_transforms(rule: &Rule, transforms: &FieldPath, findings: &mut Findings) {
    let mut kinds: Vec<&str> = Vec::new();
    for (index, transform) in rule.transforms.iter().enumerate() {
        let (kind, regex, replace) = match transform {
            Transform::UrlRewrite { regex, replace } => ("url_rewrite", regex, replace),
            Transform::HostHeaderRewrite { regex, replace } => {
                ("host_header_rewrite", regex, replace)
            }
        };
        let path = transforms.index(index).field(kind);
        if kinds.contains(&kind) {
            let message = format!("a rule has at most one '{kind}'");
            findings
                .error(&path, message, "keep one")
                .rests_on([transforms.clone()]);
        }
        kinds.push(kind);
        for (name, text) in [("regex", regex), ("replace", replace)] {
            let length = text.chars().count();
            if length > REWRITE_MAX {
                let message = format!("it has {length} characters");
                findings.error(
                    &path.field(name),
                    message,
                    format!("shorten it to {REWRITE_MAX}"),
                );
            }
        }
        if regex.is_empty() {
            findings.error(
                &path.field("regex"),
                "the regular expression is empty",
                "write '^.*$' to match everything",
            );
        }
    }
}
