//! Rules on accounts, auth tenants and names, and on the readiness probe.

use std::sync::Arc;
use std::time::Duration;

use super::Verdict;
use super::support::{
    Fixture, account_remove, assert_fails, body_of, content_of, fresh_chunk, fresh_tenant,
    objects_of, pattern,
};
use crate::{StorageDriver, Tenant};

/// The same key in many accounts is as many objects, and deleting one leaves the others.
pub async fn accounts_never_see_one_another(driver: Arc<dyn StorageDriver>) -> Verdict {
    let tenants: Vec<_> = (0..20).map(|_| fresh_tenant()).collect();
    let key = fresh_chunk();
    for (i, tenant) in tenants.iter().enumerate() {
        driver.prepare_account(tenant).await?;
        assert_fails(driver.read(tenant, &key, None).await.map(drop), "not_found");
        assert_eq!(objects_of(&driver, tenant).await?, []);
        let content = pattern(100 + i);
        driver
            .write(tenant, &key, None, body_of(content, 7))
            .await?;
    }
    driver.delete(&tenants[0], &key).await?;
    for (i, tenant) in tenants.iter().enumerate().skip(1) {
        let content = content_of(driver.read(tenant, &key, None).await?).await?;
        assert!(content == pattern(100 + i));
        let found = objects_of(&driver, tenant).await?;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].key, found[0].size_bytes), (key, 100 + i as u64));
        assert_eq!(driver.used_bytes(tenant).await?, 100 + i as u64);
    }
    for tenant in &tenants {
        account_remove(&driver, tenant).await?;
    }
    Ok(())
}

/// What an account uses is the sum over its objects, whoever else belongs to the same auth tenant; one that was
/// never prepared uses nothing.
pub async fn used_bytes_are_those_of_the_account(driver: Arc<dyn StorageDriver>) -> Verdict {
    let one = Fixture::new(Arc::clone(&driver)).await?;
    let sibling = Tenant {
        account: fresh_tenant().account,
        auth_tenant_id: one.tenant.auth_tenant_id.clone(),
    };
    driver.prepare_account(&sibling).await?;
    let two = Fixture {
        driver: Arc::clone(&driver),
        tenant: sibling,
    };
    let key = one.put(&pattern(1_000)).await?;
    one.put(&pattern(200)).await?;
    two.put(&pattern(30)).await?;
    assert_eq!(driver.used_bytes(&one.tenant).await?, 1_200);
    assert_eq!(driver.used_bytes(&two.tenant).await?, 30);
    driver.delete(&one.tenant, &key).await?;
    assert_eq!(driver.used_bytes(&one.tenant).await?, 200);
    assert_eq!(driver.used_bytes(&fresh_tenant()).await?, 0);
    one.finish().await?;
    two.finish().await
}

/// Preparing and releasing can be repeated, and preparing again keeps what is there.
pub async fn prepare_and_release_are_idempotent(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let key = fixture.put(&pattern(10)).await?;
    fixture.driver.prepare_account(&fixture.tenant).await?;
    assert!(fixture.get(&key).await? == pattern(10));
    fixture.driver.delete(&fixture.tenant, &key).await?;
    for _ in 0..2 {
        fixture.driver.release_account(&fixture.tenant).await?;
    }
    fixture.driver.release_account(&fresh_tenant()).await?;
    // A released account can be had again, also by another auth tenant.
    let heir = Tenant {
        account: fixture.tenant.account.clone(),
        auth_tenant_id: fresh_tenant().auth_tenant_id,
    };
    fixture.driver.prepare_account(&heir).await?;
    let heir = Fixture {
        driver: fixture.driver,
        tenant: heir,
    };
    let key = heir.put(&pattern(10)).await?;
    assert!(heir.get(&key).await? == pattern(10));
    heir.finish().await
}

/// An account that holds objects is not released, and goes on as before.
pub async fn release_refuses_while_objects_remain(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let key = fixture.put(&pattern(10)).await?;
    assert_fails(
        fixture.driver.release_account(&fixture.tenant).await,
        "not_empty",
    );
    assert!(fixture.get(&key).await? == pattern(10));
    fixture.put(&pattern(11)).await?;
    assert_eq!(fixture.driver.used_bytes(&fixture.tenant).await?, 21);
    fixture.finish().await
}

/// Another auth tenant can neither take an account over, nor write to it, nor release it: the driver refuses, or what
/// the other one gets lies apart.
pub async fn other_auth_tenants_are_refused(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    let stranger = Tenant {
        account: fixture.tenant.account.clone(),
        auth_tenant_id: fresh_tenant().auth_tenant_id,
    };
    let driver = &fixture.driver;
    let key = fixture.put(&pattern(10)).await?;
    let body = || body_of(pattern(5), 5);
    let prepared = driver.prepare_account(&stranger).await;
    if prepared.is_ok() {
        // In a place of its own, such as another project of the cloud.
        assert_eq!(objects_of(driver, &stranger).await?, []);
        assert_fails(
            driver.read(&stranger, &key, None).await.map(drop),
            "not_found",
        );
        driver.delete(&stranger, &key).await?;
        driver.write(&stranger, &key, Some(5), body()).await?;
        account_remove(driver, &stranger).await?;
    } else {
        assert_fails(prepared, "wrong_tenant");
        assert_fails(driver.release_account(&stranger).await, "wrong_tenant");
        let written = driver
            .write(&stranger, &fresh_chunk(), Some(5), body())
            .await;
        assert_fails(written, "wrong_tenant");
    }
    assert!(fixture.get(&key).await? == pattern(10));
    assert_eq!(fixture.list().await?.len(), 1);
    fixture.finish().await
}

/// Nothing can be written to an account that was not prepared; it has no objects, and deleting is no error.
pub async fn unprepared_account_takes_no_objects(driver: Arc<dyn StorageDriver>) -> Verdict {
    let tenant = fresh_tenant();
    let key = fresh_chunk();
    let body = body_of(pattern(5), 5);
    assert_fails(
        driver.write(&tenant, &key, Some(5), body).await,
        "not_prepared",
    );
    assert_fails(
        driver.read(&tenant, &key, None).await.map(drop),
        "not_found",
    );
    assert_eq!(objects_of(&driver, &tenant).await?, []);
    driver.delete(&tenant, &key).await?;
    Ok(())
}

/// Names that could leave the account's container are refused by every call.
pub async fn bad_names_are_refused(driver: Arc<dyn StorageDriver>) -> Verdict {
    let good = fresh_tenant();
    let long = "a".repeat(65);
    let bad = [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "a.b",
        "a\0b",
        "-a",
        "_a",
        "a b",
        "\u{e4}",
        "a\n",
        long.as_str(),
    ];
    for name in bad {
        let account = Tenant {
            account: name.to_owned(),
            ..good.clone()
        };
        let auth_tenant = Tenant {
            auth_tenant_id: name.to_owned(),
            ..good.clone()
        };
        for tenant in [account, auth_tenant] {
            let key = fresh_chunk();
            let body = body_of(pattern(5), 5);
            assert_fails(
                driver.write(&tenant, &key, None, body).await,
                "invalid_name",
            );
            assert_fails(
                driver.read(&tenant, &key, None).await.map(drop),
                "invalid_name",
            );
            assert_fails(driver.delete(&tenant, &key).await, "invalid_name");
            assert_fails(driver.list(&tenant).await.map(drop), "invalid_name");
            let url = driver
                .download_url(&tenant, &key, Duration::from_secs(1))
                .await;
            assert_fails(url, "invalid_name");
            assert_fails(driver.used_bytes(&tenant).await, "invalid_name");
            assert_fails(driver.prepare_account(&tenant).await, "invalid_name");
            assert_fails(driver.release_account(&tenant).await, "invalid_name");
        }
    }
    let capital = Tenant {
        account: "Account".to_owned(),
        ..good
    };
    assert_fails(driver.prepare_account(&capital).await, "invalid_name");
    Ok(())
}

/// The probe succeeds, leaves nothing behind, and can be asked by many at once.
pub async fn check_succeeds(driver: Arc<dyn StorageDriver>) -> Verdict {
    let fixture = Fixture::new(driver).await?;
    for result in futures::future::join_all((0..20).map(|_| fixture.driver.check())).await {
        result?;
    }
    fixture.assert_is_empty().await?;
    fixture.finish().await
}
