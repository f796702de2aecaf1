//! Requests on whole buckets and on unfinished uploads, which OpenDAL has not.

use http::Method;

use super::failure::{Failure, xml_text, xml_unescaped};
use super::server::Server;
use crate::ObjectKey;

/// The region in which S3 makes buckets unless told otherwise; it refuses to be told this one.
const DEFAULT_REGION: &str = "us-east-1";

/// How making a bucket ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Created {
    /// We have made it.
    New,
    /// It was there, and belongs to the owner of our key.
    Known,
    /// It was there, and belongs to somebody else.
    Foreign,
}

/// An upload of parts that was neither completed nor aborted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upload {
    /// The whole name of the object, with the folder.
    name: String,
    id: String,
}

/// What may stand in a query as it is.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// The uploads of our objects that a page lists. Others are left alone, and so is what they are called.
fn uploads(xml: &str, folder: &str) -> Vec<Upload> {
    let pieces = xml.split("<Upload>").skip(1);
    let found = pieces.filter_map(|piece| {
        let name = xml_unescaped(xml_text(piece, "Key")?);
        let (kind, id) = name.strip_prefix(folder)?.split_once('/')?;
        ObjectKey::from_parts(kind, id)?;
        let id = xml_unescaped(xml_text(piece, "UploadId")?);
        Some(Upload { name, id })
    });
    found.collect()
}

impl Server {
    /// Whether the bucket is there. Errors: among others 403 where it is somebody else's.
    pub(super) async fn bucket_exists(&self, bucket: &str) -> Result<bool, Failure> {
        let answer = self
            .request(Method::HEAD, Some(bucket), "", "", String::new())
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_missing() => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Whether the bucket is there, by a request whose answer says what is wrong.
    pub(super) async fn bucket_probe(&self, bucket: &str) -> Result<(), Failure> {
        let query = "list-type=2&max-keys=1";
        self.request(Method::GET, Some(bucket), "", query, String::new())
            .await
            .map(drop)
    }

    /// Whether the server takes our key. Listing buckets may well be forbidden: then it has been taken.
    pub(super) async fn key_probe(&self) -> Result<(), Failure> {
        let answer = self
            .request(Method::GET, None, "", "max-buckets=1", String::new())
            .await;
        match answer {
            Err(failure) if failure.code == "AccessDenied" => Ok(()),
            other => other.map(drop),
        }
    }

    pub(super) async fn bucket_create(&self, bucket: &str) -> Result<Created, Failure> {
        let region = &self.config.region;
        let body = if region == DEFAULT_REGION {
            String::new()
        } else {
            format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
            )
        };
        match self.request(Method::PUT, Some(bucket), "", "", body).await {
            Ok(_) => Ok(Created::New),
            Err(failure) => match failure.code.as_str() {
                "BucketAlreadyOwnedByYou" => Ok(Created::Known),
                "BucketAlreadyExists" => Ok(Created::Foreign),
                _ => Err(failure),
            },
        }
    }

    /// Removes an empty bucket; `false` if it is not empty. A missing one is no error.
    pub(super) async fn bucket_delete(&self, bucket: &str) -> Result<bool, Failure> {
        let answer = self
            .request(Method::DELETE, Some(bucket), "", "", String::new())
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_missing() => Ok(true),
            Err(failure) if failure.code == "BucketNotEmpty" => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Our uploads below `folder` that are neither completed nor aborted, up to a page of them.
    pub(super) async fn uploads(&self, bucket: &str, folder: &str) -> Result<Vec<Upload>, Failure> {
        // Parameters in the order of the alphabet, as some servers sign them.
        let query = format!("max-uploads=1000&prefix={}&uploads=", encoded(folder));
        let answer = self
            .request(Method::GET, Some(bucket), "", &query, String::new())
            .await;
        let body = match answer {
            Ok((_, body)) => body,
            // A server that cannot list them has some other way of getting rid of them.
            Err(failure) if failure.status == Some(501) => return Ok(Vec::new()),
            Err(failure) => return Err(failure),
        };
        Ok(uploads(&String::from_utf8_lossy(&body), folder))
    }

    /// Aborts an upload. One that is gone meanwhile is no error.
    pub(super) async fn upload_abort(&self, bucket: &str, upload: &Upload) -> Result<(), Failure> {
        let query = format!("uploadId={}", encoded(&upload.id));
        let answer = self
            .request(
                Method::DELETE,
                Some(bucket),
                &upload.name,
                &query,
                String::new(),
            )
            .await;
        match answer {
            Err(failure) if !failure.is_missing() => Err(failure),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_ours_only() {
        let id = "6f0c4cf2-6a0f-4f5e-9f6e-3d7f0e1a2b3c";
        let xml = format!(
            "<ListMultipartUploadsResult><Bucket>b</Bucket>\
             <Upload><Key>r/a/chunks/{id}</Key><UploadId>x&amp;y</UploadId></Upload>\
             <Upload><Key>r/a/other/{id}</Key><UploadId>z</UploadId></Upload>\
             <Upload><Key>r/ab/chunks/{id}</Key><UploadId>z</UploadId></Upload>\
             </ListMultipartUploadsResult>"
        );
        let expected = Upload {
            name: format!("r/a/chunks/{id}"),
            id: "x&y".to_owned(),
        };
        assert_eq!(uploads(&xml, "r/a/"), [expected]);
        assert_eq!(encoded("a/b+c~"), "a%2Fb%2Bc~");
    }
}
