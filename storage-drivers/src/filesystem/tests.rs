//! What the contract does not say because only files have it: modes, names, durability, and a disk that is
//! full, read-only or loses data.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;

type Verdict = Result<(), Box<dyn std::error::Error + Send + Sync>>;

fn tenant() -> Tenant {
    Tenant {
        account: "acme".to_owned(),
        auth_tenant_id: "t1".to_owned(),
    }
}

const KEY: ObjectKey = ObjectKey::Chunk(Uuid::from_u128(0xab00_0000_0000_0000_0000_0000_0000_0001));
const KEY_PATH: &str = "acme/chunks/ab/ab000000-0000-0000-0000-000000000001";

fn body(len: usize) -> ByteStream {
    let pieces = vec![Ok(Bytes::from(vec![7; len.min(100_000)])); len.div_ceil(100_000)];
    stream::iter(
        pieces
            .into_iter()
            .map(|piece: Result<Bytes, ()>| piece.map_err(|()| io::ErrorKind::Other.into())),
    )
    .boxed()
}

async fn prepared() -> Result<(TempDir, FilesystemDriver), Box<dyn std::error::Error + Send + Sync>>
{
    let folder = tempfile::tempdir()?;
    let driver = FilesystemDriver::open(&folder.path().join("storage"), true)?;
    driver.prepare_account(&tenant()).await?;
    Ok((folder, driver))
}

fn label<T>(result: StorageResult<T>) -> &'static str {
    result.as_ref().map_or_else(StorageError::label, |_| "ok")
}

fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::symlink_metadata(path)?.permissions().mode() & 0o777)
}

#[tokio::test]
async fn files_lie_where_the_docs_say_and_are_private() -> Verdict {
    let (folder, driver) = prepared().await?;
    driver.write(&tenant(), &KEY, None, body(10)).await?;
    let root = folder.path().join("storage");
    assert_eq!(fs::read(root.join(KEY_PATH))?.len(), 10);
    assert_eq!(fs::read_to_string(root.join("acme/tenant"))?, "t1\n");
    for path in ["", "acme", "acme/chunks", "acme/chunks/ab"] {
        assert_eq!(mode(&root.join(path))?, 0o700, "{path:?}");
    }
    for path in ["acme/tenant", KEY_PATH] {
        assert_eq!(mode(&root.join(path))?, 0o600, "{path:?}");
    }
    driver.check().await?;
    let names: Vec<_> = fs::read_dir(&root)?
        .map(|entry| entry.map(|e| e.file_name()))
        .collect::<Result<_, _>>()?;
    assert_eq!(names, ["acme"], "the probe must not leave anything");
    Ok(())
}

#[tokio::test]
async fn folders_are_known_durable_only_after_they_were_made() -> Verdict {
    let (folder, driver) = prepared().await?;
    let layout = &driver.layout;
    assert!(!layout.is_durable("acme", KEY));
    driver.write(&tenant(), &KEY, None, body(1)).await?;
    assert!(layout.is_durable("acme", KEY));
    assert!(!layout.is_durable("acme", ObjectKey::Manifest(KEY.parts().1)));
    assert!(!layout.is_durable("acme", ObjectKey::Chunk(Uuid::from_u128(1))));
    assert!(!layout.is_durable("other", KEY));

    // Another node has released the account and prepared it anew: what was known is wrong.
    let root = folder.path().join("storage");
    fs::remove_dir_all(root.join("acme/chunks"))?;
    driver.write(&tenant(), &KEY, None, body(1)).await?;
    driver.delete(&tenant(), &KEY).await?;
    driver.release_account(&tenant()).await?;
    assert!(!layout.is_durable("acme", KEY));
    assert!(!root.join("acme").exists());
    Ok(())
}

#[tokio::test]
async fn what_is_not_ours_is_neither_listed_nor_taken_nor_removed() -> Verdict {
    let (folder, driver) = prepared().await?;
    let root = folder.path().join("storage");
    driver.write(&tenant(), &KEY, None, body(1)).await?;
    fs::write(root.join("acme/chunks/ab/.nfs0001"), "x")?;
    fs::write(
        root.join("acme/chunks/ab/AB000000-0000-0000-0000-000000000001"),
        "x",
    )?;
    fs::write(root.join("acme/chunks/note"), "x")?;
    let found: Vec<_> = driver.list(&tenant()).await?.try_collect().await?;
    assert_eq!(found.len(), 1);
    driver.delete(&tenant(), &KEY).await?;
    assert_eq!(label(driver.release_account(&tenant()).await), "not_empty");
    assert!(root.join("acme/chunks/note").exists());

    // A folder that nobody answers for.
    let stray = Tenant {
        account: "stray".to_owned(),
        ..tenant()
    };
    fs::create_dir(root.join("stray"))?;
    fs::write(root.join("stray/precious"), "x")?;
    assert_eq!(label(driver.prepare_account(&stray).await), "not_ours");
    assert_eq!(label(driver.release_account(&stray).await), "not_empty");
    assert!(root.join("stray/precious").exists() && !root.join("stray/tenant").exists());
    // Empty, or with an owner file that a crash cut short: may be had.
    fs::rename(root.join("stray/precious"), root.join("stray/tenant.new"))?;
    driver.prepare_account(&stray).await?;
    Ok(())
}

#[tokio::test]
async fn a_file_that_lost_its_tail_is_an_error() -> Verdict {
    let (folder, driver) = prepared().await?;
    driver.write(&tenant(), &KEY, None, body(2_000_000)).await?;
    let mut stream = driver.read(&tenant(), &KEY, None).await?;
    fs::File::options()
        .write(true)
        .open(folder.path().join("storage").join(KEY_PATH))?
        .set_len(1_500_000)?;
    let mut seen = 0;
    let error = loop {
        match stream.next().await {
            Some(Ok(piece)) => seen += piece.len(),
            Some(Err(e)) => break Some(e.kind()),
            None => break None,
        }
    };
    assert_eq!(
        error,
        Some(io::ErrorKind::UnexpectedEof),
        "after {seen} bytes"
    );
    assert!(stream.next().await.is_none(), "an error ends the stream");
    Ok(())
}

#[tokio::test]
async fn pieces_of_a_read_are_bounded() -> Verdict {
    let (_folder, driver) = prepared().await?;
    driver.write(&tenant(), &KEY, None, body(3_000_000)).await?;
    let pieces: Vec<Bytes> = driver
        .read(&tenant(), &KEY, None)
        .await?
        .try_collect()
        .await?;
    assert!(
        pieces
            .iter()
            .all(|piece| piece.len() as u64 <= read::PIECE_BYTES)
    );
    Ok(())
}

/// A file system of its own for a test.
struct Mount(PathBuf);

impl Mount {
    /// `None`, and a line on standard error that says so, where mounting is not permitted.
    fn new(path: PathBuf, options: &str) -> io::Result<Option<Self>> {
        fs::create_dir_all(&path)?;
        let run = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&path)
            .output();
        match run {
            Ok(output) if output.status.success() => Ok(Some(Self(path))),
            other => {
                writeln!(
                    io::stderr(),
                    "NOT TESTED, needs the right to mount a tmpfs: {other:?}"
                )?;
                Ok(None)
            }
        }
    }

    fn remount(&self, options: &str) -> io::Result<bool> {
        let status = Command::new("mount")
            .args(["-o", options])
            .arg(&self.0)
            .status()?;
        Ok(status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Nothing to be done if it fails: the test's folder then stays.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_full_and_leaves_nothing() -> Verdict {
    let folder = tempfile::tempdir()?;
    let Some(mount) = Mount::new(folder.path().join("disk"), "size=1m")? else {
        return Ok(());
    };
    let driver = FilesystemDriver::open(&mount.0, true)?;
    driver.prepare_account(&tenant()).await?;
    for size in [None, Some(3_000_000)] {
        let error = driver.write(&tenant(), &KEY, size, body(3_000_000)).await;
        assert_eq!(label(error), "full");
        assert!(driver.list(&tenant()).await?.next().await.is_none());
    }
    // Reported at once, though the body stalls.
    let stalled = body(2_000_000).chain(stream::pending()).boxed();
    let tenant = tenant();
    let write = driver.write(&tenant, &KEY, None, stalled);
    let outcome = tokio::time::timeout(Duration::from_secs(20), write).await?;
    assert!(outcome.is_err_and(|e| e.is_temporary()));
    driver.write(&tenant, &KEY, None, body(100_000)).await?;
    Ok(())
}

#[tokio::test]
async fn a_read_only_disk_is_read_only_and_still_reads() -> Verdict {
    let folder = tempfile::tempdir()?;
    let Some(mount) = Mount::new(folder.path().join("disk"), "size=1m")? else {
        return Ok(());
    };
    let driver = FilesystemDriver::open(&mount.0, true)?;
    driver.prepare_account(&tenant()).await?;
    driver.write(&tenant(), &KEY, None, body(10)).await?;
    assert!(mount.remount("remount,ro")?);
    let other = ObjectKey::Report(KEY.parts().1);
    assert_eq!(
        label(driver.write(&tenant(), &other, None, body(10)).await),
        "read_only"
    );
    assert_eq!(label(driver.delete(&tenant(), &KEY).await), "read_only");
    assert_eq!(label(driver.check().await), "read_only");
    driver
        .read(&tenant(), &KEY, None)
        .await?
        .try_collect::<Vec<_>>()
        .await?;
    Ok(())
}
