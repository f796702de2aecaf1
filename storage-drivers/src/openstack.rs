//! The session of the service user with an OpenStack cloud: a token, the catalogue, requests that carry the token.
//!
//! Keystone is spoken to by `osauth`, which renews a token when less than ten minutes of it are left. What it lacks
//! is here: a token that a service refuses before its time (revoked, or its key rotated away) is thrown away, and
//! the request is sent once more. It knows nothing of containers.
//!
//! One session may serve several drivers, and whoever else needs the service user: `app.rs` of the registry makes it.
//!
//! What a newcomer will get wrong: `osauth`'s own `refresh` keeps a token that looks alive, so only a fresh
//! authentication object gets a new one; and its types print the password with `Debug`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use osauth::common::IdOrName;
use osauth::identity::{ApplicationCredential, Password};
use osauth::{AuthType, EndpointFilters, ErrorKind, InterfaceType};
use reqwest::{Client, Request, RequestBuilder, Response, StatusCode, redirect};
use serde::Deserialize;
use url::Url;

use crate::{Secret, StorageError, StorageResult};

/// How long the making of a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call with a short answer may take, a token included.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Shorter than what servers keep idle connections for: a request on one that was just closed is lost.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);
/// The longest answer that [`Session::call`] takes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// How the service user proves who it is.
#[derive(Clone)]
pub(crate) enum Credentials {
    Password(Password),
    ApplicationCredential(ApplicationCredential),
}

/// Who logs in where. A key that it does not know is an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenStackConfig {
    /// Keystone, such as `https://keystone.example.org/v3`.
    pub auth_url: Url,
    /// The service user's name.
    pub user: Option<String>,
    /// The domain of the service user.
    #[serde(default = "default_domain")]
    pub user_domain: String,
    /// The service user's password.
    pub password: Option<Secret>,
    /// The service user's project.
    pub project: Option<String>,
    /// The domain of that project.
    #[serde(default = "default_domain")]
    pub project_domain: String,
    /// An application credential instead of user, password and project.
    pub application_credential_id: Option<String>,
    /// Its secret.
    pub application_credential_secret: Option<Secret>,
}

/// The domain that every Keystone begins with.
pub(crate) fn default_domain() -> String {
    "Default".to_owned()
}

impl OpenStackConfig {
    fn credentials(&self) -> StorageResult<Credentials> {
        let wrong = |e: osauth::Error| StorageError::permanent(format!("auth_url: {e}"));
        let auth_url = &self.auth_url;
        match (
            &self.application_credential_id,
            &self.application_credential_secret,
            &self.user,
            &self.password,
            &self.project,
        ) {
            (Some(id), Some(secret), None, None, _) => {
                ApplicationCredential::new(auth_url, id, secret.expose())
                    .map(Credentials::ApplicationCredential)
                    .map_err(wrong)
            }
            (None, None, Some(user), Some(password), Some(project)) => {
                let login = Password::new(auth_url, user, password.expose(), &self.user_domain)
                    .map_err(wrong)?;
                let domain = IdOrName::Name(self.project_domain.clone());
                let project = IdOrName::Name(project.clone());
                Ok(Credentials::Password(
                    login.with_project_scope(project, domain),
                ))
            }
            _ => Err(StorageError::permanent(
                "give either user, password and project, or application_credential_id and \
                 application_credential_secret",
            )),
        }
    }
}

impl Credentials {
    /// An authentication that has no token yet.
    fn fresh(&self) -> Arc<dyn AuthType> {
        match self {
            Self::Password(login) => Arc::new(login.clone()),
            Self::ApplicationCredential(login) => Arc::new(login.clone()),
        }
    }
}

/// The session. Clones are not needed: it is shared behind an `Arc`.
pub struct Session {
    client: Client,
    credentials: Credentials,
    auth: Mutex<Arc<dyn AuthType>>,
    auth_url: Url,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("auth_url", &self.auth_url.as_str())
            .finish_non_exhaustive()
    }
}

/// A client for a service's own API: no compression, which would change what a range means, no redirects, and
/// HTTP/1.1, whose flow control holds a slow reader's bytes back at the server.
fn http_client() -> StorageResult<Client> {
    // Somebody else may have chosen one already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_CONNECTION)
        .redirect(redirect::Policy::none())
        .no_gzip()
        .http1_only()
        .build()
        .map_err(StorageError::permanent)
}

impl Session {
    /// Prepares a session; Keystone is not asked yet. Errors: credentials that cannot be.
    pub fn new(config: &OpenStackConfig) -> StorageResult<Self> {
        let credentials = config.credentials()?;
        Ok(Self {
            client: http_client()?,
            auth: Mutex::new(credentials.fresh()),
            credentials,
            auth_url: config.auth_url.clone(),
        })
    }

    /// Keystone, as it was configured.
    pub fn auth_url(&self) -> &Url {
        &self.auth_url
    }

    /// Sends a request with the service user's token and takes the whole answer, whatever its status. If the token is
    /// refused as 401, it is sent once more with a new one; an answer of 401 has been refused twice.
    ///
    /// Errors: no token, no connection, no whole answer within 30 s, more than 1 MiB.
    pub async fn call(
        &self,
        request: http::Request<Bytes>,
    ) -> StorageResult<http::Response<Bytes>> {
        let (head, body) = request.into_parts();
        let url: Url = head
            .uri
            .to_string()
            .parse()
            .map_err(StorageError::permanent)?;
        let answer = self
            .send(|client| {
                client
                    .request(head.method.clone(), url.clone())
                    .headers(head.headers.clone())
                    .body(body.clone())
            })
            .await?;
        let mut whole = http::Response::new(Bytes::new());
        *whole.status_mut() = answer.status();
        whole.headers_mut().clone_from(answer.headers());
        *whole.body_mut() = within(bounded_body(answer)).await??;
        Ok(whole)
    }

    /// The client, for what needs no token.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    fn auth(&self) -> Arc<dyn AuthType> {
        Arc::clone(&self.auth.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Throws the token away that `refused` holds, unless somebody else has done so already.
    fn renew(&self, refused: &Arc<dyn AuthType>) {
        let mut auth = self.auth.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&auth, refused) {
            *auth = self.credentials.fresh();
        }
    }

    /// The address of a service in the catalogue.
    pub(crate) async fn endpoint(
        &self,
        service_type: &str,
        interface: InterfaceType,
        region: Option<&str>,
    ) -> StorageResult<Url> {
        let mut filters = EndpointFilters::default();
        filters.set_interfaces(interface);
        if let Some(region) = region {
            filters.set_region(region);
        }
        let auth = self.auth();
        let found = auth.get_endpoint(&self.client, service_type, &filters);
        let found = within(found).await?;
        found.map_err(|e| self.keystone_error(&e))
    }

    async fn signed(
        &self,
        auth: &Arc<dyn AuthType>,
        request: RequestBuilder,
    ) -> StorageResult<Request> {
        let signed = within(auth.authenticate(&self.client, request)).await?;
        let request = signed.map_err(|e| self.keystone_error(&e))?;
        request.build().map_err(StorageError::permanent)
    }

    /// Sends a request with the token; if it is refused as 401, once more with a new one. The answer's status is
    /// for the caller to judge.
    pub(crate) async fn send(
        &self,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> StorageResult<Response> {
        let auth = self.auth();
        let signed = self.signed(&auth, request(&self.client)).await?;
        let answer = self.execute(signed).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.renew(&auth);
        let signed = self.signed(&self.auth(), request(&self.client)).await?;
        self.execute(signed).await
    }

    /// Sends a request whose body can be sent only once. The caller sees to the time that it takes.
    pub(crate) async fn send_once(&self, request: RequestBuilder) -> StorageResult<Response> {
        let auth = self.auth();
        let signed = self.signed(&auth, request).await?;
        let answer = self.client.execute(signed).await.map_err(transport_error)?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            // The next request gets a new token.
            self.renew(&auth);
        }
        Ok(answer)
    }

    async fn execute(&self, request: Request) -> StorageResult<Response> {
        within(self.client.execute(request))
            .await?
            .map_err(transport_error)
    }

    fn keystone_error(&self, error: &osauth::Error) -> StorageError {
        let place = &self.auth_url;
        match error.kind() {
            ErrorKind::AuthenticationFailed => StorageError::permanent(format!(
                "Keystone at {place} refused the service user; check its name, domains, project and password: {error}"
            )),
            ErrorKind::EndpointNotFound => StorageError::permanent(format!(
                "the catalogue of Keystone at {place} has no such endpoint; check service_type, interface and region: {error}"
            )),
            ErrorKind::InvalidInput | ErrorKind::InvalidConfig | ErrorKind::AccessDenied => {
                StorageError::permanent(format!("Keystone at {place}: {error}"))
            }
            _ => StorageError::temporary(format!("Keystone at {place} cannot be used: {error}")),
        }
    }
}

async fn within<T>(call: impl Future<Output = T>) -> StorageResult<T> {
    tokio::time::timeout(CALL_TIMEOUT, call)
        .await
        .map_err(|_| StorageError::temporary(format!("no answer within {CALL_TIMEOUT:?}")))
}

async fn bounded_body(mut answer: Response) -> StorageResult<Bytes> {
    let mut body = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(transport_error)? {
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(StorageError::temporary("an answer of more than 1 MiB"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// A connection that failed. The address is left out: it may hold a signature.
pub(crate) fn transport_error(error: reqwest::Error) -> StorageError {
    StorageError::temporary(error.without_url())
}

/// A token that no service takes, as after its revocation.
#[cfg(feature = "testkit")]
mod spoilt {
    use super::*;

    #[derive(Debug)]
    struct Spoilt(Arc<dyn AuthType>);

    #[async_trait::async_trait]
    impl AuthType for Spoilt {
        async fn authenticate(
            &self,
            _: &Client,
            request: RequestBuilder,
        ) -> Result<RequestBuilder, osauth::Error> {
            Ok(request.header("X-Auth-Token", "spoilt"))
        }

        async fn get_endpoint(
            &self,
            client: &Client,
            service_type: &str,
            filters: &EndpointFilters,
        ) -> Result<Url, osauth::Error> {
            self.0.get_endpoint(client, service_type, filters).await
        }

        async fn refresh(&self, _: &Client) -> Result<(), osauth::Error> {
            Ok(())
        }
    }

    impl Session {
        /// Replaces the token by one that is refused.
        pub fn spoil_token_for_tests(&self) {
            let mut auth = self.auth.lock().unwrap_or_else(PoisonError::into_inner);
            *auth = Arc::new(Spoilt(Arc::clone(&auth)));
        }
    }
}
