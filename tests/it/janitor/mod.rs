//! The jobs beside the requests. Each test runs those that it is about, when it wants them.

mod jobs;
mod merge_chunks;
mod sweeps;
mod validation;

use chrono::TimeDelta;
use kontor::model::job::Job;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::TestRegistry;

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

    /// Deletions take effect at once.
    pub async fn without_trash(&self) {
        let answer = self.account("demo", json!({})).await;
        assert_eq!(answer.status(), 200);
    }

    /// Asserts that nothing is wrong, and gives the number of objects that belong to nothing.
    pub async fn assert_sound(&self) -> u64 {
        let report = self.registry.check(true).await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
        report.loose_objects
    }
}
