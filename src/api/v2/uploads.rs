//! `/v2/<name>/blobs/uploads/`: every way to send a blob.

use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, http::header, web};

use super::{CONTENT_DIGEST, with_warning};
use crate::{
    api::{
        Api, body,
        extract::{StartRepo, UploadRepo, header_text, path_value, query_value},
        rate_limit,
        render::OciError,
    },
    error::{Code, Error, Result},
    ids::UploadId,
    model::rate_limit::RateLimitKind,
    oci::{AccountName, Algorithm, Digest, FullRepoName, RepoName, UploadRange},
    registry::{
        access::{Push, RepoAccess},
        chunk_write::Payload,
        push_blob::held_range,
    },
};

/// Begins an upload, mounts a blob, or takes a whole blob in one request.
pub async fn start(
    access: StartRepo,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let access = access.0;
    rate_limit::count(&request, &api, &access, RateLimitKind::BlobPush).await?;
    let value = |name: &str| query_value(&request, name);
    if let Some(mount) = value("mount") {
        let digest = parse_digest(&mount)?;
        // A source that cannot exist is as good as one that is not there: the client sends the blob.
        let from = value("from").map(|from| source(&access, &from));
        let is_mounted = match from {
            Some(None) => false,
            Some(from) => api.registry.blob_mount(&access, &digest, from).await?,
            None => api.registry.blob_mount(&access, &digest, None).await?,
        };
        if is_mounted {
            return Ok(created(&access, &digest));
        }
    } else if let Some(digest) = value("digest") {
        let digest = parse_digest(&digest)?;
        let payload = payload_of(&request, payload, &api)?;
        api.registry.blob_push(&access, &digest, payload).await?;
        return Ok(with_warning(created(&access, &digest), &access, &api).await);
    }
    let algorithm: Algorithm = match value("digest-algorithm") {
        None => Algorithm::Sha256,
        Some(text) => text.parse().map_err(|_| {
            let message = "digest-algorithm must be sha256 or sha512";
            Error::with_message(Code::DigestInvalid, message)
        })?,
    };
    let id = api.registry.upload_start(&access, algorithm).await?;
    Ok(progress(HttpResponse::Accepted(), &access, id, 0))
}

/// How much of the upload is there.
pub async fn status(
    access: UploadRepo,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let id = upload_id(&request)?;
    let size_bytes = api.registry.upload_status(&access.0, id).await?;
    Ok(progress(
        HttpResponse::NoContent(),
        &access.0,
        id,
        size_bytes,
    ))
}

/// Appends bytes.
pub async fn append(
    access: UploadRepo,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let id = upload_id(&request)?;
    let payload = payload_of(&request, payload, &api)?;
    let size_bytes = api
        .registry
        .upload_append(&access.0, id, payload)
        .await
        .map_err(|error| with_location(error, &access.0, id))?;
    Ok(progress(
        HttpResponse::Accepted(),
        &access.0,
        id,
        size_bytes,
    ))
}

/// Appends the last bytes, if there are any, and ends the upload.
pub async fn finish(
    access: UploadRepo,
    request: HttpRequest,
    payload: web::Payload,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let id = upload_id(&request)?;
    let digest = query_value(&request, "digest").ok_or_else(|| {
        Error::with_message(
            Code::DigestInvalid,
            "the last request of an upload needs ?digest=",
        )
    })?;
    let digest = parse_digest(&digest)?;
    let payload = payload_of(&request, payload, &api)?;
    api.registry
        .upload_finish(&access.0, id, &digest, payload)
        .await
        .map_err(|error| with_location(error, &access.0, id))?;
    Ok(with_warning(created(&access.0, &digest), &access.0, &api).await)
}

/// Gives the upload up.
pub async fn cancel(
    access: UploadRepo,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    api.registry
        .upload_cancel(&access.0, upload_id(&request)?)
        .await?;
    Ok(HttpResponse::NoContent().finish())
}

fn upload_id(request: &HttpRequest) -> Result<UploadId> {
    let id: Result<UploadId> = path_value(request, "upload", Code::BlobUploadUnknown);
    id.map_err(|_| Error::new(Code::BlobUploadUnknown))
}

fn parse_digest(text: &str) -> Result<Digest> {
    text.parse().map_err(|error: crate::oci::DigestError| {
        Error::with_message(Code::DigestInvalid, error.to_string())
    })
}

/// The repository of `from=`, as the caller names it.
fn source(access: &RepoAccess<Push>, from: &str) -> Option<FullRepoName> {
    let is_remapped = access.shown_name() != access.name().to_string();
    if is_remapped {
        let account: AccountName = access.name().account.clone();
        return FullRepoName::new(account, from.parse::<RepoName>().ok()?).ok();
    }
    from.parse().ok()
}

fn payload_of(request: &HttpRequest, payload: web::Payload, api: &Api) -> Result<Payload> {
    let size = match header_text(request, header::CONTENT_LENGTH) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| Error::new(Code::SizeInvalid))?),
    };
    let range: Option<UploadRange> = match header_text(request, header::CONTENT_RANGE) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            let message = "Content-Range must be <first byte>-<last byte>";
            Error::with_message(Code::RangeInvalid, message)
        })?),
    };
    Ok(Payload {
        size,
        range,
        body: body::stream(payload, api.idle_timeout),
    })
}

fn location(access: &RepoAccess<Push>, id: UploadId) -> String {
    format!("/v2/{}/blobs/uploads/{id}", access.shown_name())
}

/// A client that is out of step learns where to go on.
fn with_location(error: Error, access: &RepoAccess<Push>, id: UploadId) -> Error {
    if error.code() == Code::RangeInvalid {
        error.with_header("Location", location(access, id))
    } else {
        error
    }
}

fn progress(
    mut response: HttpResponseBuilder,
    access: &RepoAccess<Push>,
    id: UploadId,
    size_bytes: u64,
) -> HttpResponse {
    response
        .insert_header((header::LOCATION, location(access, id)))
        .insert_header((header::RANGE, held_range(size_bytes)))
        .insert_header(("Docker-Upload-UUID", id.to_string()))
        .finish()
}

fn created(access: &RepoAccess<Push>, digest: &Digest) -> HttpResponse {
    HttpResponse::Created()
        .insert_header((
            header::LOCATION,
            format!("/v2/{}/blobs/{digest}", access.shown_name()),
        ))
        .insert_header((CONTENT_DIGEST, digest.to_string()))
        .finish()
}
