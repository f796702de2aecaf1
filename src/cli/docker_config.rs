//! Docker's configuration, where docker, podman, skopeo, crane, helm and others look for passwords.
//!
//! A password goes where docker itself would put it: to the credential helper of the registry, to the credential store,
//! or into the file if there is neither. Nothing else in the file is touched.

use std::{
    env, fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};

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
}

/// Where the file is.
#[expect(
    clippy::disallowed_methods,
    reason = "docker's own variables, which are no settings of kontor"
)]
pub fn default_path() -> Result<PathBuf, DockerConfigError> {
    let folder = env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".docker"))
    });
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
    let mut config = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice::<Map<String, Value>>(&bytes)
            .map_err(|_| DockerConfigError::NotJson(path.to_owned()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(error) => return Err(failed(error)),
    };
    let helper = config
        .get("credHelpers")
        .and_then(|helpers| helpers.get(host))
        .or_else(|| config.get("credsStore"))
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty());
    if let Some(name) = helper {
        let helper = format!("docker-credential-{name}");
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
    let mut child = Command::new(helper)
        .arg("store")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| refused(error.to_string()))?;
    let document = json!({ "ServerURL": host, "Username": user, "Secret": secret });
    if let Some(mut input) = child.stdin.take() {
        let written = input.write_all(document.to_string().as_bytes());
        written.map_err(|error| refused(error.to_string()))?;
    }
    let output = child
        .wait_with_output()
        .map_err(|error| refused(error.to_string()))?;
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

    fn read(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_password_is_added_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.json");
        store(&path, "a:1", ("ann", "x")).unwrap();
        assert_eq!(
            read(&path),
            json!({ "auths": { "a:1": { "auth": "YW5uOng=" } } })
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = json!({ "auths": { "b": { "auth": "Yg==" } }, "psFormat": "x" });
        fs::write(&path, before.to_string()).unwrap();
        store(&path, "a:1", ("ann", "x")).unwrap();
        assert_eq!(read(&path)["auths"]["b"], before["auths"]["b"]);
        assert_eq!(read(&path)["psFormat"], "x");
        assert_eq!(read(&path)["auths"]["a:1"]["auth"], "YW5uOng=");
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
}
