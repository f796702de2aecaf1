//! `kontor jobs`: what the registry does beside the requests.

use clap::Subcommand;
use reqwest::Method;

use super::{CliError, args::Server, client::part};

/// Look at the registry's jobs and have them look at everything now.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List the jobs, and since when they have something to do.
    List,
    /// Make all that a job looks at now and then due now; whichever node is free does it.
    Run {
        /// The job, which `list` tells.
        job: String,
    },
}

const PATH: &str = "/api/v1/jobs";

/// Runs `kontor jobs`.
pub async fn run(server: &Server, command: JobsCommand) -> Result<(), CliError> {
    match command {
        JobsCommand::List => {
            let listed = server.list(PATH, "jobs").await?;
            let columns = ["name", "overdue_seconds", "due_at", "description"];
            server.show_list(&listed, &columns)
        }
        JobsCommand::Run { job } => {
            let path = format!("{PATH}/{}/run", part(&job));
            let answer = server.call(Method::POST, &path, None).await?;
            server.say(&format!("{job}: {} more are due now", answer["hastened"]));
            Ok(())
        }
    }
}
