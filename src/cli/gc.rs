//! `kontor gc`: what the GC policies of an account would do, and what keeps a blob.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    CliError,
    args::Server,
    client::part,
    document::account_path,
    output::{Output, cell},
    policy::policies_of,
};
use crate::oci::{AccountName, Digest, RepoName};

/// What is to be tried.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// The account.
    account: AccountName,
    /// The only repository to look at, without the account.
    #[arg(long)]
    repository: Option<RepoName>,
    /// A YAML or JSON file with a list of GC policies to try in place of the account's; - is standard input. Nothing is
    /// stored.
    #[arg(long, value_name = "FILE")]
    policies: Option<PathBuf>,
    /// Show what stays as well, and by which rule.
    #[arg(long)]
    all: bool,
}

/// See what garbage collection would delete, and what keeps the rest.
#[derive(Debug, Subcommand)]
pub enum GcCommand {
    /// Show the images that the GC policies would delete now, and why. Nothing is changed.
    Preview(PreviewArgs),
    /// Say what keeps a blob.
    Explain {
        /// The account.
        account: AccountName,
        /// The digest of the blob: of a layer or a config, as a manifest lists it.
        digest: Digest,
    },
}

/// Runs `kontor gc`.
pub async fn run(server: &Server, command: GcCommand) -> Result<(), CliError> {
    match command {
        GcCommand::Preview(args) => preview(server, &args).await,
        GcCommand::Explain { account, digest } => {
            let path = format!("{}/blobs/{digest}", account_path(account.as_str()));
            let blob = server.blob(&path).await?;
            match server.output {
                Output::Json => server.show(&blob),
                Output::Table => explain(server, &blob),
            }
        }
    }
}

async fn preview(server: &Server, args: &PreviewArgs) -> Result<(), CliError> {
    let path = format!("{}/gc/preview", account_path(args.account.as_str()));
    let mut order = json!({});
    if let Some(file) = &args.policies {
        order["gc_policies"] = policies_of(file)?;
    }
    let repos = match &args.repository {
        Some(repo) => vec![server.preview_repo(&path, &order, repo.as_ref()).await?],
        None => server.preview_repos(&path, &order).await?,
    };
    let summary = sum(&repos);
    if server.output == Output::Json {
        return server.show(&json!({ "repositories": repos, "summary": summary }));
    }
    let fates: &[&str] = match args.all {
        true => &["delete", "keep"],
        false => &["delete"],
    };
    let columns = [
        "fate",
        "repository",
        "digest",
        "tags",
        "size_bytes AS manifest_bytes",
        "reason",
    ];
    let first = usize::from(!args.all);
    server.show_list(&rows(&repos, fates), &columns[first..])?;
    server.say(&in_words(&summary));
    Ok(())
}

impl Server {
    /// What would become of an account's repositories, each with all its images.
    async fn preview_repos(&self, path: &str, order: &Value) -> Result<Vec<Value>, CliError> {
        let mut repos = Vec::new();
        let mut page = path.to_owned();
        loop {
            let mut answer = self.call(Method::POST, &page, Some(order)).await?;
            for repo in taken(&mut answer["repositories"]) {
                let name = repo["name"].as_str().unwrap_or_default();
                match repo["has_more_images"] == json!(true) {
                    true => repos.push(self.preview_repo(path, order, name).await?),
                    false => repos.push(repo),
                }
            }
            match answer["next"].as_str() {
                Some(next) => page = format!("{path}?last={}", part(next)),
                None => return Ok(repos),
            }
        }
    }

    /// What would become of all images of one repository. The sums are those of the first page.
    async fn preview_repo(&self, path: &str, order: &Value, name: &str) -> Result<Value, CliError> {
        let mut order = order.clone();
        order["repository"] = json!(name);
        let mut page = path.to_owned();
        let mut whole: Option<Value> = None;
        loop {
            let mut answer = self.call(Method::POST, &page, Some(&order)).await?;
            let found = answer["repositories"][0].take();
            whole = Some(match whole {
                None => found,
                Some(whole) => joined(whole, found),
            });
            match answer["next"].as_str() {
                Some(next) => page = format!("{path}?last={}", part(next)),
                None => break,
            }
        }
        let mut whole = whole.unwrap_or_default();
        whole["has_more_images"] = json!(false);
        Ok(whole)
    }

    /// A blob with all repositories that have it.
    async fn blob(&self, path: &str) -> Result<Value, CliError> {
        let mut blob = self.call(Method::GET, path, None).await?;
        let mut keepers = taken(&mut blob["kept_by"]);
        while let Some(next) = blob["next"].as_str() {
            let page = format!("{path}?last={}", part(next));
            let mut answer = self.call(Method::GET, &page, None).await?;
            keepers.extend(taken(&mut answer["kept_by"]));
            blob["next"] = answer["next"].take();
        }
        blob["kept_by"] = Value::Array(keepers);
        Ok(blob)
    }
}

/// The elements of a list, which has none after that.
fn taken(list: &mut Value) -> Vec<Value> {
    match list.take() {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

/// A repository with the images of its next page.
fn joined(mut whole: Value, mut next: Value) -> Value {
    for fate in ["delete", "keep"] {
        let mut images = taken(&mut whole[fate]);
        images.extend(taken(&mut next[fate]));
        whole[fate] = Value::Array(images);
    }
    whole
}

/// Sums over repositories. The freed bytes are known if those of all are.
fn sum(repos: &[Value]) -> Value {
    let of = |member: &str| -> Option<u64> {
        let all = repos.iter().map(|repo| repo["summary"][member].as_u64());
        all.sum()
    };
    json!({
        "images": of("images"),
        "deleted_images": of("deleted_images"),
        "deleted_manifest_bytes": of("deleted_manifest_bytes"),
        "freed_blob_bytes": of("freed_blob_bytes"),
    })
}

fn in_words(summary: &Value) -> String {
    let freed = match &summary["freed_blob_bytes"] {
        Value::Null => "an unknown number of bytes in blobs".to_owned(),
        bytes => format!("{bytes} bytes in blobs"),
    };
    format!(
        "{} of {} images would go, with {} bytes in manifests and {freed}",
        summary["deleted_images"], summary["images"], summary["deleted_manifest_bytes"]
    )
}

/// A row for each image with one of these fates.
fn rows(repos: &[Value], fates: &[&str]) -> Value {
    let mut rows = Vec::new();
    for repo in repos {
        for fate in fates {
            for image in repo[*fate].as_array().into_iter().flatten() {
                let mut row = image.clone();
                row["fate"] = json!(fate);
                row["repository"] = repo["name"].clone();
                row["reason"] = json!(reason(&image["status"]));
                rows.push(row);
            }
        }
    }
    Value::Array(rows)
}

/// A rule for people, as `docs/api/policies.md` explains it. One that a newer registry has is shown by its name.
fn reason(status: &Value) -> String {
    let of = |member: &str| cell(&status[member]);
    let rule = status["rule"].as_str().unwrap_or_default();
    match rule {
        "protected_by_recent_upload" => "pushed a moment ago".to_owned(),
        "protected_by_hold" => format!("legal hold until {}", of("until")),
        "protected_by_tag_policy" => format!("tag_policies[{}]", of("number")),
        "protected_by_parent" => format!("listed by {}", of("parent")),
        "protected_by_subject" => format!("about {}", of("subject")),
        "protected_by_policy" | "delete" => format!("gc_policies[{}]", of("number")),
        "kept" => match status["relevant_policies"].as_array() {
            Some(later) if !later.is_empty() => {
                let numbers = later.iter().map(|policy| cell(&policy["number"]));
                let numbers: Vec<String> = numbers.collect();
                format!("none matches yet; later gc_policies[{}]", numbers.join(","))
            }
            _ => "none matches".to_owned(),
        },
        "delete_with" => format!("goes with {}, which it is about", of("subject")),
        "delete_with_parent" => format!("goes with {}, which lists it", of("parent")),
        other => other.to_owned(),
    }
}

/// A blob for people: a line for each thing that keeps it.
fn explain(server: &Server, blob: &Value) -> Result<(), CliError> {
    server.say(&format!(
        "{}, {} bytes, pushed at {}",
        cell(&blob["digest"]),
        blob["size_bytes"],
        cell(&blob["pushed_at"])
    ));
    let keepers = blob["kept_by"].as_array().map(Vec::as_slice);
    let rows: Vec<Value> = keepers.unwrap_or_default().iter().flat_map(kept).collect();
    if rows.is_empty() {
        server.say("nothing keeps it: it goes with the next sweep");
        return Ok(());
    }
    server.show_list(&json!(rows), &["repository", "kept_by"])
}

/// What keeps a blob in a repository, in rows.
fn kept(keeper: &Value) -> Vec<Value> {
    let list = |member: &str| keeper[member].as_array().into_iter().flatten();
    let mut reasons: Vec<String> = Vec::new();
    reasons.extend(list("manifests").map(|digest| format!("manifest {}", cell(digest))));
    if keeper["has_more_manifests"] == json!(true) {
        reasons.push("more manifests".to_owned());
    }
    reasons.extend(list("trash").map(|manifest| {
        let (digest, until) = (cell(&manifest["digest"]), cell(&manifest["purge_at"]));
        format!("manifest {digest} in the trash until {until}")
    }));
    if keeper["has_more_in_trash"] == json!(true) {
        reasons.push("more manifests in the trash".to_owned());
    }
    reasons.extend(list("holds").map(|hold| {
        let what = match &hold["tag"] {
            Value::Null => "the repository".to_owned(),
            tag => format!("the tag {}", cell(tag)),
        };
        format!("legal hold on {what} until {}", cell(&hold["until"]))
    }));
    if keeper["is_used"] == json!(false) {
        let until = cell(&keeper["kept_until"]);
        reasons.push(format!("no manifest; it stays until {until} at least"));
    }
    let row = |reason| json!({ "repository": keeper["repository"], "kept_by": reason });
    reasons.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_over_all_repositories_and_what_is_unknown_stays_so() {
        let repo = |images: u64, freed: Value| {
            json!({ "summary": { "images": images, "deleted_images": 1, "deleted_manifest_bytes": 10,
                "freed_blob_bytes": freed } })
        };
        let summary = sum(&[repo(2, json!(5)), repo(3, json!(6))]);
        assert_eq!(
            in_words(&summary),
            "2 of 5 images would go, with 20 bytes in manifests and 11 bytes in blobs"
        );
        let summary = sum(&[repo(2, json!(5)), repo(3, Value::Null)]);
        assert_eq!(summary["images"], 5);
        assert_eq!(summary["freed_blob_bytes"], Value::Null);
        assert_eq!(sum(&[])["freed_blob_bytes"], 0);
    }

    #[test]
    fn pages_of_one_repository_become_one() {
        let page =
            |delete: Value, keep: Value| json!({ "name": "app", "delete": delete, "keep": keep });
        let whole = joined(
            page(json!([1]), json!([2])),
            page(json!([3]), json!([4, 5])),
        );
        assert_eq!(whole, page(json!([1, 3]), json!([2, 4, 5])));
    }

    #[test]
    fn every_rule_has_words() {
        for (status, words) in [
            (json!({ "rule": "delete", "number": 2 }), "gc_policies[2]"),
            (json!({ "rule": "kept" }), "none matches"),
            (
                json!({ "rule": "kept", "relevant_policies": [{ "number": 1 }, { "number": 4 }] }),
                "none matches yet; later gc_policies[1,4]",
            ),
            (
                json!({ "rule": "protected_by_tag_policy", "number": 0 }),
                "tag_policies[0]",
            ),
            (
                json!({ "rule": "protected_by_parent", "parent": "sha256:a" }),
                "listed by sha256:a",
            ),
            (
                json!({ "rule": "delete_with", "subject": "sha256:a" }),
                "goes with sha256:a, which it is about",
            ),
            (json!({ "rule": "something_new" }), "something_new"),
        ] {
            assert_eq!(reason(&status), words);
        }
    }

    #[test]
    fn what_keeps_a_blob_is_told_one_by_one() {
        let keeper = json!({ "repository": "app", "is_used": true, "manifests": ["m"], "has_more_manifests": true,
            "trash": [{ "digest": "t", "purge_at": "then" }], "has_more_in_trash": false,
            "holds": [{ "tag": null, "until": "u" }, { "tag": "v1", "until": "w" }] });
        let told: Vec<Value> = kept(&keeper)
            .into_iter()
            .map(|mut row| row["kept_by"].take())
            .collect();
        let expected = json!([
            "manifest m",
            "more manifests",
            "manifest t in the trash until then",
            "legal hold on the repository until u",
            "legal hold on the tag v1 until w",
        ]);
        assert_eq!(json!(told), expected);
        let unused = json!({ "repository": "app", "is_used": false, "kept_until": "then" });
        assert_eq!(
            kept(&unused),
            [
                json!({ "repository": "app", "kept_by": "no manifest; it stays until then at least" })
            ]
        );
    }
}
