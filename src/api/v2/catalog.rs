//! `/v2/_catalog`

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::next_link;
use crate::{
    api::{
        Api,
        extract::{caller, page_size, query_value},
        render::OciError,
    },
    error::{Code, Error},
    oci::{FullRepoName, NameError},
};

/// A page of the repositories that the caller may see.
pub async fn list(request: HttpRequest, api: web::Data<Api>) -> Result<HttpResponse, OciError> {
    let caller = caller(&request, &api).await?;
    let last = query_value(&request, "last").filter(|last| !last.is_empty());
    let last: Option<FullRepoName> = last
        .map(|last| match caller.remapped_to() {
            Some(account) => FullRepoName::new(account.clone(), last.parse()?),
            None => last.parse(),
        })
        .transpose()
        .map_err(|error: NameError| Error::with_message(Code::NameInvalid, error.to_string()))?;
    let page = api
        .registry
        .catalog_list(&caller, page_size(&request)?, last)
        .await?;
    let mut response = HttpResponse::Ok();
    if let Some(last) = page.items.last().filter(|_| page.has_more) {
        let n = page.items.len().to_string();
        response.insert_header(next_link(
            "/v2/_catalog",
            &[("n", &n), ("last", &caller.shown_name(last))],
        ));
    }
    let names: Vec<String> = page
        .items
        .iter()
        .map(|name| caller.shown_name(name))
        .collect();
    Ok(response.json(json!({ "repositories": names })))
}
