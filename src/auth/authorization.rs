//! The `Authorization` header of a request: HTTP Basic (RFC 7617) or a bearer token (RFC 6750).
//!
//! This only takes the header apart; whether the credentials are good is somebody else's question.
//!
//! What a newcomer gets wrong: a header that cannot be read is an error, and not the same as no
//! header. A client that believes it has logged in must not be served as anonymous. And nothing of
//! the header may reach a log: `Debug` hides the secrets, there is no `Display`, and no error
//! repeats its input.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use thiserror::Error;

/// The longest header value that is looked at. Tokens of identity providers with many groups reach
/// several KiB.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Some clients leave out the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why an `Authorization` header cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum AuthorizationError {
    /// Longer than [`MAX_HEADER_BYTES`].
    #[error("the Authorization header is too long")]
    TooLong,
    /// Neither Basic nor Bearer.
    #[error("the Authorization header must be \"Basic\" or \"Bearer\"")]
    UnsupportedScheme,
    /// Not `base64(user:password)` of UTF-8 text without control characters.
    #[error("the Basic credentials are not the base64 form of <user>:<password> in UTF-8")]
    MalformedBasic,
    /// Not a `b64token`.
    #[error("the Bearer token is empty or has characters that no token has")]
    MalformedBearer,
}

/// What a client says about who it is.
// The derived comparison is not in constant time. Passwords and tokens are verified by hash or
// signature, never by `==` on this type.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Authorization {
    /// A user and a password.
    Basic {
        /// Up to the first colon. It may be empty.
        user: String,
        /// After the first colon. It may be empty, and may hold colons.
        password: String,
    },
    /// A token.
    Bearer(String),
    /// A token of Keystone, from `X-Auth-Token`.
    KeystoneToken(String),
}

impl Authorization {
    /// Reads the value of the header. Only ASCII can be right, so bytes that are not are an error.
    pub fn parse(value: &[u8]) -> Result<Self, AuthorizationError> {
        if value.len() > MAX_HEADER_BYTES {
            return Err(AuthorizationError::TooLong);
        }
        let value = value.trim_ascii();
        let end = value
            .iter()
            .position(|byte| *byte == b' ')
            .unwrap_or(value.len());
        let (scheme, credentials) = value.split_at(end);
        let credentials = credentials.trim_ascii();
        // The scheme is case-insensitive (RFC 9110, section 11.1).
        if scheme.eq_ignore_ascii_case(b"basic") {
            basic(credentials).ok_or(AuthorizationError::MalformedBasic)
        } else if scheme.eq_ignore_ascii_case(b"bearer") {
            bearer(credentials).ok_or(AuthorizationError::MalformedBearer)
        } else {
            Err(AuthorizationError::UnsupportedScheme)
        }
    }
}

impl FromStr for Authorization {
    type Err = AuthorizationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the user: people paste tokens into that field.
        f.write_str(match self {
            Self::Basic { .. } => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
            Self::KeystoneToken(_) => "KeystoneToken(..)",
        })
    }
}

/// RFC 7617, section 2: the user ends at the first colon, and neither part has control characters.
fn basic(credentials: &[u8]) -> Option<Authorization> {
    let decoded = String::from_utf8(BASE64.decode(credentials).ok()?).ok()?;
    if decoded.contains(char::is_control) {
        return None;
    }
    let (user, password) = decoded.split_once(':')?;
    Some(Authorization::Basic {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

/// RFC 6750, section 2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" )
/// *"="`.
fn bearer(token: &[u8]) -> Option<Authorization> {
    let token = str::from_utf8(token).ok()?;
    let is_token_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    let body = token.trim_end_matches('=');
    let is_valid = !body.is_empty() && body.bytes().all(is_token_byte);
    is_valid.then(|| Authorization::Bearer(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Result<Authorization, AuthorizationError> {
        Ok(Authorization::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }

    fn bearer(token: &str) -> Result<Authorization, AuthorizationError> {
        Ok(Authorization::Bearer(token.to_owned()))
    }

    #[test]
    fn headers() {
        use AuthorizationError::{MalformedBasic, MalformedBearer, UnsupportedScheme};
        let table: Vec<(&[u8], Result<Authorization, AuthorizationError>)> = vec![
            (b"Basic dXNlcjpwYXNz", basic("user", "pass")),
            (b"basic dXNlcjpwYXNz", basic("user", "pass")),
            (b"BASIC   dXNlcjpwYXNz  ", basic("user", "pass")),
            (b"Basic dTpw", basic("u", "p")),
            (b"Basic dTpwOnE=", basic("u", "p:q")),
            (b"Basic dTpwOnE", basic("u", "p:q")),
            (b"Basic Og==", basic("", "")),
            (b"Basic Og", basic("", "")),
            (b"Basic dTo=", basic("u", "")),
            (b"Basic OnA=", basic("", "p")),
            (b"Basic w6Q6w7Y=", basic("\u{e4}", "\u{f6}")),
            (b"Basic", Err(MalformedBasic)),
            (b"Basic ", Err(MalformedBasic)),
            (b"Basic dXNlcg==", Err(MalformedBasic)),
            (b"Basic ====", Err(MalformedBasic)),
            (b"Basic !!!!", Err(MalformedBasic)),
            (b"Basic dTpw dTpw", Err(MalformedBasic)),
            (b"Basic dTpw\xff", Err(MalformedBasic)),
            // Invalid UTF-8, a NUL, a line feed, URL-safe alphabet.
            (b"Basic /zpw", Err(MalformedBasic)),
            (b"Basic dQA6cA==", Err(MalformedBasic)),
            (b"Basic dTpwCg==", Err(MalformedBasic)),
            (b"Basic dTo_Pz8_", Err(MalformedBasic)),
            (b"Bearer abc.def-123_~+/==", bearer("abc.def-123_~+/==")),
            (b"bEARER abc", bearer("abc")),
            (b"Bearer  abc\t", bearer("abc")),
            (b"Bearer", Err(MalformedBearer)),
            (b"Bearer ", Err(MalformedBearer)),
            (b"Bearer =", Err(MalformedBearer)),
            (b"Bearer a=b", Err(MalformedBearer)),
            (b"Bearer a b", Err(MalformedBearer)),
            (b"Bearer a,b", Err(MalformedBearer)),
            (b"Bearer \"a\"", Err(MalformedBearer)),
            (b"Bearer \xc3\xa4", Err(MalformedBearer)),
            (b"Bearer \xff", Err(MalformedBearer)),
            (b"", Err(UnsupportedScheme)),
            (b" ", Err(UnsupportedScheme)),
            (b"Digest username=\"x\"", Err(UnsupportedScheme)),
            (b"Basic:dTpw", Err(UnsupportedScheme)),
            (b"dXNlcjpwYXNz", Err(UnsupportedScheme)),
            (b"\xff", Err(UnsupportedScheme)),
        ];
        for (value, expected) in table {
            let text = String::from_utf8_lossy(value);
            // Compared by hand: a failing assert_eq would show only the hidden form.
            assert!(Authorization::parse(value) == expected, "{text:?}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let longest = format!("Bearer {}", "a".repeat(MAX_HEADER_BYTES - 7));
        assert!(longest.parse::<Authorization>().is_ok());
        assert_eq!(
            format!("{longest}a").parse::<Authorization>(),
            Err(AuthorizationError::TooLong)
        );
    }

    #[test]
    fn debug_hides_the_secrets() {
        for value in ["Basic c2VjcmV0dXNlcjpzZWNyZXQ=", "Bearer secret"] {
            let shown = format!("{:?}", value.parse::<Authorization>());
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}
