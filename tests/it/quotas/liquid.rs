//! LIQUID and Keppel's quotas.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::{TENANT, start};
use crate::support::TestRegistry;

const USAGE: &str = "/liquid/v1/projects/demo/report-usage";
const QUOTA: &str = "/liquid/v1/projects/demo/quota";
const KEPPEL: &str = "/keppel/v1/quotas/demo";

async fn send(
    registry: &TestRegistry,
    user: &str,
    (method, path): (Method, &str),
    document: &Value,
) -> Response {
    let request = registry.as_user(user, method, path).json(document);
    request.send().await.unwrap()
}

#[tokio::test]
async fn limes_finds_resources_usage_and_quotas() {
    let registry = start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let zones = json!({ "allAZs": ["az-one"], "serializedState": {} });
    let info: Value = registry.get("/liquid/v1/info").await.json().await.unwrap();
    let resource = |name: &str| info["resources"][name].clone();
    let images = json!({
        "displayName": "Images", "topology": "flat", "hasCapacity": false,
        "needsResourceDemand": false, "hasQuota": true,
    });
    assert_eq!(resource("images"), images);
    assert_eq!(resource("bytes")["unit"], "B");
    assert_eq!(info["rates"], json!({}));
    let capacity = (Method::POST, "/liquid/v1/report-capacity");
    let report = json!({ "allAZs": ["az-one"], "demandByResource": {} });
    let report: Value = send(&registry, "admin", capacity, &report)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        report,
        json!({ "infoVersion": info["version"], "resources": {} })
    );
    let order = json!({ "resources": { "images": { "quota": 7 }, "bytes": { "quota": 5000 } } });
    let answer = send(&registry, "admin", (Method::PUT, QUOTA), &order).await;
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.text().await.unwrap(), "");
    let usage: Value = send(&registry, "quota-reader", (Method::POST, USAGE), &zones)
        .await
        .json()
        .await
        .unwrap();
    let used = registry.quota(TENANT).await["bytes"]["used"].clone();
    let report = |quota: i64, usage: Value| json!({ "forbidden": false, "quota": quota, "perAZ": { "any": { "usage": usage } } });
    let expected = json!({ "infoVersion": info["version"], "resources": {
        "images": report(7, json!(1)),
        "bytes": report(5000, used),
        "repositories": report(-1, json!(1)),
    } });
    assert_eq!(usage, expected);
}

#[tokio::test]
async fn keppels_quotas_are_those_of_manifests() {
    let registry = start().await;
    registry.push_image("demo/app", "v1", 1).await;
    let order = json!({ "manifests": { "quota": 3 } });
    let answer = send(&registry, "admin", (Method::PUT, KEPPEL), &order).await;
    assert_eq!(answer.status(), 200);
    let expected = json!({ "manifests": { "quota": 3, "usage": 1 } });
    assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    assert_eq!(registry.quota(KEPPEL).await, expected);
    let with_usage = (Method::PUT, KEPPEL);
    let answer = send(&registry, "admin", with_usage, &expected).await;
    assert_eq!(answer.status(), 422, "usage cannot be set");
}

#[tokio::test]
async fn errors_are_plain_text_and_hide_which_projects_exist() {
    let registry = start().await;
    let zones = json!({ "allAZs": [] });
    let order = json!({ "resources": { "images": { "quota": 1 } }, "manifests": { "quota": 1 } });
    for user in ["ann", "other", "nobody"] {
        let mut texts = Vec::new();
        for project in ["demo", "absent"] {
            let path = format!("/liquid/v1/projects/{project}/report-usage");
            let answer = send(&registry, user, (Method::POST, &path), &zones).await;
            assert_eq!(answer.status(), 403, "{user}");
            let kind = answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .to_owned();
            assert!(kind.starts_with("text/plain"), "{kind}");
            texts.push(answer.text().await.unwrap());
        }
        assert_eq!(texts[0], texts[1]);
    }
    for user in ["ann", "other", "quota-reader", "owner"] {
        let document = json!({ "resources": order["resources"] });
        let answer = send(&registry, user, (Method::PUT, QUOTA), &document).await;
        assert_eq!(answer.status(), 403, "{user}");
        let document = json!({ "manifests": order["manifests"] });
        let answer = send(&registry, user, (Method::PUT, KEPPEL), &document).await;
        assert_eq!(answer.status(), 403, "{user}");
    }
    assert_eq!(
        registry.quota(TENANT).await["manifests"]["limit"],
        json!(null)
    );
    for (method, path) in [
        (Method::GET, "/liquid/v1/info"),
        (Method::POST, "/liquid/v1/report-capacity"),
        (Method::POST, USAGE),
        (Method::PUT, QUOTA),
        (Method::GET, KEPPEL),
    ] {
        let answer = registry.anonymous(method, path).json(&zones).send().await;
        assert_eq!(answer.unwrap().status(), 401, "{path}");
    }
}
