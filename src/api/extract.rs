//! From a request to the values that use cases take.

use std::{str::FromStr, sync::Arc};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload, http::header, web};
use futures::future::{FutureExt as _, LocalBoxFuture};
use percent_encoding::percent_decode_str;

use super::{
    Api,
    origin::Origin,
    render::OciError,
    request_log::{RequestFacts, RequestId},
};
use crate::{
    auth::{
        authorization::{Authorization, MAX_HEADER_BYTES},
        scope::{Action, Scope},
    },
    error::{Code, Error, Result},
    model::request_origin::RequestOrigin,
    oci::{Digest, FullRepoName, Reference, RepoName},
    registry::{
        access::{Demand, Push, RepoAccess, RepoPermission},
        caller::Caller,
    },
};

/// On `/v2/`, where `X-Auth-Token` alone does not count, this says that it is meant, as with Keppel.
const KEPPEL: &[u8] = b"keppel";

/// The header in which services of OpenStack take a token.
const X_AUTH_TOKEN: &str = "x-auth-token";

/// What every handler needs.
pub fn api(request: &HttpRequest) -> Result<web::Data<Api>> {
    let data = request.app_data::<web::Data<Api>>();
    data.cloned()
        .ok_or_else(|| Error::internal("the API was not put together"))
}

/// A part of the path, percent-decoded.
pub fn path_part(request: &HttpRequest, part: &str) -> Result<String> {
    let raw = request.match_info().get(part).unwrap_or_default();
    let decoded = percent_decode_str(raw).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| Error::with_message(Code::NameInvalid, "the path is not valid UTF-8"))
}

/// A part of the path, parsed.
pub fn path_value<T>(request: &HttpRequest, part: &str, code: Code) -> Result<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let text = path_part(request, part)?;
    text.parse()
        .map_err(|error: T::Err| Error::with_message(code, error.to_string()))
}

/// The digest in the path.
pub fn digest(request: &HttpRequest) -> Result<Digest> {
    path_value(request, "digest", Code::DigestInvalid)
}

/// The tag or digest in the path.
pub fn reference(request: &HttpRequest) -> Result<Reference> {
    let text = path_part(request, "reference")?;
    let code = if text.contains(':') {
        Code::DigestInvalid
    } else {
        Code::TagInvalid
    };
    text.parse()
        .map_err(|error: crate::oci::ReferenceError| Error::with_message(code, error.to_string()))
}

/// The parameters of the query, decoded, in order.
pub fn query(request: &HttpRequest) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.query_string().as_bytes())
        .into_owned()
        .collect()
}

/// The first parameter of that name.
pub fn query_value(request: &HttpRequest, name: &str) -> Option<String> {
    query(request)
        .into_iter()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

/// A header as text; one that is not text is as good as none.
pub fn header_text(request: &HttpRequest, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

/// The size of a page, from `n`: a number, clamped later.
pub fn page_size(request: &HttpRequest) -> Result<Option<u64>> {
    let Some(text) = query_value(request, "n") else {
        return Ok(None);
    };
    match text.parse() {
        Ok(n) => Ok(Some(n)),
        // Larger than any number is still a number.
        Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
            Ok(Some(u64::MAX))
        }
        Err(_) => Err(Error::with_message(Code::BadRequest, "n must be a number")),
    }
}

/// The `Authorization` header.
pub fn authorization(request: &HttpRequest) -> Result<Option<Authorization>> {
    let refused = |message: &'static str| Err(Error::with_message(Code::Unauthorized, message));
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let (Some(value), None) = (values.next(), values.next()) else {
        // Of two headers a proxy before us may have looked at the other.
        return match request.headers().contains_key(header::AUTHORIZATION) {
            true => refused("there is more than one Authorization header"),
            false => Ok(None),
        };
    };
    if value.as_bytes().trim_ascii().eq_ignore_ascii_case(KEPPEL) {
        return match keystone_token(request)? {
            None => refused("Authorization: keppel needs a token in X-Auth-Token"),
            token => Ok(token),
        };
    }
    let parsed = Authorization::parse(value.as_bytes());
    parsed
        .map(Some)
        .map_err(|error| Error::with_message(Code::Unauthorized, error.to_string()))
}

/// The token of Keystone in `X-Auth-Token`.
fn keystone_token(request: &HttpRequest) -> Result<Option<Authorization>> {
    let mut values = request.headers().get_all(X_AUTH_TOKEN);
    let (Some(value), None) = (values.next(), values.next()) else {
        return match request.headers().contains_key(X_AUTH_TOKEN) {
            true => Err(Error::with_message(
                Code::Unauthorized,
                "there is more than one X-Auth-Token header",
            )),
            false => Ok(None),
        };
    };
    let token = value.to_str().ok().filter(|token| {
        (1..=MAX_HEADER_BYTES).contains(&token.len()) && !token.contains(char::is_whitespace)
    });
    let token = token
        .ok_or_else(|| Error::with_message(Code::Unauthorized, "X-Auth-Token holds no token"))?;
    Ok(Some(Authorization::KeystoneToken(token.to_owned())))
}

/// What a client of the management API offers: there `X-Auth-Token` is enough.
pub fn api_authorization(request: &HttpRequest) -> Result<Option<Authorization>> {
    match authorization(request)? {
        None => keystone_token(request),
        some => Ok(some),
    }
}

/// How much of a `User-Agent` is kept.
const MAX_USER_AGENT_CHARS: usize = 256;

/// Where the request comes from.
pub fn request_origin(request: &HttpRequest, api: &Api) -> Arc<RequestOrigin> {
    let user_agent = request.headers().get(header::USER_AGENT);
    let user_agent = user_agent.and_then(|value| value.to_str().ok());
    Arc::new(RequestOrigin {
        request_id: request
            .extensions()
            .get::<RequestId>()
            .map(|id| id.0.clone())
            .unwrap_or_default(),
        client: Origin::of(request, &api.hosts).client,
        user_agent: user_agent.map(|text| text.chars().take(MAX_USER_AGENT_CHARS).collect()),
    })
}

/// Who asks.
pub async fn caller(request: &HttpRequest, api: &Api) -> Result<Caller> {
    let origin = Origin::of(request, &api.hosts);
    let challenge = origin.challenge(&api.hosts);
    let header = challenge.header(&[], None);
    let anonymous = Caller::anonymous(challenge, origin.remapped_to, request_origin(request, api));
    let authorization =
        authorization(request).map_err(|error| error.with_header("WWW-Authenticate", header))?;
    let caller = api.registry.caller(authorization, anonymous).await?;
    RequestFacts::set_caller(request, caller.display_name());
    RequestFacts::set_who(request, caller.audit_who());
    Ok(caller)
}

/// The repository's full name: what the path says, after an account's own domain or `?ns=`.
async fn repo_name(request: &HttpRequest, api: &Api) -> Result<FullRepoName> {
    let text = path_part(request, "name")?;
    let invalid =
        |error: crate::oci::NameError| Error::with_message(Code::NameInvalid, error.to_string());
    let remapped_to = Origin::of(request, &api.hosts).remapped_to;
    if let Some(account) = remapped_to {
        let repo: RepoName = text.parse().map_err(invalid)?;
        return FullRepoName::new(account, repo).map_err(invalid);
    }
    if let Some(namespace) = query_value(request, "ns")
        && let Some(account) = api.registry.namespace_account(&namespace).await?
        && text.split('/').next() != Some(account.as_str())
    {
        request.extensions_mut().insert(ServedNamespace(namespace));
        let repo: RepoName = text.parse().map_err(invalid)?;
        return FullRepoName::new(account, repo).map_err(invalid);
    }
    text.parse().map_err(invalid)
}

/// Set when the repository was found by `?ns=`; the answer says so.
pub struct ServedNamespace(pub String);

async fn repo_access<P: RepoPermission>(
    request: HttpRequest,
    demand: Demand,
) -> Result<RepoAccess<P>, OciError> {
    let api = api(&request)?;
    let name = repo_name(&request, &api).await?;
    RequestFacts::set_account(&request, name.account.as_str());
    let caller = caller(&request, &api).await?;
    Ok(api.registry.repo_access(caller, name, demand).await?)
}

/// The repository of the path, with the proof that the caller may do `P` there.
pub struct Repo<P>(pub RepoAccess<P>);

impl<P: RepoPermission> FromRequest for Repo<P> {
    type Error = OciError;
    type Future = LocalBoxFuture<'static, Result<Self, OciError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        async move { repo_access(request, Demand::default()).await.map(Self) }.boxed_local()
    }
}

/// The repository of the path of an upload that goes on, for which a token may have expired.
pub struct UploadRepo(pub RepoAccess<Push>);

impl FromRequest for UploadRepo {
    type Error = OciError;
    type Future = LocalBoxFuture<'static, Result<Self, OciError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        async move {
            repo_access(
                request,
                Demand {
                    finishes_upload: true,
                    also: None,
                },
            )
            .await
            .map(Self)
        }
        .boxed_local()
    }
}

/// The repository of the path of an upload that begins. Who mounts should have a token for the source
/// as well, so the challenge asks for it.
pub struct StartRepo(pub RepoAccess<Push>);

impl FromRequest for StartRepo {
    type Error = OciError;
    type Future = LocalBoxFuture<'static, Result<Self, OciError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        async move {
            let also = mount_source(&request)?;
            repo_access(
                request,
                Demand {
                    finishes_upload: false,
                    also,
                },
            )
            .await
            .map(Self)
        }
        .boxed_local()
    }
}

/// The scope of the repository that a blob is mounted from; of all repositories of the account if the
/// client names none.
fn mount_source(request: &HttpRequest) -> Result<Option<Scope>> {
    if query_value(request, "mount").is_none() {
        return Ok(None);
    }
    let source = match query_value(request, "from") {
        Some(from) => from,
        None => {
            let target = path_part(request, "name")?;
            let is_remapped = Origin::of(request, &api(request)?.hosts)
                .remapped_to
                .is_some();
            match target.split_once('/') {
                Some((account, _)) if !is_remapped => format!("{account}/*"),
                _ => "*".to_owned(),
            }
        }
    };
    Ok(Some(Scope::repository(source, [Action::Pull])))
}
