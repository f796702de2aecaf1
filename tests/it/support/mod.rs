//! A registry of its own for each test: real HTTP on a free port, its own database and folder, a clock
//! that the test moves.
//!
//! `KONTOR_TEST_DATABASE_URL` names a PostgreSQL database: then each test has a schema of its own there.

pub mod image;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
};

use chrono::{DateTime, Utc};
use kontor::{
    app::{App, Overrides},
    clock::{Clock as _, ManualClock, SystemClock},
    config::{Config, Secret, StaticUser},
    db::{Db, DbConfig},
    ids::Ids,
    model::{job::Job, user::Grant},
    registry::Registry,
};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use storage_drivers::{
    MemoryDriver, StorageDriver,
    faulty::{Faults, FaultyDriver},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// The password of every test user.
pub const PASSWORD: &str = "correct horse";

/// The jobs that run all the time in tests.
const MOVES_AND_AUDIT: [Job; 3] = [Job::MoveAccount, Job::SealAudit, Job::PruneAudit];

/// argon2id of [`PASSWORD`] with the cheapest parameters, so that tests do not wait for it.
const CHEAP_HASH: &str = include_str!("password.hash");

/// A registry that runs.
pub struct TestRegistry {
    pub address: SocketAddr,
    pub clock: Arc<ManualClock>,
    /// Makes the storage fail.
    pub faults: Faults,
    pub storage: Arc<dyn StorageDriver>,
    /// The backend `second`, if the test wants one.
    pub second: Option<Second>,
    pub registry: Arc<Registry>,
    pub db: Db,
    pub http: Client,
    pub config: Config,
    pub folder: Arc<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    schema: Option<Arc<Schema>>,
}

type Change = Box<dyn FnOnce(&mut Config) + Send>;

/// A second backend.
#[derive(Clone)]
pub struct Second {
    pub storage: Arc<dyn StorageDriver>,
    /// Makes it fail.
    pub faults: Faults,
}

/// What a test wants to be different.
#[derive(Default)]
pub struct Setup {
    change: Option<Change>,
    storage: Option<Arc<dyn StorageDriver>>,
    second: Option<Arc<dyn StorageDriver>>,
    is_unserved: bool,
}

impl Setup {
    /// Only the use cases: nothing listens, no job runs, nothing happens by itself.
    pub fn unserved(mut self) -> Self {
        self.is_unserved = true;
        self
    }

    /// A backend called `second`, besides `default`.
    pub fn second(mut self) -> Self {
        self.second = Some(Arc::new(MemoryDriver::default()));
        self
    }

    pub fn config(mut self, change: impl FnOnce(&mut Config) + Send + 'static) -> Self {
        self.change = Some(Box::new(change));
        self
    }

    /// The driver below the one that injects faults.
    pub fn storage(mut self, storage: Arc<dyn StorageDriver>) -> Self {
        self.storage = Some(storage);
        self
    }

    pub async fn start(self) -> TestRegistry {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let schema = Schema::create().await.map(Arc::new);
        let data_dir = folder.path().join("data");
        let mut config = Config {
            data_dir,
            ..Config::default()
        };
        config.server.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        config.server.workers = 2;
        config.server.drain_timeout_seconds = 5;
        config.database.max_connections = 4;
        config.database.url = schema
            .as_ref()
            .map(|schema| Secret::new(schema.url.clone()));
        config.auth.initial_admin_password = Some(Secret::new("unused password"));
        config.auth.static_users.users = users();
        // What deletes is run by the tests that are about it, when they want it.
        config.janitor.disabled_jobs = Job::ALL
            .iter()
            .filter(|job| !MOVES_AND_AUDIT.contains(job))
            .map(|job| job.as_str().to_owned())
            .collect();
        if let Some(change) = self.change {
            change(&mut config);
        }
        let storage = self
            .storage
            .unwrap_or_else(|| Arc::new(MemoryDriver::default()));
        let storages = (storage, self.second);
        if self.is_unserved {
            return assemble(config, storages, folder, schema).await.0;
        }
        start(config, storages, folder, schema).await
    }
}

fn users() -> Vec<StaticUser> {
    use kontor::model::permission::Permission::{Delete, Pull, Push, View};
    let user = |name: &str, grants: Vec<Grant>| StaticUser {
        name: name.into(),
        password_hash: Secret::new(CHEAP_HASH.trim()),
        grants,
    };
    let grant = |tenant: &str, permissions: &[kontor::model::permission::Permission]| Grant {
        auth_tenant_id: tenant.into(),
        permissions: permissions.iter().copied().collect(),
    };
    vec![
        user("admin", vec![Grant::everything()]),
        // May read and write the accounts of the auth tenant `demo`, but not manage them.
        user("ann", vec![grant("demo", &[View, Pull, Push, Delete])]),
        // May read them only.
        user("reader", vec![grant("demo", &[View, Pull])]),
        // Has everything in another auth tenant.
        user(
            "other",
            vec![grant("other", &kontor::model::permission::Permission::ALL)],
        ),
        // Has nothing.
        user("nobody", vec![]),
    ]
}

type Storages = (Arc<dyn StorageDriver>, Option<Arc<dyn StorageDriver>>);

async fn start(
    config: Config,
    storages: Storages,
    folder: Arc<TempDir>,
    schema: Option<Arc<Schema>>,
) -> TestRegistry {
    let (mut registry, app) = assemble(config, storages, folder, schema).await;
    let listeners = app.listen().unwrap();
    registry.address = listeners[0].local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    registry.stop = Some(stop);
    thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let stop = async move {
                let _ = stopped.await;
            };
            app.serve(listeners, stop).await.unwrap();
        });
    });
    registry
}

/// A registry that does not run yet.
async fn assemble(
    config: Config,
    (storage, second): Storages,
    folder: Arc<TempDir>,
    schema: Option<Arc<Schema>>,
) -> (TestRegistry, App) {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let (driver, faults) = FaultyDriver::wrap(Arc::clone(&storage));
    let mut backends = BTreeMap::from([("default".to_owned(), driver)]);
    let second = second.map(|storage| {
        let (driver, faults) = FaultyDriver::wrap(Arc::clone(&storage));
        backends.insert("second".to_owned(), driver);
        Second { storage, faults }
    });
    let overrides = Overrides {
        clock: Some(clock.clone()),
        backends: Some(backends),
    };
    let app = App::build_with(config.clone(), overrides).unwrap();
    app.prepare().await.unwrap();
    let (registry, db) = (Arc::clone(app.registry()), app.db().clone());
    let registry = TestRegistry {
        address: config.server.listen[0],
        clock,
        faults,
        storage,
        second,
        registry,
        db,
        http: Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap(),
        config,
        folder,
        stop: None,
        schema,
    };
    (registry, app)
}

impl TestRegistry {
    /// A registry with the account `demo` of the auth tenant `demo`.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// Another node on the same database and storage.
    pub async fn second_node(&self) -> Self {
        let schema = self.schema.clone();
        start(
            self.config.clone(),
            (
                Arc::clone(&self.storage),
                self.second.as_ref().map(|s| Arc::clone(&s.storage)),
            ),
            Arc::clone(&self.folder),
            schema,
        )
        .await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request without credentials.
    pub fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            self.url(path)
        };
        self.http.request(method, url)
    }

    /// Whether the database is PostgreSQL, and SQLite otherwise.
    pub fn is_on_postgres(&self) -> bool {
        self.schema.is_some()
    }

    /// A request with Basic authentication.
    pub fn as_user(&self, user: &str, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path)
            .basic_auth(user, Some(PASSWORD))
    }

    /// A request of the user `admin`.
    pub fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.as_user("admin", method, path)
    }

    /// A token for scopes such as `repository:demo/app:pull`.
    pub async fn token(&self, user: &str, scopes: &[&str]) -> String {
        let service = self.address.to_string();
        let mut query = vec![("service", service.as_str())];
        query.extend(scopes.iter().map(|scope| ("scope", *scope)));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        let answer = self
            .as_user(user, Method::GET, &format!("/token?{query}"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()["token"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Makes an account by the API.
    pub async fn account(&self, name: &str, document: Value) -> Response {
        self.admin(Method::PUT, &format!("/api/v1/accounts/{name}"))
            .json(&document)
            .send()
            .await
            .unwrap()
    }

    /// Lets everybody pull from the repositories of `demo` that match.
    pub async fn allow_anonymous_pull(&self, pattern: &str) {
        let policy = json!({ "match_repository": pattern, "permissions": ["anonymous_pull"] });
        let answer = self
            .account("demo", json!({ "rbac_policies": [policy] }))
            .await;
        assert_eq!(answer.status(), 200);
    }

    /// The time of the test's clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Objects in the storage of an account.
    pub async fn object_count(&self, account: &str) -> usize {
        count(&self.storage, account).await
    }

    /// Objects of an account on the backend `second`.
    pub async fn second_count(&self, account: &str) -> usize {
        count(&self.second.as_ref().unwrap().storage, account).await
    }
}

async fn count(storage: &Arc<dyn StorageDriver>, account: &str) -> usize {
    use futures::StreamExt as _;
    storage.list(&tenant(account)).await.unwrap().count().await
}

/// An account as a driver sees it, whose auth tenant has the same name.
pub fn tenant(account: &str) -> storage_drivers::Tenant {
    storage_drivers::Tenant {
        account: account.into(),
        auth_tenant_id: account.into(),
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

/// Asserts the status and the code of an OCI error.
pub async fn assert_oci_error(answer: Response, status: u16, code: &str) -> Value {
    let actual = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(actual, status, "{text}");
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["errors"][0]["code"], code, "{text}");
    assert!(!body["errors"][0]["message"].as_str().unwrap().is_empty());
    body
}

/// A schema of one test in the PostgreSQL database of the tests.
struct Schema {
    url: String,
}

impl Schema {
    #[expect(
        clippy::disallowed_methods,
        reason = "a knob of the tests, not of the registry"
    )]
    async fn create() -> Option<Self> {
        let base = std::env::var("KONTOR_TEST_DATABASE_URL").ok()?;
        let name = format!("test_{}", Ids::Random.fresh().simple());
        let db = Db::new(&DbConfig {
            url: base.clone(),
            max_connections: 1,
            wait_timeout: std::time::Duration::from_secs(60),
        });
        db.execute_for_tests(format!("CREATE SCHEMA {name}"))
            .await
            .unwrap();
        let separator = if base.contains('?') { '&' } else { '?' };
        Some(Self {
            url: format!("{base}{separator}options=-csearch_path%3D{name}"),
        })
    }
}
