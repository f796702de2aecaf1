//! Whose buckets and folders are: what others have made must stay as it is.

use http::Method;
use storage_drivers::contract::Verdict;
use storage_drivers::{S3Config, Tenant};

use super::raw::Raw;
use super::{
    LARGE_BYTES, assert_fails, body_of, driver, fresh_chunk, fresh_tenant, objects, on_both,
    pattern, shared_config, swift_config,
};

#[tokio::test(flavor = "multi_thread")]
async fn foreign_buckets_are_left_alone() -> Verdict {
    on_both(|config| async move {
        let (driver, tenant, raw) = (driver(&config), fresh_tenant(), Raw::new(&config));
        let bucket = format!("kontor-{}", tenant.account);
        let (marker, file) = (
            format!("/{bucket}/.kontor-account"),
            format!("/{bucket}/a/b"),
        );
        raw.bucket_make(&bucket).await;
        assert_fails(driver.prepare_account(&tenant).await, "not_ours");
        assert_eq!(raw.request(Method::GET, &marker, "").await.0, 404);
        assert_eq!(raw.request(Method::PUT, &file, "text").await.0, 200);
        assert_fails(driver.prepare_account(&tenant).await, "not_ours");
        driver.release_account(&tenant).await?;
        let content = raw.request(Method::GET, &file, "").await;
        assert_eq!(content, (200, "text".to_owned()));
        // Neither another account's marker nor something else of that name makes it ours.
        for text in ["{\"account\":\"x\",\"auth_tenant_id\":\"y\"}", "", "{}"] {
            assert_eq!(raw.request(Method::PUT, &marker, text).await.0, 200);
            assert_fails(driver.prepare_account(&tenant).await, "not_ours");
            assert_fails(driver.release_account(&tenant).await, "not_ours");
        }
        let own = format!(
            "{{\"account\":\"{}\",\"auth_tenant_id\":\"y\"}}",
            tenant.account
        );
        assert_eq!(raw.request(Method::PUT, &marker, &own).await.0, 200);
        assert_fails(driver.prepare_account(&tenant).await, "wrong_tenant");
        let written = driver
            .write(&tenant, &fresh_chunk(), None, body_of(&pattern(3)))
            .await;
        assert_fails(written, "wrong_tenant");
        for address in [file, marker, format!("/{bucket}")] {
            assert_eq!(raw.request(Method::DELETE, &address, "").await.0, 204);
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_of_others_are_used_and_kept() -> Verdict {
    on_both(|config| async move {
        let config = S3Config {
            create_buckets: false,
            ..config
        };
        let (driver, tenant, raw) = (driver(&config), fresh_tenant(), Raw::new(&config));
        let bucket = format!("kontor-{}", tenant.account);
        let error = assert_fails(driver.prepare_account(&tenant).await, "failed");
        assert!(format!("{error:?}").contains(&bucket), "{error:?}");
        raw.bucket_make(&bucket).await;
        driver.prepare_account(&tenant).await?;
        let key = fresh_chunk();
        driver
            .write(&tenant, &key, None, body_of(&pattern(3)))
            .await?;
        assert_fails(driver.release_account(&tenant).await, "not_empty");
        driver.delete(&tenant, &key).await?;
        driver.release_account(&tenant).await?;
        // Empty, and still there.
        assert_eq!(
            raw.request(Method::DELETE, &format!("/{bucket}"), "")
                .await
                .0,
            204
        );
        Ok(())
    })
    .await
}

/// On Swift only: SeaweedFS makes the bucket again when an object is written to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_vanished_is_not_prepared() -> Verdict {
    let Some(config) = swift_config() else {
        return Ok(());
    };
    let (driver, tenant, raw) = (driver(&config), fresh_tenant(), Raw::new(&config));
    let key = fresh_chunk();
    driver.prepare_account(&tenant).await?;
    let bucket = format!("/kontor-{}", tenant.account);
    for address in [format!("{bucket}/.kontor-account"), bucket] {
        assert_eq!(raw.request(Method::DELETE, &address, "").await.0, 204);
    }
    for content in [pattern(3), pattern(LARGE_BYTES)] {
        let written = driver.write(&tenant, &key, None, body_of(&content)).await;
        assert_fails(written, "not_prepared");
        assert_fails(
            driver.read(&tenant, &key, None).await.map(drop),
            "not_found",
        );
        driver.delete(&tenant, &key).await?;
        assert_eq!(objects(&driver, &tenant).await?, 0);
        driver.prepare_account(&tenant).await?;
        for address in [
            format!("/kontor-{}/.kontor-account", tenant.account),
            format!("/kontor-{}", tenant.account),
        ] {
            assert_eq!(raw.request(Method::DELETE, &address, "").await.0, 204);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_a_shared_bucket_are_apart() -> Verdict {
    on_both(|config| async move {
        let raw = Raw::new(&config);
        raw.bucket_make("kontor-shared").await;
        let driver = driver(&shared_config(config));
        let tenant = fresh_tenant();
        // The name of one account begins with that of the other.
        let longer = Tenant {
            account: format!("{}-b", tenant.account),
            ..tenant.clone()
        };
        driver.prepare_account(&longer).await?;
        let key = fresh_chunk();
        driver
            .write(&longer, &key, None, body_of(&pattern(LARGE_BYTES)))
            .await?;
        driver.prepare_account(&tenant).await?;
        assert_eq!(objects(&driver, &tenant).await?, 0);
        driver.release_account(&tenant).await?;
        assert_eq!(driver.used_bytes(&longer).await?, LARGE_BYTES as u64);
        driver.delete(&longer, &key).await?;
        driver.release_account(&longer).await?;

        let file = format!("/kontor-shared/registry/{}/file", tenant.account);
        assert_eq!(raw.request(Method::PUT, &file, "text").await.0, 200);
        assert_fails(driver.prepare_account(&tenant).await, "not_ours");
        assert_eq!(raw.request(Method::DELETE, &file, "").await.0, 204);
        driver.prepare_account(&tenant).await?;
        // Something foreign is not listed, but keeps the account from being released.
        assert_eq!(raw.request(Method::PUT, &file, "text").await.0, 200);
        assert_eq!(objects(&driver, &tenant).await?, 0);
        assert_fails(driver.release_account(&tenant).await, "not_empty");
        assert_eq!(raw.request(Method::DELETE, &file, "").await.0, 204);
        driver.release_account(&tenant).await?;
        assert_eq!(raw.request(Method::GET, "/kontor-shared", "").await.0, 200);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn preparing_at_once_has_one_winner() -> Verdict {
    on_both(|config| async move {
        let tenant = fresh_tenant();
        let rivals: Vec<_> = (0..6)
            .map(|i| Tenant {
                auth_tenant_id: format!("{}-{}", tenant.auth_tenant_id, i % 2),
                ..tenant.clone()
            })
            .collect();
        // As many servers, none of which knows what the others know.
        let drivers: Vec<_> = rivals.iter().map(|_| driver(&config)).collect();
        let calls = drivers
            .iter()
            .zip(&rivals)
            .map(|(driver, rival)| driver.prepare_account(rival));
        let results = futures::future::join_all(calls).await;
        let is_winner: Vec<_> = results.iter().map(Result::is_ok).collect();
        let expected = |of: usize| (0..6).map(|i| i % 2 == of).collect::<Vec<_>>();
        assert!(
            is_winner == expected(0) || is_winner == expected(1),
            "{results:?}"
        );
        let winner = usize::from(!is_winner[0]);
        drivers[0].release_account(&rivals[winner]).await?;
        Ok(())
    })
    .await
}
