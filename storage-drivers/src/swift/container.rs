//! The containers: where they lie, whom they belong to, what room is in them.
//!
//! A container says in its own metadata for which account and auth tenant a registry made it. One that says nothing
//! is somebody else's and is never taken.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use tokio::sync::Mutex;
use url::Url;

use super::keys::keys_of;
use super::temp_url::Keys;
use super::{ContainerProject, Interface, SwiftConfig, Times, joined, read, unexpected};
use crate::openstack::Session;
use crate::{StorageError, StorageResult, Tenant};

const ACCOUNT: &str = "X-Container-Meta-Kontor-Account";
const AUTH_TENANT: &str = "X-Container-Meta-Kontor-Tenant";
/// The waits for somebody else who is making the container.
const IS_BEING_MADE: [Duration; 3] = [Duration::from_millis(300); 3];
/// The waits for a listing that shows what is gone already.
const LISTING_CATCHES_UP: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// How many containers are remembered.
const REMEMBERED: usize = 10_000;

/// What a container's headers said.
pub(super) struct Known {
    account: Option<String>,
    auth_tenant_id: Option<String>,
    pub(super) keys: Option<Keys>,
    quota_bytes: Option<u64>,
    used_bytes: u64,
    object_count: u64,
    read_at: Instant,
}

impl Known {
    fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let number = |name: &str| text(name)?.parse().ok();
        Self {
            account: text(ACCOUNT),
            auth_tenant_id: text(AUTH_TENANT),
            keys: keys_of(headers),
            quota_bytes: number("X-Container-Meta-Quota-Bytes"),
            used_bytes: number("X-Container-Bytes-Used").unwrap_or(0),
            object_count: number("X-Container-Object-Count").unwrap_or(0),
            read_at: Instant::now(),
        }
    }

    /// Whether the container was made for this tenant.
    fn owner_check(&self, tenant: &Tenant, name: String) -> StorageResult<()> {
        if self.account.as_ref() != Some(&tenant.account) {
            return Err(StorageError::NotOurs {
                place: format!("container {name}"),
            });
        }
        if self.auth_tenant_id.as_ref() != Some(&tenant.auth_tenant_id) {
            return Err(StorageError::WrongTenant {
                account: tenant.account.clone(),
            });
        }
        Ok(())
    }
}

pub(super) fn not_prepared(tenant: &Tenant) -> StorageError {
    StorageError::NotPrepared {
        account: tenant.account.clone(),
    }
}

/// A random key or name of 256 bits.
pub(super) fn random_text() -> StorageResult<String> {
    let mut bytes = [0; 16];
    let mut text = String::new();
    for _ in 0..2 {
        getrandom::fill(&mut bytes).map_err(|e| StorageError::temporary(e.to_string()))?;
        text += &uuid::Uuid::from_bytes(bytes).simple().to_string();
    }
    Ok(text)
}

/// All containers of a backend.
pub(super) struct Containers {
    session: Arc<Session>,
    pub(super) config: SwiftConfig,
    pub(super) times: Times,
    known: Cache<Tenant, Arc<Known>>,
    /// Since when the keys of a container cannot be seen, so that nothing can be signed.
    pub(super) unsigned: Cache<Tenant, Instant>,
    /// Held while a container is made or its keys change, each several steps.
    pub(super) changes: Mutex<()>,
}

impl Containers {
    pub(super) fn new(session: Arc<Session>, config: SwiftConfig, times: Times) -> Self {
        Self {
            session,
            config,
            times,
            known: Cache::new(REMEMBERED),
            unsigned: Cache::new(REMEMBERED),
            changes: Mutex::default(),
        }
    }

    pub(super) fn name(&self, tenant: &Tenant) -> String {
        format!("{}{}", self.config.container_prefix, tenant.account)
    }

    /// The service user's own Swift account.
    pub(super) async fn own_url(&self) -> StorageResult<Url> {
        self.account_url(self.config.interface, None).await
    }

    /// A container as the registry reaches it.
    pub(super) async fn url(&self, tenant: &Tenant) -> StorageResult<Url> {
        self.url_at(self.config.interface, tenant).await
    }

    pub(super) async fn url_at(&self, interface: Interface, tenant: &Tenant) -> StorageResult<Url> {
        let project = match self.config.container_project {
            ContainerProject::Service => None,
            ContainerProject::Tenant => Some(tenant.auth_tenant_id.as_str()),
        };
        let account = self.account_url(interface, project).await?;
        Ok(joined(&account, &self.name(tenant)))
    }

    async fn account_url(&self, interface: Interface, project: Option<&str>) -> StorageResult<Url> {
        let config = &self.config;
        let own = self
            .session
            .endpoint(
                &config.service_type,
                interface.into(),
                config.region.as_deref(),
            )
            .await?;
        match project {
            None => Ok(own),
            Some(project) => account_of(own, &config.reseller_prefix, project, config.ceph_rgw),
        }
    }

    /// Asks Swift. `None` if there is no such container.
    pub(super) async fn look(&self, tenant: &Tenant) -> StorageResult<Option<Arc<Known>>> {
        let url = self.url(tenant).await?;
        let answer = self.session.send(|client| client.head(url.clone())).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => {
                self.forget(tenant);
                Ok(None)
            }
            status if status.is_success() => {
                let known = Arc::new(Known::from_headers(answer.headers()));
                self.known.insert(tenant.clone(), Arc::clone(&known));
                Ok(Some(known))
            }
            _ => Err(unexpected(answer, &format!("container {}", self.name(tenant))).await),
        }
    }

    /// The container, if it was made for this tenant, as it was a short while ago.
    pub(super) async fn own(&self, tenant: &Tenant) -> StorageResult<Arc<Known>> {
        let remembered = self.known.get(tenant);
        let known = match remembered.filter(|k| k.read_at.elapsed() < self.times.known_for) {
            Some(known) => known,
            None => self
                .look(tenant)
                .await?
                .ok_or_else(|| not_prepared(tenant))?,
        };
        known.owner_check(tenant, self.name(tenant))?;
        Ok(known)
    }

    pub(super) fn forget(&self, tenant: &Tenant) {
        self.known.remove(tenant);
    }

    /// How many bytes the container's own quota leaves for a body whose length is not known; Swift checks only
    /// lengths that were announced. `None` means that there is no quota, or that Swift will see to it.
    pub(super) async fn room(
        &self,
        tenant: &Tenant,
        is_size_unknown: bool,
    ) -> StorageResult<Option<u64>> {
        let known = self.own(tenant).await?;
        if known.quota_bytes.is_none() || !is_size_unknown {
            return Ok(None);
        }
        let known = self
            .look(tenant)
            .await?
            .ok_or_else(|| not_prepared(tenant))?;
        Ok(known
            .quota_bytes
            .map(|quota| quota.saturating_sub(known.used_bytes)))
    }

    pub(super) async fn used_bytes(&self, tenant: &Tenant) -> StorageResult<u64> {
        Ok(self.look(tenant).await?.map_or(0, |known| known.used_bytes))
    }

    pub(super) async fn prepare(&self, tenant: &Tenant) -> StorageResult<()> {
        let _one_at_a_time = self.changes.lock().await;
        for wait in IS_BEING_MADE {
            match self.look(tenant).await? {
                None => break,
                // Somebody else may be between the two steps below.
                Some(known) if known.account.is_none() && known.object_count == 0 => {
                    tokio::time::sleep(wait).await;
                }
                Some(known) => return known.owner_check(tenant, self.name(tenant)),
            }
        }
        if let Some(known) = self.look(tenant).await? {
            return known.owner_check(tenant, self.name(tenant));
        }
        // First the container alone: only who is told that it is new may write on it whose it is.
        let mut headers = HeaderMap::new();
        if let Some(policy) = &self.config.storage_policy {
            header(&mut headers, "X-Storage-Policy", policy)?;
        }
        if self.change(Method::PUT, tenant, headers).await? != StatusCode::CREATED {
            return Err(StorageError::temporary(format!(
                "container {} is being made by somebody else",
                self.name(tenant)
            )));
        }
        let marked = self.mark(tenant).await;
        if marked.is_err() {
            // Without its mark nobody could ever use it.
            let url = self.url(tenant).await?;
            let undone = self.session.send(|client| client.delete(url.clone())).await;
            if let Err(error) = undone {
                tracing::warn!(container = self.name(tenant), %error, "a new container could not be marked, nor removed; remove it by hand");
            }
        }
        self.forget(tenant);
        marked
    }

    /// Writes on a new container whose it is, and its keys.
    async fn mark(&self, tenant: &Tenant) -> StorageResult<()> {
        let mut headers = HeaderMap::new();
        header(&mut headers, ACCOUNT, &tenant.account)?;
        header(&mut headers, AUTH_TENANT, &tenant.auth_tenant_id)?;
        self.new_keys(&mut headers)?;
        let mut marked = self.change(Method::POST, tenant, headers.clone()).await;
        if marked.as_ref().is_err_and(StorageError::is_temporary) {
            marked = self.change(Method::POST, tenant, headers).await;
        }
        marked.map(drop)
    }

    pub(super) async fn release(&self, tenant: &Tenant) -> StorageResult<()> {
        let Some(known) = self.look(tenant).await? else {
            return Ok(());
        };
        known.owner_check(tenant, self.name(tenant))?;
        self.forget(tenant);
        let url = self.url(tenant).await?;
        // Swift believes its listing, which may be behind by seconds: ask again while all that it shows is gone.
        for wait in LISTING_CATCHES_UP {
            let answer = self
                .session
                .send(|client| client.delete(url.clone()))
                .await?;
            match answer.status() {
                StatusCode::NOT_FOUND => return Ok(()),
                StatusCode::CONFLICT => {}
                status if status.is_success() => return Ok(()),
                _ => {
                    return Err(
                        unexpected(answer, &format!("container {}", self.name(tenant))).await,
                    );
                }
            }
            if !read::shows_only_ghosts(&self.session, &url).await? {
                return Err(StorageError::NotEmpty {
                    account: tenant.account.clone(),
                });
            }
            tokio::time::sleep(wait).await;
        }
        Err(StorageError::temporary(format!(
            "the listing of container {} still shows objects that are gone",
            self.name(tenant)
        )))
    }

    /// A PUT or POST of the container itself.
    pub(super) async fn change(
        &self,
        method: Method,
        tenant: &Tenant,
        headers: HeaderMap,
    ) -> StorageResult<StatusCode> {
        let url = self.url(tenant).await?;
        let answer = self
            .session
            .send(|client| {
                client
                    .request(method.clone(), url.clone())
                    .headers(headers.clone())
                    .header("Content-Length", "0")
            })
            .await?;
        match answer.status() {
            status if status.is_success() => Ok(status),
            StatusCode::NOT_FOUND => Err(not_prepared(tenant)),
            _ => Err(unexpected(answer, &format!("container {}", self.name(tenant))).await),
        }
    }
}

pub(super) fn header(
    headers: &mut HeaderMap,
    name: &'static str,
    value: &str,
) -> StorageResult<()> {
    let name = reqwest::header::HeaderName::try_from(name).map_err(StorageError::permanent)?;
    let value = value.parse().map_err(StorageError::permanent)?;
    headers.insert(name, value);
    Ok(())
}

/// The account of `project`, by the address of our own: the last part of its path is the reseller prefix and our
/// project's id.
fn account_of(mut own: Url, prefix: &str, project: &str, ceph_rgw: bool) -> StorageResult<Url> {
    let path = own.path().trim_end_matches('/').to_owned();
    let (before, last) = path.rsplit_once('/').unwrap_or(("", &path));
    let path = match last.strip_prefix(prefix) {
        Some(id) if !id.is_empty() => format!("{before}/{prefix}{project}"),
        // RGW leaves the project out of the path unless it is told otherwise.
        _ if ceph_rgw => format!("{path}/{prefix}{project}"),
        _ => {
            return Err(StorageError::permanent(format!(
                "the endpoint {own} does not end in {prefix}<project id>; set reseller_prefix, or container_project = \"service\""
            )));
        }
    };
    own.set_path(&path);
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(own: &str, prefix: &str, ceph_rgw: bool) -> Option<String> {
        let own = Url::parse(own).unwrap();
        account_of(own, prefix, "p2", ceph_rgw)
            .ok()
            .map(String::from)
    }

    #[test]
    fn the_account_of_another_project_is_that_of_ours_with_its_id() {
        let found = |own, prefix, rgw| account(own, prefix, rgw);
        assert_eq!(
            found("https://h/v1/AUTH_p1", "AUTH_", false).as_deref(),
            Some("https://h/v1/AUTH_p2")
        );
        assert_eq!(
            found("https://h/v1/AUTH_p1/", "AUTH_", false).as_deref(),
            Some("https://h/v1/AUTH_p2")
        );
        assert_eq!(
            found("https://h/v1/p1", "", false).as_deref(),
            Some("https://h/v1/p2")
        );
        assert_eq!(found("https://h/swift/v1", "AUTH_", false), None);
        assert_eq!(
            found("https://h/swift/v1", "AUTH_", true).as_deref(),
            Some("https://h/swift/v1/AUTH_p2")
        );
    }

    #[test]
    fn a_container_without_our_mark_is_not_ours() {
        let tenant = Tenant {
            account: "a".to_owned(),
            auth_tenant_id: "t".to_owned(),
        };
        let label = |headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                header(&mut map, name, value).unwrap();
            }
            let result = Known::from_headers(&map).owner_check(&tenant, "kontor-a".to_owned());
            result.as_ref().map_or_else(StorageError::label, |()| "ok")
        };
        assert_eq!(label(&[]), "not_ours");
        assert_eq!(label(&[(ACCOUNT, "b"), (AUTH_TENANT, "t")]), "not_ours");
        assert_eq!(label(&[(ACCOUNT, "a"), (AUTH_TENANT, "u")]), "wrong_tenant");
        assert_eq!(label(&[(ACCOUNT, "a"), (AUTH_TENANT, "t")]), "ok");
    }
}
