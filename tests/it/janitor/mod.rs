//! The jobs beside the requests. Each test runs those that it is about, when it wants them.

mod blob_explain;
mod direct;
mod fault_sweep;
mod gc_preview;
mod image_gc;
mod jobs;
mod merge_chunks;
mod model;
mod sweeps;
mod validation;

use std::time::Duration;

use chrono::TimeDelta;
use kontor::model::job::Job;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{
    TestRegistry,
    image::{OCI_INDEX, OCI_MANIFEST, descriptor, digest},
};

/// A status and a document.
async fn sent(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

/// A policy that deletes what has the tag.
fn deletes(match_tag: &str) -> Value {
    json!({ "match_repository": ".*", "match_tag": match_tag, "action": "delete" })
}

/// The digest of a manifest as it was pushed.
fn digest_of(manifest: &Value) -> String {
    digest(&serde_json::to_vec(manifest).unwrap()).to_string()
}

/// The settings of an account whose deletions take effect at once.
fn trash_off() -> Value {
    json!({ "trash_days": 0 })
}

impl TestRegistry {
    /// Does all that is due of a job, and says how many tasks that was.
    pub async fn run_job(&self, job: Job) -> usize {
        let mut tasks = 0;
        while self.registry.job_run_one(job).await.unwrap() {
            tasks += 1;
            assert!(tasks < 1000, "{job:?} finds something to do for ever");
        }
        tasks
    }

    /// Moves the clock.
    pub fn wait(&self, time: TimeDelta) {
        self.clock.advance(time);
    }

    /// What an account uses: bytes, with those that are reserved.
    pub async fn used_bytes(&self, account: &str) -> u64 {
        let path = format!("/api/v1/accounts/{account}/quota");
        let answer = self.admin(Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let quota: Value = answer.json().await.unwrap();
        let of = |member: &str| quota["bytes"][member].as_u64().unwrap();
        of("used") + of("reserved")
    }

    /// Waits until it is noted that the only upload goes on.
    async fn upload_touched_now(&self) {
        let limit = self.config.janitor.abandoned_uploads_seconds;
        let due = self.now() + Duration::from_secs(limit);
        for _ in 0..1000 {
            let jobs = self.registry.jobs_status().await.unwrap();
            let job = jobs.iter().find(|job| job.job == Job::AbandonUploads);
            if job.unwrap().due_at.is_some_and(|at| at >= due) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the upload is left to itself");
    }

    /// Waits until an account uses nothing, which follows the answer to a request that fails.
    pub async fn nothing_is_used(&self, account: &str) {
        for _ in 0..1000 {
            if self.used_bytes(account).await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "{account} still uses {} bytes",
            self.used_bytes(account).await
        );
    }

    /// Deletions take effect at once.
    pub async fn without_trash(&self) {
        let answer = self.account("demo", trash_off()).await;
        assert_eq!(answer.status(), 200);
    }

    /// Asserts that nothing is wrong, and gives the number of objects that belong to nothing.
    pub async fn assert_sound(&self) -> u64 {
        let report = self.registry.check(true).await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        report.loose_objects
    }

    /// Moves the clock past the time in which nothing is deleted.
    fn wait_out_recent(&self) {
        self.clock.advance(TimeDelta::minutes(11));
    }

    /// Carries out the policies wherever it is due.
    async fn gc(&self) {
        while let Some(task) = self.registry.image_gc_claim().await.unwrap() {
            self.registry.image_gc_run(task).await.unwrap();
        }
    }

    /// The manifests of a repository of `demo`, by digest.
    async fn listed(&self, repo: &str) -> Vec<Value> {
        let path = format!("/api/v1/accounts/demo/repositories/{repo}/_manifests");
        let (status, mut list) = sent(self.admin(Method::GET, &path)).await;
        assert_eq!(status, 200, "{list}");
        list["manifests"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap()
    }

    /// What the last run has made of a manifest; `None` if it is gone.
    async fn gc_status(&self, repo: &str, digest: &str) -> Option<Value> {
        let mut listed = self.listed(repo).await;
        let found = listed
            .iter_mut()
            .find(|manifest| manifest["digest"] == digest);
        found.map(|manifest| manifest["gc_status"].take())
    }

    /// Pushes an index of an image and an attestation as BuildKit makes it; gives the digests of the three.
    async fn push_index(&self, repo: &str, tag: &str, seed: u64) -> [String; 3] {
        let mut children = Vec::new();
        for number in 0..2 {
            let child = self.push_image(repo, "child", seed + 10 * number).await;
            children.push(child);
        }
        let content = |child: &Value| serde_json::to_vec(child).unwrap();
        let manifests: Vec<Value> = children
            .iter()
            .map(|child| descriptor(OCI_MANIFEST, &content(child)))
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
        self.push_manifest(repo, tag, &index).await;
        let path = format!(
            "/api/v1/accounts/demo/repositories/{}/_tags/child",
            &repo["demo/".len()..]
        );
        assert_eq!(sent(self.admin(Method::DELETE, &path)).await.0, 204);
        [
            digest_of(&index),
            digest_of(&children[0]),
            digest_of(&children[1]),
        ]
    }

    /// Pushes something about a manifest; gives its digest.
    async fn push_referrer(&self, repo: &str, subject: &Value, seed: u64) -> String {
        let base = self.push_image(repo, "tmp", seed).await;
        let mut referrer = base.clone();
        referrer["subject"] = descriptor(OCI_MANIFEST, &serde_json::to_vec(subject).unwrap());
        let digest = digest_of(&referrer);
        self.push_manifest(repo, &digest, &referrer).await;
        let path = format!("/v2/{repo}/manifests/{}", digest_of(&base));
        assert_eq!(sent(self.admin(Method::DELETE, &path)).await.0, 202);
        digest
    }
}
