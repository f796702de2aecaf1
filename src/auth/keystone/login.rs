//! The names that people log in with, and what Keystone is asked for each. Pure.
//!
//! What a newcomer gets wrong: Keystone's names may hold `@` and `/`. A name that can be read in two ways is refused,
//! never guessed at: the guess would decide whose password is tried.

use serde_json::{Value, json};

/// The longest part of a name, in bytes. Keystone has 255 characters at most.
const MAX_PART_BYTES: usize = 1024;

/// Before the id of an application credential.
const BY_ID: &str = "applicationcredential-";

/// Before the name of an application credential.
const BY_NAME: &str = "applicationcredential/";

/// What a login name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// `user@user_domain/project@project_domain`.
    Project(ProjectLogin),
    /// `applicationcredential-<id>`.
    CredentialById(String),
    /// `applicationcredential/<name>/<user>@<user domain>`.
    CredentialByName {
        name: String,
        user: String,
        user_domain: String,
    },
}

/// A user and the project that the token is to be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProjectLogin {
    pub(super) user: String,
    pub(super) user_domain: String,
    pub(super) project: String,
    pub(super) project_domain: String,
}

/// Reads a login name; `None` if it is not one of ours. Errors: it looks like ours and is ambiguous; what to do.
pub(super) fn parse(name: &str) -> Result<Option<Login>, String> {
    let id = name.strip_prefix(BY_ID);
    if let Some(id) = id.filter(|id| is_id(id)) {
        return Ok(Some(Login::CredentialById(id.to_owned())));
    }
    if let Some(rest) = name.strip_prefix(BY_NAME) {
        let found = split_once(rest, '/').and_then(|(credential, user)| {
            let (user, user_domain) = split_once(user, '@')?;
            let parts = [credential, user, user_domain];
            parts
                .into_iter()
                .all(is_part)
                .then(|| Login::CredentialByName {
                    name: credential.to_owned(),
                    user: user.to_owned(),
                    user_domain: user_domain.to_owned(),
                })
        });
        return found.map(Some).ok_or_else(ambiguous);
    }
    if !name.contains('@') || !name.contains('/') {
        return Ok(None);
    }
    project_login(name)
        .map(|login| Some(Login::Project(login)))
        .ok_or_else(ambiguous)
}

fn project_login(name: &str) -> Option<ProjectLogin> {
    let (user, project) = split_once(name, '/')?;
    let (user, user_domain) = split_once(user, '@')?;
    let (project, project_domain) = match project.contains('@') {
        true => split_once(project, '@')?,
        false => (project, user_domain),
    };
    let parts = [user, user_domain, project, project_domain];
    parts.into_iter().all(is_part).then(|| ProjectLogin {
        user: user.to_owned(),
        user_domain: user_domain.to_owned(),
        project: project.to_owned(),
        project_domain: project_domain.to_owned(),
    })
}

fn ambiguous() -> String {
    "the user name must be user@domain/project or user@domain/project@domain, each part once and not empty; if a \
     name holds @ or /, use an application credential: applicationcredential-<id>"
        .to_owned()
}

/// Both sides of the only `separator`.
fn split_once(text: &str, separator: char) -> Option<(&str, &str)> {
    let (left, right) = text.split_once(separator)?;
    (!right.contains(separator)).then_some((left, right))
}

fn is_part(part: &str) -> bool {
    (1..=MAX_PART_BYTES).contains(&part.len())
        && !part.contains(['@', '/'])
        && !part.contains(char::is_control)
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

impl Login {
    /// The body of `POST /v3/auth/tokens`. It holds the secret.
    pub(super) fn request(&self, secret: &str) -> Value {
        match self {
            Self::Project(login) => json!({ "auth": {
                "identity": { "methods": ["password"], "password": { "user": {
                    "name": login.user, "domain": { "name": login.user_domain }, "password": secret } } },
                "scope": { "project": {
                    "name": login.project, "domain": { "name": login.project_domain } } } } }),
            Self::CredentialById(id) => json!({ "auth": { "identity": {
                "methods": ["application_credential"],
                "application_credential": { "id": id, "secret": secret } } } }),
            Self::CredentialByName {
                name,
                user,
                user_domain,
            } => json!({ "auth": { "identity": {
                "methods": ["application_credential"],
                "application_credential": { "name": name, "secret": secret,
                    "user": { "name": user, "domain": { "name": user_domain } } } } } }),
        }
    }
}

/// Whether a secret is a token and no password. Fernet tokens begin so: a version byte and the high bytes of the time.
/// The shortest has some 180 characters.
pub(super) fn is_token(secret: &str) -> bool {
    secret.len() >= 100
        && secret.starts_with("gAAAA")
        && secret
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(
        user: &str,
        user_domain: &str,
        project: &str,
        project_domain: &str,
    ) -> Option<Login> {
        Some(Login::Project(ProjectLogin {
            user: user.into(),
            user_domain: user_domain.into(),
            project: project.into(),
            project_domain: project_domain.into(),
        }))
    }

    #[test]
    fn names() {
        let by_id = |id: &str| Some(Login::CredentialById(id.into()));
        let by_name = Some(Login::CredentialByName {
            name: "ci push".into(),
            user: "u".into(),
            user_domain: "d".into(),
        });
        for (name, expected) in [
            ("u@d/p@e", project("u", "d", "p", "e")),
            ("u@d/p", project("u", "d", "p", "d")),
            ("u 1@d d/p:p@e", project("u 1", "d d", "p:p", "e")),
            ("100%@d/p", project("100%", "d", "p", "d")),
            ("applicationcredential-0aF", by_id("0aF")),
            ("applicationcredential/ci push/u@d", by_name),
            ("ann", None),
            ("ann@example.org", None),
            ("a/b", None),
            ("applicationcredential-", None),
            ("", None),
        ] {
            assert_eq!(parse(name), Ok(expected), "{name}");
        }
    }

    #[test]
    fn ambiguous_names_are_refused() {
        for name in [
            "u@x@d/p",
            "u@d/p/q",
            "u/v@d/p",
            "u@d/p@e@f",
            "@d/p",
            "u@/p",
            "u@d/",
            "u@d/p@",
            "u@d/\u{0}",
            "u/p@d",
            "applicationcredential/n",
            "applicationcredential/n/u",
            "applicationcredential/n/m/u@d",
            "applicationcredential/n@o/u@d",
            "applicationcredential//u@d",
            "applicationcredential-@d/",
        ] {
            let error = parse(name).unwrap_err();
            assert!(error.contains("application credential"), "{name}: {error}");
        }
        assert!(parse(&format!("u@d/{}", "p".repeat(2000))).is_err());
    }

    #[test]
    fn tokens_are_told_from_passwords() {
        assert!(is_token(&format!("gAAAA{}", "B-_x".repeat(40))));
        assert!(!is_token("gAAAAshort"));
        assert!(!is_token(&format!("gAAAA{}", "p w!".repeat(40))));
        assert!(!is_token(&"x".repeat(200)));
    }
}
