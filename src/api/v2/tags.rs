//! `/v2/<name>/tags/list`

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::next_link;
use crate::{
    api::{
        Api,
        extract::{Repo, page_size, query_value},
        render::OciError,
    },
    registry::access::Pull,
};

/// A page of tags.
pub async fn list(
    access: Repo<Pull>,
    request: HttpRequest,
    api: web::Data<Api>,
) -> Result<HttpResponse, OciError> {
    let n = page_size(&request)?;
    let page = api
        .registry
        .tags_list(&access.0, n, query_value(&request, "last"))
        .await?;
    let name = access.0.shown_name();
    let mut response = HttpResponse::Ok();
    if let Some(last) = page.items.last().filter(|_| page.has_more) {
        let path = format!("/v2/{name}/tags/list");
        let n = page.items.len().to_string();
        response.insert_header(next_link(&path, &[("n", &n), ("last", last.as_str())]));
    }
    let tags: Vec<&str> = page.items.iter().map(|tag| tag.as_str()).collect();
    Ok(response.json(json!({ "name": name, "tags": tags })))
}
