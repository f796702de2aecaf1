//! `kontor tag`: tags of a repository. What they point at now is read over the registry's own protocol, what they
//! pointed at over the management API.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};

use super::{
    CliError,
    args::Server,
    client::{Call, part},
    document::account_path,
    output::cell,
};
use crate::oci::{FullRepoName, Tag};

/// Look at tags and what they pointed at, delete them and bring them back.
#[derive(Debug, Subcommand)]
pub enum TagCommand {
    /// List the tags of a repository.
    List {
        /// The repository, with its account: team/app.
        repo: FullRepoName,
    },
    /// Show what a tag points to, or pointed to.
    Show {
        /// The repository, with its account.
        repo: FullRepoName,
        /// The tag.
        tag: Tag,
        /// At this time, such as 2027-01-31T00:00:00Z, in place of now.
        #[arg(long, value_name = "TIME")]
        at: Option<DateTime<Utc>>,
    },
    /// List what a tag pointed to, the newest change first. One without a digest is a deletion.
    History {
        /// The repository, with its account.
        repo: FullRepoName,
        /// The tag.
        tag: Tag,
    },
    /// Bring back a tag that was deleted alone. What went with its manifest comes back with `trash restore`.
    Restore {
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
        TagCommand::Show {
            repo,
            tag,
            at: None,
        } => show(server, &repo, &tag).await,
        TagCommand::Show {
            repo,
            tag,
            at: Some(at),
        } => {
            let at = at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
            let path = format!("{}?at={}", tag_path(&repo, &tag), part(&at));
            let then = server.call(Method::GET, &path, None).await?;
            server.show(&then)
        }
        TagCommand::History { repo, tag } => {
            let path = format!("{}/history", tag_path(&repo, &tag));
            let changes = server.list(&path, "history").await?;
            server.show_list(&changes, &["changed_at", "changed_by", "digest"])
        }
        TagCommand::Restore { repo, tag } => {
            let path = format!("{}/restore", tag_path(&repo, &tag));
            let answer = server.call(Method::POST, &path, None).await?;
            let digest = cell(&answer["digest"]);
            server.say(&format!("the tag {tag} of {repo} points to {digest} again"));
            server.show_program(&answer)
        }
        TagCommand::Delete { repo, tag } => {
            let path = format!("/v2/{repo}/manifests/{tag}");
            server.call(Method::DELETE, &path, None).await?;
            server.say(&format!("the tag {tag} of {repo} was deleted"));
            Ok(())
        }
    }
}

/// The path of a tag in the management API.
pub(super) fn tag_path(repo: &FullRepoName, tag: &Tag) -> String {
    let account = account_path(repo.account.as_str());
    format!("{account}/repositories/{}/_tags/{tag}", repo.repo)
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
