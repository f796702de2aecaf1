//! A disk that is really full or really read-only, with SQLite and the objects both on it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use reqwest::{Method, Response};
use storage_drivers::FilesystemDriver;

use crate::support::{
    Setup, TestRegistry, assert_oci_error,
    image::{OCI_MANIFEST, bytes, digest, manifest},
};

/// A small file system in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` if this machine does not let us have one, which is said.
    #[expect(
        clippy::print_stdout,
        reason = "a test that cannot run must not pass in silence"
    )]
    fn mount(folder: &Path) -> Option<Self> {
        let path = folder.join("disk");
        fs::create_dir(&path).unwrap();
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"])
            .arg(&path);
        if command.status().is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        println!("NOT TESTED: mounting a tmpfs is not allowed here");
        None
    }

    fn remount(&self, how: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }

    /// Fills it to the last byte.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }

    async fn registry(&self) -> TestRegistry {
        let driver = FilesystemDriver::open(&self.0.join("storage"), true).unwrap();
        let data_dir = self.0.join("data");
        let setup = Setup::default()
            .storage(Arc::new(driver))
            .config(move |config| {
                // SQLite on the disk, whatever the other tests use.
                config.database.url = None;
                config.data_dir = data_dir;
            });
        setup.start().await
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn push(registry: &TestRegistry, content: &[u8]) -> Response {
    let path = format!("/v2/demo/app/blobs/uploads/?digest={}", digest(content));
    registry
        .admin(Method::POST, &path)
        .body(content.to_vec())
        .send()
        .await
        .unwrap()
}

async fn assert_come_back(answer: Response) {
    assert_eq!(answer.headers()["retry-after"], "5");
    assert_oci_error(answer, 503, "UNAVAILABLE").await;
}

async fn assert_pushes_are_refused_and_pulls_are_not(registry: &TestRegistry) {
    assert_come_back(push(registry, &bytes(6, 100_000)).await).await;
    let begin = registry
        .admin(Method::POST, "/v2/demo/new/blobs/uploads/")
        .send()
        .await
        .unwrap();
    assert_come_back(begin).await;
    let put = registry
        .admin(Method::PUT, "/v2/demo/new/manifests/v1")
        .header("Content-Type", OCI_MANIFEST)
        .body(manifest(b"{}", &[]).to_string());
    assert_come_back(put.send().await.unwrap()).await;
    let pull = registry
        .admin(Method::GET, "/v2/demo/app/manifests/v1")
        .send()
        .await
        .unwrap();
    assert_eq!(pull.status(), 200);
    let ready = registry
        .anonymous(Method::GET, "/readyz")
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
}

async fn assert_all_is_well(registry: &TestRegistry) {
    registry.push_image("demo/app", "v2", 8).await;
    assert_eq!(push(registry, &bytes(6, 100_000)).await.status(), 201);
    let report = registry.registry.check(true).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let ready = registry
        .anonymous(Method::GET, "/readyz")
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
}

#[tokio::test]
async fn a_full_disk_refuses_pushes_until_there_is_space_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        return;
    };
    let registry = disk.registry().await;
    registry.push_image("demo/app", "v1", 1).await;
    // First only the blob is too large, then not even a row fits.
    assert_come_back(push(&registry, &bytes(5, 20 << 20)).await).await;
    let filler = disk.fill();
    for _ in 0..3 {
        assert_pushes_are_refused_and_pulls_are_not(&registry).await;
    }
    fs::remove_file(filler).unwrap();
    assert_all_is_well(&registry).await;
}

#[tokio::test]
async fn a_disk_that_turned_read_only_refuses_pushes_until_it_is_writable_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        return;
    };
    let registry = disk.registry().await;
    registry.push_image("demo/app", "v1", 1).await;
    // SQLite keeps its files open for writing, which forbids a remount: the storage folder alone turns.
    let storage = SmallDisk(disk.0.join("storage"));
    let bind = Command::new("mount")
        .arg("--bind")
        .arg(&storage.0)
        .arg(&storage.0)
        .status();
    assert!(bind.unwrap().success());
    storage.remount("bind,ro");
    for _ in 0..3 {
        assert_come_back(push(&registry, &bytes(6, 100_000)).await).await;
    }
    let pull = registry
        .admin(Method::GET, "/v2/demo/app/manifests/v1")
        .send()
        .await
        .unwrap();
    assert_eq!(pull.status(), 200);
    let ready = registry
        .anonymous(Method::GET, "/readyz")
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    storage.remount("bind,rw");
    assert_all_is_well(&registry).await;
}
