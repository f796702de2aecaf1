//! What a script learns from a command that failed. The numbers are part of the interface: `docs/cli/index.md`.

use reqwest::StatusCode;

use super::{
    CliError, apply::ApplyError, client::ClientError, credentials::CredentialError,
    openstack::OpenStackError,
};

const FAILED: u8 = 1;
/// The command line's parser uses it too; and `apply --detailed-exitcode` for a plan with changes.
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const DENIED: u8 = 4;
const CONFLICT: u8 = 5;
const UNAVAILABLE: u8 = 6;

impl CliError {
    /// The number that the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) => of_client(error),
            Self::Credential(error) => of_credential(error),
            Self::Apply(ApplyError::HasChanges) => USAGE,
            Self::Apply(error) if error.is_usage() => USAGE,
            Self::Apply(error) if error.is_conflict() => CONFLICT,
            Self::Usage(_)
            | Self::Permission(_)
            | Self::NoName
            | Self::NoPassword
            | Self::Config(_) => USAGE,
            _ => FAILED,
        }
    }

    /// Whether the same may succeed a little later.
    pub(super) fn is_temporary(&self) -> bool {
        self.exit_code() == UNAVAILABLE
    }
}

fn of_client(error: &ClientError) -> u8 {
    match error {
        ClientError::Unreachable(_) => UNAVAILABLE,
        ClientError::Refused { status, .. } => of_status(*status),
        ClientError::Overtaken(_) => CONFLICT,
        ClientError::ServiceIdentities(_) | ClientError::Policies(_) => USAGE,
    }
}

fn of_status(status: StatusCode) -> u8 {
    match status.as_u16() {
        401 | 403 => DENIED,
        404 => NOT_FOUND,
        409 | 412 => CONFLICT,
        400 | 422 => USAGE,
        429 | 502..=504 => UNAVAILABLE,
        _ => FAILED,
    }
}

fn of_credential(error: &CredentialError) -> u8 {
    match error {
        CredentialError::None(_) | CredentialError::OpenStack(OpenStackError::Refused(_)) => DENIED,
        CredentialError::OpenStack(OpenStackError::Unreachable(_)) => UNAVAILABLE,
        CredentialError::Address(_) | CredentialError::OpenStack(_) => USAGE,
        CredentialError::Docker(_) => FAILED,
    }
}
