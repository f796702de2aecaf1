//! Users in the database, for the `static_users` driver.

use async_trait::async_trait;

use crate::{
    auth::{driver::AuthError, static_users::UserStore},
    db::{Db, users::user_find},
    model::user::User,
};

/// Users that lie in the database.
#[derive(Debug)]
pub struct DbUsers(pub Db);

#[async_trait]
impl UserStore for DbUsers {
    async fn user_find(&self, name: &str) -> Result<Option<User>, AuthError> {
        // PostgreSQL refuses NUL in a text, and no user is called so.
        if name.contains('\0') {
            return Ok(None);
        }
        let name = name.to_owned();
        let found = self.0.read(move |conn| user_find(conn, &name)).await;
        found.map_err(|error| AuthError::Unavailable(Box::new(error)))
    }
}
