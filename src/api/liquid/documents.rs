//! The documents of LIQUID.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    model::quota::{Book, Resource},
    registry::quotas::LimitsOrder,
};

/// To be increased whenever [`ServiceInfo`] says something else.
pub const INFO_VERSION: i64 = 1;

/// The resources with their names there: `images` is what Keppel calls its manifests.
const RESOURCES: [(Resource, &str); 3] = [
    (Resource::Bytes, "bytes"),
    (Resource::Manifests, "images"),
    (Resource::Repositories, "repositories"),
];

/// For what is not in one availability zone.
const ANY_ZONE: &str = "any";

/// The answer of `GET /v1/info`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceInfo {
    version: i64,
    display_name: &'static str,
    resources: BTreeMap<&'static str, ResourceInfo>,
    rates: BTreeMap<&'static str, Value>,
    capacity_metric_families: BTreeMap<&'static str, Value>,
    usage_metric_families: BTreeMap<&'static str, Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceInfo {
    display_name: &'static str,
    /// Missing if it is a number of things.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    topology: &'static str,
    has_capacity: bool,
    needs_resource_demand: bool,
    has_quota: bool,
}

impl ServiceInfo {
    /// What this registry has.
    pub fn new() -> Self {
        let info = |resource: Resource| ResourceInfo {
            display_name: match resource {
                Resource::Bytes => "Content",
                Resource::Manifests => "Images",
                Resource::Repositories => "Repositories",
            },
            unit: (resource == Resource::Bytes).then_some("B"),
            topology: "flat",
            has_capacity: false,
            needs_resource_demand: false,
            has_quota: true,
        };
        Self {
            version: INFO_VERSION,
            display_name: "Container Image Registry",
            resources: RESOURCES
                .map(|(resource, name)| (name, info(resource)))
                .into(),
            rates: BTreeMap::new(),
            capacity_metric_families: BTreeMap::new(),
            usage_metric_families: BTreeMap::new(),
        }
    }
}

/// What Limes sends with `POST /v1/report-capacity` and `POST /v1/projects/<uuid>/report-usage`: availability zones, and
/// more that is for others. Nothing of it is needed here.
pub type ReportRequest = Map<String, Value>;

/// The answer of `POST /v1/report-capacity`: what there is in all is for the storage backends to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CapacityReport {
    info_version: i64,
    resources: BTreeMap<&'static str, Value>,
}

impl CapacityReport {
    /// No resource has a capacity.
    pub fn new() -> Self {
        Self {
            info_version: INFO_VERSION,
            resources: BTreeMap::new(),
        }
    }
}

/// The answer of `POST /v1/projects/<uuid>/report-usage`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageReport {
    info_version: i64,
    resources: BTreeMap<&'static str, ResourceUsage>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceUsage {
    forbidden: bool,
    /// -1 is no limit.
    quota: i64,
    #[serde(rename = "perAZ")]
    per_zone: BTreeMap<&'static str, ZoneUsage>,
}

#[derive(Debug, Serialize)]
struct ZoneUsage {
    usage: u64,
}

impl From<&Book> for UsageReport {
    fn from(book: &Book) -> Self {
        let usage = |resource: Resource| ResourceUsage {
            forbidden: false,
            quota: book
                .limits
                .of(resource)
                .map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX)),
            per_zone: [(
                ANY_ZONE,
                ZoneUsage {
                    usage: u64::try_from(book.used.of(resource).max(0)).unwrap_or(u64::MAX),
                },
            )]
            .into(),
        };
        Self {
            info_version: INFO_VERSION,
            resources: RESOURCES
                .map(|(resource, name)| (name, usage(resource)))
                .into(),
        }
    }
}

/// What Limes sends with `PUT /v1/projects/<uuid>/quota`.
#[derive(Debug, Deserialize)]
pub struct QuotaRequest {
    resources: BTreeMap<String, ResourceQuota>,
}

#[derive(Debug, Deserialize)]
struct ResourceQuota {
    quota: u64,
}

impl From<QuotaRequest> for LimitsOrder {
    fn from(request: QuotaRequest) -> Self {
        let limit = |name: &str| {
            let wanted = request.resources.get(name);
            wanted.map(|wanted| Some(wanted.quota))
        };
        Self {
            bytes: limit("bytes"),
            manifests: limit("images"),
            repositories: limit("repositories"),
        }
    }
}
