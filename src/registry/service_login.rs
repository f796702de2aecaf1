//! Logging in with a token of an issuer that the operator trusts: as a service identity of an account, or as a person.

use super::{Registry, login::LoggedIn};
use crate::{
    auth::{driver::AuthError, oidc::device::DeviceMetadata},
    db::accounts::account_find,
    error::{Error, Result},
    model::{account::AccountSettings, robot::login_parts, service_identity::ServiceIdentity},
    oci::AccountName,
};

impl Registry {
    /// The service identity that a user name and a JWT stand for; `None` if the name is not one of a service identity
    /// or the token is from nobody that is known. What the account does not know, or what does not match, is rejected
    /// alike.
    pub(super) async fn service_login(
        &self,
        user: &str,
        token: &str,
    ) -> Result<Option<LoggedIn>, AuthError> {
        let Some(oidc) = self.oidc.as_ref().filter(|oidc| oidc.recognizes(token)) else {
            return Ok(None);
        };
        let Some((account, name)) = login_parts(user) else {
            return Ok(None);
        };
        let Some(jwt) = oidc.verify(token).await? else {
            return Ok(None);
        };
        let (owner, found) = self.service_identities(&account).await?;
        let found = found.iter().find(|identity| {
            identity.name == name && identity.matches(&owner, &jwt.provider, &jwt.claims)
        });
        match found {
            Some(service) => Ok(Some(service.identity(&account, &jwt.subject).into())),
            None => {
                tracing::info!(
                    user,
                    issuer = jwt.provider,
                    subject = jwt.subject,
                    "a good token of this issuer matches no service identity of that name"
                );
                Err(AuthError::Rejected)
            }
        }
    }

    /// The service identities of an account, and which auth tenant has it.
    async fn service_identities(
        &self,
        account: &AccountName,
    ) -> Result<(String, Vec<ServiceIdentity>), AuthError> {
        let wanted = account.clone();
        let found = self
            .db
            .read(move |conn| account_find(conn, &wanted))
            .await
            .map_err(|error| AuthError::Unavailable(Box::new(error)))?;
        let found = found.filter(|account| !account.is_deleting);
        let found = found.map(|account| {
            let identities = account.settings.service_identities;
            (account.auth_tenant_id, identities)
        });
        Ok(found.unwrap_or_default())
    }

    /// Says how a token of a machine is to be used, if that is why nobody knew it.
    pub(super) fn hint_for_jwt(&self, token: &str) -> AuthError {
        let is_ours = self
            .oidc
            .as_ref()
            .is_some_and(|oidc| oidc.recognizes(token));
        if is_ours {
            return AuthError::Misused(
                "tokens of this issuer are for service identities: say <account>+<identity> as the user name"
                    .into(),
            );
        }
        AuthError::Rejected
    }

    /// Refuses service identities of issuers that the operator has not configured.
    pub(super) fn refuse_unknown_issuers(&self, settings: &AccountSettings) -> Result<()> {
        let is_known = |name: &str| self.oidc.as_ref().is_some_and(|oidc| oidc.knows(name));
        for (number, identity) in settings.service_identities.iter().enumerate() {
            if !is_known(&identity.issuer) {
                let path = format!("service_identities[{number}].issuer");
                let message = format!("no issuer is configured as auth.oidc.{}", identity.issuer);
                return Err(Error::field(&path, message));
            }
        }
        Ok(())
    }

    /// The identity providers at which people can log in from a command line.
    pub async fn login_providers(&self) -> Vec<(String, DeviceMetadata)> {
        let mut found = Vec::new();
        if let Some(oidc) = &self.oidc {
            for name in oidc.people_providers() {
                match oidc.device_metadata(name).await {
                    Ok(metadata) => {
                        found.extend(metadata.map(|metadata| (name.to_owned(), metadata)));
                    }
                    Err(error) => {
                        tracing::warn!(provider = name, error = ?error, "an identity provider cannot be asked");
                    }
                }
            }
        }
        found
    }
}
