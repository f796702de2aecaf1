//! `GET /v2/<name>/referrers/<digest>`

use std::collections::BTreeSet;

use kontor::oci::{Algorithm, Digest};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::helpers::{REPO, header, next_page};
use crate::support::{
    TestRegistry, assert_oci_error,
    image::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, descriptor, digest},
};

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A manifest about `subject`, of the type `artifact_type`.
fn artifact(subject: &Digest, artifact_type: &str) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": descriptor(EMPTY, b"{}"),
        "layers": [],
        "subject": { "mediaType": OCI_MANIFEST, "digest": subject, "size": 7 },
    })
}

async fn push(registry: &TestRegistry, manifest: &Value) -> Digest {
    registry.push_blob(REPO, b"{}").await;
    let reference = digest(&serde_json::to_vec(manifest).unwrap());
    registry
        .push_manifest(REPO, reference.as_str(), manifest)
        .await
}

async fn list(registry: &TestRegistry, subject: &Digest, query: &str) -> Response {
    registry
        .get(&format!("/v2/{REPO}/referrers/{subject}{query}"))
        .await
}

async fn manifests(answer: Response) -> Vec<Value> {
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-type"), OCI_INDEX);
    let index: Value = answer.json().await.unwrap();
    assert_eq!(
        (&index["schemaVersion"], &index["mediaType"]),
        (&json!(2), &json!(OCI_INDEX))
    );
    index["manifests"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_nobody_refers_to_has_an_empty_index() {
    let registry = TestRegistry::start().await;
    registry.push_image(REPO, "v1", 1).await;
    for repo in [REPO, "demo/unknown", "unknown/app"] {
        let answer = registry
            .get(&format!("/v2/{repo}/referrers/{}", digest(b"unknown")))
            .await;
        assert_eq!(next_page(&answer), None);
        assert!(answer.headers().get("oci-filters-applied").is_none());
        assert!(manifests(answer).await.is_empty());
    }
}

#[tokio::test]
async fn a_bad_digest_is_400() {
    let registry = TestRegistry::start().await;
    for bad in [
        "sha256:abc",
        "nonsense",
        "v1",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let answer = registry.get(&format!("/v2/{REPO}/referrers/{bad}")).await;
        assert_oci_error(answer, 400, "DIGEST_INVALID").await;
    }
    let answer = list(&registry, &digest(b"x"), "?last=nonsense").await;
    assert_oci_error(answer, 400, "DIGEST_INVALID").await;
}

#[tokio::test]
async fn an_entry_describes_its_manifest() {
    let registry = TestRegistry::start().await;
    let subject = digest(b"subject");
    let mut manifest = artifact(&subject, "application/x-sbom");
    manifest["annotations"] = json!({ "org.example.key": "value", "two": "\u{e9}" });
    let reference = push(&registry, &manifest).await;
    let entries = manifests(list(&registry, &subject, "").await).await;
    assert_eq!(
        entries,
        [json!({
            "mediaType": OCI_MANIFEST,
            "digest": reference,
            "size": serde_json::to_vec(&manifest).unwrap().len(),
            "annotations": manifest["annotations"],
            "artifactType": "application/x-sbom",
        })]
    );
}

#[tokio::test]
async fn the_artifact_type_of_an_image_without_one_is_that_of_its_config() {
    let registry = TestRegistry::start().await;
    let subject = digest(b"subject");
    let mut image = registry.push_image(REPO, "v1", 1).await;
    image["subject"] = json!({ "digest": subject, "size": 7 });
    push(&registry, &image).await;
    push(&registry, &artifact(&subject, "")).await;
    let entries = manifests(list(&registry, &subject, "").await).await;
    let types: BTreeSet<&str> = entries
        .iter()
        .map(|entry| entry["artifactType"].as_str().unwrap())
        .collect();
    assert_eq!(types, BTreeSet::from([OCI_CONFIG, EMPTY]));
}

#[tokio::test]
async fn an_index_can_refer_to_something_and_needs_no_artifact_type() {
    let registry = TestRegistry::start().await;
    let subject = digest(b"subject");
    let subject_descriptor = json!({ "mediaType": OCI_MANIFEST, "digest": subject, "size": 7 });
    let plain = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject_descriptor });
    let reference = push(&registry, &plain).await;
    let entries = manifests(list(&registry, &subject, "").await).await;
    assert_eq!(entries[0]["digest"], reference.as_str());
    assert_eq!(entries[0]["mediaType"], OCI_INDEX);
    assert!(entries[0].get("artifactType").is_none());
}

#[tokio::test]
async fn a_filter_is_applied_and_said_to_be() {
    let registry = TestRegistry::start().await;
    let subject = digest(b"subject");
    let sbom = push(&registry, &artifact(&subject, "application/x-sbom+json")).await;
    push(&registry, &artifact(&subject, "application/x-signature")).await;
    assert_eq!(
        manifests(list(&registry, &subject, "").await).await.len(),
        2
    );
    for (filter, expected) in [
        ("application/x-sbom%2Bjson", vec![json!(sbom)]),
        ("application%2Fx-sbom%2Bjson", vec![json!(sbom)]),
        ("application/x-sbom", vec![]),
        ("application/x-unknown", vec![]),
    ] {
        let answer = list(&registry, &subject, &format!("?artifactType={filter}")).await;
        assert_eq!(
            header(&answer, "oci-filters-applied"),
            "artifactType",
            "{filter}"
        );
        let found: Vec<Value> = manifests(answer)
            .await
            .iter()
            .map(|entry| entry["digest"].clone())
            .collect();
        assert_eq!(found, expected, "{filter}");
    }
}

#[tokio::test]
async fn referrers_of_other_subjects_and_repositories_are_not_listed() {
    let registry = TestRegistry::start().await;
    let subject = digest(b"subject");
    let ours = push(&registry, &artifact(&subject, "ours")).await;
    push(&registry, &artifact(&digest(b"another"), "theirs")).await;
    registry.push_blob("demo/other", b"{}").await;
    registry
        .push_manifest("demo/other", "v1", &artifact(&subject, "theirs"))
        .await;
    let entries = manifests(list(&registry, &subject, "").await).await;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["digest"], ours.as_str());
}

#[tokio::test]
async fn manifests_under_the_fallback_tag_are_listed_once() {
    let registry = TestRegistry::start().await;
    for subject in [
        digest(b"subject"),
        Digest::of(Algorithm::Sha512, b"subject"),
    ] {
        // One refers to the subject itself, the other only stands in the index of the tag.
        let known = artifact(&subject, "known");
        let mut by_tag = artifact(&subject, "by-tag");
        by_tag.as_object_mut().unwrap().remove("subject");
        by_tag["annotations"] = json!({ "of": subject });
        let expected = BTreeSet::from([
            push(&registry, &known).await,
            push(&registry, &by_tag).await,
        ]);
        let children: Vec<Value> = [&known, &by_tag]
            .map(|child| descriptor(OCI_MANIFEST, &serde_json::to_vec(child).unwrap()))
            .into();
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children });
        let hex = &subject.hex()[..64];
        registry
            .push_manifest(REPO, &format!("{}-{hex}", subject.algorithm()), &index)
            .await;
        let entries = manifests(list(&registry, &subject, "").await).await;
        assert_eq!(entries.len(), 2, "{entries:?}");
        let found: BTreeSet<Digest> = entries
            .iter()
            .map(|entry| entry["digest"].as_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn more_than_a_hundred_are_linked_and_the_filter_stays() {
    let registry = TestRegistry::start().await;
    let subject = digest(b"subject");
    registry.push_blob(REPO, b"{}").await;
    let mut expected = [BTreeSet::new(), BTreeSet::new()];
    for number in 0..210 {
        let mut manifest = artifact(
            &subject,
            if number % 2 == 0 {
                "x/even"
            } else {
                "x/odd+json"
            },
        );
        manifest["annotations"] = json!({ "number": number.to_string() });
        let reference = registry
            .push_manifest(REPO, &format!("t{number}"), &manifest)
            .await;
        expected[number % 2].insert(reference.to_string());
    }
    let all: BTreeSet<String> = expected.iter().flatten().cloned().collect();
    for (query, expected) in [
        ("", &all),
        ("?artifactType=x/even", &expected[0]),
        ("?artifactType=x/odd%2Bjson", &expected[1]),
    ] {
        let (mut found, mut pages) = (Vec::new(), 0);
        let mut page = Some(format!("/v2/{REPO}/referrers/{subject}{query}"));
        while let Some(address) = page {
            let answer = registry.get(&address).await;
            assert_eq!(
                answer.headers().contains_key("oci-filters-applied"),
                !query.is_empty()
            );
            page = next_page(&answer);
            let entries = manifests(answer).await;
            found.extend(
                entries
                    .iter()
                    .map(|entry| entry["digest"].as_str().unwrap().to_owned()),
            );
            pages += 1;
        }
        assert!(pages >= 2 || !query.is_empty(), "{query}");
        assert_eq!(found.len(), expected.len(), "{query}");
        assert_eq!(
            found.into_iter().collect::<BTreeSet<_>>(),
            *expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_deleted_referrer_is_not_listed() {
    let registry = TestRegistry::start().await;
    let subject = digest(b"subject");
    let reference = push(&registry, &artifact(&subject, "x/y")).await;
    assert_eq!(
        registry
            .delete(&format!("/v2/{REPO}/manifests/{reference}"))
            .await
            .status(),
        202
    );
    assert!(
        manifests(list(&registry, &subject, "").await)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn listing_needs_pull() {
    let registry = TestRegistry::start().await;
    let path = format!("/v2/{REPO}/referrers/{}", digest(b"subject"));
    let answer = registry.anonymous(Method::GET, &path).send().await.unwrap();
    assert!(header(&answer, "www-authenticate").ends_with("scope=\"repository:demo/app:pull\""));
    assert_oci_error(answer, 401, "UNAUTHORIZED").await;
    let answer = registry
        .as_user("other", Method::GET, &path)
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 403, "DENIED").await;
}
