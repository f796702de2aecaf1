//! The validation rule: what manifests must be like to be pushed to an account.
//!
//! The rule is a tenant's expression in CEL over what a client sends, so both are bounded here. What a newcomer gets
//! wrong: a manifest that cannot be judged, because the rule fails on it, is refused; the rule is there to keep things out.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, PoisonError, RwLock},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    compiled::Compiled,
    expression::{Author, Expression},
    invalid_field::InvalidField,
};
use crate::oci::{Descriptor, RepoName, media_type::OCI_MANIFEST};

/// What an expression may name.
const VARIABLES: [&str; 6] = [
    "labels",
    "layers",
    "media_type",
    "artifact_type",
    "repo_name",
    "repository",
];

/// How many labels can be required.
const MAX_REQUIRED_LABELS: usize = 64;

/// The longest name of a label, in bytes.
const MAX_LABEL_BYTES: usize = 256;

/// How many labels or layers a manifest may have to be judged by an expression. Images have 127 layers at most.
const MAX_ITEMS: usize = 256;

/// How long the labels of a manifest may be together, in bytes, to be judged by an expression.
const MAX_LABELS_BYTES: usize = 64 * 1024;

/// The repository of the example that a new rule is tried on.
const EXAMPLE_REPO: &str = "example";

/// How many compiled expressions are remembered of all owners together.
const REMEMBERED: usize = 256;

static COMPILED: LazyLock<RwLock<Compiled<Arc<Expression>>>> =
    LazyLock::new(|| RwLock::new(Compiled::new(REMEMBERED)));

/// What manifests must be like. Both members must be satisfied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ValidationRule {
    /// An expression in CEL that must be true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_for_manifest: Option<String>,
    /// Labels that an image must have, whatever their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub required_labels: Vec<String>,
}

/// A manifest as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The auth tenant whose rule is asked.
    pub owner: &'a str,
    /// The repository's name inside the account.
    pub repo: &'a RepoName,
    /// The media type of the manifest.
    pub media_type: &'a str,
    /// Its artifact type, or the media type of its config.
    pub artifact_type: Option<&'a str>,
    /// The labels of the image's config.
    pub labels: &'a BTreeMap<String, String>,
    /// Its layers.
    pub layers: &'a [Descriptor],
}

impl ValidationRule {
    fn rule(&self) -> Option<&str> {
        self.rule_for_manifest
            .as_deref()
            .filter(|rule| !rule.is_empty())
    }

    /// Says what is wrong with the rule, if anything is.
    pub fn validate(&self) -> Result<(), InvalidField> {
        if self.required_labels.len() > MAX_REQUIRED_LABELS {
            let reason = format!("at most {MAX_REQUIRED_LABELS} labels can be required");
            return Err(InvalidField::new("required_labels", reason));
        }
        for (number, label) in self.required_labels.iter().enumerate() {
            if label.is_empty() || label.len() > MAX_LABEL_BYTES {
                let reason = format!("a label has 1 to {MAX_LABEL_BYTES} bytes");
                return Err(InvalidField::new(
                    format!("required_labels[{number}]"),
                    reason,
                ));
            }
        }
        let Some(rule) = self.rule() else {
            return Ok(());
        };
        let invalid = |reason: String| InvalidField::new("rule_for_manifest", reason);
        let compiled = Expression::compile(rule, &VARIABLES, Author::Tenant)
            .map_err(|error| invalid(error.to_string()))?;
        // Nothing tells the type of an expression before it is evaluated. It may fail on the example.
        let repo: RepoName = EXAMPLE_REPO.parse().map_err(|_| invalid(String::new()))?;
        let example = Candidate {
            owner: "",
            repo: &repo,
            media_type: OCI_MANIFEST,
            artifact_type: None,
            labels: &BTreeMap::new(),
            layers: &[],
        };
        match evaluate(&compiled, &example) {
            Ok(Value::Bool(_)) | Err(_) => Ok(()),
            Ok(other) => Err(invalid(format!(
                "it must be true or false; of an empty image it makes {other}"
            ))),
        }
    }

    /// Why a manifest cannot be pushed, if it cannot.
    pub fn refusal(&self, candidate: Candidate<'_>) -> Option<String> {
        let missing: Vec<&str> = self
            .required_labels
            .iter()
            .filter(|label| !candidate.labels.contains_key(*label))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            return Some(format!(
                "the account requires labels that the image does not have: {}",
                missing.join(", ")
            ));
        }
        self.rule().and_then(|rule| refusal_by(rule, candidate))
    }
}

fn refusal_by(rule: &str, candidate: Candidate<'_>) -> Option<String> {
    let labels_bytes: usize = candidate
        .labels
        .iter()
        .map(|(k, v)| k.len() + v.len())
        .sum();
    if candidate.layers.len() > MAX_ITEMS
        || candidate.labels.len() > MAX_ITEMS
        || labels_bytes > MAX_LABELS_BYTES
    {
        return Some(format!(
            "the account has a rule_for_manifest, and no manifest of more than {MAX_ITEMS} layers or labels, or \
             {MAX_LABELS_BYTES} bytes of labels, can be held against it"
        ));
    }
    let result = match compiled(candidate.owner, rule) {
        Err(reason) => Err(reason),
        Ok(compiled) => evaluate(&compiled, &candidate).map_err(|error| error.to_string()),
    };
    match result {
        Ok(Value::Bool(true)) => None,
        Ok(Value::Bool(false)) => Some(format!(
            "the manifest does not satisfy the account's rule_for_manifest: {rule}"
        )),
        Ok(_) => Some(format!(
            "the account's rule_for_manifest is neither true nor false of this manifest: {rule}"
        )),
        Err(reason) => Some(format!(
            "the account's rule_for_manifest cannot judge this manifest, {reason}: {rule}"
        )),
    }
}

/// The expression, which was checked when it was stored.
fn compiled(owner: &str, rule: &str) -> Result<Arc<Expression>, String> {
    let known = COMPILED.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(owner, rule) {
        return Ok(Arc::clone(known));
    }
    drop(known);
    let compiled =
        Expression::compile(rule, &VARIABLES, Author::Tenant).map_err(|error| error.to_string())?;
    let compiled = Arc::new(compiled);
    let mut known = COMPILED.write().unwrap_or_else(PoisonError::into_inner);
    known.insert(owner, rule, (Arc::clone(&compiled), 1));
    Ok(compiled)
}

fn evaluate(
    expression: &Expression,
    candidate: &Candidate<'_>,
) -> Result<Value, super::expression::EvaluationError> {
    let layers: Vec<Value> = candidate
        .layers
        .iter()
        .map(|layer| {
            json!({ "media_type": layer.media_type, "digest": layer.digest.as_str(), "size": layer.size })
        })
        .collect();
    let (labels, layers) = (json!(candidate.labels), Value::Array(layers));
    let repo = json!(candidate.repo.as_str());
    expression.evaluate(&[
        ("labels", &labels),
        ("layers", &layers),
        ("media_type", &json!(candidate.media_type)),
        (
            "artifact_type",
            &json!(candidate.artifact_type.unwrap_or_default()),
        ),
        ("repo_name", &repo),
        ("repository", &repo),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Digest};

    fn rule(text: &str) -> ValidationRule {
        ValidationRule {
            rule_for_manifest: Some(text.to_owned()),
            required_labels: Vec::new(),
        }
    }

    fn layer(size: u64) -> Descriptor {
        serde_json::from_value(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": Digest::of(Algorithm::Sha256, &size.to_le_bytes()), "size": size,
        }))
        .unwrap()
    }

    fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        let labels = labels.iter();
        labels
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn a_rule_sees_the_manifest() {
        let repo = "team/app".parse().unwrap();
        let (labels, layers) = (
            labels(&[("owner", "ann"), ("a.b/c", "1")]),
            [layer(10), layer(20)],
        );
        let candidate = Candidate {
            owner: "tests",
            repo: &repo,
            media_type: OCI_MANIFEST,
            artifact_type: Some("application/vnd.example"),
            labels: &labels,
            layers: &layers,
        };
        for (text, is_taken) in [
            ("'owner' in labels && 'a.b/c' in labels", true),
            ("'license' in labels", false),
            ("labels.owner == 'ann'", true),
            ("labels['a.b/c'] == '1'", true),
            ("labels.license == 'MIT'", false),
            ("has(labels.license) && labels.license == 'MIT'", false),
            ("repo_name == 'team/app' && repository == repo_name", true),
            ("layers.all(l, l.size < 100)", true),
            (
                "layers.exists(l, l.size > 15 && l.digest.startsWith('sha256:'))",
                true,
            ),
            ("size(layers) == 1", false),
            ("layers.all(l, l.media_type.endsWith('+gzip'))", true),
            (
                "media_type == 'application/vnd.oci.image.manifest.v1+json'",
                true,
            ),
            ("artifact_type != 'application/vnd.example'", false),
            ("layers.exists(l, l.size / (size(labels) - 2) > 0)", false),
        ] {
            let rule = rule(text);
            assert_eq!(rule.validate(), Ok(()), "{text}");
            for _ in 0..2 {
                let refusal = rule.refusal(candidate);
                assert_eq!(refusal.is_none(), is_taken, "{text}: {refusal:?}");
                assert!(refusal.is_none_or(|reason| reason.contains(text)));
            }
        }
    }

    #[test]
    fn labels_that_are_missing_are_named() {
        let repo = "app".parse().unwrap();
        let labels = labels(&[("b", "")]);
        let candidate = Candidate {
            owner: "tests",
            repo: &repo,
            media_type: OCI_MANIFEST,
            artifact_type: None,
            labels: &labels,
            layers: &[],
        };
        let mut rule = ValidationRule {
            rule_for_manifest: None,
            required_labels: vec!["a".into(), "b".into(), "c".into()],
        };
        assert!(rule.refusal(candidate).unwrap().ends_with(": a, c"));
        rule.required_labels = vec!["b".into()];
        assert_eq!(rule.refusal(candidate), None);
        // Both are asked.
        rule.rule_for_manifest = Some("false".into());
        assert!(rule.refusal(candidate).is_some());
        rule.rule_for_manifest = Some(String::new());
        assert_eq!(rule.refusal(candidate), None);
    }

    #[test]
    fn rules_that_cannot_be_used_are_refused_at_their_place() {
        for (text, reason) in [
            ("'a' in", "line 1, column "),
            (
                "true &&\n 'a' in label",
                "line 2, column 9: it names \"label\"",
            ),
            ("labels.a.shout()", "it calls \"shout\""),
            ("'a'", "it must be true or false"),
            ("size(layers)", "it must be true or false"),
            ("labels", "it must be true or false"),
        ] {
            let refused = rule(text).validate().unwrap_err();
            assert_eq!(refused.path, "rule_for_manifest");
            assert!(refused.reason.contains(reason), "{text}: {refused}");
        }
        let many = ValidationRule {
            rule_for_manifest: None,
            required_labels: vec!["a".to_owned(); MAX_REQUIRED_LABELS + 1],
        };
        assert_eq!(many.validate().unwrap_err().path, "required_labels");
        let empty = ValidationRule {
            rule_for_manifest: None,
            required_labels: vec!["a".into(), String::new()],
        };
        assert_eq!(empty.validate().unwrap_err().path, "required_labels[1]");
    }

    #[test]
    fn a_manifest_that_is_too_much_for_a_rule_is_refused() {
        let repo = "app".parse().unwrap();
        let (none, long) = (labels(&[]), labels(&[("a", &"x".repeat(MAX_LABELS_BYTES))]));
        let many: Vec<_> = (0..=MAX_ITEMS as u64).map(layer).collect();
        for (labels, layers, is_taken) in [
            (&none, &many[1..], true),
            (&none, &many[..], false),
            (&long, &many[..1], false),
        ] {
            let candidate = Candidate {
                owner: "tests",
                repo: &repo,
                media_type: OCI_MANIFEST,
                artifact_type: None,
                labels,
                layers,
            };
            assert_eq!(rule("true").refusal(candidate).is_none(), is_taken);
        }
    }
}
