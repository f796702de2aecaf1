//! The sources of users, as the operator configures them.

use std::sync::Arc;

use storage_drivers::OpenStackSession;

use super::AppError;
use crate::{
    auth::{
        driver::AuthDriver, keystone::KeystoneDriver, oidc::OidcDriver, static_users::StaticUsers,
    },
    clock::Clock,
    config::Config,
    db::Db,
    model::user::User,
    registry::users::DbUsers,
};

/// The drivers in the order in which they are asked, and the one that service identities need.
pub(super) struct AuthDrivers {
    pub(super) drivers: Vec<Arc<dyn AuthDriver>>,
    pub(super) oidc: Option<Arc<OidcDriver>>,
}

impl AuthDrivers {
    /// Keystone and OIDC come first unless the operator says otherwise: they know by its form whether a login is
    /// theirs, while `static_users` takes as long for an unknown user as for a wrong password.
    pub(super) fn open(
        config: &Config,
        db: &Db,
        openstack: Option<&Arc<OpenStackSession>>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, AppError> {
        let mut drivers: Vec<Arc<dyn AuthDriver>> = Vec::new();
        if let Some(keystone) = &config.auth.keystone {
            let driver = KeystoneDriver::new(keystone, openstack, Arc::clone(clock))?;
            drivers.push(Arc::new(driver));
        }
        let mut oidc = None;
        if !config.auth.oidc.is_empty() {
            let driver = Arc::new(OidcDriver::open(
                config.auth.oidc.clone(),
                Arc::clone(clock),
            )?);
            drivers.push(Arc::clone(&driver) as Arc<dyn AuthDriver>);
            oidc = Some(driver);
        }
        drivers.push(static_users(config, db, clock)?);
        Ok(Self {
            drivers: ordered(drivers, &config.auth.drivers)?,
            oidc,
        })
    }
}

fn ordered(
    mut drivers: Vec<Arc<dyn AuthDriver>>,
    order: &[String],
) -> Result<Vec<Arc<dyn AuthDriver>>, AppError> {
    let is_there = |name: &String| drivers.iter().any(|driver| driver.name() == name);
    if let Some(unknown) = order.iter().find(|name| !is_there(name)) {
        return Err(AppError::UnknownDriver(unknown.clone()));
    }
    // Stable: those that are not named stay as they are.
    drivers.sort_by_key(|driver| {
        let place = order.iter().position(|name| driver.name() == name);
        place.unwrap_or(order.len())
    });
    Ok(drivers)
}

fn static_users(
    config: &Config,
    db: &Db,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn AuthDriver>, AppError> {
    let users = config.auth.static_users.users.iter().map(|user| User {
        name: user.name.clone(),
        password_hash: user.password_hash.expose().to_owned(),
        grants: user.grants.clone(),
        is_disabled: false,
    });
    let stored = Arc::new(DbUsers(db.clone()));
    let driver = StaticUsers::new(users, stored, Arc::clone(clock))?;
    Ok(Arc::new(driver))
}
