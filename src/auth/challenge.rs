//! The `WWW-Authenticate` header.
//!
//! One challenge, quoted values, exactly the scope that the request needs: some clients' parsers fail on
//! anything more. Only a mount needs two, in one value.

use super::scope::Scope;

/// Where and as what to get a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The address of the token service.
    pub realm: String,
    /// The name of this registry, the audience of the token.
    pub service: String,
}

/// Why the client is asked again (RFC 6750, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengeError {
    /// The token is not ours, or has expired.
    InvalidToken,
    /// The token is good but not for this.
    InsufficientScope,
}

impl Challenge {
    /// The value of the header.
    pub fn header(&self, scopes: &[Scope], error: Option<ChallengeError>) -> String {
        let mut header = format!(
            "Bearer realm=\"{}\",service=\"{}\"",
            quoted(&self.realm),
            quoted(&self.service)
        );
        if !scopes.is_empty() {
            let scopes: Vec<String> = scopes
                .iter()
                .map(|scope| quoted(&scope.to_string()))
                .collect();
            header.push_str(&format!(",scope=\"{}\"", scopes.join(" ")));
        }
        match error {
            None => {}
            Some(ChallengeError::InvalidToken) => header.push_str(",error=\"invalid_token\""),
            Some(ChallengeError::InsufficientScope) => {
                header.push_str(",error=\"insufficient_scope\"");
            }
        }
        header
    }
}

/// The inside of a quoted-string (RFC 9110, section 5.6.4). What would need an escape is dropped: no
/// host or scope of ours has it, and parsers of clients do not know escapes.
fn quoted(text: &str) -> String {
    text.chars()
        .filter(|c| !matches!(c, '"' | '\\') && !c.is_control() && c.is_ascii())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::scope::Action;

    #[test]
    fn one_scope_in_quotes() {
        let challenge = Challenge {
            realm: "http://h:1/token".into(),
            service: "h:1\"\r\nX: y".into(),
        };
        let scope = Scope::repository("a/b", [Action::Push, Action::Pull]);
        assert_eq!(
            challenge.header(&[scope], Some(ChallengeError::InsufficientScope)),
            "Bearer realm=\"http://h:1/token\",service=\"h:1X: y\",scope=\"repository:a/b:pull,push\",\
             error=\"insufficient_scope\""
        );
    }
}
