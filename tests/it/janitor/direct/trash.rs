//! What is deleted and comes back, and what must not be.

use chrono::{DateTime, Utc};
use kontor::{
    model::{job::Job, quota::BookKind},
    oci::Digest,
    registry::{
        legal_holds::{HoldOrder, HoldTarget},
        restore::RestoreOrder,
    },
};

use super::{Answer, Direct, Repo, code};

fn target(repo: &Repo, tag: Option<&str>) -> HoldTarget {
    HoldTarget {
        name: repo.name.clone(),
        tag: tag.map(|tag| tag.parse().unwrap()),
    }
}

impl Direct {
    /// Brings a manifest back, with one tag or with those that it had; gives all that came back.
    pub async fn restore(
        &self,
        repo: &Repo,
        digest: &Digest,
        tag: Option<&str>,
    ) -> Answer<Vec<Digest>> {
        let order = RestoreOrder {
            digest: digest.clone(),
            tags: tag.map(|tag| vec![tag.parse().unwrap()]),
        };
        let registry = &self.node.registry;
        let restored = registry.trash_restore(&self.actor, &repo.name, order);
        let restored = restored.await.map_err(code)?;
        Ok(restored.into_iter().map(|one| one.digest).collect())
    }

    /// Takes a manifest out of the trash for good, and says how many went.
    pub async fn purge(&self, repo: &Repo, digest: &Digest) -> Answer<usize> {
        let registry = &self.node.registry;
        let purged = registry.trash_entry_purge(&self.actor, &repo.name, digest);
        purged.await.map_err(code)
    }

    /// How many of the bytes of an account its trash holds.
    pub async fn trash_bytes(&self, account: &str) -> i64 {
        let registry = &self.node.registry;
        let bytes = registry.trash_bytes(BookKind::Account, account);
        bytes.await.unwrap()
    }

    /// Makes a deleted tag point at what it pointed at last, and gives that.
    pub async fn restore_tag(&self, repo: &Repo, tag: &str) -> Answer<Digest> {
        let (registry, tag) = (&self.node.registry, tag.parse().unwrap());
        let restored = registry.tag_restore(&self.actor, &repo.name, &tag).await;
        restored.map_err(code)
    }

    /// Holds a repository or one of its tags.
    pub async fn hold(&self, repo: &Repo, tag: Option<&str>, until: DateTime<Utc>) -> Answer<()> {
        let order = HoldOrder {
            until,
            reason: "case 7".into(),
        };
        let registry = &self.node.registry;
        let placed = registry.hold_place(&self.actor, target(repo, tag), order);
        placed.await.map(|_| ()).map_err(code)
    }

    pub async fn lift(&self, repo: &Repo, tag: Option<&str>) -> Answer<()> {
        let registry = &self.node.registry;
        let lifted = registry.hold_lift(&self.actor, target(repo, tag)).await;
        lifted.map_err(code)
    }

    /// Makes all that a job looks at now and then due now.
    pub async fn hasten(&self, job: Job) {
        let registry = &self.node.registry;
        registry.job_hasten(&self.actor, job).await.unwrap();
    }
}
