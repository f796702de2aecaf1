//! A token of Keystone, from what the OpenStack client is configured with: `OS_*` variables or `clouds.yaml`.
//!
//! Passwords, application credentials and tokens are known; other plugins are not. The token is scoped as the variables
//! say and goes to the registry as `X-Auth-Token`. What a newcomer gets wrong: `OS_AUTH_URL` may end in `/v3` or not.

use std::path::{Path, PathBuf};

use reqwest::{Client, redirect::Policy};
use serde_json::{Map, Value, json};

use super::args::foreign_variable;
use crate::config::Secret;

/// Keystone gave no token.
#[derive(Debug, thiserror::Error)]
pub enum OpenStackError {
    /// Something is missing.
    #[error("OpenStack: {0}")]
    Missing(&'static str),
    /// There is no such cloud.
    #[error("there is no cloud {cloud} in {place}")]
    NoCloud {
        /// Its name.
        cloud: String,
        /// Where it was looked for.
        place: String,
    },
    /// A file cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Keystone cannot be reached.
    #[error("cannot reach Keystone: {0}; is OS_AUTH_URL right?")]
    Unreachable(#[from] reqwest::Error),
    /// Keystone refused.
    #[error("Keystone refused the login: {0}")]
    Refused(String),
}

/// How to get a token.
#[derive(Debug)]
pub(super) enum Login {
    /// There is one already.
    Token(Secret),
    /// Keystone gives one for this.
    Request {
        /// Where.
        url: String,
        /// The body of the request; it holds the secret.
        body: Secret,
    },
}

/// From `OS_CLOUD` or the other variables; `None` if there are none.
pub(super) fn from_variables(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Login>, OpenStackError> {
    if let Some(cloud) = variable("OS_CLOUD") {
        return from_clouds(&cloud).map(Some);
    }
    let field = |name: &str| variable(&format!("OS_{}", name.to_uppercase()));
    if field("token").is_none() && field("auth_url").is_none() {
        return Ok(None);
    }
    login(field).map(Some)
}

/// From the first `clouds.yaml` of the places where the OpenStack client looks, with the `secure.yaml` beside it.
pub(super) fn from_clouds(cloud: &str) -> Result<Login, OpenStackError> {
    let path = clouds_files().into_iter().find(|path| path.is_file());
    let path = path.ok_or(OpenStackError::Missing(
        "there is no clouds.yaml; OS_CLIENT_CONFIG_FILE may name it",
    ))?;
    let mut fields = cloud_fields(&path, cloud)?.ok_or_else(|| OpenStackError::NoCloud {
        cloud: cloud.to_owned(),
        place: path.display().to_string(),
    })?;
    let secure = path.with_file_name("secure.yaml");
    if secure.is_file()
        && let Some(secrets) = cloud_fields(&secure, cloud)?
    {
        fields.extend(secrets);
    }
    login(|name| match fields.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn clouds_files() -> Vec<PathBuf> {
    if let Some(file) = foreign_variable("OS_CLIENT_CONFIG_FILE") {
        return vec![file.into()];
    }
    let mut files = vec![PathBuf::from("clouds.yaml")];
    if let Some(home) = foreign_variable("HOME") {
        files.push(Path::new(&home).join(".config/openstack/clouds.yaml"));
    }
    files.push("/etc/openstack/clouds.yaml".into());
    files
}

/// The members of `clouds.<cloud>.auth`.
fn cloud_fields(path: &Path, cloud: &str) -> Result<Option<Map<String, Value>>, OpenStackError> {
    let wrong = |reason: String| OpenStackError::File {
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    // The message of the parser may quote the line, and with it a password.
    let document: Value =
        serde_saphyr::from_str(&text).map_err(|_| wrong("it is not valid YAML".to_owned()))?;
    let auth = &document["clouds"][cloud]["auth"];
    Ok(auth.as_object().cloned())
}

fn login(field: impl Fn(&str) -> Option<String>) -> Result<Login, OpenStackError> {
    if let Some(token) = field("token") {
        return Ok(Login::Token(Secret::new(token)));
    }
    let url = field("auth_url").ok_or(OpenStackError::Missing("auth_url is missing"))?;
    let url = url.trim_end_matches('/');
    let url = match url.ends_with("/v3") {
        true => format!("{url}/auth/tokens"),
        false => format!("{url}/v3/auth/tokens"),
    };
    let mut auth = match application_credential(&field)? {
        Some(identity) => json!({ "identity": identity }),
        None => password(&field)?,
    };
    let body = json!({ "auth": auth.take() });
    Ok(Login::Request {
        url,
        body: Secret::new(body.to_string()),
    })
}

/// An application credential has a project of its own.
fn application_credential(
    field: &impl Fn(&str) -> Option<String>,
) -> Result<Option<Value>, OpenStackError> {
    let Some(secret) = field("application_credential_secret") else {
        return Ok(None);
    };
    let mut credential = json!({ "secret": secret });
    match (
        field("application_credential_id"),
        field("application_credential_name"),
    ) {
        (Some(id), _) => credential["id"] = json!(id),
        (None, Some(name)) => {
            credential["name"] = json!(name);
            credential["user"] = user(field)?;
        }
        (None, None) => {
            return Err(OpenStackError::Missing(
                "application_credential_secret needs application_credential_id or application_credential_name",
            ));
        }
    }
    Ok(Some(json!({
        "methods": ["application_credential"],
        "application_credential": credential,
    })))
}

fn password(field: &impl Fn(&str) -> Option<String>) -> Result<Value, OpenStackError> {
    let missing = "password, application_credential_secret or token is missing";
    let mut user = user(field)?;
    user["password"] = json!(field("password").ok_or(OpenStackError::Missing(missing))?);
    let mut auth = json!({ "identity": { "methods": ["password"], "password": { "user": user } } });
    if let Some(id) = field("project_id") {
        auth["scope"] = json!({ "project": { "id": id } });
    } else if let Some(name) = field("project_name") {
        let domain = domain(field, "project")?;
        auth["scope"] = json!({ "project": { "name": name, "domain": domain } });
    }
    Ok(auth)
}

fn user(field: &impl Fn(&str) -> Option<String>) -> Result<Value, OpenStackError> {
    if let Some(id) = field("user_id") {
        return Ok(json!({ "id": id }));
    }
    let name = field("username").ok_or(OpenStackError::Missing("username is missing"))?;
    Ok(json!({ "name": name, "domain": domain(field, "user")? }))
}

fn domain(field: &impl Fn(&str) -> Option<String>, whose: &str) -> Result<Value, OpenStackError> {
    if let Some(id) = field(&format!("{whose}_domain_id")).or_else(|| field("default_domain_id")) {
        return Ok(json!({ "id": id }));
    }
    let name = field(&format!("{whose}_domain_name")).or_else(|| field("default_domain_name"));
    let name = name.ok_or(OpenStackError::Missing(
        "user_domain_name and project_domain_name (or their ids) are missing",
    ))?;
    Ok(json!({ "name": name }))
}

impl Login {
    /// Gets the token.
    pub(super) async fn token(self) -> Result<Secret, OpenStackError> {
        let (url, body) = match self {
            Self::Token(token) => return Ok(token),
            Self::Request { url, body } => (url, body),
        };
        // A password is not carried to wherever Keystone might point.
        let client = Client::builder().redirect(Policy::none()).build()?;
        let request = client.post(url).header("Content-Type", "application/json");
        let response = request.body(body.expose().to_owned()).send().await?;
        let status = response.status();
        let token = response.headers().get("X-Subject-Token");
        let token = token.and_then(|value| value.to_str().ok());
        match (status.is_success(), token) {
            (true, Some(token)) => Ok(Secret::new(token)),
            _ => Err(OpenStackError::Refused(status.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<Login>, OpenStackError> {
        from_variables(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn request(login: Login) -> (String, Value) {
        match login {
            Login::Token(_) => panic!("no request is needed"),
            Login::Request { url, body } => (url, serde_json::from_str(body.expose()).unwrap()),
        }
    }

    #[test]
    fn a_password_is_scoped_to_the_project() {
        let login = of(&[
            ("OS_AUTH_URL", "https://keystone.test/v3/"),
            ("OS_USERNAME", "ann"),
            ("OS_PASSWORD", "secret"),
            ("OS_USER_DOMAIN_NAME", "Default"),
            ("OS_PROJECT_NAME", "web"),
            ("OS_PROJECT_DOMAIN_ID", "default"),
        ]);
        let (url, body) = request(login.unwrap().unwrap());
        assert_eq!(url, "https://keystone.test/v3/auth/tokens");
        let user = json!({ "name": "ann", "domain": { "name": "Default" }, "password": "secret" });
        let expected = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": user } },
            "scope": { "project": { "name": "web", "domain": { "id": "default" } } },
        }});
        assert_eq!(body, expected);
    }

    #[test]
    fn an_application_credential_needs_no_project() {
        let login = of(&[
            ("OS_AUTH_URL", "https://keystone.test"),
            ("OS_APPLICATION_CREDENTIAL_ID", "id"),
            ("OS_APPLICATION_CREDENTIAL_SECRET", "secret"),
            ("OS_PROJECT_ID", "ignored"),
        ]);
        let (url, body) = request(login.unwrap().unwrap());
        assert_eq!(url, "https://keystone.test/v3/auth/tokens");
        let credential = json!({ "id": "id", "secret": "secret" });
        let identity = json!({
            "methods": ["application_credential"],
            "application_credential": credential,
        });
        assert_eq!(body, json!({ "auth": { "identity": identity } }));
    }

    #[test]
    fn a_token_is_taken_as_it_is_and_nothing_is_nothing() {
        let login = of(&[("OS_TOKEN", "t0ken")]).unwrap().unwrap();
        assert!(matches!(login, Login::Token(token) if token.expose() == "t0ken"));
        assert!(of(&[]).unwrap().is_none());
        assert!(of(&[("OS_USERNAME", "ann")]).unwrap().is_none());
    }

    #[test]
    fn what_is_missing_is_named_without_a_secret() {
        let url = ("OS_AUTH_URL", "https://keystone.test");
        for (pairs, missing) in [
            (vec![url], "username"),
            (vec![url, ("OS_USERNAME", "ann")], "user_domain_name"),
            (
                vec![url, ("OS_USER_ID", "1"), ("OS_PROJECT_NAME", "web")],
                "password",
            ),
            (
                vec![url, ("OS_APPLICATION_CREDENTIAL_SECRET", "s3cr3t")],
                "application_credential_id",
            ),
        ] {
            let error = of(&pairs).unwrap_err().to_string();
            assert!(
                error.contains(missing) && !error.contains("s3cr3t"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_cloud_is_found_in_a_file_and_a_broken_file_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clouds.yaml");
        let text = "clouds:\n  one:\n    region_name: x\n    auth:\n      auth_url: https://k\n      user_id: '1'\n";
        std::fs::write(&path, text).unwrap();
        let fields = cloud_fields(&path, "one").unwrap().unwrap();
        assert_eq!(fields["user_id"], "1");
        assert!(cloud_fields(&path, "two").unwrap().is_none());
        std::fs::write(&path, "clouds: [\npassword: s3cr3t").unwrap();
        let error = cloud_fields(&path, "one").unwrap_err().to_string();
        assert!(!error.contains("s3cr3t"), "{error}");
    }
}
