//! `kontor tag`: tags of a repository, over the registry's own protocol.

use clap::Subcommand;
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};

use super::{CliError, args::Server, client::Call};
use crate::oci::{FullRepoName, Tag};

/// Look at tags and delete them.
#[derive(Debug, Subcommand)]
pub enum TagCommand {
    /// List the tags of a repository.
    List {
        /// The repository, with its account: team/app.
        repo: FullRepoName,
    },
    /// Show what a tag points to.
    Show {
        /// The repository, with its account.
        repo: FullRepoName,
        /// The tag.
        tag: Tag,
    },
    /// Delete a tag; the manifest stays.
    Delete {
        /// The repository, with its account.
        repo: FullRepoName,
        /// The tag.
        tag: Tag,
    },
}

/// Runs `kontor tag`.
pub async fn run(server: &Server, command: TagCommand) -> Result<(), CliError> {
    match command {
        TagCommand::List { repo } => {
            let first = format!("/v2/{repo}/tags/list?n=1000");
            let names = server.pages(&first, "tags").await?;
            let shown: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
            server.show_list(&json!(shown), &["name"])
        }
        TagCommand::Show { repo, tag } => show(server, &repo, &tag).await,
        TagCommand::Delete { repo, tag } => {
            let path = format!("/v2/{repo}/manifests/{tag}");
            server.call(Method::DELETE, &path, None).await?;
            server.say(&format!("the tag {tag} of {repo} was deleted"));
            Ok(())
        }
    }
}

async fn show(server: &Server, repo: &FullRepoName, tag: &Tag) -> Result<(), CliError> {
    // HEAD is no pull: it changes no time of a last pull, and counts for no limit.
    let path = format!("/v2/{repo}/manifests/{tag}");
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("*/*"))]);
    let answer = server
        .send(Call {
            method: Method::HEAD,
            path: &path,
            body: None,
            headers,
        })
        .await?;
    let text = |name: HeaderName| {
        let value = answer.headers.get(name);
        value.and_then(|value| value.to_str().ok())
    };
    let digest = text(HeaderName::from_static("docker-content-digest"));
    let size_bytes: Option<u64> = text(CONTENT_LENGTH).and_then(|size| size.parse().ok());
    server.show(&json!({
        "repository": repo.to_string(),
        "tag": tag.to_string(),
        "digest": digest,
        "media_type": text(CONTENT_TYPE),
        "size_bytes": size_bytes,
    }))
}
