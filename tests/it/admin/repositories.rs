//! `/api/v1/accounts/<account>/repositories`

use std::collections::BTreeSet;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::TestRegistry;

const REPOSITORIES: &str = "/api/v1/accounts/demo/repositories";

async fn send(registry: &TestRegistry, user: &str, method: Method, path: &str) -> Response {
    registry.as_user(user, method, path).send().await.unwrap()
}

async fn shown(registry: &TestRegistry, path: &str) -> Value {
    let answer = send(registry, "admin", Method::GET, path).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.unwrap()
}

async fn problem(answer: Response, status: u16) -> Value {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    answer.json().await.unwrap()
}

/// What `key` is of all entries on all pages.
async fn walk(registry: &TestRegistry, path: &str, key: &str) -> Vec<String> {
    let list = match path.rsplit('/').next().unwrap() {
        "_manifests" => "manifests",
        "_tags" => "tags",
        _ => "repositories",
    };
    let (mut found, mut last) = (Vec::new(), String::new());
    loop {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("limit", "3")
            .append_pair("last", &last)
            .finish();
        let page = shown(registry, &format!("{path}?{query}")).await;
        let entries = page[list].as_array().unwrap();
        assert!(entries.len() <= 3);
        found.extend(entries.iter().map(|e| e[key].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut last),
            None => return found,
        }
    }
}

#[tokio::test]
async fn a_repository_is_shown_with_what_it_has() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/team/app", "v1", 1).await;
    registry.push_image("demo/team/app", "v2", 1).await;
    registry.push_image("demo/team/app", "v3", 3).await;
    let list = shown(&registry, REPOSITORIES).await;
    let repo = &list["repositories"][0];
    assert_eq!(repo["name"], "team/app");
    assert_eq!(
        (&repo["manifest_count"], &repo["tag_count"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(list["next"], Value::Null);

    let manifests = shown(&registry, &format!("{REPOSITORIES}/team/app/_manifests")).await;
    let manifests = manifests["manifests"].as_array().unwrap().clone();
    assert_eq!(manifests.len(), 2);
    let tags: Vec<Vec<&str>> = manifests
        .iter()
        .map(|m| {
            m["tags"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| t["name"].as_str().unwrap())
                .collect()
        })
        .collect();
    let expected = [vec!["v1", "v2"], vec!["v3"]];
    assert_eq!(
        tags.iter().collect::<BTreeSet<_>>(),
        expected.iter().collect()
    );
    let blob_bytes = repo["size_bytes"].as_u64().unwrap();
    let mut manifest_bytes = 0;
    for manifest in &manifests {
        let path = format!(
            "/v2/demo/team/app/manifests/{}",
            manifest["digest"].as_str().unwrap()
        );
        let raw = send(&registry, "admin", Method::GET, &path).await;
        let raw = raw.bytes().await.unwrap();
        let document: Value = serde_json::from_slice(&raw).unwrap();
        let layers = document["layers"].as_array().unwrap();
        let blobs: BTreeSet<(&str, u64)> = layers
            .iter()
            .chain([&document["config"]])
            .map(|b| (b["digest"].as_str().unwrap(), b["size"].as_u64().unwrap()))
            .collect();
        let blobs: u64 = blobs.iter().map(|(_, size)| size).sum();
        assert_eq!(manifest["size_bytes"], raw.len() as u64 + blobs);
        assert_eq!(manifest["media_type"], document["mediaType"]);
        manifest_bytes += blobs;
    }
    assert!(blob_bytes > 0 && blob_bytes <= manifest_bytes);

    let tags = shown(&registry, &format!("{REPOSITORIES}/team/app/_tags")).await;
    let names: Vec<&Value> = tags["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["name"])
        .collect();
    assert_eq!(names, ["v1", "v2", "v3"]);
    assert_eq!(tags["tags"][0]["digest"], tags["tags"][1]["digest"]);
}

#[tokio::test]
async fn all_pages_together_have_every_row_once() {
    let registry = TestRegistry::start().await;
    for number in 0..7 {
        registry
            .push_image("demo/app", &format!("v{number}"), number)
            .await;
        registry
            .push_image(&format!("demo/r{number}"), "v1", number)
            .await;
    }
    for (path, key, count) in [
        (REPOSITORIES.to_owned(), "name", 8),
        (format!("{REPOSITORIES}/app/_manifests"), "digest", 7),
        (format!("{REPOSITORIES}/app/_tags"), "name", 7),
    ] {
        let found = walk(&registry, &path, key).await;
        let mut sorted = found.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(found, sorted, "{path}");
        assert_eq!(found.len(), count, "{path}");
        for query in ["limit=0", "limit=-1", "page=2"] {
            let path = format!("{path}?{query}");
            problem(send(&registry, "admin", Method::GET, &path).await, 422).await;
        }
    }
}

#[tokio::test]
async fn a_manifest_with_very_many_tags_shows_some_and_the_pages_go_on() {
    let registry = TestRegistry::start().await;
    for seed in 0..3 {
        registry
            .push_image("demo/app", &format!("v{seed}"), seed)
            .await;
    }
    let path = format!("{REPOSITORIES}/app/_manifests");
    let digests = walk(&registry, &path, "digest").await;
    let many = &digests[1];
    registry
        .db
        .execute_for_tests(format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10001) \
             INSERT INTO tags (repo_id, name, digest, pushed_at) \
             SELECT m.repo_id, 't' || n.i, m.digest, m.pushed_at FROM n, manifests m \
             WHERE m.digest = '{many}'"
        ))
        .await
        .unwrap();
    assert_eq!(walk(&registry, &path, "digest").await, digests);
    let page = shown(&registry, &format!("{path}?last={}", digests[0])).await;
    let first = &page["manifests"][0];
    assert_eq!(
        (&first["digest"], &first["has_more_tags"]),
        (&json!(many), &json!(true))
    );
    assert_eq!(first["tags"].as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn others_see_no_repositories_and_delete_nothing() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let digests = walk(
        &registry,
        &format!("{REPOSITORIES}/app/_manifests"),
        "digest",
    )
    .await;
    let digest = &digests[0];
    let gets = [
        REPOSITORIES.to_owned(),
        format!("{REPOSITORIES}/app/_manifests"),
        format!("{REPOSITORIES}/app/_tags"),
    ];
    let deletes = [
        format!("{REPOSITORIES}/app/_tags/v1"),
        format!("{REPOSITORIES}/app/_manifests/{digest}"),
        format!("{REPOSITORIES}/app"),
    ];
    for (method, path) in gets
        .iter()
        .map(|path| (Method::GET, path))
        .chain(deletes.iter().map(|path| (Method::DELETE, path)))
    {
        for user in ["other", "nobody"] {
            let hidden = problem(send(&registry, user, method.clone(), path).await, 404).await;
            let absent = path.replace("accounts/demo", "accounts/absent");
            let absent = problem(send(&registry, user, method.clone(), &absent).await, 404).await;
            assert_eq!(
                hidden.to_string().replace("demo", "absent"),
                absent.to_string()
            );
        }
        let anonymous = registry.anonymous(method, path).send().await.unwrap();
        problem(anonymous, 401).await;
    }
    for path in &gets {
        assert_eq!(
            send(&registry, "reader", Method::GET, path).await.status(),
            200
        );
    }
    for path in &deletes {
        problem(send(&registry, "reader", Method::DELETE, path).await, 403).await;
    }
    let tags = walk(&registry, &format!("{REPOSITORIES}/app/_tags"), "name").await;
    assert_eq!(tags, ["v1"]);
}

#[tokio::test]
async fn a_machine_sees_the_repositories_that_it_is_for() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app/web", "v1", 1).await;
    registry.push_image("demo/secret", "v1", 2).await;
    let robot = async |order: Value| {
        let (status, answer) = registry
            .api(Method::POST, "accounts/demo/robots", order)
            .await;
        assert_eq!(status, 201, "{answer}");
        answer["secret"].as_str().unwrap().to_owned()
    };
    let rights = json!(["view", "pull", "delete"]);
    let order = json!({ "name": "narrow", "permissions": rights, "repositories": ["app/.*"] });
    let narrow = robot(order).await;
    let wide = robot(json!({ "name": "wide", "permissions": ["view"] })).await;
    let pull = robot(json!({ "name": "pull", "permissions": ["pull"] })).await;
    let status = async |robot: &str, secret: &str, method: Method, path: &str| {
        let request = registry
            .anonymous(method, &format!("{REPOSITORIES}{path}"))
            .basic_auth(format!("demo+{robot}"), Some(secret));
        request.send().await.unwrap().status().as_u16()
    };
    for (path, of_narrow, of_wide, of_pull) in [
        ("", 404, 200, 404),
        ("/app/web/_tags", 200, 200, 404),
        ("/app/web/_manifests", 200, 200, 404),
        ("/secret/_tags", 404, 200, 404),
        ("/secret/_manifests", 404, 200, 404),
    ] {
        assert_eq!(
            status("narrow", &narrow, Method::GET, path).await,
            of_narrow,
            "{path}"
        );
        assert_eq!(
            status("wide", &wide, Method::GET, path).await,
            of_wide,
            "{path}"
        );
        assert_eq!(
            status("pull", &pull, Method::GET, path).await,
            of_pull,
            "{path}"
        );
    }
    for (robot, secret, path, expected) in [
        ("narrow", &narrow, "/secret/_tags/v1", 404),
        ("wide", &wide, "/secret/_tags/v1", 403),
        ("pull", &pull, "/secret/_tags/v1", 404),
        ("narrow", &narrow, "/app/web/_tags/v1", 204),
    ] {
        assert_eq!(
            status(robot, secret, Method::DELETE, path).await,
            expected,
            "{robot} {path}"
        );
    }
}

#[tokio::test]
async fn a_manifest_that_an_index_needs_is_kept_and_a_tag_goes_alone() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let manifests = format!("{REPOSITORIES}/app/_manifests");
    let child = walk(&registry, &manifests, "digest").await.remove(0);
    let raw = send(
        &registry,
        "admin",
        Method::GET,
        &format!("/v2/demo/app/manifests/{child}"),
    )
    .await;
    let media_type = raw.headers()["content-type"].to_str().unwrap().to_owned();
    let size = raw.bytes().await.unwrap().len();
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{ "mediaType": media_type, "digest": child, "size": size }],
    });
    let index = registry.push_manifest("demo/app", "all", &index).await;
    let path = format!("{manifests}/{child}");
    let refused = problem(send(&registry, "admin", Method::DELETE, &path).await, 409).await;
    assert!(refused["detail"].as_str().unwrap().contains(index.as_str()));
    // What the deletion of the account names first can be deleted first.
    let account = send(&registry, "admin", Method::DELETE, "/api/v1/accounts/demo").await;
    let account = problem(account, 409).await;
    let next = &account["context"]["remaining_manifests"]["next"];
    assert_eq!(
        *next,
        json!([{ "repository": "app", "digest": index.as_str() }])
    );

    let tag = format!("{REPOSITORIES}/app/_tags/all");
    assert_eq!(
        send(&registry, "admin", Method::DELETE, &tag)
            .await
            .status(),
        204
    );
    problem(send(&registry, "admin", Method::DELETE, &tag).await, 404).await;
    assert_eq!(walk(&registry, &manifests, "digest").await.len(), 2);
    for digest in [index.as_str(), child.as_str()] {
        let path = format!("{manifests}/{digest}");
        assert_eq!(
            send(&registry, "admin", Method::DELETE, &path)
                .await
                .status(),
            204
        );
        problem(send(&registry, "admin", Method::DELETE, &path).await, 404).await;
    }
}

#[tokio::test]
async fn an_emptied_repository_goes_with_its_blobs_and_uploads() {
    let registry = TestRegistry::start().await;
    registry.push_image("demo/app", "v1", 1).await;
    registry.push_image("demo/other", "v1", 1).await;
    let shared = registry.object_count("demo").await;
    registry.push_blob("demo/app", b"for nobody").await;
    let location = registry.begin_upload("demo/app").await;
    assert_eq!(registry.append(&location, b"half").await.status(), 202);
    let path = format!("{REPOSITORIES}/app");
    let refused = problem(send(&registry, "admin", Method::DELETE, &path).await, 409).await;
    assert_eq!(refused["context"]["remaining_manifests"]["count"], 1);
    let digest = &refused["context"]["remaining_manifests"]["next"][0]["digest"];
    let manifest = format!("{path}/_manifests/{}", digest.as_str().unwrap());
    assert_eq!(
        send(&registry, "admin", Method::DELETE, &manifest)
            .await
            .status(),
        204
    );
    assert_eq!(
        send(&registry, "admin", Method::DELETE, &path)
            .await
            .status(),
        204
    );
    problem(send(&registry, "admin", Method::DELETE, &path).await, 404).await;
    assert_eq!(walk(&registry, REPOSITORIES, "name").await, ["other"]);
    assert_eq!(
        registry.object_count("demo").await,
        shared - 1,
        "what the other repository has stays"
    );
    let report = registry.registry.check(true).await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    registry.push_image("demo/app", "v1", 1).await;
}
