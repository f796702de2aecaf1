//! Each storage call of each use case and of each job fails once, and everything comes right by itself: what was
//! acknowledged is there, and what is left over goes.
//!
//! Moves of accounts have such a test in `admin/storage_migrate.rs`; the jobs of the audit trail use no storage.

mod scene;

use kontor::model::job::Job;
use storage_drivers::{Op, faulty::Fault};

use super::direct::Direct;
use scene::Scene;

/// What is done while a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    MakeAccount,
    PushBlob,
    /// A blob that the account has already.
    PushKnownBlob,
    PushChunks,
    CancelUpload,
    Mount,
    PushManifest,
    DeleteManifest,
    DeleteBlob,
    /// A manifest comes back from the trash.
    Restore,
    /// A manifest goes from the trash, with a blob of its own.
    Purge,
    DeleteAccount,
    Run(Job),
}

const OPS: [Op; 9] = [
    Op::Write,
    Op::Read,
    Op::Delete,
    Op::List,
    Op::DownloadUrl,
    Op::UsedBytes,
    Op::PrepareAccount,
    Op::ReleaseAccount,
    Op::Check,
];

/// How a call goes wrong.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Fails(Fault),
    /// The body of a read breaks off.
    Cut,
}

fn wrongs(op: Op) -> &'static [Wrong] {
    match op {
        Op::Write => &[Wrong::Fails(Fault::Permanent), Wrong::Fails(Fault::Full)],
        Op::Read => &[Wrong::Fails(Fault::Permanent), Wrong::Cut],
        _ => &[Wrong::Fails(Fault::Permanent)],
    }
}

fn calls(direct: &Direct) -> Vec<u64> {
    OPS.iter().map(|op| direct.node.faults.calls(*op)).collect()
}

/// Does it once to count the calls, and then once for each way in which each of them can go wrong.
async fn every_call_goes_wrong_once(act: Act) {
    let direct = Direct::start().await;
    let mut number = 0;
    let scene = Scene::new(&direct, act, number).await;
    let before = calls(&direct);
    assert!(scene.act().await, "{act:?} works");
    let made: Vec<u64> = calls(&direct)
        .into_iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    scene.end(true).await;
    assert_eq!(made.iter().sum::<u64>() == 0, act == Act::Mount);
    for (op, count) in OPS.into_iter().zip(made) {
        for nth in 0..count as u32 {
            for wrong in wrongs(op) {
                number += 1;
                let scene = Scene::new(&direct, act, number).await;
                let faults = &direct.node.faults;
                let reached = faults.calls(op) + u64::from(nth) + 1;
                match wrong {
                    Wrong::Fails(fault) => {
                        faults.pass_next(op, nth);
                        faults.fail_next(op, 1, *fault);
                    }
                    Wrong::Cut => {
                        faults.spare_next_reads(nth);
                        faults.cut_next_read(10);
                    }
                }
                let is_done = scene.act().await;
                assert!(faults.calls(op) >= reached, "{act:?}: {op:?} {nth}");
                scene.end(is_done).await;
            }
        }
    }
}

macro_rules! acts {
    ($($name:ident, $act:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            every_call_goes_wrong_once($act).await;
        }
    )*};
}

acts! {
    making_an_account, Act::MakeAccount;
    pushing_a_blob, Act::PushBlob;
    pushing_a_blob_that_is_there, Act::PushKnownBlob;
    pushing_a_blob_in_chunks, Act::PushChunks;
    cancelling_an_upload, Act::CancelUpload;
    mounting_a_blob, Act::Mount;
    pushing_a_manifest, Act::PushManifest;
    deleting_a_manifest, Act::DeleteManifest;
    deleting_a_blob, Act::DeleteBlob;
    restoring_a_manifest, Act::Restore;
    purging_a_manifest, Act::Purge;
    deleting_an_account, Act::DeleteAccount;
    going_on_with_the_deletion_of_an_account, Act::Run(Job::DeleteAccount);
    ending_abandoned_uploads, Act::Run(Job::AbandonUploads);
    sweeping_blobs, Act::Run(Job::SweepBlobs);
    sweeping_objects, Act::Run(Job::SweepObjects);
    sweeping_storage, Act::Run(Job::SweepStorage);
    carrying_out_policies, Act::Run(Job::ImageGc);
    merging_chunks, Act::Run(Job::MergeChunks);
    validating_blobs, Act::Run(Job::ValidateBlobs);
    validating_manifests, Act::Run(Job::ValidateManifests);
}
