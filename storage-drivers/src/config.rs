//! Which driver a storage backend uses, as the configuration file says it: one match, nothing else.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::{
    FilesystemDriver, MemoryDriver, OpenStackSession, S3Config, S3Driver, StorageDriver,
    StorageResult, SwiftConfig, SwiftDriver,
};

/// The configuration of one storage backend. `kind` chooses the driver; a key that the driver does not know is
/// an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum StorageConfig {
    /// A folder on a file system.
    Filesystem {
        /// The folder. It is made if it is missing.
        path: PathBuf,
        /// Whether a write waits until the object outlives a power cut.
        #[serde(default = "fsync_default")]
        fsync: bool,
    },
    /// The memory of this process.
    Memory {},
    /// A bucket for each account, or one bucket with a folder for each.
    S3(Box<S3Config>),
    /// A container for each account.
    Swift(Box<SwiftConfig>),
}

fn fsync_default() -> bool {
    true
}

impl StorageConfig {
    /// Makes the driver. `openstack` is the session of drivers that have no login of their own. Errors: those of making the folder, or a parameter that cannot be.
    ///
    /// Blocks for a moment on file system calls: call it at start-up, not in a request.
    pub fn build(
        &self,
        openstack: Option<&Arc<OpenStackSession>>,
    ) -> StorageResult<Arc<dyn StorageDriver>> {
        Ok(match self {
            Self::Filesystem { path, fsync } => Arc::new(FilesystemDriver::open(path, *fsync)?),
            Self::Memory {} => Arc::new(MemoryDriver::default()),
            Self::S3(config) => Arc::new(S3Driver::open(config)?),
            Self::Swift(config) => Arc::new(SwiftDriver::open(config, openstack)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::de::value::{Error, MapDeserializer};

    use super::*;

    fn parsed(pairs: &[(&'static str, &'static str)]) -> Result<StorageConfig, Error> {
        StorageConfig::deserialize(MapDeserializer::new(pairs.iter().copied()))
    }

    #[test]
    fn fsync_is_on_unless_switched_off() {
        let expected = StorageConfig::Filesystem {
            path: "/data".into(),
            fsync: true,
        };
        assert_eq!(
            parsed(&[("kind", "filesystem"), ("path", "/data")]),
            Ok(expected)
        );
        assert_eq!(parsed(&[("kind", "memory")]), Ok(StorageConfig::Memory {}));
    }

    #[test]
    fn mistakes_are_errors() {
        assert!(parsed(&[("kind", "filesystem")]).is_err());
        assert!(parsed(&[("kind", "tape")]).is_err());
        assert!(parsed(&[("kind", "memory"), ("path", "/data")]).is_err());
        assert!(parsed(&[("kind", "filesystem"), ("path", "/data"), ("fsinc", "x")]).is_err());
    }
}
