//! Logs and metrics: how they are set up, and every metric with its meaning.
//!
//! No repository, tag or user is ever a label: their number is for strangers to choose. Accounts and auth tenants are
//! labels of the quotas alone, which an operator switches on.

use std::io::IsTerminal as _;

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use storage_drivers::Observer;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{LogConfig, LogFormat};

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is not a filter.
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// Something else logs already.
    #[error("the log was set up twice: {0}")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends what is logged to standard error, for the whole process.
pub fn init_log(config: &LogConfig) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&config.level)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    match config.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
        LogFormat::Text => {
            registry
                .with(layer.with_ansi(std::io::stderr().is_terminal()))
                .try_init()?;
        }
    }
    Ok(())
}

/// Every metric of this process.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests that were answered, by method, route and status.
    pub http_requests: IntCounterVec,
    /// How long they took, from the head of the request to the end of the answer.
    pub http_seconds: HistogramVec,
    /// Requests in work.
    pub http_in_flight: IntGauge,
    /// Bytes of bodies, by direction (`in`, `out`).
    pub http_bytes: IntCounterVec,
    /// How long storage calls took, by backend, operation and outcome.
    pub storage_seconds: HistogramVec,
    /// Sealed audit events that a sink does not have yet.
    pub audit_undelivered: IntGaugeVec,
    /// How often a sink has failed since it last took some.
    pub audit_failures: IntGaugeVec,
    /// Tasks of jobs that were done, by job and outcome (`success`, `failure`).
    pub janitor_tasks: IntCounterVec,
    /// How long they took.
    pub janitor_seconds: HistogramVec,
    /// For how long the task of a job has been due that is due for longest.
    pub janitor_overdue: IntGaugeVec,
}

/// From a millisecond to the minutes that a large blob takes.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0,
];

impl Metrics {
    /// Makes and registers the metrics.
    pub fn new() -> Result<Self, prometheus::Error> {
        let histogram = |name, help, labels: &[&str]| {
            HistogramVec::new(
                HistogramOpts::new(name, help).buckets(SECONDS.to_vec()),
                labels,
            )
        };
        let metrics = Self {
            registry: Registry::new(),
            http_requests: IntCounterVec::new(
                Opts::new("kontor_http_requests_total", "Requests that were answered."),
                &["method", "route", "status"],
            )?,
            http_seconds: histogram(
                "kontor_http_request_seconds",
                "Time from the head of a request to the end of its answer.",
                &["method", "route"],
            )?,
            http_in_flight: IntGauge::new("kontor_http_in_flight", "Requests in work.")?,
            http_bytes: IntCounterVec::new(
                Opts::new(
                    "kontor_http_body_bytes_total",
                    "Bytes of request and response bodies.",
                ),
                &["direction"],
            )?,
            storage_seconds: histogram(
                "kontor_storage_seconds",
                "Time that calls to a storage backend took.",
                &["backend", "op", "outcome"],
            )?,
            audit_undelivered: IntGaugeVec::new(
                Opts::new(
                    "kontor_audit_undelivered",
                    "Audit events that a sink does not have yet.",
                ),
                &["sink"],
            )?,
            audit_failures: IntGaugeVec::new(
                Opts::new(
                    "kontor_audit_failures",
                    "Failures of a sink since it last took events.",
                ),
                &["sink"],
            )?,
            janitor_tasks: IntCounterVec::new(
                Opts::new(
                    "kontor_janitor_tasks_total",
                    "Tasks of jobs that were done.",
                ),
                &["job", "outcome"],
            )?,
            janitor_seconds: histogram(
                "kontor_janitor_task_seconds",
                "Time that tasks of jobs took.",
                &["job"],
            )?,
            janitor_overdue: IntGaugeVec::new(
                Opts::new(
                    "kontor_janitor_overdue_seconds",
                    "For how long the task of a job has been due that is due for longest.",
                ),
                &["job"],
            )?,
        };
        let build = IntGauge::with_opts(
            Opts::new("kontor_build_info", "Always 1; the version is the label.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        metrics.registry.register(Box::new(build))?;
        metrics
            .registry
            .register(Box::new(metrics.http_requests.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.http_seconds.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.http_in_flight.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.http_bytes.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.storage_seconds.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.janitor_tasks.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.janitor_seconds.clone()))?;
        for gauge in [
            &metrics.audit_undelivered,
            &metrics.audit_failures,
            &metrics.janitor_overdue,
        ] {
            metrics.registry.register(Box::new(gauge.clone()))?;
        }
        Ok(metrics)
    }

    /// The metrics in Prometheus' text format.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// What is used of one resource, and may be.
#[derive(Debug)]
pub struct QuotaFigure<'a> {
    /// Whose book, the owner's name, the resource.
    pub labels: [&'a str; 3],
    /// What is used.
    pub used: i64,
    /// What may be; `None` is no limit.
    pub limit: Option<u64>,
}

/// The quotas in Prometheus' text format. They are made anew for each scrape: an account that is gone must go there too.
pub fn quotas_text(figures: &[QuotaFigure<'_>]) -> Result<Vec<u8>, prometheus::Error> {
    const LABELS: [&str; 3] = ["of", "owner", "resource"];
    let gauge = |name, help| IntGaugeVec::new(Opts::new(name, help), &LABELS);
    let used = gauge(
        "kontor_quota_used",
        "What an account or auth tenant uses, uploads that go on included.",
    )?;
    let limit = gauge("kontor_quota_limit", "How much of it may be used.")?;
    for figure in figures {
        used.with_label_values(&figure.labels).set(figure.used);
        if let Some(most) = figure.limit {
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            limit.with_label_values(&figure.labels).set(most);
        }
    }
    let registry = Registry::new();
    registry.register(Box::new(used))?;
    registry.register(Box::new(limit))?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    Ok(text)
}

impl Observer for Metrics {
    fn observe(&self, backend: &str, op: &'static str, outcome: &'static str, seconds: f64) {
        self.storage_seconds
            .with_label_values(&[backend, op, outcome])
            .observe(seconds);
    }
}
