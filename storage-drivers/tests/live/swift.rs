//! The `swift` driver on a real OpenStack Swift with a real Keystone.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use storage_drivers::contract::Verdict;
use storage_drivers::{
    ByteStream, ContainerProject, ObjectKey, StorageDriver, StorageError, StorageResult,
    SwiftConfig, SwiftDriver, Tenant,
};
use url::Url;

use crate::live_contract_tests;
use crate::support::server;

const MIB: usize = 1024 * 1024;

fn config() -> Option<SwiftConfig> {
    let [auth_url, user, password, project, domain, region] = server([
        "KONTOR_TEST_SWIFT_AUTH_URL",
        "KONTOR_TEST_SWIFT_USER",
        "KONTOR_TEST_SWIFT_PASSWORD",
        "KONTOR_TEST_SWIFT_PROJECT",
        "KONTOR_TEST_SWIFT_DOMAIN",
        "KONTOR_TEST_SWIFT_REGION",
    ])?;
    let config = json!({
        "auth_url": auth_url, "user": user, "user_domain": domain, "password": password,
        "project": project, "project_domain": domain, "region": region,
    });
    Some(serde_json::from_value(config).unwrap())
}

fn in_service_project() -> Option<Arc<dyn StorageDriver>> {
    Some(Arc::new(SwiftDriver::open(&config()?, None).unwrap()))
}

fn in_tenant_projects() -> Option<Arc<dyn StorageDriver>> {
    let config = SwiftConfig {
        container_project: ContainerProject::Tenant,
        container_prefix: "keppel-".to_owned(),
        ..config()?
    };
    Some(Arc::new(SwiftDriver::open(&config, None).unwrap()))
}

live_contract_tests!(service_project, in_service_project);
live_contract_tests!(tenant_projects, in_tenant_projects);

/// Swift as a user with curl sees it.
struct Raw {
    client: Client,
    token: String,
    account: String,
}

impl Raw {
    async fn new(config: &SwiftConfig) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let client = Client::new();
        let domain = json!({ "name": config.user_domain });
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": config.user, "domain": domain,
                "password": config.password.as_ref().unwrap().expose() } } },
            "scope": { "project": { "name": config.project, "domain": domain } } } });
        let answer = client
            .post(format!("{}/auth/tokens", config.auth_url.as_ref().unwrap()))
            .header("Content-Type", "application/json")
            .body(body.to_string())
            .send()
            .await?
            .error_for_status()?;
        let token = answer.headers()["x-subject-token"].to_str()?.to_owned();
        let token_body: Value = serde_json::from_slice(&answer.bytes().await?)?;
        let endpoints = token_body["token"]["catalog"].as_array().unwrap();
        let store = endpoints
            .iter()
            .find(|service| service["type"] == "object-store")
            .unwrap();
        let endpoint = store["endpoints"].as_array().unwrap().iter();
        let public = endpoint
            .clone()
            .find(|endpoint| endpoint["interface"] == "public")
            .unwrap();
        Ok(Self {
            client,
            token,
            account: public["url"].as_str().unwrap().to_owned(),
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Response> {
        let mut request = self
            .client
            .request(method, format!("{}/{path}", self.account))
            .header("X-Auth-Token", &self.token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await
    }
}

fn fresh(what: &str) -> Tenant {
    use std::hash::{BuildHasher, RandomState};
    let number = RandomState::new().hash_one(what);
    Tenant {
        account: format!("{what}-{number:x}"),
        auth_tenant_id: format!("project-{number:x}"),
    }
}

fn chunk(number: u128) -> ObjectKey {
    ObjectKey::Chunk(uuid::Uuid::from_u128(number))
}

fn body(len: usize) -> ByteStream {
    let pieces = (0..len.div_ceil(MIB)).map(move |i| {
        let len = (len - i * MIB).min(MIB);
        Ok(Bytes::from(vec![i as u8; len]))
    });
    stream::iter(pieces).boxed()
}

fn label<T>(result: &StorageResult<T>) -> &'static str {
    result.as_ref().map_or_else(StorageError::label, |_| "ok")
}

async fn read_len(driver: &SwiftDriver, tenant: &Tenant, key: ObjectKey) -> StorageResult<usize> {
    let body = driver.read(tenant, &key, None).await?;
    let pieces: Vec<Bytes> = body.try_collect().await.map_err(StorageError::temporary)?;
    Ok(pieces.iter().map(Bytes::len).sum())
}

async fn remove(driver: &SwiftDriver, tenant: &Tenant) -> StorageResult<()> {
    let objects: Vec<_> = driver.list(tenant).await?.try_collect().await?;
    for object in objects {
        driver.delete(tenant, &object.key).await?;
    }
    driver.release_account(tenant).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_is_not_ours_is_refused_and_left_alone() -> Verdict {
    let Some(config) = config() else {
        return Ok(());
    };
    let (driver, raw) = (SwiftDriver::open(&config, None)?, Raw::new(&config).await?);
    let tenant = fresh("foreign");
    let container = format!("kontor-{}", tenant.account);
    raw.call(Method::PUT, &container, &[])
        .await?
        .error_for_status()?;
    let object = format!("{container}/precious");
    raw.call(Method::PUT, &object, &[("Content-Length", "0")])
        .await?
        .error_for_status()?;
    assert_eq!(label(&driver.prepare_account(&tenant).await), "not_ours");
    assert_eq!(label(&driver.release_account(&tenant).await), "not_ours");
    let write = driver.write(&tenant, &chunk(1), None, body(10)).await;
    assert_eq!(label(&write), "not_ours");
    let there = raw.call(Method::GET, &container, &[]).await?;
    assert_eq!(there.text().await?, "precious\n");
    raw.call(Method::DELETE, &object, &[])
        .await?
        .error_for_status()?;
    raw.call(Method::DELETE, &container, &[])
        .await?
        .error_for_status()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quota_of_the_container_is_respected() -> Verdict {
    let Some(config) = config() else {
        return Ok(());
    };
    let (driver, raw) = (SwiftDriver::open(&config, None)?, Raw::new(&config).await?);
    let tenant = fresh("quota");
    driver.prepare_account(&tenant).await?;
    let container = format!("kontor-{}", tenant.account);
    let quota = ("X-Container-Meta-Quota-Bytes", "3000000");
    raw.call(Method::POST, &container, &[quota])
        .await?
        .error_for_status()?;
    // What is known of the container is a minute old at most; a driver that has just started knows nothing.
    let driver = {
        drop(driver);
        SwiftDriver::open(&config, None)?
    };
    driver
        .write(&tenant, &chunk(1), Some(MIB as u64), body(MIB))
        .await?;
    for size in [Some(2 * MIB as u64), None] {
        let written = driver.write(&tenant, &chunk(2), size, body(2 * MIB)).await;
        assert_eq!(label(&written), "quota", "announced: {size:?}");
        let message = written.unwrap_err().to_string();
        assert!(message.contains(&container), "{message}");
    }
    assert_eq!(driver.used_bytes(&tenant).await?, MIB as u64);
    driver.write(&tenant, &chunk(3), None, body(MIB)).await?;
    remove(&driver, &tenant).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_survive_the_rotation_of_their_keys() -> Verdict {
    let Some(config) = config() else {
        return Ok(());
    };
    let (driver, raw) = (
        SwiftDriver::open_with_hasty_keys(&config)?,
        Raw::new(&config).await?,
    );
    let tenant = fresh("keys");
    driver.prepare_account(&tenant).await?;
    driver.write(&tenant, &chunk(1), Some(10), body(10)).await?;
    let link = async || -> Result<Url, Box<dyn Error + Send + Sync>> {
        let link = driver
            .download_url(&tenant, &chunk(1), Duration::from_secs(600))
            .await?;
        Ok(link.ok_or("no link")?)
    };
    let keys = async || -> Result<Vec<String>, Box<dyn Error + Send + Sync>> {
        let container = format!("kontor-{}", tenant.account);
        let answer = raw.call(Method::HEAD, &container, &[]).await?;
        let text = |name| answer.headers()[name].to_str().unwrap().to_owned();
        Ok(vec![
            text("x-container-meta-temp-url-key"),
            text("x-container-meta-temp-url-key-2"),
        ])
    };
    let first_keys = keys().await?;
    let old = link().await?;
    assert_eq!(reqwest::get(old.clone()).await?.status(), 200);
    // Until both keys were replaced, and a link is signed with a new one.
    let mut changes = 0;
    let mut last = (old.clone(), first_keys.clone());
    while changes < 1 || last.0.query() == old.query() {
        let now = (link().await?, keys().await?);
        assert_eq!(reqwest::get(now.0.clone()).await?.status(), 200);
        if now.1 != last.1 {
            changes += 1;
            if changes == 1 {
                assert_eq!(
                    reqwest::get(old.clone()).await?.status(),
                    200,
                    "after a rotation"
                );
            }
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        first_keys.iter().filter(|key| last.1.contains(key)).count(),
        1
    );
    // Another node that has just started agrees on the key.
    let other = SwiftDriver::open(&config, None)?;
    let url = other
        .download_url(&tenant, &chunk(1), Duration::from_secs(60))
        .await?;
    assert_eq!(reqwest::get(url.ok_or("no link")?).await?.status(), 200);
    remove(&driver, &tenant).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_opens_its_own_object_only_and_only_for_reading() -> Verdict {
    let Some(config) = config() else {
        return Ok(());
    };
    let driver = SwiftDriver::open(&config, None)?;
    let tenant = fresh("link");
    driver.prepare_account(&tenant).await?;
    for number in [1, 2] {
        driver
            .write(&tenant, &chunk(number), Some(10), body(10))
            .await?;
    }
    let link = driver
        .download_url(&tenant, &chunk(1), Duration::from_secs(60))
        .await?;
    let link = link.ok_or("no link")?;
    let client = Client::new();
    assert_eq!(client.head(link.clone()).send().await?.status(), 200);
    assert_eq!(client.delete(link.clone()).send().await?.status(), 401);
    assert_eq!(
        client.put(link.clone()).body("x").send().await?.status(),
        401
    );
    let mut other = link.clone();
    other.set_path(
        &link
            .path()
            .replace(&chunk(1).to_string(), &chunk(2).to_string()),
    );
    assert_eq!(client.get(other).send().await?.status(), 401);
    remove(&driver, &tenant).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_named_without_the_secret() -> Verdict {
    let Some(config) = config() else {
        return Ok(());
    };
    let config = SwiftConfig {
        password: Some(storage_drivers::Secret::new("s3cr3t-and-wrong")),
        ..config
    };
    let driver = SwiftDriver::open(&config, None)?;
    let error = driver.check().await.unwrap_err();
    let text = format!(
        "{error} {error:?} {:?} {driver:?} {config:?}",
        error.source()
    );
    assert_eq!(error.label(), "failed", "{text}");
    assert!(text.contains("refused the service user"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");
    Ok(())
}

/// Half a gigabyte of an unannounced length passes through in bounded memory; the object is one, without segments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_object_is_one_object() -> Verdict {
    let Some(config) = config() else {
        return Ok(());
    };
    let driver = SwiftDriver::open(&config, None)?;
    let tenant = fresh("large");
    driver.prepare_account(&tenant).await?;
    let before = resident_bytes()?;
    let len = 512 * MIB;
    let written = driver.write(&tenant, &chunk(1), None, body(len)).await?;
    assert_eq!(written, len as u64);
    let grown = resident_bytes()?.saturating_sub(before);
    assert!(grown < 64 * MIB, "grew by {grown} bytes");
    let mut stream = driver.read(&tenant, &chunk(1), None).await?;
    let mut seen = 0;
    while let Some(piece) = stream.try_next().await? {
        assert!(piece.len() <= MIB, "a piece of {}", piece.len());
        assert!(
            piece
                .iter()
                .all(|b| usize::from(*b) == (seen / MIB) % 256 || piece.len() > MIB - seen % MIB)
        );
        seen += piece.len();
    }
    assert_eq!(seen, len);
    let objects: Vec<_> = driver.list(&tenant).await?.try_collect().await?;
    assert_eq!(objects.len(), 1);
    remove(&driver, &tenant).await?;
    Ok(())
}

fn resident_bytes() -> Result<usize, Box<dyn Error + Send + Sync>> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = text.split(' ').nth(1).ok_or("statm")?.parse()?;
    Ok(pages * 4096)
}

/// A token that was revoked under the driver's feet costs no request that can be sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_replaced() -> Verdict {
    let Some(config) = config() else {
        return Ok(());
    };
    let driver = SwiftDriver::open(&config, None)?;
    let tenant = fresh("token");
    driver.prepare_account(&tenant).await?;
    driver.write(&tenant, &chunk(1), Some(10), body(10)).await?;
    driver.spoil_token_for_tests();
    assert_eq!(read_len(&driver, &tenant, chunk(1)).await?, 10);
    driver.spoil_token_for_tests();
    driver
        .write(&tenant, &chunk(2), None, body(3 * MIB))
        .await?;
    driver.spoil_token_for_tests();
    driver.write(&tenant, &chunk(3), None, body(30)).await?;
    remove(&driver, &tenant).await?;
    Ok(())
}
