//! The driver `keystone` on a real Keystone: `ci/cloud run --keystone cargo test --test it keystone_live`.
//!
//! Who lives there is in ci/harness/cloud/identity.py. Without KONTOR_TEST_KEYSTONE_FILE the tests say so and pass,
//! unless KONTOR_TEST_LIVE=required. The HTTP interface is not looked at here.

use std::{fs, sync::Arc, time::Duration};

use kontor::{
    auth::{
        driver::{AuthDriver as _, AuthError, Credentials, Facts, Identity},
        keystone::{KeystoneConfig, KeystoneDriver},
    },
    clock::SystemClock,
    model::permission::Permission::{
        self, Change, Delete, Pull, Push, QuotaChange, QuotaView, View,
    },
};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use storage_drivers::{OpenStackConfig, OpenStackSession};

/// A real Keystone and who lives there.
struct Cloud {
    facts: Value,
    http: Client,
}

impl Cloud {
    #[expect(
        clippy::disallowed_methods,
        clippy::print_stdout,
        reason = "where the server is, and what was not run"
    )]
    fn find() -> Option<Self> {
        let Ok(file) = std::env::var("KONTOR_TEST_KEYSTONE_FILE") else {
            let live = std::env::var("KONTOR_TEST_LIVE").ok();
            assert_ne!(
                live.as_deref(),
                Some("required"),
                "KONTOR_TEST_KEYSTONE_FILE must be set"
            );
            println!("not run: no KONTOR_TEST_KEYSTONE_FILE");
            return None;
        };
        Some(Self {
            facts: serde_json::from_slice(&fs::read(file).unwrap()).unwrap(),
            http: Client::new(),
        })
    }

    fn text(&self, pointer: &str) -> &str {
        self.facts.pointer(pointer).and_then(Value::as_str).unwrap()
    }

    /// A service session that logs in as somebody.
    fn session(&self, user: &str, password: &str, project: [&str; 2]) -> Arc<OpenStackSession> {
        let [project, domain] = project;
        let login = json!({
            "auth_url": self.text("/auth_url"), "user": user, "user_domain": domain, "password": password,
            "project": project, "project_domain": domain,
        });
        let login: OpenStackConfig = serde_json::from_value(login).unwrap();
        Arc::new(OpenStackSession::new(&login).unwrap())
    }

    fn service_session(&self) -> Arc<OpenStackSession> {
        let project = [self.text("/service/project"), self.text("/service/domain")];
        self.session(
            self.text("/service/user"),
            self.text("/service/password"),
            project,
        )
    }

    fn driver_with(&self, config: Value) -> KeystoneDriver {
        let config: KeystoneConfig = serde_json::from_value(config).unwrap();
        let session = self.service_session();
        KeystoneDriver::new(&config, Some(&session), Arc::new(SystemClock)).unwrap()
    }

    fn driver(&self) -> KeystoneDriver {
        self.driver_with(json!({}))
    }

    fn password(&self, user: &str) -> &str {
        let tenant = self.facts.pointer(&format!("/passwords/{user}"));
        tenant
            .and_then(Value::as_str)
            .unwrap_or_else(|| self.text("/people_password"))
    }

    /// A token from Keystone as a user gets it.
    async fn token(&self, user: &str, password: &str, scope: Value) -> String {
        let domain = if user == "admin" {
            "Default"
        } else {
            self.text("/domain")
        };
        let mut body = json!({ "auth": { "identity": { "methods": ["password"], "password": { "user": {
            "name": user, "domain": { "name": domain }, "password": password } } } } });
        body["auth"]["scope"] = scope;
        let url = format!("{}/auth/tokens", self.text("/auth_url"));
        let answer = self.http.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.headers()["x-subject-token"]
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn project(&self, name: &str) -> Value {
        json!({ "project": { "name": name, "domain": { "name": self.text("/domain") } } })
    }

    async fn alice_token(&self) -> String {
        let scope = self.project("project-one");
        self.token("alice", self.password("alice"), scope).await
    }

    async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        let scope = json!({ "project": { "name": "admin", "domain": { "name": "Default" } } });
        let token = self
            .token("admin", self.text("/admin/password"), scope)
            .await;
        let url = format!("{}{path}", self.text("/auth_url"));
        let mut request = self.http.request(method, url).header("X-Auth-Token", token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null)
    }
}

async fn login(driver: &KeystoneDriver, user: &str, secret: &str) -> Result<Identity, AuthError> {
    let offered = Credentials::Password { user, secret };
    driver.authenticate(offered).await.map(Option::unwrap)
}

async fn by_token(driver: &KeystoneDriver, token: &str) -> Result<Identity, AuthError> {
    let offered = Credentials::KeystoneToken(token);
    driver.authenticate(offered).await.map(Option::unwrap)
}

fn facts(identity: &Identity) -> (Vec<&str>, Value) {
    let Facts::Keystone { roles, attributes } = &identity.facts else {
        panic!("{identity:?}");
    };
    let mut roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    roles.sort_unstable();
    (roles, json!(attributes))
}

/// What somebody may do on the accounts of a project.
async fn rights(driver: &KeystoneDriver, who: &Identity, project: &str) -> Vec<Permission> {
    let mut found = Vec::new();
    for permission in Permission::ALL {
        if driver.permits(who, permission, project).await.unwrap() {
            found.push(permission);
        }
    }
    found
}

#[tokio::test]
async fn a_password_is_checked_in_the_project() {
    let Some(cloud) = Cloud::find() else { return };
    let driver = cloud.driver();
    for name in [
        "alice@tenants/project-one",
        "alice@tenants/project-one@tenants",
    ] {
        let alice = login(&driver, name, cloud.password("alice")).await.unwrap();
        assert_eq!(alice.user, "alice@tenants/project-one@tenants");
        assert_eq!(alice.policy_name(), alice.user);
        let (roles, attributes) = facts(&alice);
        assert_eq!(roles, ["member", "reader"]);
        for (name, expected) in [
            ("user_name", "alice"),
            ("user_domain_name", "tenants"),
            ("project_id", cloud.text("/projects/project-one")),
            ("project_name", "project-one"),
            ("project_domain_name", "tenants"),
            ("is_admin_project", "False"),
        ] {
            assert_eq!(attributes[name], expected, "{name}");
        }
        assert!(attributes["user_id"].is_string() && attributes["project_domain_id"].is_string());
    }
}

#[tokio::test]
async fn wrong_passwords_and_people_who_are_not_there_look_the_same() {
    let Some(cloud) = Cloud::find() else { return };
    let driver = cloud.driver();
    for (name, password) in [
        ("alice@tenants/project-one", "wrong"),
        ("alice@tenants/project-one", cloud.password("bob")),
        ("nobody@tenants/project-one", "wrong"),
        ("alice@nowhere/project-one@tenants", cloud.password("alice")),
        ("alice@tenants/nothing", cloud.password("alice")),
        // Not hers, disabled.
        ("alice@tenants/project-two", cloud.password("alice")),
        ("dave@tenants/project-one", cloud.password("dave")),
        ("applicationcredential-0123456789abcdef", "wrong"),
        ("applicationcredential/ci push/alice@tenants", "wrong"),
        ("applicationcredential/nothing/alice@tenants", "wrong"),
    ] {
        let refused = login(&driver, name, password).await;
        assert!(
            matches!(refused, Err(AuthError::Rejected)),
            "{name}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn application_credentials_by_id_and_by_name() {
    let Some(cloud) = Cloud::find() else { return };
    let driver = cloud.driver();
    let id = |name: &str| {
        format!(
            "applicationcredential-{}",
            cloud.text(&format!("/credentials/{name}/id"))
        )
    };
    let secret = |name: &str| cloud.text(&format!("/credentials/{name}/secret"));
    for name in [
        id("push").as_str(),
        "applicationcredential/ci push/alice@tenants",
    ] {
        let push = login(&driver, name, secret("push")).await.unwrap();
        assert_eq!(push.user, "alice@tenants/project-one@tenants");
        let (roles, attributes) = facts(&push);
        assert_eq!(roles, ["member", "reader"]);
        assert_eq!(
            attributes["application_credential_id"],
            cloud.text("/credentials/push/id")
        );
    }
    let pull = login(&driver, &id("pull"), secret("pull")).await.unwrap();
    assert_eq!(facts(&pull).0, ["reader"]);
    let wrong = login(&driver, &id("pull"), secret("push")).await;
    assert!(matches!(wrong, Err(AuthError::Rejected)), "{wrong:?}");
    let bound = login(&driver, &id("bound"), secret("bound")).await;
    assert!(
        matches!(&bound, Err(AuthError::Misused(why)) if why.contains("access rules")),
        "{bound:?}"
    );

    // Names that no login name can hold.
    let odd = login(&driver, &id("odd"), secret("odd")).await.unwrap();
    assert_eq!(
        odd.user,
        "odd%40user%2Fx@odd%40domain%2Fx/odd%2Fproject%40x@odd%40domain%2Fx"
    );
    let name = format!(
        "{}@{}/{}",
        cloud.text("/odd/user"),
        cloud.text("/odd/domain"),
        cloud.text("/odd/project")
    );
    let named = login(&driver, &name, cloud.text("/people_password")).await;
    assert!(
        matches!(&named, Err(AuthError::Misused(why)) if why.contains("application credential"))
    );
    let project = cloud.text("/odd/project_id");
    assert_eq!(
        rights(&driver, &odd, project).await,
        [View, Pull, Push, Delete, QuotaView]
    );
}

#[tokio::test]
async fn a_token_of_keystone() {
    let Some(cloud) = Cloud::find() else { return };
    let driver = cloud.driver();
    let token = cloud.alice_token().await;
    let alice = by_token(&driver, &token).await.unwrap();
    assert_eq!(alice.user, "alice@tenants/project-one@tenants");
    assert_eq!(
        alice,
        login(
            &driver,
            "alice@tenants/project-one",
            cloud.password("alice")
        )
        .await
        .unwrap()
    );
    // In the place of the password it must fit the name.
    assert_eq!(
        login(&driver, "alice@tenants/project-one", &token)
            .await
            .unwrap(),
        alice
    );
    for other in [
        "bob@tenants/project-one",
        "alice@tenants/project-two",
        "alice@Default/project-one@tenants",
    ] {
        let refused = login(&driver, other, &token).await;
        assert!(
            matches!(refused, Err(AuthError::Rejected)),
            "{other}: {refused:?}"
        );
    }
    // The last character of a Fernet token may hold bits that count for nothing; one in the middle does not.
    let middle = token.len() / 2;
    let other = if token.as_bytes()[middle] == b'x' {
        "y"
    } else {
        "x"
    };
    let altered = format!("{}{other}{}", &token[..middle], &token[middle + 1..]);
    for bogus in ["bogus", &altered, &token[..100]] {
        let refused = by_token(&driver, bogus).await;
        assert!(matches!(refused, Err(AuthError::Rejected)), "{refused:?}");
    }
}

#[tokio::test]
async fn tokens_for_no_project_are_refused() {
    let Some(cloud) = Cloud::find() else { return };
    let driver = cloud.driver();
    let unscoped = cloud
        .token("alice", cloud.password("alice"), json!("unscoped"))
        .await;
    let system = json!({ "system": { "all": true } });
    let system = cloud
        .token("admin", cloud.text("/admin/password"), system)
        .await;
    for token in [unscoped, system] {
        let refused = by_token(&driver, &token).await;
        assert!(
            matches!(&refused, Err(AuthError::Misused(why)) if why.contains("not for a project")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_revoked_token_and_a_disabled_user_count_for_cache_seconds_at_most() {
    let Some(cloud) = Cloud::find() else { return };
    let driver = cloud.driver_with(json!({ "cache_seconds": 1 }));
    let domain = cloud
        .admin(Method::GET, "/domains?name=tenants", Value::Null)
        .await;
    let user = json!({ "user": { "name": format!("eve-{}", std::process::id()), "password": "x-password",
        "domain_id": domain["domains"][0]["id"] } });
    let user = cloud.admin(Method::POST, "/users", user).await;
    let id = user["user"]["id"].as_str().unwrap();
    let roles = cloud
        .admin(Method::GET, "/roles?name=reader", Value::Null)
        .await;
    let role = roles["roles"][0]["id"].as_str().unwrap();
    let project = cloud.text("/projects/project-one");
    let grant = format!("/projects/{project}/users/{id}/roles/{role}");
    cloud.admin(Method::PUT, &grant, Value::Null).await;

    let name = format!(
        "{}@tenants/project-one",
        user["user"]["name"].as_str().unwrap()
    );
    let token = cloud.alice_token().await;
    by_token(&driver, &token).await.unwrap();
    login(&driver, &name, "x-password").await.unwrap();
    let revoke = cloud
        .http
        .delete(format!("{}/auth/tokens", cloud.text("/auth_url")));
    let revoke = revoke
        .header("X-Auth-Token", &token)
        .header("X-Subject-Token", &token);
    assert_eq!(
        revoke.send().await.unwrap().status(),
        StatusCode::NO_CONTENT
    );
    let disabled = json!({ "user": { "enabled": false } });
    cloud
        .admin(Method::PATCH, &format!("/users/{id}"), disabled)
        .await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let refused = by_token(&driver, &token).await;
    assert!(matches!(refused, Err(AuthError::Rejected)), "{refused:?}");
    let refused = login(&driver, &name, "x-password").await;
    assert!(matches!(refused, Err(AuthError::Rejected)), "{refused:?}");
    cloud
        .admin(Method::DELETE, &format!("/users/{id}"), Value::Null)
        .await;
}

const POLICY: &str = r#"
# In the manner of Keppel's example.
cloud_rw: "role:cloud_registry_admin"
project_rw: "role:member"
project_ro: "role:reader or rule:project_rw"
matches_scope: "rule:cloud_rw or project_id:%(target.project.id)s"
account:list: "rule:cloud_rw or rule:project_ro"
account:show: "(rule:cloud_rw or rule:project_ro) and rule:matches_scope"
account:pull: "(rule:cloud_rw or rule:project_ro) and rule:matches_scope"
account:push: "(rule:cloud_rw or rule:project_rw) and rule:matches_scope and not user_name:carol"
account:delete: "(rule:cloud_rw or rule:project_rw) and rule:matches_scope"
account:edit: "rule:cloud_rw"
quota:show: "rule:account:show"
"#;

#[tokio::test]
async fn roles_give_the_rights_of_the_policy() {
    let Some(cloud) = Cloud::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    fs::write(&file, POLICY).unwrap();
    let by_file = cloud.driver_with(json!({ "policy_file": file }));
    let built_in = cloud.driver();
    let (own, other) = (
        cloud.text("/projects/project-one"),
        cloud.text("/projects/project-two"),
    );
    let reader = vec![View, Pull, QuotaView];
    let member = vec![View, Pull, Push, Delete, QuotaView];
    let manager = vec![View, Pull, Push, Delete, Change, QuotaView];
    for (user, own_by_file, elsewhere_by_file, own_built_in) in [
        ("reader", reader.clone(), vec![], reader),
        ("alice", member.clone(), vec![], member),
        (
            "carol",
            vec![View, Pull, Delete, QuotaView],
            vec![],
            manager,
        ),
        (
            "operator",
            vec![View, Pull, Push, Delete, Change, QuotaView],
            vec![View, Pull, Push, Delete, Change, QuotaView],
            vec![View, Pull, Push, Delete, Change, QuotaView, QuotaChange],
        ),
    ] {
        let name = format!("{user}@tenants/project-one");
        let who = login(&by_file, &name, cloud.password(user)).await.unwrap();
        assert_eq!(rights(&by_file, &who, own).await, own_by_file, "{user}");
        assert_eq!(
            rights(&by_file, &who, other).await,
            elsewhere_by_file,
            "{user}"
        );
        assert_eq!(
            rights(&by_file, &who, "*").await,
            elsewhere_by_file,
            "{user}"
        );
        assert_eq!(rights(&built_in, &who, own).await, own_built_in, "{user}");
    }
}

#[tokio::test]
async fn the_service_users_token_is_renewed_when_keystone_refuses_it() {
    let Some(cloud) = Cloud::find() else { return };
    let session = cloud.service_session();
    let config: KeystoneConfig = serde_json::from_value(json!({ "cache_seconds": 0 })).unwrap();
    let driver = KeystoneDriver::new(&config, Some(&session), Arc::new(SystemClock)).unwrap();
    let token = cloud.alice_token().await;
    for _ in 0..2 {
        by_token(&driver, &token).await.unwrap();
        session.spoil_token_for_tests();
    }
    by_token(&driver, &token).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_the_service_user_or_keystone_is_never_the_clients_fault() {
    let Some(cloud) = Cloud::find() else { return };
    let token = cloud.alice_token().await;
    let service = [
        cloud.text("/service/project"),
        cloud.text("/service/domain"),
    ];
    let config = KeystoneConfig::default();
    for session in [
        // A wrong password; a user who may not have others' tokens checked.
        cloud.session(cloud.text("/service/user"), "wrong", service),
        cloud.session("bob", cloud.password("bob"), ["project-two", "tenants"]),
    ] {
        let driver = KeystoneDriver::new(&config, Some(&session), Arc::new(SystemClock)).unwrap();
        let refused = by_token(&driver, &token).await;
        assert!(
            matches!(refused, Err(AuthError::Unavailable(_))),
            "{refused:?}"
        );
        // Passwords need no service user.
        login(
            &driver,
            "alice@tenants/project-one",
            cloud.password("alice"),
        )
        .await
        .unwrap();
    }
    // Nobody listens there.
    let driver = cloud.driver_with(json!({ "auth_url": "http://127.0.0.1:9/v3" }));
    let refused = login(
        &driver,
        "alice@tenants/project-one",
        cloud.password("alice"),
    )
    .await;
    assert!(
        matches!(refused, Err(AuthError::Unavailable(_))),
        "{refused:?}"
    );
}
