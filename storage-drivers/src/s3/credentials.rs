//! The credentials, which all operators share: every account has an operator of its own, and none of them may ask
//! the metadata service or STS by itself.
//!
//! What a newcomer will get wrong: a failure must be remembered for a moment too, or a thousand requests in a row
//! wait for a metadata service that is not there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqsign_aws_v4::{
    AssumeRoleCredentialProvider, Credential, DefaultCredentialProvider, RequestSigner,
    StaticCredentialProvider,
};
use reqsign_core::{
    Context, Error, OsEnv, ProvideCredential, ProvideCredentialChain, Result, Signer,
    SigningCredential,
};
use reqsign_file_read_tokio::TokioFileRead;
use tokio::sync::Mutex;

use super::S3Config;
use super::client::Client;
use crate::{Secret, StorageError, StorageResult};

/// How long it is remembered that there are none.
const RETRY_AFTER: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Credential(Credential),
    Failed(Instant),
}

/// Credentials that are asked for once.
#[derive(Debug)]
pub(super) struct Credentials {
    context: Context,
    source: ProvideCredentialChain<Credential>,
    known: Mutex<Known>,
}

impl Credentials {
    /// Errors: half a fixed key.
    pub(super) fn new(config: &S3Config, client: &Client) -> StorageResult<Arc<Self>> {
        let context = Context::new()
            .with_file_read(TokioFileRead)
            .with_http_send(client.clone())
            .with_env(OsEnv);
        let mut source = match (&config.access_key_id, &config.secret_access_key) {
            (Some(id), Some(secret)) => {
                let mut key = StaticCredentialProvider::new(id.expose(), secret.expose());
                if let Some(token) = &config.session_token {
                    key = key.with_session_token(token.expose());
                }
                ProvideCredentialChain::new().push(key)
            }
            (None, None) if config.session_token.is_none() => {
                ProvideCredentialChain::new().push(DefaultCredentialProvider::new())
            }
            _ => {
                return Err(StorageError::permanent(
                    "access_key_id and secret_access_key belong together, and session_token with both; write all of them, or none and let the environment, a profile or the instance give them",
                ));
            }
        };
        if let Some(role) = &config.role_arn {
            let signer = Signer::new(
                context.clone(),
                source,
                RequestSigner::new("sts", &config.region),
            );
            let mut assumed = AssumeRoleCredentialProvider::new(role.clone(), signer)
                .with_region(config.region.clone())
                .with_regional_sts_endpoint();
            if let Some(id) = config.external_id.as_ref().map(Secret::expose) {
                assumed = assumed.with_external_id(id.to_owned());
            }
            source = ProvideCredentialChain::new().push(assumed);
        }
        Ok(Arc::new(Self {
            context,
            source,
            known: Mutex::default(),
        }))
    }
}

impl ProvideCredential for Credentials {
    type Credential = Credential;

    async fn provide_credential(&self, _: &Context) -> Result<Option<Credential>> {
        let mut known = self.known.lock().await;
        match &*known {
            Known::Credential(credential) if credential.is_valid() => {
                return Ok(Some(credential.clone()));
            }
            Known::Failed(at) if at.elapsed() < RETRY_AFTER => {
                return Err(Error::credential_invalid(
                    "there were no credentials a moment ago",
                ));
            }
            _ => {}
        }
        let found = self.source.provide_credential(&self.context).await;
        *known = match &found {
            Ok(Some(credential)) => Known::Credential(credential.clone()),
            _ => Known::Failed(Instant::now()),
        };
        found
    }
}
