//! Keys that are refused, addresses that expire, names that do not fit, and how much memory a write takes.

use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use storage_drivers::contract::Verdict;
use storage_drivers::{S3Config, Secret, StorageDriver, Tenant};

use super::{
    assert_fails, body_of, driver, fresh_chunk, fresh_tenant, on_both, pattern, seaweed_config,
};
use crate::support::variable;

/// Says to a test that it is alone in its process.
const ALONE: &str = "KONTOR_TEST_ALONE";

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_refused_and_not_shown() -> Verdict {
    on_both(|config| async move {
        let id = config.access_key_id.clone();
        let wrong_secret = S3Config {
            secret_access_key: Some(Secret::new("not-the-secret")),
            ..config.clone()
        };
        let wrong_id = S3Config {
            access_key_id: Some(Secret::new("not-the-key")),
            ..config
        };
        for config in [wrong_secret, wrong_id] {
            let (driver, tenant, key) = (driver(&config), fresh_tenant(), fresh_chunk());
            let errors = [
                assert_fails(driver.prepare_account(&tenant).await, "failed"),
                assert_fails(driver.check().await, "failed"),
                assert_fails(driver.read(&tenant, &key, None).await.map(drop), "failed"),
                assert_fails(driver.used_bytes(&tenant).await, "failed"),
                assert_fails(
                    driver
                        .write(&tenant, &key, None, body_of(&pattern(3)))
                        .await,
                    "failed",
                ),
            ];
            for error in &errors {
                let source = error.source().ok_or("no source")?;
                let text = format!("{error} {error:?} {source} {driver:?}");
                assert!(text.contains("check access_key_id"), "{text}");
                for secret in ["not-the-secret", "not-the-key", "Signature=", "AWS4-HMAC"] {
                    assert!(!text.contains(secret), "{text}");
                }
                assert!(!text.contains(id.as_ref().unwrap().expose()), "{text}");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_a_temporary_failure() -> Verdict {
    on_both(|config| async move {
        let config = S3Config {
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            ..config
        };
        let (driver, tenant) = (driver(&config), fresh_tenant());
        assert_fails(driver.check().await, "temporary");
        assert_fails(driver.prepare_account(&tenant).await, "temporary");
        assert_fails(driver.used_bytes(&tenant).await, "temporary");
        Ok(())
    })
    .await
}

/// What `curl` makes of an address: the status and the body.
async fn curl(url: String) -> (String, String) {
    let run = move || {
        Command::new("curl")
            .args(["-s", "-w", "%{http_code}", &url])
            .output()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.split_at(text.len() - 3);
    (status.to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_work_without_a_key_until_they_expire() -> Verdict {
    on_both(|config| async move {
        let plain = S3Config {
            redirects: false,
            ..config.clone()
        };
        let (driver, plain, tenant, key) = (
            driver(&config),
            driver(&plain),
            fresh_tenant(),
            fresh_chunk(),
        );
        driver.prepare_account(&tenant).await?;
        driver
            .write(
                &tenant,
                &key,
                None,
                body_of(&Bytes::from_static(b"content")),
            )
            .await?;
        let hour = Duration::from_secs(3600);
        assert_eq!(plain.download_url(&tenant, &key, hour).await?, None);
        let url = driver
            .download_url(&tenant, &key, hour)
            .await?
            .ok_or("no address")?;
        assert_eq!(
            curl(url.to_string()).await,
            ("200".to_owned(), "content".to_owned())
        );
        let brief = driver
            .download_url(&tenant, &key, Duration::ZERO)
            .await?
            .ok_or("no address")?;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert_eq!(curl(brief.to_string()).await.0, "403");
        // It is for one object.
        let other = url
            .as_str()
            .replace(&key.id().to_string(), &fresh_chunk().id().to_string());
        assert_eq!(curl(other).await.0, "403");
        driver.delete(&tenant, &key).await?;
        driver.release_account(&tenant).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_make_no_bucket_are_refused() -> Verdict {
    on_both(|config| async move {
        let driver = driver(&config);
        for account in [
            "a".repeat(63),
            "a".repeat(57),
            "a-".to_owned(),
            "a--x-s3".to_owned(),
        ] {
            let tenant = Tenant {
                account,
                ..fresh_tenant()
            };
            let error = assert_fails(driver.prepare_account(&tenant).await, "invalid_name");
            assert!(error.to_string().contains("shorten `bucket`"), "{error}");
        }
        let longest = Tenant {
            account: format!("{}{}", fresh_tenant().account, "a".repeat(35)),
            ..fresh_tenant()
        };
        assert_eq!(format!("kontor-{}", longest.account).len(), 63);
        driver.prepare_account(&longest).await?;
        driver.release_account(&longest).await?;
        Ok(())
    })
    .await
}

/// Resident memory in bytes.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Writes so many MiB, whose length is announced or not; returns by how much the process grew.
async fn write_measured(
    driver: &Arc<dyn StorageDriver>,
    tenant: &Tenant,
    (mib, is_announced): (usize, bool),
) -> usize {
    let size = is_announced.then_some((mib as u64) << 20);
    let pieces = (0..mib * 16).map(|i| Ok(Bytes::from(vec![i as u8; 64 * 1024])));
    let (key, before) = (fresh_chunk(), resident_bytes());
    let measured = stream::iter(pieces).map(move |piece| (piece, resident_bytes()));
    let peak = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&peak);
    let body = measured.map(move |(piece, now)| {
        seen.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
        piece
    });
    let written = driver
        .write(tenant, &key, size, body.boxed())
        .await
        .unwrap();
    assert_eq!(written, (mib as u64) << 20);
    driver.delete(tenant, &key).await.unwrap();
    peak.load(std::sync::atomic::Ordering::Relaxed)
        .saturating_sub(before)
}

/// It runs itself once more, in a process of its own: what other tests take must not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_takes_memory_for_a_few_parts() -> Verdict {
    let Some(config) = seaweed_config() else {
        return Ok(());
    };
    if variable(ALONE).is_none() {
        let status = Command::new(std::env::current_exe()?)
            .args([
                "--exact",
                "s3::limits::a_write_takes_memory_for_a_few_parts",
                "--nocapture",
            ])
            .env(ALONE, "1")
            .status()?;
        assert!(status.success());
        return Ok(());
    }
    let (driver, tenant) = (driver(&config), fresh_tenant());
    driver.prepare_account(&tenant).await?;
    write_measured(&driver, &tenant, (1, false)).await;
    // The smaller first, since the allocator keeps what it has.
    for (is_announced, limit) in [(true, 8 << 20), (false, 32 << 20)] {
        let growth = write_measured(&driver, &tenant, (256, is_announced)).await;
        println!("256 MiB took {growth} bytes");
        assert!(growth < limit, "256 MiB took {growth} bytes");
    }
    driver.release_account(&tenant).await?;
    Ok(())
}

/// It runs itself once more for each place that credentials may come from, since they cannot be set from within.
#[tokio::test(flavor = "multi_thread")]
async fn keys_come_from_the_environment_or_a_profile() -> Verdict {
    let Some(config) = seaweed_config() else {
        return Ok(());
    };
    let exposed = |secret: &Option<Secret>| secret.as_ref().unwrap().expose().to_owned();
    let (id, secret) = (
        exposed(&config.access_key_id),
        exposed(&config.secret_access_key),
    );
    let config = S3Config {
        access_key_id: None,
        secret_access_key: None,
        ..config
    };
    if let Some(expected) = variable(ALONE) {
        let (driver, tenant) = (driver(&config), fresh_tenant());
        let outcome = driver.prepare_account(&tenant).await;
        assert_eq!(outcome.is_ok(), expected == "found", "{outcome:?}");
        assert_eq!(driver.check().await.is_ok(), expected == "found");
        if outcome.is_ok() {
            driver.release_account(&tenant).await?;
        }
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("credentials");
    let text = format!("[default]\naws_access_key_id={id}\naws_secret_access_key={secret}\n");
    std::fs::write(&profile, text)?;
    let profile = profile.display().to_string();
    let by_environment = [
        ("AWS_ACCESS_KEY_ID", id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", &secret),
    ];
    let by_profile = [("AWS_SHARED_CREDENTIALS_FILE", profile.as_str())];
    let cases = [
        ("found", &by_environment[..]),
        ("found", &by_profile),
        ("missing", &[]),
    ];
    for (expected, variables) in cases {
        let status = Command::new(std::env::current_exe()?)
            .args([
                "--exact",
                "s3::limits::keys_come_from_the_environment_or_a_profile",
            ])
            .env("HOME", folder.path())
            .env(ALONE, expected)
            .envs(variables.iter().copied())
            .status()?;
        assert!(status.success(), "{expected} {variables:?}");
    }
    Ok(())
}
