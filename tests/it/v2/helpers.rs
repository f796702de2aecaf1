//! What the tests of the OCI API share.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use kontor::oci::Digest;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::support::{PASSWORD, TestRegistry, image::digest};

/// The repository of most tests.
pub const REPO: &str = "demo/app";

/// A header that must be there.
pub fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    let value = answer
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("{name} is missing: {answer:?}"));
    value.to_str().unwrap()
}

/// The address of the next page, if there is one.
pub fn next_page(answer: &Response) -> Option<String> {
    let link = answer.headers().get("link")?.to_str().unwrap();
    let (address, relation) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
    assert_eq!(relation, "; rel=\"next\"");
    assert!(address.starts_with("/v2/"), "not relative: {link}");
    Some(address.to_owned())
}

/// The claims of a token, which are not secret.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

impl TestRegistry {
    /// A request with a token.
    pub fn bearer(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(token)
    }

    /// `GET` as `admin`.
    pub async fn get(&self, path: &str) -> Response {
        self.admin(Method::GET, path).send().await.unwrap()
    }

    /// `HEAD` as `admin`.
    pub async fn head(&self, path: &str) -> Response {
        self.admin(Method::HEAD, path).send().await.unwrap()
    }

    /// `DELETE` as `admin`.
    pub async fn delete(&self, path: &str) -> Response {
        self.admin(Method::DELETE, path).send().await.unwrap()
    }

    /// Begins an upload as `admin`; gives its address.
    pub async fn begin_upload(&self, repo: &str) -> String {
        let path = format!("/v2/{repo}/blobs/uploads/");
        let answer = self.admin(Method::POST, &path).send().await.unwrap();
        assert_eq!(answer.status(), 202);
        header(&answer, "location").to_owned()
    }

    /// Appends to an upload as `admin`, with neither `Content-Range` nor anything else.
    pub async fn append(&self, location: &str, content: &[u8]) -> Response {
        self.admin(Method::PATCH, location)
            .body(content.to_vec())
            .send()
            .await
            .unwrap()
    }

    /// Ends an upload as `admin`, with these bytes as the last ones.
    pub async fn finish(&self, location: &str, digest: &Digest, content: &[u8]) -> Response {
        let path = format!("{location}?digest={digest}");
        self.admin(Method::PUT, &path)
            .body(content.to_vec())
            .send()
            .await
            .unwrap()
    }

    /// Pushes a blob as `admin` in several requests, each of which makes a chunk.
    pub async fn push_chunks(&self, repo: &str, chunks: &[&[u8]]) -> Digest {
        let location = self.begin_upload(repo).await;
        for chunk in chunks {
            assert_eq!(self.append(&location, chunk).await.status(), 202);
        }
        let digest = digest(&chunks.concat());
        assert_eq!(self.finish(&location, &digest, b"").await.status(), 201);
        digest
    }

    /// Puts bytes as a manifest as `admin`; without a type the header is left out.
    pub async fn put_manifest(
        &self,
        path: &str,
        content_type: Option<&str>,
        content: &[u8],
    ) -> Response {
        let mut request = self.admin(Method::PUT, path).body(content.to_vec());
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        request.send().await.unwrap()
    }

    /// Sends a request of `admin` whose path goes out as it is: an HTTP client would tidy it up.
    pub fn raw(&self, method: &str, path: &str) -> (u16, String) {
        let credentials = BASE64_STANDARD.encode(format!("admin:{PASSWORD}"));
        let mut stream = TcpStream::connect(self.address).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Basic {credentials}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }
}
