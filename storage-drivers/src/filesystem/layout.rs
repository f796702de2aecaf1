//! Where things lie, whom an account belongs to, and which folders are known to outlive a power cut.
//!
//! All of it blocks: call it in a hop only.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{ObjectKey, StorageError, StorageResult, Tenant};

/// Holds the auth tenant id, within the account's folder.
const OWNER_FILE: &str = "tenant";
/// The owner file while it is being written. The only name that is ever renamed; it holds no object.
const OWNER_FILE_NEW: &str = "tenant.new";

/// Which of an account's folders are known to be durable: a bit per shard, 256 shards per kind. A set of paths
/// would take hundreds of megabytes with many accounts.
type DurableShards = [[u64; 4]; ObjectKey::FOLDERS.len()];

/// The tree below `root`.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
    pub(super) fsync: bool,
    durable: Mutex<HashMap<String, DurableShards>>,
    /// Held while an account is prepared or released, since either is several steps.
    accounts: Mutex<()>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Options for a new file that only the server's user can read.
pub(super) fn file_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Makes a folder that only the server's user can enter. One that exists is left as it is.
fn dir_make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Removes an empty folder. A missing one is no error.
fn dir_remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The word and the bit in it that stand for the shard of `key`.
fn shard_bit(key: ObjectKey) -> (usize, usize, u64) {
    let (kind, id) = key.parts();
    let shard = id.as_bytes()[0];
    (kind, usize::from(shard / 64), 1 << (shard % 64))
}

impl Layout {
    pub(super) fn open(root: &Path, fsync: bool) -> StorageResult<Self> {
        let placed = |e| StorageError::from_io(e, root);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(placed)?;
        // An absolute path: the server may change its working directory later.
        let root = fs::canonicalize(root).map_err(placed)?;
        let layout = Self {
            root,
            fsync,
            durable: Mutex::default(),
            accounts: Mutex::default(),
        };
        if let Some(parent) = layout.root.parent() {
            // The parent may be a folder that we can enter but not open. It was there before us in most cases,
            // so this is no reason not to start.
            if let Err(e) = layout.dir_sync(parent) {
                tracing::warn!(path = %parent.display(), error = %e, "could not fsync the folder above the storage root");
            }
        }
        Ok(layout)
    }

    pub(super) fn account_path(&self, account: &str) -> PathBuf {
        self.root.join(account)
    }

    pub(super) fn object_path(&self, account: &str, key: ObjectKey) -> PathBuf {
        let name = key.parts().1.to_string();
        let mut path = self.account_path(account);
        path.push(key.folder());
        path.push(&name[..2]);
        path.push(name);
        path
    }

    /// A name that no account can have and no other node will choose at the same time.
    pub(super) fn probe_path(&self) -> PathBuf {
        let random = RandomState::new().hash_one(std::process::id());
        self.root.join(format!(".probe-{random:016x}"))
    }

    /// Waits until the entries of a folder outlive a power cut.
    pub(super) fn dir_sync(&self, path: &Path) -> io::Result<()> {
        if !self.fsync {
            return Ok(());
        }
        File::open(path)?.sync_all()
    }

    /// Makes the file of a new object. The caller must sync the file, then its folder; all folders above are
    /// durable by then. Errors: `AlreadyExists`, `NotPrepared`, `WrongTenant`.
    pub(super) fn object_create(
        &self,
        tenant: &Tenant,
        key: ObjectKey,
    ) -> StorageResult<(File, PathBuf)> {
        let account = tenant.account.as_str();
        self.owner_check(tenant)?;
        let path = self.object_path(account, key);
        // More than once, because a release that is then refused, or another node, may remove an empty folder
        // between the two steps.
        for _ in 0..3 {
            if !self.is_durable(account, key) {
                self.shard_make(account, key)?;
            }
            match file_options().create_new(true).open(&path) {
                Ok(file) => return Ok((file, path)),
                Err(e) if e.kind() == ErrorKind::NotFound => self.durable_forget(account),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                    return Err(StorageError::AlreadyExists(key));
                }
                Err(e) => return Err(StorageError::from_io(e, &path)),
            }
        }
        Err(not_prepared(account))
    }

    /// What was known of the account's folders does not hold any more.
    fn durable_forget(&self, account: &str) {
        held(&self.durable).remove(account);
    }

    pub(super) fn is_durable(&self, account: &str, key: ObjectKey) -> bool {
        let (kind, word, bit) = shard_bit(key);
        held(&self.durable)
            .get(account)
            .is_some_and(|shards| shards[kind][word] & bit != 0)
    }

    /// Makes the folder for `key` durable, and those above it. A folder that exists is synced all the same: the
    /// write that made it may not have come so far yet.
    fn shard_make(&self, account: &str, key: ObjectKey) -> StorageResult<()> {
        let folder = self.account_path(account);
        let kind_folder = folder.join(key.folder());
        let shard_folder = kind_folder.join(&key.parts().1.to_string()[..2]);
        let make = || {
            dir_make(&kind_folder)?;
            self.dir_sync(&folder)?;
            dir_make(&shard_folder)?;
            self.dir_sync(&kind_folder)
        };
        make().map_err(|e| match e.kind() {
            // Released since its owner was checked.
            ErrorKind::NotFound => not_prepared(account),
            _ => StorageError::from_io(e, &folder),
        })?;
        let (kind, word, bit) = shard_bit(key);
        held(&self.durable).entry(account.to_owned()).or_default()[kind][word] |= bit;
        Ok(())
    }

    /// The auth tenant that `account` belongs to. `None` if it was not prepared.
    fn owner_find(&self, account: &str) -> StorageResult<Option<String>> {
        let path = self.account_path(account).join(OWNER_FILE);
        match fs::read_to_string(&path) {
            Ok(owner) => Ok(Some(owner.trim_end().to_owned())),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(e) => Err(StorageError::from_io(e, &path)),
        }
    }

    fn owner_check(&self, tenant: &Tenant) -> StorageResult<()> {
        match self.owner_find(&tenant.account)? {
            Some(owner) if owner == tenant.auth_tenant_id => Ok(()),
            Some(_) => Err(wrong_tenant(&tenant.account)),
            None => Err(not_prepared(&tenant.account)),
        }
    }

    /// Writes the owner file: whole or not at all.
    fn owner_write(&self, folder: &Path, owner: &str) -> io::Result<()> {
        let new = folder.join(OWNER_FILE_NEW);
        let mut file = file_options().create(true).truncate(true).open(&new)?;
        writeln!(file, "{owner}")?;
        if self.fsync {
            file.sync_all()?;
        }
        fs::rename(&new, folder.join(OWNER_FILE))?;
        self.dir_sync(folder)
    }

    /// Keeps other processes of this machine out until the file is dropped. Some file systems (NFS) cannot lock
    /// a folder; then there is no lock.
    fn root_lock(&self) -> Option<File> {
        let root = File::open(&self.root).ok()?;
        root.lock().ok()?;
        Some(root)
    }

    pub(super) fn account_prepare(&self, tenant: &Tenant) -> StorageResult<()> {
        let _one_at_a_time = held(&self.accounts);
        let _one_process = self.root_lock();
        let folder = self.account_path(&tenant.account);
        let placed = |e| StorageError::from_io(e, &folder);
        match self.owner_find(&tenant.account)? {
            Some(owner) if owner == tenant.auth_tenant_id => {
                // An earlier call may have been cut short before this.
                self.dir_sync(&folder).map_err(placed)?;
            }
            Some(_) => return Err(wrong_tenant(&tenant.account)),
            None => {
                dir_make(&folder).map_err(placed)?;
                // Without an owner file nobody can say whose contents these are.
                if fs::read_dir(&folder)
                    .map_err(placed)?
                    .any(|entry| !matches!(entry, Ok(entry) if entry.file_name() == OWNER_FILE_NEW))
                {
                    return Err(StorageError::NotOurs {
                        place: folder.display().to_string(),
                    });
                }
                self.owner_write(&folder, &tenant.auth_tenant_id)
                    .map_err(placed)?;
            }
        }
        self.dir_sync(&self.root).map_err(placed)
    }

    pub(super) fn account_release(&self, tenant: &Tenant) -> StorageResult<()> {
        let _one_at_a_time = held(&self.accounts);
        let _one_process = self.root_lock();
        let folder = self.account_path(&tenant.account);
        let sorted = |e: io::Error| match e.kind() {
            ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists => not_empty(&tenant.account),
            _ => StorageError::from_io(e, &folder),
        };
        let owner = self.owner_find(&tenant.account)?;
        match &owner {
            Some(owner) if *owner == tenant.auth_tenant_id => {}
            Some(_) => return Err(wrong_tenant(&tenant.account)),
            // Never prepared.
            None if !folder.exists() => return Ok(()),
            // An earlier call was cut short before it removed the folder.
            None => {}
        }
        // Only empty folders are removed, one by one. So an object that is written meanwhile is never lost: its
        // folder cannot be removed, or it finds its folder gone.
        for kind in ObjectKey::FOLDERS {
            let kind_folder = folder.join(kind);
            for shard in super::list::shard_folders(&kind_folder)? {
                dir_remove(&shard).map_err(sorted)?;
                self.durable_forget(&tenant.account);
            }
            dir_remove(&kind_folder).map_err(sorted)?;
        }
        self.durable_forget(&tenant.account);
        for name in [OWNER_FILE_NEW, OWNER_FILE] {
            match fs::remove_file(folder.join(name)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(sorted(e)),
                _ => {}
            }
        }
        if let Err(e) = dir_remove(&folder) {
            // A write has just made a folder again: the account goes on and must have its owner.
            if let Some(owner) = &owner {
                self.owner_write(&folder, owner).map_err(sorted)?;
            }
            return Err(sorted(e));
        }
        self.dir_sync(&self.root).map_err(sorted)
    }
}

fn not_prepared(account: &str) -> StorageError {
    StorageError::NotPrepared {
        account: account.to_owned(),
    }
}

fn wrong_tenant(account: &str) -> StorageError {
    StorageError::WrongTenant {
        account: account.to_owned(),
    }
}

fn not_empty(account: &str) -> StorageError {
    StorageError::NotEmpty {
        account: account.to_owned(),
    }
}
