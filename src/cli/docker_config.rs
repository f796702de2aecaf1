//! Docker's configuration, where docker, podman, skopeo, crane, helm and others look for passwords.
//!
//! A password goes where docker itself would put it: to the credential helper of the registry, to the credential store,
//! or into the file if there is neither. Nothing else in the file is touched.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

use super::args::foreign_variable;
use crate::config::Secret;

/// The password could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum DockerConfigError {
    /// Nobody knows where the file is.
    #[error("neither DOCKER_CONFIG nor HOME says where docker's configuration is; use --print")]
    NoHome,
    /// The file cannot be read or written.
    #[error("{}: {source}; use --print to get the token on the terminal", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not JSON.
    #[error("{} is not a JSON object; nothing was changed", .0.display())]
    NotJson(PathBuf),
    /// The credential helper did not take it.
    #[error("{helper} did not store the token: {reason}; use --print to get it on the terminal")]
    Helper {
        /// The program.
        helper: String,
        /// Why.
        reason: String,
    },
    /// The credential helper cannot be asked.
    #[error(
        "docker's configuration names {helper} for the password, and it failed: {reason}; set KONTOR_USER and KONTOR_PASSWORD instead"
    )]
    HelperGet {
        /// The program.
        helper: String,
        /// Why.
        reason: String,
    },
}

/// Where the file is.
pub fn default_path() -> Result<PathBuf, DockerConfigError> {
    let folder = foreign_variable("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(Path::new(&foreign_variable("HOME")?).join(".docker")));
    Ok(folder.ok_or(DockerConfigError::NoHome)?.join("config.json"))
}

/// Stores a user name and a password for a registry, `host[:port]`. Says where.
pub fn store(
    path: &Path,
    host: &str,
    (user, secret): (&str, &str),
) -> Result<String, DockerConfigError> {
    let failed = |source| DockerConfigError::File {
        path: path.to_owned(),
        source,
    };
    let mut config = read(path)?;
    if let Some(helper) = helper_of(&config, host) {
        give_to_helper(&helper, host, (user, secret))?;
        return Ok(helper);
    }
    let auths = config.entry("auths").or_insert_with(|| json!({}));
    let Some(auths) = auths.as_object_mut() else {
        return Err(DockerConfigError::NotJson(path.to_owned()));
    };
    let auth = BASE64_STANDARD.encode(format!("{user}:{secret}"));
    auths.insert(host.to_owned(), json!({ "auth": auth }));
    write_private(path, &config).map_err(failed)?;
    Ok(path.display().to_string())
}

/// The file, or nothing if there is none.
fn read(path: &Path) -> Result<Map<String, Value>, DockerConfigError> {
    match fs::read(path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|_| DockerConfigError::NotJson(path.to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
        Err(source) => Err(DockerConfigError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// The program that keeps a registry's password.
fn helper_of(config: &Map<String, Value>, host: &str) -> Option<String> {
    let name = config
        .get("credHelpers")
        .and_then(|helpers| helpers.get(host))
        .or_else(|| config.get("credsStore"))
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty());
    name.map(|name| format!("docker-credential-{name}"))
}

/// The user name and the password that `docker login` left for a registry, `host[:port]`. Tokens that are good for
/// docker's token service only (`identitytoken`) are none.
pub(super) fn find(path: &Path, host: &str) -> Result<Option<(String, Secret)>, DockerConfigError> {
    let config = read(path)?;
    if let Some(helper) = helper_of(&config, host)
        && let Some(found) = ask_helper(&helper, host)?
    {
        return Ok(Some(found));
    }
    let entry = config.get("auths").and_then(|auths| auths.get(host));
    let auth = entry.and_then(|entry| entry["auth"].as_str());
    let text = auth.and_then(|auth| BASE64_STANDARD.decode(auth).ok());
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    let parts = text.as_deref().and_then(|text| text.split_once(':'));
    Ok(parts
        .filter(|(user, secret)| !user.is_empty() && !secret.is_empty())
        .map(|(user, secret)| (user.to_owned(), Secret::new(secret))))
}

/// `None`: the helper knows nothing of the registry.
fn ask_helper(helper: &str, host: &str) -> Result<Option<(String, Secret)>, DockerConfigError> {
    let failed = |reason: String| DockerConfigError::HelperGet {
        helper: helper.to_owned(),
        reason,
    };
    let output = run_helper(helper, "get", host.as_bytes());
    let output = output.map_err(|error| failed(error.to_string()))?;
    // The protocol has no other way to say "not found" than a failure.
    if !output.status.success() {
        return Ok(None);
    }
    let found: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed("its answer is not JSON".to_owned()))?;
    let text = |name: &str| found[name].as_str().unwrap_or_default();
    let (user, secret) = (text("Username"), text("Secret"));
    let is_password = !matches!(user, "" | "<token>") && !secret.is_empty();
    Ok(is_password.then(|| (user.to_owned(), Secret::new(secret))))
}

fn run_helper(helper: &str, verb: &str, input: &[u8]) -> io::Result<Output> {
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input)?;
    }
    child.wait_with_output()
}

/// The protocol of docker's credential helpers.
fn give_to_helper(
    helper: &str,
    host: &str,
    (user, secret): (&str, &str),
) -> Result<(), DockerConfigError> {
    let refused = |reason: String| DockerConfigError::Helper {
        helper: helper.to_owned(),
        reason,
    };
    let document = json!({ "ServerURL": host, "Username": user, "Secret": secret });
    let output = run_helper(helper, "store", document.to_string().as_bytes());
    let output = output.map_err(|error| refused(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(refused(
        String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    ))
}

/// Replaces the file at once; only its owner can read it.
fn write_private(path: &Path, config: &Map<String, Value>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // A link to a file elsewhere stays one.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let draft = target.with_extension(format!("kontor-{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&serde_json::to_vec_pretty(config)?)?;
    file.sync_all()?;
    fs::rename(&draft, &target)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn shown(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_password_is_added_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        store(&path, "a:1", ("ann", "x")).unwrap();
        assert_eq!(
            shown(&path),
            json!({ "auths": { "a:1": { "auth": "YW5uOng=" } } })
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = json!({ "auths": { "b": { "auth": "Yg==" } }, "psFormat": "x" });
        fs::write(&path, before.to_string()).unwrap();
        store(&path, "a:1", ("ann", "x")).unwrap();
        assert_eq!(shown(&path)["auths"]["b"], before["auths"]["b"]);
        assert_eq!(shown(&path)["psFormat"], "x");
        assert_eq!(shown(&path)["auths"]["a:1"]["auth"], "YW5uOng=");
    }

    #[test]
    fn a_file_that_is_not_understood_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        for text in ["[]", "{", r#"{"auths": 1}"#] {
            fs::write(&path, text).unwrap();
            store(&path, "a", ("ann", "x")).unwrap_err();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_helper_that_is_missing_is_named_and_the_secret_goes_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let text = r#"{"credsStore": "no-such-helper"}"#;
        fs::write(&path, text).unwrap();
        let error = store(&path, "a", ("ann", "secret"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("docker-credential-no-such-helper"),
            "{error}"
        );
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_password_is_found_for_its_host_and_for_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(find(&path, "a:1").unwrap().is_none());
        store(&path, "a:1", ("ann", "x:y")).unwrap();
        let (user, secret) = find(&path, "a:1").unwrap().unwrap();
        assert_eq!((user.as_str(), secret.expose()), ("ann", "x:y"));
        for other in ["a", "a:11", "b.a:1", "A:1", ""] {
            assert!(find(&path, other).unwrap().is_none(), "{other}");
        }
        // A refresh token is not a password.
        let token = json!({ "auths": { "a": { "auth": "PHRva2VuPjo=", "identitytoken": "t" } } });
        fs::write(&path, token.to_string()).unwrap();
        assert!(find(&path, "a").unwrap().is_none());
    }

    #[test]
    fn a_helper_is_asked_and_may_know_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let helper = folder.path().join("helper");
        let program = |text: &str| {
            fs::write(&helper, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&helper, fs::Permissions::from_mode(0o700)).unwrap();
            ask_helper(helper.to_str().unwrap(), "a:1")
        };
        let echo = r#"read host; echo "{\"Username\":\"ann\",\"Secret\":\"$1 $host\"}""#;
        let (user, secret) = program(echo).unwrap().unwrap();
        assert_eq!((user.as_str(), secret.expose()), ("ann", "get a:1"));
        assert!(program("cat >&2; exit 1").unwrap().is_none());
        let token = r#"cat >&2; echo '{"Username":"<token>","Secret":"t"}'"#;
        assert!(program(token).unwrap().is_none());
        assert!(program("cat >&2; echo no").is_err());
    }
}
