//! What can be tried without a server: parameters, names, addresses and errors.

mod fake;
mod stream;
mod unruly;

use std::error::Error;
use std::time::Duration;

use uuid::Uuid;

use super::*;

const KEY: ObjectKey = ObjectKey::Chunk(Uuid::from_u128(7));

fn config(endpoint: &str) -> S3Config {
    S3Config {
        endpoint: Some(endpoint.to_owned()),
        public_endpoint: None,
        region: "us-east-1".to_owned(),
        bucket: "kontor-{account}".to_owned(),
        prefix: String::new(),
        create_buckets: true,
        virtual_host_style: false,
        access_key_id: Some(Secret::new("the-id")),
        secret_access_key: Some(Secret::new("the-secret")),
        session_token: None,
        role_arn: None,
        external_id: None,
        server_side_encryption: None,
        kms_key_id: None,
        storage_class: None,
        checksum_algorithm: None,
        conditional_writes: true,
        part_bytes: 5 << 20,
        redirects: true,
    }
}

fn tenant(account: &str) -> Tenant {
    Tenant {
        account: account.to_owned(),
        auth_tenant_id: "tenant".to_owned(),
    }
}

fn label<T>(result: StorageResult<T>) -> &'static str {
    result.map_or_else(|e| e.label(), |_| "ok")
}

/// A change to the parameters.
type Change = fn(&mut S3Config);

#[test]
fn parameters_that_cannot_be_are_refused_with_what_to_write() {
    let refused: [(Change, &str); 14] = [
        (|c| c.bucket = "Kontor".into(), "kontor-{account}"),
        (|c| c.bucket = "{account}-{account}".into(), "once"),
        (|c| c.bucket = "k".repeat(61) + "{account}", "3 to 63"),
        (|c| c.bucket = "s3".into(), "3 to 63"),
        (|c| c.prefix = "a/".into(), "shared bucket"),
        (
            |c| (c.bucket, c.prefix) = ("abc".into(), "/a".into()),
            "registry/",
        ),
        (
            |c| (c.bucket, c.prefix) = ("abc".into(), "a/../".into()),
            "registry/",
        ),
        (|c| c.endpoint = Some("s3.example.org".into()), "https://s3"),
        (
            |c| c.endpoint = Some("http://u:hush@s3.example.org".into()),
            "without user",
        ),
        (|c| c.part_bytes = 1024, "5 MiB"),
        (
            |c| {
                (c.access_key_id, c.secret_access_key) = (None, None);
                c.session_token = Some(Secret::new("hush"));
            },
            "belong together",
        ),
        (|c| c.secret_access_key = None, "belong together"),
        (|c| c.kms_key_id = Some("k".into()), "aws:kms"),
        (
            |c| c.server_side_encryption = Some("rot13".into()),
            "AES256",
        ),
    ];
    for (i, (change, hint)) in refused.into_iter().enumerate() {
        let mut config = config("https://s3.example.org");
        change(&mut config);
        let error = S3Driver::open(&config).unwrap_err();
        let text = format!("{error:?}");
        assert!(text.contains(hint) && !text.contains("hush"), "{i} {text}");
    }
}

#[test]
fn accounts_have_a_bucket_or_a_folder() {
    let open = |bucket: &str, prefix: &str| {
        let config = S3Config {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            ..config("https://minio.example.org")
        };
        S3Driver::open(&config).unwrap()
    };
    let place = |driver: &S3Driver, account: &str| {
        let container = driver.server.layout.container(&tenant(account));
        container.map_or_else(|e| e.label().to_owned(), |c| c.place())
    };
    let own = open("{account}", "");
    assert_eq!(place(&own, "abc"), "bucket abc");
    for bad in ["ab", "abc-", "xn--abc", "abc--x-s3", "Abc"] {
        assert_eq!(place(&own, bad), "invalid_name", "{bad}");
    }
    // OpenDAL would take it for the bucket and send the requests to example.org.
    assert_eq!(place(&own, "minio"), "invalid_name");
    let shared = open("all", "registry/");
    assert_eq!(place(&shared, "a"), "folder registry/a/ of bucket all");
}

#[tokio::test]
async fn addresses_are_those_that_clients_reach() {
    let config = S3Config {
        public_endpoint: Some("https://s3.example.org".to_owned()),
        virtual_host_style: true,
        ..config("http://10.0.0.1:9000")
    };
    let ask = |config: S3Config| async move {
        let driver = S3Driver::open(&config).unwrap();
        let hour = Duration::from_secs(3600);
        driver
            .download_url(&tenant("acct"), &KEY, hour)
            .await
            .unwrap()
            .unwrap()
    };
    let url = ask(config.clone()).await;
    assert_eq!(url.host_str(), Some("kontor-acct.s3.example.org"));
    assert_eq!(url.path(), format!("/{KEY}"));
    let shared = S3Config {
        bucket: "all".to_owned(),
        prefix: "r/".to_owned(),
        virtual_host_style: false,
        ..config.clone()
    };
    let url = ask(shared).await;
    assert_eq!(
        (url.host_str(), url.path()),
        (
            Some("s3.example.org"),
            format!("/all/r/acct/{KEY}").as_str()
        )
    );
    let aws = S3Config {
        endpoint: None,
        public_endpoint: None,
        region: "eu-west-1".to_owned(),
        ..config
    };
    let url = ask(aws).await;
    assert_eq!(
        url.host_str(),
        Some("kontor-acct.s3.eu-west-1.amazonaws.com")
    );
}

#[test]
fn answers_decide_what_the_caller_does() {
    let cases = [
        (503, "SlowDown", "temporary"),
        (500, "", "temporary"),
        (409, "OperationAborted", "temporary"),
        (400, "RequestTimeout", "temporary"),
        (403, "AccessDenied", "failed"),
        (403, "InvalidAccessKeyId", "failed"),
        (403, "QuotaExceeded", "quota"),
        (413, "", "quota"),
        (400, "EntityTooLarge", "quota"),
        (507, "", "full"),
        (501, "NotImplemented", "failed"),
        (404, "NoSuchBucket", "failed"),
        (301, "PermanentRedirect", "failed"),
    ];
    for (status, code, label) in cases {
        let body = format!("<Error><Code>{code}</Code><Message>because\n</Message></Error>");
        let failure = Failure::of_answer(status, body.as_bytes());
        // It comes back out of OpenDAL's error as it was.
        let failure_again = Failure::from(opendal::Error::from(failure.clone()));
        assert_eq!(failure_again, failure);
        assert_eq!(failure.at("b").label(), label, "{status} {code}");
    }
    let denied = Failure::of_answer(403, b"").at("b");
    let text = denied.source().unwrap().to_string();
    assert!(
        text.starts_with("bucket b: the key lacks a permission"),
        "{text}"
    );
}
