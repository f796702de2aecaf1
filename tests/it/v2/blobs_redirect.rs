//! `GET /v2/<name>/blobs/<digest>` where the object store can be asked directly.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::stream::BoxStream;
use reqwest::Method;
use serde_json::json;
use storage_drivers::{
    ByteStream, MemoryDriver, ObjectKey, Op, StorageDriver, StorageResult, StoredObject, Tenant,
};
use url::Url;

use super::helpers::{REPO, header};
use crate::support::{
    Setup, TestRegistry,
    image::{bytes, digest},
};

/// A driver whose objects have addresses.
#[derive(Debug, Default)]
struct Addressed(MemoryDriver);

#[async_trait]
impl StorageDriver for Addressed {
    async fn write(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        size: Option<u64>,
        body: ByteStream,
    ) -> StorageResult<u64> {
        self.0.write(tenant, key, size, body).await
    }

    async fn read(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> StorageResult<ByteStream> {
        self.0.read(tenant, key, range).await
    }

    async fn delete(&self, tenant: &Tenant, key: &ObjectKey) -> StorageResult<()> {
        self.0.delete(tenant, key).await
    }

    async fn list(
        &self,
        tenant: &Tenant,
    ) -> StorageResult<BoxStream<'static, StorageResult<StoredObject>>> {
        self.0.list(tenant).await
    }

    async fn download_url(
        &self,
        tenant: &Tenant,
        key: &ObjectKey,
        valid_for: Duration,
    ) -> StorageResult<Option<Url>> {
        let address = format!(
            "https://bucket.test/{}/{key}?valid={}",
            tenant.account,
            valid_for.as_secs()
        );
        Ok(Some(address.parse().unwrap()))
    }

    async fn used_bytes(&self, tenant: &Tenant) -> StorageResult<u64> {
        self.0.used_bytes(tenant).await
    }

    async fn prepare_account(&self, tenant: &Tenant) -> StorageResult<()> {
        self.0.prepare_account(tenant).await
    }

    async fn release_account(&self, tenant: &Tenant) -> StorageResult<()> {
        self.0.release_account(tenant).await
    }

    async fn check(&self) -> StorageResult<()> {
        self.0.check().await
    }
}

async fn registry() -> TestRegistry {
    Setup::default()
        .storage(Arc::new(Addressed::default()))
        .start()
        .await
}

#[tokio::test]
async fn a_blob_of_one_chunk_is_redirected_to_an_address_good_for_20_minutes() {
    let registry = registry().await;
    let blob = registry.push_blob(REPO, &bytes(1, 100)).await;
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert_eq!(answer.status(), 307);
    assert_eq!(header(&answer, "docker-content-digest"), blob.as_str());
    let location: Url = header(&answer, "location").parse().unwrap();
    assert!(
        location
            .as_str()
            .starts_with("https://bucket.test/demo/chunks/"),
        "{location}"
    );
    let valid_for: u64 = location
        .query()
        .unwrap()
        .strip_prefix("valid=")
        .unwrap()
        .parse()
        .unwrap();
    assert!(valid_for >= 20 * 60, "{valid_for}");
    assert_eq!(registry.faults.calls(Op::Read), 0);
}

#[tokio::test]
async fn what_is_about_to_be_swept_is_read_here() {
    let registry = registry().await;
    registry.account("demo", json!({ "trash_days": 0 })).await;
    let image = registry.push_image(REPO, "latest", 1).await;
    let blob = format!(
        "/v2/{REPO}/blobs/{}",
        image["config"]["digest"].as_str().unwrap()
    );
    assert_eq!(registry.get(&blob).await.status(), 307);
    let manifest = digest(&serde_json::to_vec(&image).unwrap());
    let answer = registry
        .delete(&format!("/v2/{REPO}/manifests/{manifest}"))
        .await;
    assert_eq!(answer.status(), 202);
    // Within the time that an address is good for, its object may be gone.
    assert_eq!(registry.get(&blob).await.status(), 200);
}

#[tokio::test]
async fn a_range_is_redirected_as_well() {
    let registry = registry().await;
    let blob = registry.push_blob(REPO, &bytes(1, 100)).await;
    let request = registry.admin(Method::GET, &format!("/v2/{REPO}/blobs/{blob}"));
    let answer = request.header("Range", "bytes=5-9").send().await.unwrap();
    assert_eq!(answer.status(), 307);
}

#[tokio::test]
async fn head_is_answered_by_the_registry_itself() {
    let registry = registry().await;
    let blob = registry.push_blob(REPO, &bytes(1, 100)).await;
    let answer = registry.head(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-length"), "100");
}

#[tokio::test]
async fn a_blob_of_several_chunks_is_streamed() {
    let registry = registry().await;
    let content = bytes(2, 100);
    let blob = registry
        .push_chunks(REPO, &[&content[..30], &content[30..]])
        .await;
    let answer = registry.get(&format!("/v2/{REPO}/blobs/{blob}")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), content);
}

#[tokio::test]
async fn an_account_switches_redirects_off_and_on() {
    let registry = registry().await;
    let content = bytes(3, 100);
    let blob = registry.push_blob(REPO, &content).await;
    let path = format!("/v2/{REPO}/blobs/{blob}");
    assert_eq!(
        registry
            .account("demo", json!({ "proxy_downloads": true }))
            .await
            .status(),
        200
    );
    let answer = registry.get(&path).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.bytes().await.unwrap(), content);
    let answer = registry
        .admin(Method::GET, &path)
        .header("Range", "bytes=5-9")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 206);
    assert_eq!(answer.bytes().await.unwrap(), content[5..10]);
    assert_eq!(
        registry
            .account("demo", json!({ "proxy_downloads": false }))
            .await
            .status(),
        200
    );
    assert_eq!(registry.get(&path).await.status(), 307);
}

#[tokio::test]
async fn nobody_is_redirected_to_what_they_may_not_read() {
    let registry = registry().await;
    let blob = registry.push_blob(REPO, &bytes(4, 100)).await;
    let path = format!("/v2/{REPO}/blobs/{blob}");
    let answer = registry.anonymous(Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(answer.headers().get("location").is_none());
    assert_eq!(registry.faults.calls(Op::DownloadUrl), 0);
}

#[tokio::test]
async fn clients_of_some_networks_are_not_redirected() {
    let content = bytes(5, 100);
    let status_of = async |registry: &TestRegistry, from: &str| {
        let blob = registry.push_blob(REPO, &content).await;
        let request = registry.admin(Method::GET, &format!("/v2/{REPO}/blobs/{blob}"));
        let answer = request
            .header("X-Forwarded-For", from)
            .send()
            .await
            .unwrap();
        answer.status().as_u16()
    };
    let registry = Setup::default()
        .storage(Arc::new(Addressed::default()))
        .config(|config| {
            config.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
            config.downloads.proxy_networks = vec!["10.1.0.0/16".parse().unwrap()];
        })
        .start()
        .await;
    assert_eq!(status_of(&registry, "10.1.2.3").await, 200);
    assert_eq!(status_of(&registry, "::ffff:10.1.2.3").await, 200);
    assert_eq!(status_of(&registry, "10.2.2.3").await, 307);
    // An account adds its own.
    let order = json!({ "proxy_networks": ["10.2.0.0/16", "fd00::/8"] });
    assert_eq!(registry.account("demo", order).await.status(), 200);
    assert_eq!(status_of(&registry, "10.2.2.3").await, 200);
    assert_eq!(status_of(&registry, "fd00::1").await, 200);
    assert_eq!(status_of(&registry, "10.1.2.3").await, 200);
    assert_eq!(status_of(&registry, "10.3.2.3").await, 307);
    let bad = json!({ "proxy_networks": ["10.2.0.0/99"] });
    assert_eq!(registry.account("demo", bad).await.status(), 422);

    let registry = Setup::default()
        .storage(Arc::new(Addressed::default()))
        .config(|config| config.downloads.redirect = false)
        .start()
        .await;
    assert_eq!(status_of(&registry, "10.3.2.3").await, 200);
}
