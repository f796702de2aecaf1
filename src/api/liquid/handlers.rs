//! `/liquid/v1`

use actix_web::{HttpRequest, HttpResponse, web};

use super::documents::{CapacityReport, QuotaRequest, ReportRequest, ServiceInfo, UsageReport};
use crate::{
    api::{
        Api,
        admin::{document, identity},
        extract::path_part,
        render::PlainError,
    },
    error::{Code, Error},
    model::precondition::ChangeTerms,
};

/// The largest document of Limes: it lists availability zones, and the state of the last report.
const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// LIQUID knows no project that is not there.
pub(super) fn forbidden(error: Error) -> PlainError {
    if error.code() == Code::NotFound {
        let message = "the access to the quotas of the project is denied";
        return Error::with_message(Code::Denied, message).into();
    }
    error.into()
}

/// Which resources there are.
pub async fn info(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, PlainError> {
    identity(&request, &api).await?;
    Ok(HttpResponse::Ok().json(ServiceInfo::new()))
}

/// How much there is in all: nothing is reported.
pub async fn report_capacity(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, PlainError> {
    identity(&request, &api).await?;
    let _: ReportRequest = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    Ok(HttpResponse::Ok().json(CapacityReport::new()))
}

/// What a project uses and may use.
pub async fn report_usage(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let project = path_part(&request, "project")?;
    let _: ReportRequest = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let book = api.registry.tenant_quota_get(&identity, &project).await;
    Ok(HttpResponse::Ok().json(UsageReport::from(&book.map_err(forbidden)?)))
}

/// Sets what a project may use.
pub async fn quota_put(
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, PlainError> {
    let identity = identity(&request, &api).await?;
    let project = path_part(&request, "project")?;
    let order: QuotaRequest = document(payload, &api, MAX_DOCUMENT_BYTES).await?;
    let registry = &api.registry;
    let put = registry.tenant_quota_put(&identity, &project, order.into(), ChangeTerms::default());
    put.await.map_err(forbidden)?;
    Ok(HttpResponse::NoContent().finish())
}
