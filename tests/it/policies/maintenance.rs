//! `in_maintenance`

use reqwest::Method;
use serde_json::json;

use crate::{
    support::{TestRegistry, assert_oci_error, image::digest},
    v2::helpers::header,
};

#[tokio::test]
async fn nothing_new_is_pushed_and_everything_else_goes_on() {
    let registry = TestRegistry::start().await;
    let image = registry.push_image("demo/app", "v1", 1).await;
    let blob = registry.push_blob("demo/other", b"other").await;
    let upload = registry.begin_upload("demo/app").await;
    registry.settings(json!({ "in_maintenance": true })).await;
    let objects = registry.object_count("demo").await;

    let new = digest(b"new");
    let manifest = serde_json::to_vec(&image).unwrap();
    for (method, path, body) in [
        (
            Method::POST,
            "/v2/demo/app/blobs/uploads/".to_owned(),
            Vec::new(),
        ),
        (
            Method::POST,
            "/v2/demo/fresh/blobs/uploads/".to_owned(),
            Vec::new(),
        ),
        (
            Method::POST,
            format!("/v2/demo/app/blobs/uploads/?digest={new}"),
            b"new".to_vec(),
        ),
        (
            Method::POST,
            format!("/v2/demo/app/blobs/uploads/?mount={blob}&from=demo/other"),
            Vec::new(),
        ),
        (Method::PATCH, upload.clone(), b"new".to_vec()),
        (
            Method::PUT,
            format!("{upload}?digest={new}"),
            b"new".to_vec(),
        ),
        (
            Method::PUT,
            "/v2/demo/app/manifests/v2".to_owned(),
            manifest.clone(),
        ),
        (
            Method::PUT,
            format!("/v2/demo/app/manifests/{}", digest(&manifest)),
            manifest.clone(),
        ),
    ] {
        let request = registry.admin(method.clone(), &path).body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(
            header(&answer, "allow"),
            "GET, HEAD, DELETE",
            "{method} {path}"
        );
        let body = assert_oci_error(answer, 405, "UNSUPPORTED").await;
        assert!(body.to_string().contains("maintenance"), "{body}");
    }
    assert_eq!(registry.object_count("demo").await, objects);

    let path = "/v2/demo/app/manifests/v1";
    assert_eq!(registry.get(path).await.status(), 200);
    assert_eq!(registry.get(&upload).await.status(), 204);
    assert_eq!(registry.delete(&upload).await.status(), 204);
    assert_eq!(registry.delete(path).await.status(), 202);
    registry.settings(json!({})).await;
    registry.push_manifest("demo/app", "v2", &image).await;
}
