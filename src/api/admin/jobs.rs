//! `/api/v1/jobs`: what happens beside the requests. For operators.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::{identity, parameters::Parameters};
use crate::{
    api::{Api, extract::path_part, openapi::Problems, render::Problem},
    error::{Code, Error},
    model::job::Job,
    registry::jobs::JobStatus,
};

/// A job.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
struct JobView {
    name: &'static str,
    description: &'static str,
    /// When its next task is or was due; missing if there is none in sight.
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DateTime<Utc>>,
    /// For how long a task has been due, in seconds.
    overdue_seconds: u64,
}

impl From<JobStatus> for JobView {
    fn from(status: JobStatus) -> Self {
        Self {
            name: status.job.as_str(),
            description: status.job.description(),
            due_at: status.due_at,
            overdue_seconds: status.overdue.as_secs(),
        }
    }
}

/// All jobs.
#[derive(Serialize, ToSchema)]
#[schema(as = Jobs)]
struct JobsAnswer {
    jobs: Vec<JobView>,
}

/// What was made due.
#[derive(Serialize, ToSchema)]
#[schema(as = JobHastened)]
struct HastenedAnswer {
    /// How many tasks are due now that would have been due later.
    hastened: usize,
}

/// The jobs, and what is due.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    operation_id = "jobs_list",
    tag = "jobs",
    responses((status = 200, description = "the jobs", body = JobsAnswer), Problems),
)]
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    Parameters::read(&request, &[])?;
    let identity = identity(&request, &api).await?;
    let jobs = api.registry.jobs_show(&identity).await?;
    let jobs = jobs.into_iter().map(JobView::from).collect();
    Ok(HttpResponse::Ok().json(JobsAnswer { jobs }))
}

/// Makes all that a job looks at now and then due now. Whichever node is free does it.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{job}/run",
    operation_id = "job_run",
    tag = "jobs",
    params(("job" = String, Path, description = "the name of the job")),
    responses((status = 202, description = "it is due", body = HastenedAnswer), Problems),
)]
pub async fn run(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    Parameters::read(&request, &[])?;
    let actor = identity(&request, &api).await?;
    let name: String = path_part(&request, "job")?;
    let job: Job = name
        .parse()
        .map_err(|reason: String| Error::with_message(Code::NotFound, reason))?;
    let hastened = api.registry.job_hasten(&actor, job).await?;
    Ok(HttpResponse::Accepted().json(HastenedAnswer { hastened }))
}
