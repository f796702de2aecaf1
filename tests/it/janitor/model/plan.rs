//! What happens in a case. All of it is small, so that things meet often.

use chrono::TimeDelta;
use kontor::model::job::Job;
use proptest::prelude::*;

pub const REPOS: usize = 3;
pub const BLOBS: usize = 6;
pub const MANIFESTS: usize = 6;
pub const TAGS: usize = 3;
pub const UPLOADS: usize = 2;

/// What a manifest refers to. The members are the bits of a number, for blobs and for manifests with lower numbers.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    pub blobs: u8,
    /// An image has none; with some it is an index, which lists the blobs as well.
    pub children: u8,
    /// A manifest with a lower number, if there is one.
    pub subject: Option<usize>,
}

/// Which tags a policy is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tagged {
    Any,
    Never,
    With(usize),
}

/// Which images, by the time of their push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    Every,
    OlderThan(TimeDelta),
    NewerThan(TimeDelta),
    /// So many of the newest. To protect only.
    Newest(usize),
}

/// A GC policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The only repository that it is about.
    pub repo: Option<usize>,
    pub tagged: Tagged,
    pub limit: Limit,
    /// It deletes; or it protects.
    pub deletes: bool,
}

/// What is held: a repository, or one of its tags.
pub type Held = (usize, Option<usize>);

/// Something that happens.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    PushBlob {
        repo: usize,
        blob: usize,
    },
    /// From another repository, or from wherever it is.
    Mount {
        repo: usize,
        from: Option<usize>,
        blob: usize,
    },
    /// A pusher asks whether a blob is there.
    LookUp {
        repo: usize,
        blob: usize,
    },
    PushManifest {
        repo: usize,
        manifest: usize,
        tag: Option<usize>,
    },
    /// The same after all that it needs.
    PushImage {
        repo: usize,
        manifest: usize,
        tag: Option<usize>,
    },
    Pull {
        repo: usize,
        tag: usize,
    },
    Untag {
        repo: usize,
        tag: usize,
    },
    DeleteManifest {
        repo: usize,
        manifest: usize,
    },
    /// One of those that are there.
    DeleteSome {
        pick: usize,
    },
    DeleteBlob {
        repo: usize,
        blob: usize,
    },
    /// A manifest comes back from the trash, with this tag and no other, or with those that it had.
    Restore {
        repo: usize,
        manifest: usize,
        tag: Option<usize>,
    },
    /// One of those that lie there.
    RestoreSome {
        pick: usize,
        tag: Option<usize>,
    },
    Purge {
        repo: usize,
        manifest: usize,
    },
    PurgeSome {
        pick: usize,
    },
    RestoreTag {
        repo: usize,
        tag: usize,
    },
    /// A legal hold is placed, or changed.
    Hold {
        held: Held,
        time: TimeDelta,
    },
    Lift {
        held: Held,
    },
    /// The next of an upload: it begins, gets bytes, gets more, ends.
    Upload {
        slot: usize,
        repo: usize,
        blob: usize,
    },
    /// An upload is ended with what has arrived and what is missing.
    Finish {
        slot: usize,
    },
    Cancel {
        slot: usize,
    },
    /// One task of a job, if one is due.
    Run(Job),
    /// All jobs do what is due.
    RunAll,
    Wait(TimeDelta),
}

/// A case.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long the trash keeps what is deleted; 0 is not at all.
    pub trash_days: u16,
    pub rules: Vec<Rule>,
    pub recipes: Vec<Recipe>,
    pub steps: Vec<Step>,
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let children = prop_oneof![3 => Just(0_u8), 2 => any::<u8>()];
    let subject = prop_oneof![3 => Just(None), 1 => (0..MANIFESTS).prop_map(Some)];
    // An image has a config, so one blob at least.
    (1..1_u8 << BLOBS, children, subject).prop_map(|(blobs, children, subject)| Recipe {
        blobs,
        children,
        subject,
    })
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The times on both sides of those that the janitor knows, and longer ones.
fn wait() -> impl Strategy<Value = TimeDelta> {
    let seconds = prop_oneof![
        4 => prop::sample::select(vec![1, 5 * MINUTE - 1, 5 * MINUTE, 10 * MINUTE]),
        1 => prop::sample::select(vec![HOUR - 1, HOUR, 20 * HOUR]),
        3 => prop::sample::select(vec![DAY - 1, DAY, 2 * DAY - 1, 2 * DAY]),
        1 => prop::sample::select(vec![8 * DAY, 40 * DAY]),
    ];
    seconds.prop_map(TimeDelta::seconds)
}

fn rule() -> impl Strategy<Value = Rule> {
    let repo = prop::option::weighted(0.2, 0..REPOS);
    let tagged = prop_oneof![
        Just(Tagged::Any),
        Just(Tagged::Never),
        (0..TAGS).prop_map(Tagged::With)
    ];
    let age = prop::sample::select(vec![HOUR, DAY, 2 * DAY, 8 * DAY]).prop_map(TimeDelta::seconds);
    let deletes = prop_oneof![
        1 => Just(Limit::Every),
        2 => age.clone().prop_map(Limit::OlderThan),
    ];
    let protects = prop_oneof![
        Just(Limit::Every),
        age.clone().prop_map(Limit::OlderThan),
        age.prop_map(Limit::NewerThan),
        (1..4_usize).prop_map(Limit::Newest),
    ];
    let action = prop_oneof![
        3 => deletes.prop_map(|limit| (limit, true)),
        2 => protects.prop_map(|limit| (limit, false)),
    ];
    (repo, tagged, action).prop_map(|(repo, tagged, (limit, deletes))| Rule {
        repo,
        tagged,
        limit,
        deletes,
    })
}

/// How long something is held. Half a second more than other times: a hold never ends at the moment of anything else.
fn hold() -> impl Strategy<Value = TimeDelta> {
    prop::sample::select(vec![HOUR, DAY, 3 * DAY, 10 * DAY])
        .prop_map(|seconds| TimeDelta::milliseconds(1000 * seconds + 500))
}

pub fn steps() -> impl Strategy<Value = Step> {
    let (repo, blob, manifest) = (0..REPOS, 0..BLOBS, 0..MANIFESTS);
    let in_repo = (repo.clone(), blob.clone());
    let pushed = (
        repo.clone(),
        manifest.clone(),
        prop::option::weighted(0.6, 0..TAGS),
    );
    let tagged = (repo.clone(), 0..TAGS);
    let some_tag = || prop::option::weighted(0.3, 0..TAGS);
    let held = (repo.clone(), prop::option::weighted(0.6, 0..TAGS));
    let of_trash = prop_oneof![
        1 => (repo.clone(), manifest.clone(), some_tag())
            .prop_map(|(repo, manifest, tag)| Step::Restore { repo, manifest, tag }),
        5 => (0..REPOS * MANIFESTS, some_tag())
            .prop_map(|(pick, tag)| Step::RestoreSome { pick, tag }),
        1 => (repo.clone(), manifest.clone())
            .prop_map(|(repo, manifest)| Step::Purge { repo, manifest }),
        2 => (0..REPOS * MANIFESTS).prop_map(|pick| Step::PurgeSome { pick }),
        2 => tagged.clone().prop_map(|(repo, tag)| Step::RestoreTag { repo, tag }),
        2 => (held.clone(), hold()).prop_map(|(held, time)| Step::Hold { held, time }),
        1 => held.prop_map(|held| Step::Lift { held }),
        2 => Just(Step::Run(Job::PurgeTrash)),
        3 => Just(Step::Run(Job::ImageGc)),
    ];
    prop_oneof![
        16 => of_trash,
        3 => in_repo.clone().prop_map(|(repo, blob)| Step::PushBlob { repo, blob }),
        2 => (repo.clone(), prop::option::of(repo.clone()), blob.clone())
            .prop_map(|(repo, from, blob)| Step::Mount { repo, from, blob }),
        2 => in_repo.clone().prop_map(|(repo, blob)| Step::LookUp { repo, blob }),
        3 => pushed.clone()
            .prop_map(|(repo, manifest, tag)| Step::PushManifest { repo, manifest, tag }),
        7 => pushed.prop_map(|(repo, manifest, tag)| Step::PushImage { repo, manifest, tag }),
        1 => tagged.clone().prop_map(|(repo, tag)| Step::Pull { repo, tag }),
        1 => tagged.prop_map(|(repo, tag)| Step::Untag { repo, tag }),
        6 => (0..REPOS * MANIFESTS).prop_map(|pick| Step::DeleteSome { pick }),
        2 => (repo.clone(), manifest)
            .prop_map(|(repo, manifest)| Step::DeleteManifest { repo, manifest }),
        2 => in_repo.prop_map(|(repo, blob)| Step::DeleteBlob { repo, blob }),
        4 => (0..UPLOADS, repo, blob)
            .prop_map(|(slot, repo, blob)| Step::Upload { slot, repo, blob }),
        1 => (0..UPLOADS).prop_map(|slot| Step::Finish { slot }),
        1 => (0..UPLOADS).prop_map(|slot| Step::Cancel { slot }),
        4 => prop::sample::select(Job::ALL).prop_map(Step::Run),
        5 => Just(Step::Run(Job::SweepBlobs)),
        2 => Just(Step::RunAll),
        7 => wait().prop_map(Step::Wait),
    ]
}

pub fn plans() -> impl Strategy<Value = Plan> {
    let recipes = prop::collection::vec(recipe(), MANIFESTS);
    let steps = prop::collection::vec(steps(), 5..50);
    let trash_days = prop::sample::select(vec![0, 2]);
    let rules = prop_oneof![Just(Vec::new()), prop::collection::vec(rule(), 1..4)];
    (trash_days, rules, recipes, steps).prop_map(|(trash_days, rules, recipes, steps)| Plan {
        trash_days,
        rules,
        recipes,
        steps,
    })
}
