//! Signed requests beside the driver, to look at what it has done and to be somebody else.

use http::{Method, Request};
use reqsign_aws_v4::{Credential, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use storage_drivers::{S3Config, Secret};

/// A server and a key for it.
pub struct Raw {
    endpoint: String,
    signer: Signer<Credential>,
}

impl Raw {
    /// For the server of a driver. Its requests have the bucket in the path.
    pub fn new(config: &S3Config) -> Self {
        let exposed = |secret: &Option<Secret>| secret.as_ref().unwrap().expose().to_owned();
        let key = StaticCredentialProvider::new(
            &exposed(&config.access_key_id),
            &exposed(&config.secret_access_key),
        );
        let signer = RequestSigner::new("s3", &config.region);
        Self {
            endpoint: config.endpoint.clone().unwrap(),
            signer: Signer::new(Context::new(), key, signer),
        }
    }

    /// Sends a request and returns the status and the body.
    pub async fn request(&self, method: Method, path: &str, body: &str) -> (u16, String) {
        let (mut parts, body) = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.endpoint))
            .header(http::header::CONTENT_LENGTH, body.len())
            .body(body.to_owned())
            .unwrap()
            .into_parts();
        self.signer.sign(&mut parts, None).await.unwrap();
        let response = reqwest::Client::new()
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body)
            .send()
            .await
            .unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Makes a bucket, or leaves the one that is there.
    pub async fn bucket_make(&self, bucket: &str) {
        let (status, text) = self.request(Method::PUT, &format!("/{bucket}"), "").await;
        assert!(matches!(status, 200 | 409), "{status} {text}");
    }

    /// The same where there is no `async`.
    pub fn bucket_make_blocking(&self, bucket: &str) {
        let made = |runtime: tokio::runtime::Handle| runtime.block_on(self.bucket_make(bucket));
        tokio::task::block_in_place(|| made(tokio::runtime::Handle::current()));
    }

    /// How many uploads are neither completed nor aborted.
    pub async fn uploads(&self, bucket: &str) -> usize {
        let path = format!("/{bucket}?uploads=");
        let (status, text) = self.request(Method::GET, &path, "").await;
        assert_eq!(status, 200, "{text}");
        text.matches("<UploadId>").count()
    }
}
