//! Runs the storage contract on the drivers that need no service, bare and behind the decorators.

use std::sync::Arc;

use storage_drivers::faulty::FaultyDriver;
use storage_drivers::{
    FilesystemDriver, Limits, MemoryDriver, ObservedDriver, Observer, StorageDriver, StorageResult,
    contract, contract_tests,
};
use tempfile::TempDir;

fn memory() -> StorageResult<(Arc<dyn StorageDriver>, ())> {
    Ok((Arc::new(MemoryDriver::default()), ()))
}

fn filesystem()
-> Result<(Arc<dyn StorageDriver>, TempDir), Box<dyn std::error::Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let driver = FilesystemDriver::open(&folder.path().join("storage"), true)?;
    Ok((Arc::new(driver), folder))
}

fn filesystem_without_fsync()
-> Result<(Arc<dyn StorageDriver>, TempDir), Box<dyn std::error::Error + Send + Sync>> {
    let folder = tempfile::tempdir()?;
    let driver = FilesystemDriver::open(folder.path(), false)?;
    Ok((Arc::new(driver), folder))
}

struct Nobody;

impl Observer for Nobody {
    fn observe(&self, _: &str, _: &'static str, _: &'static str, _: f64) {}
}

/// The decorators must not bend the contract.
fn decorated() -> StorageResult<(Arc<dyn StorageDriver>, ())> {
    let (driver, _faults) = FaultyDriver::wrap(Arc::new(MemoryDriver::default()));
    let driver = ObservedDriver::new(driver, "decorated", Limits::default(), Arc::new(Nobody));
    Ok((Arc::new(driver), ()))
}

contract_tests!(on_memory, memory);
contract_tests!(on_filesystem, filesystem);
contract_tests!(on_filesystem_without_fsync, filesystem_without_fsync);
contract_tests!(behind_decorators, decorated);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_rules_can_be_run_in_a_row() -> contract::Verdict {
    let driver: Arc<dyn StorageDriver> = Arc::new(MemoryDriver::default());
    contract::run_all(|| Arc::clone(&driver)).await
}

/// The contract lets more than one writer of a name win; a driver with a lock of its own has one winner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_writer_wins_where_the_driver_can_tell() -> contract::Verdict {
    let (filesystem, _folder) = filesystem()?;
    for driver in [filesystem, memory()?.0] {
        contract::racing_writers_have_one_winner(driver).await?;
    }
    Ok(())
}
