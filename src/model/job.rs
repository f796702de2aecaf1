//! The kinds of work that happen beside the requests. How each is done is in `registry/jobs.rs`.

use std::{str::FromStr, time::Duration};

macro_rules! jobs {
    ($($(#[$doc:meta])* $name:ident, $wire:literal, $pause:literal, $what:literal;)*) => {
        /// A kind of work.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Job {
            $($(#[$doc])* $name,)*
            /// Delivers audit events to one sink, by its number.
            DeliverAudit(usize),
        }

        impl Job {
            /// All but those of sinks, of which there are as many as sinks.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name in metrics, logs and documents.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)* Self::DeliverAudit(_) => "deliver_audit" }
            }

            /// What it does, in a line.
            pub fn description(self) -> &'static str {
                match self {
                    $(Self::$name => $what,)*
                    Self::DeliverAudit(_) => "delivers audit events to a sink",
                }
            }

            /// How long it rests when there was nothing to do.
            pub fn pause(self) -> Duration {
                Duration::from_secs(match self { $(Self::$name => $pause,)* Self::DeliverAudit(_) => 1 })
            }
        }
    };
}

jobs! {
    /// `registry/move_account.rs`
    MoveAccount, "move_account", 1, "moves accounts to other storage backends";
    /// `registry/account_delete.rs`
    DeleteAccount, "delete_account", 5, "goes on with deletions of accounts";
    /// `registry/sweep_uploads.rs`
    AbandonUploads, "abandon_uploads", 5, "ends uploads that nobody goes on with";
    /// `registry/sweep_mounts.rs`
    SweepBlobs, "sweep_blobs", 5, "removes blobs that nothing needs";
    /// `registry/sweep_objects.rs`
    SweepObjects, "sweep_objects", 5, "deletes objects that belong to nothing";
    /// `registry/sweep_storage.rs`
    SweepStorage, "sweep_storage", 5, "compares containers with the database";
    /// `registry/merge_chunks.rs`
    MergeChunks, "merge_chunks", 5, "makes blobs of several chunks ones of a single chunk";
    /// `registry/validate_blobs.rs`
    ValidateBlobs, "validate_blobs", 5, "reads blobs and compares them with their digests";
    /// `registry/validate_manifests.rs`
    ValidateManifests, "validate_manifests", 5, "compares manifests with storage and with what they need";
    /// `registry/image_gc.rs`
    ImageGc, "image_gc", 5, "deletes images as the GC policies of accounts say";
    /// `registry/trash.rs`
    PurgeTrash, "purge_trash", 5, "empties the trash of what need not be restorable any more";
    /// `registry/tag_history.rs`
    PruneTagHistory, "prune_tag_history", 60, "forgets what tags pointed at long ago";
    /// `registry/audit_seal.rs`
    SealAudit, "seal_audit", 1, "links and signs the audit trail";
    /// `registry/audit_seal.rs`
    PruneAudit, "prune_audit", 60, "removes audit events that need not be kept any more";
}

impl FromStr for Job {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = || Self::ALL.iter().chain(&[Self::DeliverAudit(0)]);
        let found = all().find(|job| job.as_str() == name);
        found.copied().ok_or_else(|| {
            let all: Vec<_> = all().map(|job| job.as_str()).collect();
            format!("{name:?} is none of {}", all.join(", "))
        })
    }
}
