//! Random operations and jobs in any order, against a model of what must be there: nothing that somebody needs is ever
//! gone, and what nobody needs is gone after the time that is stated for it.
//!
//! `KONTOR_MODEL_CASES` is the number of cases, `KONTOR_MODEL_SEED` where they begin; a failure says the seed and shows
//! the shortest plan that fails.

mod client;
mod concurrent;
mod expected;
mod gc;
mod made;
mod plan;
mod trash;
mod world;

use std::thread;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use super::direct::{Direct, Repo};
use plan::{Plan, REPOS, plans};
use world::{ACCOUNT, World};

/// How many threads share the cases: jobs rest now and then. It does not follow the machine, or a seed would mean other
/// cases elsewhere.
const SHARDS: u32 = 4;

/// After so many cases a registry is replaced: its audit trail grows.
const CASES_PER_REGISTRY: u32 = 100;

#[expect(
    clippy::disallowed_methods,
    reason = "a knob of the tests, not of the registry"
)]
fn knob<T: std::str::FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    let parsed = text.parse().ok();
    parsed.unwrap_or_else(|| panic!("{name} is no number: {text:?}"))
}

fn cases() -> u32 {
    knob("KONTOR_MODEL_CASES", 60)
}

fn seed() -> u64 {
    knob("KONTOR_MODEL_SEED", 1)
}

/// Random numbers that are the same for the same seed.
fn rng(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// The registry of one thread, and the repositories of its cases.
struct Node {
    direct: Direct,
    repos: Vec<Repo>,
    cases: u32,
}

impl Node {
    async fn start() -> Self {
        let direct = Direct::start().await;
        let mut repos = Vec::new();
        for repo in 0..REPOS {
            repos.push(direct.repo(&format!("{ACCOUNT}/r{repo}")).await);
        }
        Self {
            direct,
            repos,
            cases: 0,
        }
    }
}

struct Shard {
    runtime: Runtime,
    current: Option<Node>,
}

impl Shard {
    fn run(&mut self, plan: &Plan) {
        // It is not put back if the case fails: what that leaves must not disturb the next one.
        let current = self.current.take();
        self.current = self.runtime.block_on(async {
            let mut node = match current {
                Some(current) => current,
                None => Node::start().await,
            };
            let world = World::new((&node.direct, &node.repos), node.cases, plan).await;
            world.run(&plan.steps).await;
            node.cases += 1;
            Some(node)
        });
        if self
            .current
            .as_ref()
            .is_some_and(|node| node.cases == CASES_PER_REGISTRY)
        {
            self.end();
        }
    }

    /// What the cases have left in their registry is sound.
    fn end(&mut self) {
        if let Some(node) = self.current.take() {
            let sound = node.direct.node.assert_sound();
            assert_eq!(self.runtime.block_on(sound), 0);
        }
    }
}

fn shard_run(seed: u64, cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 1000,
        ..Config::default()
    };
    let mut shard = Shard {
        runtime: Runtime::new().unwrap(),
        current: None,
    };
    let shard = std::cell::RefCell::new(&mut shard);
    let mut runner = TestRunner::new_with_rng(config, rng(seed));
    let ran = runner.run(&plans(), |plan| {
        shard.borrow_mut().run(&plan);
        Ok::<(), TestCaseError>(())
    });
    match ran {
        Ok(()) => shard.borrow_mut().end(),
        Err(TestError::Fail(reason, plan)) => {
            panic!("KONTOR_MODEL_SEED={seed}: {reason}\n{plan:#?}")
        }
        Err(aborted) => panic!("KONTOR_MODEL_SEED={seed}: {aborted}"),
    }
}

#[test]
fn nothing_that_is_needed_goes_and_everything_else_does() {
    let (seed, cases) = (seed(), cases().div_ceil(SHARDS));
    thread::scope(|scope| {
        let shards: Vec<_> = (0..u64::from(SHARDS))
            .map(|shard| scope.spawn(move || shard_run(seed + shard, cases)))
            .collect();
        for shard in shards {
            if let Err(panicked) = shard.join() {
                std::panic::resume_unwind(panicked);
            }
        }
    });
}
