//! `/v2/<name>/referrers/<digest>`

use actix_web::{HttpRequest, HttpResponse, web};

use super::next_link;
use crate::{
    api::{
        Api,
        extract::{Repo, digest, query_value},
        render::OciError,
    },
    error::{Code, Error},
    oci::{Digest, DigestError, media_type::OCI_INDEX},
    registry::access::Pull,
};

/// An index of the manifests that are about this one.
pub async fn list(
    access: Repo<Pull>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let subject = digest(&request)?;
    let artifact_type = query_value(&request, "artifactType");
    let last: Option<Digest> = query_value(&request, "last")
        .map(|last| last.parse())
        .transpose()
        .map_err(|error: DigestError| {
            Error::with_message(Code::DigestInvalid, error.to_string())
        })?;
    let found = api
        .registry
        .referrers_list(&access.0, &subject, artifact_type.as_deref(), last)
        .await?;
    let mut response = HttpResponse::Ok();
    if let Some(next) = &found.next_after {
        let path = format!("/v2/{}/referrers/{subject}", access.0.shown_name());
        let next = next.to_string();
        let mut parameters = vec![("last", next.as_str())];
        parameters.extend(
            artifact_type
                .as_deref()
                .map(|wanted| ("artifactType", wanted)),
        );
        response.insert_header(next_link(&path, &parameters));
    }
    if artifact_type.is_some() {
        response.insert_header(("OCI-Filters-Applied", "artifactType"));
    }
    response.content_type(OCI_INDEX);
    let body = serde_json::to_vec(&found.index).map_err(Error::internal)?;
    Ok(response.body(body))
}
