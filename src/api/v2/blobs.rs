//! `/v2/<name>/blobs/<digest>`

use actix_web::{HttpRequest, HttpResponse, body::SizedStream, http::header, web};

use super::CONTENT_DIGEST;
use crate::{
    api::{
        Api,
        extract::{Repo, digest, header_text},
        origin::Origin,
        rate_limit,
        render::{HeadBody, OciError},
    },
    error::{Code, Error},
    model::rate_limit::RateLimitKind,
    oci::{
        content_range::{content_range, unsatisfied_content_range},
        media_type::OCTET_STREAM,
    },
    registry::{
        access::{Delete, Pull},
        pull_blob::{BlobContent, BlobRequest},
    },
};

/// Content under a digest never changes, but who may see it does.
const CACHE: (header::HeaderName, &str) = (header::CACHE_CONTROL, "private, max-age=31536000");

/// The blob, or the part that `Range` asks for.
pub async fn get(
    access: Repo<Pull>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    rate_limit::count(&request, &api, &access.0, RateLimitKind::BlobPull).await?;
    let digest = digest(&request)?;
    let range = header_text(&request, header::RANGE);
    let client = Origin::of(&request, &api.hosts).client;
    let wanted = BlobRequest { range, client };
    let content = api.registry.blob_pull(&access.0, &digest, &wanted).await?;
    let digest = (CONTENT_DIGEST, digest.to_string());
    let ranges = (header::ACCEPT_RANGES, "bytes");
    Ok(match content {
        BlobContent::Redirect(url) => HttpResponse::TemporaryRedirect()
            .insert_header((header::LOCATION, url.to_string()))
            .insert_header(digest)
            .finish(),
        BlobContent::Whole { size_bytes, body } => HttpResponse::Ok()
            .insert_header(digest)
            .insert_header(ranges)
            .insert_header(CACHE)
            .content_type(OCTET_STREAM)
            .body(SizedStream::new(size_bytes, body)),
        BlobContent::Partial {
            range,
            size_bytes,
            body,
        } => HttpResponse::PartialContent()
            .insert_header(digest)
            .insert_header(ranges)
            .insert_header(CACHE)
            .insert_header((header::CONTENT_RANGE, content_range(&range, size_bytes)))
            .content_type(OCTET_STREAM)
            .body(SizedStream::new(range.end - range.start, body)),
        BlobContent::Unsatisfiable { size_bytes } => {
            let message = format!("the blob has {size_bytes} bytes; the range lies outside");
            return Err(Error::with_message(Code::RangeNotSatisfiable, message)
                .with_header("Content-Range", unsatisfied_content_range(size_bytes))
                .into());
        }
    })
}

/// The blob's length.
pub async fn head(
    access: Repo<Pull>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse<HeadBody>, OciError> {
    let digest = digest(&request)?;
    let size_bytes = api.registry.blob_size(&access.0, &digest).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_DIGEST, digest.to_string()))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .content_type(OCTET_STREAM)
        .message_body(HeadBody(size_bytes))
        .map_err(|error| Error::internal(error.to_string()))?)
}

/// Takes the blob out of the repository.
pub async fn delete(
    access: Repo<Delete>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let digest = digest(&request)?;
    api.registry.blob_delete(&access.0, &digest).await?;
    Ok(HttpResponse::Accepted()
        .insert_header((CONTENT_DIGEST, digest.to_string()))
        .finish())
}
