//! The server as configured: makes an operator for each account, and signs the requests that OpenDAL lacks.
//!
//! What a newcomer will get wrong: an operator is cheap, since it opens no connection and shares the client and
//! the credentials, so that none is kept.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, IF_NONE_MATCH};
use http::{HeaderMap, Method, Request, request};
use opendal::options::WriteOptions;
use opendal::{Buffer, HttpTransporter, OperationContext, Operator, services};
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, ProvideCredentialChain, Signer};
use tokio::sync::mpsc;
use url::Url;

use super::S3Config;
use super::client::Client;
use super::credentials::Credentials;
use super::failure::{Failure, signing_failed};
use super::names::{Container, Layout};
use super::write::NOTE;
use crate::{ObjectKey, StorageError, StorageResult};

/// The smallest part that S3 takes.
const MIN_PART_BYTES: usize = 5 << 20;
/// A write holds three parts in memory.
const MAX_PART_BYTES: usize = 512 << 20;

/// The server and how it is spoken to.
pub(super) struct Server {
    pub(super) config: S3Config,
    pub(super) layout: Layout,
    endpoint: Url,
    public_endpoint: Url,
    client: Client,
    transporter: HttpTransporter,
    credentials: Arc<Credentials>,
    signer: Signer<Credential>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoint", &self.endpoint.as_str())
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// An address without anything that must not be in one.
fn endpoint_of(name: &str, text: &str, config: &S3Config) -> StorageResult<Url> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && (url.path() == "/" || !config.virtual_host_style)
    });
    // Not the text itself: it may hold a password.
    url.ok_or_else(|| {
        StorageError::permanent(format!(
            "{name} is not the address of an S3 server; write it as in \"https://s3.example.org\", without user, query or (with virtual_host_style) path"
        ))
    })
}

fn config_check(config: &S3Config) -> StorageResult<()> {
    let refused = |message: &str| Err(StorageError::permanent(message.to_owned()));
    if !(MIN_PART_BYTES..=MAX_PART_BYTES).contains(&config.part_bytes) {
        return refused("part_bytes must be between 5242880 (5 MiB) and 536870912 (512 MiB)");
    }
    if config.region.is_empty() || !config.region.bytes().all(|b| b.is_ascii_graphic()) {
        return refused("region must be a name such as \"us-east-1\"");
    }
    if !matches!(
        config.server_side_encryption.as_deref(),
        None | Some("AES256" | "aws:kms")
    ) {
        return refused("server_side_encryption must be \"AES256\" or \"aws:kms\"");
    }
    if config.kms_key_id.is_some() && config.server_side_encryption.as_deref() != Some("aws:kms") {
        return refused("kms_key_id needs server_side_encryption = \"aws:kms\"");
    }
    if !matches!(config.checksum_algorithm.as_deref(), None | Some("crc32c")) {
        return refused("checksum_algorithm must be \"crc32c\", or be left out");
    }
    if config.external_id.is_some() && config.role_arn.is_none() {
        return refused("external_id needs role_arn");
    }
    Ok(())
}

impl Server {
    /// Errors: a parameter that cannot be.
    pub(super) fn new(config: &S3Config) -> StorageResult<Self> {
        config_check(config)?;
        let suffix = if config.region.starts_with("cn-") {
            ".cn"
        } else {
            ""
        };
        let aws = format!("https://s3.{}.amazonaws.com{suffix}", config.region);
        let endpoint = endpoint_of(
            "endpoint",
            config.endpoint.as_deref().unwrap_or(&aws),
            config,
        )?;
        let public_endpoint = match &config.public_endpoint {
            Some(text) => endpoint_of("public_endpoint", text, config)?,
            None => endpoint.clone(),
        };
        let layout = Layout::new(config, &[&endpoint, &public_endpoint])?;
        let client = Client::new()?;
        let credentials = Credentials::new(config, &client)?;
        let signer = Signer::new(
            Context::new(),
            Arc::clone(&credentials),
            RequestSigner::new("s3", &config.region),
        );
        let server = Self {
            config: config.clone(),
            layout,
            endpoint,
            public_endpoint,
            transporter: HttpTransporter::new(client.clone()),
            client,
            credentials,
            signer,
        };
        // OpenDAL refuses what it does not like now, and not at the first request.
        server.operator(&Container {
            bucket: "check".to_owned(),
            folder: String::new(),
            account: String::new(),
        })?;
        Ok(server)
    }

    /// An operator whose root is the account's container.
    pub(super) fn operator(&self, container: &Container) -> StorageResult<Operator> {
        self.operator_at(container, &self.endpoint)
    }

    /// The same, for addresses that clients get.
    pub(super) fn operator_for_clients(&self, container: &Container) -> StorageResult<Operator> {
        self.operator_at(container, &self.public_endpoint)
    }

    fn operator_at(&self, container: &Container, endpoint: &Url) -> StorageResult<Operator> {
        let config = &self.config;
        let chain = ProvideCredentialChain::new().push(Arc::clone(&self.credentials));
        let text = |option: &Option<String>| option.clone().unwrap_or_default();
        let mut builder = services::S3::default()
            .endpoint(endpoint.as_str())
            .region(&config.region)
            .bucket(&container.bucket)
            .root(&container.folder)
            .credential_provider_chain(chain)
            .disable_config_load()
            .disable_ec2_metadata()
            .default_storage_class(&text(&config.storage_class))
            .server_side_encryption(&text(&config.server_side_encryption))
            .server_side_encryption_aws_kms_key_id(&text(&config.kms_key_id));
        if let Some(algorithm) = &config.checksum_algorithm {
            builder = builder.checksum_algorithm(algorithm);
        }
        if config.virtual_host_style {
            builder = builder.enable_virtual_host_style();
        }
        let operator =
            Operator::new(builder).map_err(|e| Failure::from(e).at(&container.bucket))?;
        let context = OperationContext::new().with_http_transport(self.transporter.clone());
        Ok(operator.with_context(context))
    }

    /// How objects are written by OpenDAL; [`Self::object_put`] has to do the same.
    pub(super) fn write_options(&self) -> WriteOptions {
        WriteOptions {
            if_not_exists: self.config.conditional_writes,
            ..WriteOptions::default()
        }
    }

    /// The address of something in a bucket, or of the server itself. `path` and `query` are encoded already.
    fn address(&self, bucket: Option<&str>, path: &str, query: &str) -> String {
        let endpoint = self.endpoint.as_str().trim_end_matches('/');
        let base = match bucket {
            None => endpoint.to_owned(),
            Some(bucket) if self.config.virtual_host_style => {
                endpoint.replacen("//", &format!("//{bucket}."), 1)
            }
            Some(bucket) => format!("{endpoint}/{bucket}"),
        };
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{base}/{path}{mark}{query}")
    }

    /// Signs and sends a request, once, and returns the answer if it is a success.
    pub(super) async fn request(
        &self,
        method: Method,
        bucket: Option<&str>,
        path: &str,
        query: &str,
        body: String,
    ) -> Result<(HeaderMap, Bytes), Failure> {
        let request = Request::builder()
            .method(method)
            .uri(self.address(bucket, path, query))
            .header(CONTENT_LENGTH, body.len());
        let head = self.signed(request).await?;
        self.client
            .whole(Request::from_parts(head, Buffer::from(body)))
            .await
    }

    /// Writes an object whose pieces come as they are asked for, as [`Self::operator`] and
    /// [`Self::write_options`] would.
    pub(super) async fn object_put(
        &self,
        (container, key): (&Container, &ObjectKey),
        note: &str,
        size: u64,
        pieces: mpsc::Receiver<Bytes>,
    ) -> Result<(), Failure> {
        let path = format!("{}{key}", container.folder);
        let mut request = Request::put(self.address(Some(&container.bucket), &path, ""))
            .header(CONTENT_LENGTH, size)
            .header(format!("x-amz-meta-{NOTE}"), note)
            // Its digest would be known only at its end.
            .header("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        if self.config.conditional_writes {
            request = request.header(IF_NONE_MATCH, "*");
        }
        let config = &self.config;
        let options = [
            ("storage-class", &config.storage_class),
            ("server-side-encryption", &config.server_side_encryption),
            ("server-side-encryption-aws-kms-key-id", &config.kms_key_id),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                request = request.header(format!("x-amz-{name}"), value);
            }
        }
        let head = self.signed(request).await?;
        self.client.streamed(head, size, pieces).await
    }

    async fn signed(&self, request: request::Builder) -> Result<request::Parts, Failure> {
        let request = request.body(());
        let request = request.map_err(|_| Failure::local("the request makes no sense"))?;
        let (mut head, ()) = request.into_parts();
        self.signer
            .sign(&mut head, None)
            .await
            .map_err(|e| signing_failed(&e))?;
        // It comes from the address again, in the form that the version of HTTP wants.
        head.headers.remove(HOST);
        Ok(head)
    }
}
