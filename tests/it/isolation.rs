//! Two accounts never reach each other's bytes, whatever the route, and lie in folders of their own.

use std::{path::Path, sync::Arc};

use reqwest::Method;
use serde_json::json;
use storage_drivers::FilesystemDriver;

use crate::support::{Setup, TestRegistry, image::bytes};

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, |entries| {
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| if path.is_dir() { files(&path) } else { 1 })
            .sum()
    })
}

async fn status(registry: &TestRegistry, user: &str, method: Method, path: &str) -> u16 {
    registry
        .as_user(user, method, path)
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test]
async fn every_account_has_a_folder_of_its_own_and_no_route_leads_into_another() {
    let folder = tempfile::tempdir().unwrap();
    let storage = FilesystemDriver::open(folder.path(), true).unwrap();
    let registry = Setup::default().storage(Arc::new(storage)).start().await;
    let created = registry
        .account("other", json!({ "auth_tenant_id": "other" }))
        .await;
    assert_eq!(created.status(), 201);

    // The same content and the same repository name in both.
    registry.push_image("demo/app", "v1", 1).await;
    let before = files(&folder.path().join("other"));
    let secret = bytes(99, 2000);
    let only_demo = registry.push_blob("demo/app", &secret).await;
    assert_eq!(
        files(&folder.path().join("other")),
        before,
        "nothing went into the other folder"
    );
    registry.push_image("other/app", "v1", 1).await;
    assert!(
        files(&folder.path().join("other")) > before,
        "content is stored for each account"
    );

    let start = registry
        .admin(Method::POST, "/v2/demo/app/blobs/uploads/")
        .send()
        .await
        .unwrap();
    let location = start.headers()["location"].to_str().unwrap().to_owned();
    let foreign_upload = location.replace("/v2/demo/", "/v2/other/");

    // Who may do everything in `other` gets nothing of `demo`, by any name.
    for path in [
        format!("/v2/other/app/blobs/{only_demo}"),
        format!("/v2/other/demo/app/blobs/{only_demo}"),
        foreign_upload.clone(),
    ] {
        assert_eq!(
            status(&registry, "other", Method::GET, &path).await,
            404,
            "{path}"
        );
    }
    for path in [
        format!("/v2/demo/app/blobs/{only_demo}"),
        "/v2/demo/app/manifests/v1".to_owned(),
        "/v2/demo/app/tags/list".to_owned(),
        format!("/v2/demo/app/referrers/{only_demo}"),
        location,
    ] {
        assert_eq!(
            status(&registry, "other", Method::GET, &path).await,
            403,
            "{path}"
        );
    }
    assert_eq!(
        status(&registry, "other", Method::DELETE, &foreign_upload).await,
        404
    );

    // Not even who may read both can mount from one into the other.
    for query in [
        format!("mount={only_demo}&from=demo/app"),
        format!("mount={only_demo}"),
    ] {
        let path = format!("/v2/other/app/blobs/uploads/?{query}");
        assert_eq!(
            status(&registry, "admin", Method::POST, &path).await,
            202,
            "{query}"
        );
    }
    let path = format!("/v2/other/app/blobs/{only_demo}");
    assert_eq!(status(&registry, "admin", Method::GET, &path).await, 404);

    let catalog = registry
        .as_user("other", Method::GET, "/v2/_catalog")
        .send()
        .await
        .unwrap();
    let catalog: serde_json::Value = catalog.json().await.unwrap();
    assert_eq!(catalog["repositories"], json!(["other/app"]));
}
