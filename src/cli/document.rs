//! Documents: those of files, in YAML or JSON, and those of the registry, which are changed only as they were read.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use reqwest::{
    Method, StatusCode,
    header::{ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH},
};
use serde_json::{Map, Value};

use super::{
    CliError,
    args::Server,
    client::{Call, ClientError, part},
};

/// Stands for standard input.
const STDIN: &str = "-";

/// A document and the folder of its file, which the names of files in it start from.
#[derive(Debug)]
pub(super) struct Given {
    pub folder: PathBuf,
    pub document: Value,
}

/// All documents of a file, or of the files in a folder that end in `.yaml`, `.yml` or `.json`, in the order of their
/// names. JSON is YAML.
pub(super) fn documents(path: &Path) -> Result<Vec<Value>, CliError> {
    let all = given(path)?.into_iter();
    Ok(all.map(|given| given.document).collect())
}

/// The same with the folders.
pub(super) fn given(path: &Path) -> Result<Vec<Given>, CliError> {
    if path.as_os_str() == STDIN {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return parse("standard input", &text, Path::new(""));
    }
    let wrong = |error: io::Error| CliError::Usage(format!("{}: {error}", path.display()));
    if !path.is_dir() {
        let text = fs::read_to_string(path).map_err(wrong)?;
        let folder = path.parent().unwrap_or(path);
        return parse(&path.display().to_string(), &text, folder);
    }
    let entries: io::Result<Vec<PathBuf>> = fs::read_dir(path)
        .map_err(wrong)?
        .map(|entry| Ok(entry?.path()))
        .collect();
    let mut files = entries.map_err(wrong)?;
    files.retain(|file| {
        let extension = file.extension().and_then(|extension| extension.to_str());
        file.is_file() && matches!(extension, Some("yaml" | "yml" | "json"))
    });
    files.sort();
    let mut all = Vec::new();
    for file in files {
        all.extend(given(&file)?);
    }
    Ok(all)
}

fn parse(place: &str, text: &str, folder: &Path) -> Result<Vec<Given>, CliError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| CliError::Usage(format!("{place}: {error}")))?;
    let documents = documents.into_iter().filter(|d| !d.is_null());
    let given = documents.map(|document| Given {
        folder: folder.to_owned(),
        document,
    });
    Ok(given.collect())
}

/// A document of the registry, with the version that a change is meant for.
pub(super) struct Versioned {
    pub document: Map<String, Value>,
    pub version: Option<HeaderValue>,
}

/// What a document is meant to replace.
pub(super) enum Replaces<'a> {
    /// Nothing: there must not be one.
    Nothing,
    /// The version that was read, if the registry tells versions.
    Version(Option<&'a HeaderValue>),
}

impl Replaces<'_> {
    fn headers(&self) -> HeaderMap {
        match self {
            Replaces::Nothing => {
                HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static("*"))])
            }
            Replaces::Version(version) => {
                let version = version.iter().copied().cloned();
                version.map(|version| (IF_MATCH, version)).collect()
            }
        }
    }
}

impl Server {
    /// All pages of a list of the management API.
    pub(super) async fn list(&self, path: &str, member: &str) -> Result<Value, CliError> {
        let mut all = Vec::new();
        let mut page = path.to_owned();
        loop {
            let mut answer = self.call(Method::GET, &page, None).await?;
            if let Value::Array(values) = answer[member].take() {
                all.extend(values);
            }
            match answer["next"].as_str() {
                Some(next) => page = format!("{path}?last={}", part(next)),
                None => return Ok(Value::Array(all)),
            }
        }
    }

    /// An account's document.
    pub(super) async fn account_read(&self, account: &str) -> Result<Versioned, CliError> {
        self.read(&account_path(account), "account").await
    }

    /// The document that an answer has as this member.
    pub(super) async fn read(&self, path: &str, member: &str) -> Result<Versioned, CliError> {
        let call = Call {
            method: Method::GET,
            path,
            body: None,
            headers: HeaderMap::new(),
        };
        let answer = self.send(call).await?;
        let document = answer.document[member].as_object().cloned();
        Ok(Versioned {
            document: document.unwrap_or_default(),
            version: answer.headers.get(ETAG).cloned(),
        })
    }

    /// The same, or `None` if there is none that one may see.
    pub(super) async fn read_maybe(
        &self,
        path: &str,
        member: &str,
    ) -> Result<Option<Versioned>, CliError> {
        match self.read(path, member).await {
            Ok(found) => Ok(Some(found)),
            Err(CliError::Client(ClientError::Refused { status, .. }))
                if status == StatusCode::NOT_FOUND =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends an account's document, unless somebody was faster.
    pub(super) async fn account_write(
        &self,
        account: &str,
        document: Map<String, Value>,
        replaces: Replaces<'_>,
    ) -> Result<Value, CliError> {
        let path = account_path(account);
        let document = Value::Object(document);
        let mut answer = self.replace(&path, &document, replaces).await?;
        Ok(answer["account"].take())
    }

    /// Sends a document, unless somebody was faster, and gives the whole answer.
    pub(super) async fn replace(
        &self,
        path: &str,
        document: &Value,
        replaces: Replaces<'_>,
    ) -> Result<Value, CliError> {
        let call = Call {
            method: Method::PUT,
            path,
            body: Some(document),
            headers: replaces.headers(),
        };
        Ok(self.send(call).await?.document)
    }

    /// Deletes what is there, unless somebody was faster.
    pub(super) async fn remove(&self, path: &str, replaces: Replaces<'_>) -> Result<(), CliError> {
        let call = Call {
            method: Method::DELETE,
            path,
            body: None,
            headers: replaces.headers(),
        };
        self.send(call).await.map(|_| ())
    }
}

pub(super) fn account_path(account: &str) -> String {
    format!("/api/v1/accounts/{}", part(account))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_of_a_folder_are_read_in_order_and_others_are_left() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("b.yaml", "a: 2\n---\na: 3\n---\n"),
            ("a.json", r#"{"a": 1}"#),
            ("notes.txt", "a: 9"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let found = documents(folder.path()).unwrap();
        assert_eq!(json!(found), json!([{ "a": 1 }, { "a": 2 }, { "a": 3 }]));
        fs::write(folder.path().join("c.yml"), "a: [").unwrap();
        let error = documents(folder.path()).unwrap_err().to_string();
        assert!(error.contains("c.yml"), "{error}");
        let missing = documents(&folder.path().join("no"))
            .unwrap_err()
            .to_string();
        assert!(missing.contains("no: "), "{missing}");
    }
}
