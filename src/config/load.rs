//! From files and the environment to a [`Config`], with errors that name the key and where it stands.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::Config;

/// The start of the environment variables that set a key: `KONTOR__SERVER__LISTEN` is `server.listen`.
const PREFIX: &str = "KONTOR__";

/// Keys that hold secrets: each may be given as `<key>_file`, the path of a file that holds the value.
const SECRET_KEYS: [&str; 10] = [
    "url",
    "initial_admin_password",
    "password_hash",
    "password",
    "application_credential_secret",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "external_id",
    "client_secret",
];

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not valid TOML: {message}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A key is unknown or its value is wrong.
    #[error("{key}{}: {reason}", origin.as_ref().map(|o| format!(" ({o})")).unwrap_or_default())]
    Invalid {
        /// The path of the key, such as `server.listen`.
        key: String,
        /// The environment variable or file that set it.
        origin: Option<String>,
        /// What is wrong with it.
        reason: String,
    },
}

impl ConfigError {
    pub(super) fn invalid(key: &str, reason: impl fmt::Display) -> Self {
        Self::Invalid {
            key: key.to_owned(),
            origin: None,
            reason: reason.to_string(),
        }
    }
}

impl Config {
    /// Reads `file` (if any) and this process's environment; `overrides` are command line flags.
    pub fn from_process(
        file: Option<&Path>,
        overrides: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        // A variable that is not Unicode cannot be one of ours, and `vars()` would panic on it.
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::load(file, environment, overrides)
    }

    /// Reads the configuration: defaults, then `file`, then `environment`, then `overrides`.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[(&str, String)],
    ) -> Result<Self, ConfigError> {
        let mut table = match file {
            Some(path) => read_table(path)?,
            None => Table::new(),
        };
        let mut origins = HashMap::new();
        let mut variables: Vec<_> = environment
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        variables.sort();
        for (name, text) in variables {
            let path: Vec<String> = name[PREFIX.len()..]
                .split("__")
                .map(str::to_ascii_lowercase)
                .collect();
            origins.insert(path.join("."), format!("from {name}"));
            set(&mut table, &path, from_environment(&text))
                .map_err(|reason| ConfigError::invalid(&name, reason))?;
        }
        for (key, value) in overrides {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            set(&mut table, &path, Value::String(value.clone()))
                .map_err(|reason| ConfigError::invalid(key, reason))?;
        }
        read_secrets(&mut table, "")?;
        let origin_of = |key: &str| {
            origins
                .get(key)
                .cloned()
                .or_else(|| file.map(|path| format!("from {}", path.display())))
        };
        let config: Self = serde_path_to_error::deserialize(Value::Table(table)).map_err(|e| {
            let key = e.path().to_string();
            ConfigError::Invalid {
                origin: origin_of(&key),
                reason: one_line(e.inner()),
                key,
            }
        })?;
        config.validate()
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

fn read_table(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    text.parse::<Table>().map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        message: error.to_string().trim_end().to_owned(),
    })
}

/// A variable's text is a TOML value where it looks like a number, a boolean, a list or a table, and a
/// string otherwise.
fn from_environment(text: &str) -> Value {
    let looks_typed = text.starts_with(['[', '{', '"'])
        || text == "true"
        || text == "false"
        || text.parse::<i64>().is_ok();
    let typed = looks_typed
        .then(|| {
            format!("value = {text}")
                .parse::<Table>()
                .ok()?
                .remove("value")
        })
        .flatten();
    typed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn set(table: &mut Table, path: &[String], value: Value) -> Result<(), &'static str> {
    match path {
        [] => Err("the variable names no key"),
        [last] => {
            table.insert(last.clone(), value);
            Ok(())
        }
        [first, rest @ ..] => {
            let entry = table
                .entry(first.clone())
                .or_insert_with(|| Table::new().into());
            let inner = entry
                .as_table_mut()
                .ok_or("it goes into a key that is not a section")?;
            set(inner, rest, value)
        }
    }
}

/// Replaces each `<secret>_file` by the file's content without the line end.
fn read_secrets(table: &mut Table, at: &str) -> Result<(), ConfigError> {
    let path_of = |key: &str| {
        if at.is_empty() {
            key.to_owned()
        } else {
            format!("{at}.{key}")
        }
    };
    for secret in SECRET_KEYS {
        let file_key = format!("{secret}_file");
        let Some(Value::String(file)) = table.get(&file_key).cloned() else {
            continue;
        };
        if table.contains_key(secret) {
            let reason = format!("give either {secret} or {file_key}, not both");
            return Err(ConfigError::invalid(&path_of(&file_key), reason));
        }
        let value = std::fs::read_to_string(&file).map_err(|error| {
            ConfigError::invalid(&path_of(&file_key), format!("cannot read {file}: {error}"))
        })?;
        table.remove(&file_key);
        table.insert(
            secret.to_owned(),
            Value::String(value.trim_end_matches(['\r', '\n']).into()),
        );
    }
    for (key, value) in table.iter_mut() {
        let at = if at.is_empty() {
            key.clone()
        } else {
            format!("{at}.{key}")
        };
        match value {
            Value::Table(inner) => read_secrets(inner, &at)?,
            Value::Array(items) => {
                for (number, item) in items.iter_mut().enumerate() {
                    if let Value::Table(inner) = item {
                        read_secrets(inner, &format!("{at}[{number}]"))?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A list, or a single value that stands for a list of one.
pub(super) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        Many(Vec<T>),
        One(T),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::Many(values) => values,
        OneOrMany::One(value) => vec![value],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::load(None, variables, &[])
    }

    #[test]
    fn no_configuration_is_a_configuration() {
        let config = load(&[]).unwrap();
        assert_eq!(config.server.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(
            config.database_url().expose(),
            "sqlite:./kontor-data/kontor.db"
        );
    }

    #[test]
    fn the_environment_wins_over_the_file_and_flags_over_both() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kontor.toml");
        std::fs::write(
            &file,
            "data_dir = \"a\"\n[log]\nlevel = \"warn\"\nformat = \"json\"",
        )
        .unwrap();
        let variables = [("KONTOR__LOG__LEVEL".to_owned(), "debug".to_owned())];
        let config = Config::load(Some(&file), variables, &[("data_dir", "b".into())]).unwrap();
        assert_eq!(
            (config.log.level.as_str(), config.log.format),
            ("debug", LogFormat::Json)
        );
        assert_eq!(config.data_dir, Path::new("b"));
    }

    use super::super::LogFormat;

    #[test]
    fn a_bad_key_is_named_with_its_origin_and_reason() {
        for (name, value, expected) in [
            ("KONTOR__SERVER__LISTNE", "x", "listne"),
            (
                "KONTOR__SERVER__WORKERS",
                "many",
                "server.workers (from KONTOR__SERVER__WORKERS)",
            ),
            ("KONTOR__DATABASE__URL", "mysql://x", "database.url"),
            (
                "KONTOR__DATABASE__URL_FILE",
                "/does/not/exist",
                "database.url_file",
            ),
            (
                "KONTOR__SERVER__PUBLIC_URL",
                "https://example.org/path",
                "server.public_url",
            ),
            (
                "KONTOR__LIMITS__MANIFEST_BYTES",
                "10",
                "limits.manifest_bytes",
            ),
            ("KONTOR__DATA_DIR__X", "1", "data_dir"),
            ("KONTOR__AUTH__KEYSTONE", "{}", "[openstack]"),
            (
                "KONTOR__AUTH__KEYSTONE",
                "{max_calls = 0}",
                "auth.keystone.max_calls",
            ),
            ("KONTOR__AUTH__KEYSTONE", "{cache = 1}", "auth.keystone"),
            ("KONTOR__OPENSTACK", "{user = \"u\"}", "auth_url"),
        ] {
            let error = load(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }

    #[test]
    fn a_secret_comes_from_a_file_without_its_line_end_and_is_not_printed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter22\n").unwrap();
        let name = "KONTOR__AUTH__INITIAL_ADMIN_PASSWORD_FILE";
        let config = load(&[(name, file.to_str().unwrap())]).unwrap();
        assert_eq!(
            config
                .auth
                .initial_admin_password
                .as_ref()
                .unwrap()
                .expose(),
            "hunter22"
        );
        assert!(!format!("{config:?}").contains("hunter22"));
    }

    #[test]
    fn lists_and_numbers_come_from_the_environment() {
        let config = load(&[
            ("KONTOR__SERVER__LISTEN", "[\"127.0.0.1:1\", \"[::1]:1\"]"),
            ("KONTOR__SERVER__TRUSTED_PROXIES", "10.0.0.0/8"),
            ("KONTOR__AUTH__INITIAL_ADMIN_PASSWORD", "12345678"),
        ])
        .unwrap();
        assert_eq!(config.server.listen.len(), 2);
        assert_eq!(config.server.trusted_proxies.len(), 1);
        assert_eq!(
            config.auth.initial_admin_password.unwrap().expose(),
            "12345678"
        );
    }
}
