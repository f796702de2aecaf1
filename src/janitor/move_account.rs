//! Moves accounts to other storage backends, a step at a time.

use std::sync::Arc;

use super::job_loop::Job;
use crate::{
    error::Result,
    registry::{Registry, move_account::MoveStep},
};

pub(super) struct MoveAccount(pub(super) Arc<Registry>);

impl Job for MoveAccount {
    const NAME: &'static str = "move_account";
    type Task = MoveStep;

    async fn claim(&self) -> Result<Option<MoveStep>> {
        self.0.move_claim().await
    }

    async fn process(&self, step: MoveStep) -> Result<()> {
        self.0.move_step(step).await
    }
}
