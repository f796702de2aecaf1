//! `/v2/<name>/manifests/<reference>`

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, http::header, web};

use super::{CONTENT_DIGEST, with_warning};
use crate::{
    api::{
        Api, body,
        extract::{Repo, header_text, query, reference},
        rate_limit,
        render::{HeadBody, OciError},
    },
    error::{Code, Error, Result},
    model::rate_limit::RateLimitKind,
    oci::{Digest, Tag},
    registry::{
        access::{Delete, Pull, Push},
        push_manifest::ManifestUpload,
    },
};

/// The manifest, as it was pushed: `Accept` never changes it.
pub async fn get(
    access: Repo<Pull>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    rate_limit::count(&request, &api, &access.0, RateLimitKind::ManifestPull).await?;
    let reference = reference(&request)?;
    let manifest = api.registry.manifest_pull(&access.0, &reference).await?;
    Ok(found(&manifest.media_type, &manifest.digest).body(manifest.content))
}

/// What `get` would answer, without the bytes.
pub async fn head(
    access: Repo<Pull>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse<HeadBody>, OciError> {
    let reference = reference(&request)?;
    let manifest = api.registry.manifest_get(&access.0, &reference).await?;
    let size_bytes = manifest.content.len() as u64;
    Ok(found(&manifest.media_type, &manifest.digest)
        .message_body(HeadBody(size_bytes))
        .map_err(|error| Error::internal(error.to_string()))?)
}

fn found(media_type: &str, digest: &Digest) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(media_type)
        .insert_header((CONTENT_DIGEST, digest.to_string()));
    response
}

/// Stores a manifest.
pub async fn put(
    access: Repo<Push>,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    rate_limit::count(&request, &api, &access.0, RateLimitKind::ManifestPush).await?;
    let limit = (api.registry.manifest_bytes(), Code::ManifestTooLarge);
    let upload = ManifestUpload {
        reference: reference(&request)?,
        tags: tags(&request)?,
        content_type: header_text(&request, header::CONTENT_TYPE).map(ToOwned::to_owned),
        content: body::whole(payload, api.idle_timeout, limit).await?,
    };
    let pushed = api.registry.manifest_push(&access.0, upload).await?;
    let location = format!("/v2/{}/manifests/{}", access.0.shown_name(), pushed.digest);
    let mut response = HttpResponse::Created();
    response
        .insert_header((header::LOCATION, location))
        .insert_header((CONTENT_DIGEST, pushed.digest.to_string()));
    if let Some(subject) = pushed.subject {
        response.insert_header(("OCI-Subject", subject.to_string()));
    }
    for tag in pushed.tags {
        response.append_header(("OCI-Tag", tag.to_string()));
    }
    Ok(with_warning(response.finish(), &access.0, &api).await)
}

fn tags(request: &HttpRequest) -> Result<Vec<Tag>> {
    let tags = query(request).into_iter().filter(|(key, _)| key == "tag");
    tags.map(|(_, tag)| {
        tag.parse().map_err(|error: crate::oci::TagError| {
            Error::with_message(Code::TagInvalid, error.to_string())
        })
    })
    .collect()
}

/// Deletes a manifest with its tags, or a tag alone.
pub async fn delete(
    access: Repo<Delete>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    api.registry
        .manifest_delete(&access.0, &reference(&request)?)
        .await?;
    Ok(HttpResponse::Accepted().finish())
}
