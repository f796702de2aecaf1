//! The two questions to Keystone: whether a password is right, and what a token is worth.
//!
//! Passwords go out without any token, tokens with the one of the service session. No answer is ever taken for a no
//! unless Keystone said so about the login itself.
//!
//! What a newcomer gets wrong: a 401 to the question about a token is about the service user, not about the token (that
//! is a 404). And the token that comes with a right password is dropped at once: nobody has it, and it ends by itself.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use reqwest::{
    Client, Response, StatusCode,
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde_json::Value;
use storage_drivers::OpenStackSession;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;
use url::Url;

use super::token::Token;
use crate::auth::driver::AuthError;

/// How long the making of a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer. A token without a catalogue has a few KiB.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// When to try again if Keystone limits us and does not say.
const DEFAULT_RETRY: Duration = Duration::from_secs(5);

/// The longest time that clients are sent away for.
const MAX_RETRY: Duration = Duration::from_secs(300);

/// How much may be asked of Keystone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many questions at once.
    pub(super) calls: usize,
    /// How long one waits for its turn.
    pub(super) wait: Duration,
    /// How long an answer may take, a new token of the service user included.
    pub(super) answer: Duration,
}

/// Keystone.
#[derive(Debug)]
pub(super) struct Keystone {
    http: Client,
    session: Arc<OpenStackSession>,
    tokens: Url,
    turns: Semaphore,
    bounds: Bounds,
}

impl Keystone {
    /// `auth_url` as users know it, with or without `/v3`. Errors: an address that cannot be.
    pub(super) fn new(
        session: Arc<OpenStackSession>,
        auth_url: &Url,
        bounds: Bounds,
    ) -> Result<Self, String> {
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(bounds.answer)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            http,
            session,
            tokens: tokens_url(auth_url)?,
            turns: Semaphore::new(bounds.calls),
            bounds,
        })
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, AuthError> {
        let turn = tokio::time::timeout(self.bounds.wait, self.turns.acquire()).await;
        turn.map_err(|_| AuthError::unavailable("too many questions to Keystone at once"))?
            .map_err(AuthError::unavailable)
    }

    /// Asks whether a login is right. `body` holds the secret and gets into no error.
    pub(super) async fn login(&self, body: &Value) -> Result<Token, AuthError> {
        let _turn = self.turn().await?;
        let asked = self.http.post(self.tokens.clone()).json(body).send().await;
        let answer = asked.map_err(|error| unreachable(&error.without_url()))?;
        match answer.status() {
            StatusCode::CREATED => Token::parse(&bounded_body(answer).await?),
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => Err(AuthError::Rejected),
            status => Err(unexpected(status, answer.headers(), "a login")),
        }
    }

    /// Asks what a token is worth. The caller has seen to it that it fits into a header.
    pub(super) async fn validate(&self, token: &str) -> Result<Token, AuthError> {
        let mut subject = HeaderValue::from_str(token).map_err(|_| AuthError::Rejected)?;
        subject.set_sensitive(true);
        let request = http::Request::get(self.tokens.as_str())
            .header("X-Subject-Token", subject)
            // Without it Keystone hides tokens with access rules; with it, they can be refused with a reason.
            .header("OpenStack-Identity-Access-Rules", "1.0")
            .body(Bytes::new())
            .map_err(AuthError::unavailable)?;
        let _turn = self.turn().await?;
        let asked = tokio::time::timeout(self.bounds.answer, self.session.call(request)).await;
        let answer = asked
            .map_err(|_| unreachable(&format!("no answer within {:?}", self.bounds.answer)))?
            .map_err(|error| {
                warn!(error = ?error, "the service user cannot ask Keystone about a token");
                AuthError::unavailable(error)
            })?;
        match answer.status() {
            StatusCode::OK => Token::parse(answer.body()),
            StatusCode::NOT_FOUND => Err(AuthError::Rejected),
            StatusCode::FORBIDDEN => {
                warn!("the service user may not have tokens checked: it lacks the role `service`");
                Err(AuthError::unavailable(
                    "the service user lacks the role `service`",
                ))
            }
            status => Err(unexpected(status, answer.headers(), "a token")),
        }
    }
}

/// No catalogue: it may have hundreds of KiB, and nobody looks at it.
fn tokens_url(auth_url: &Url) -> Result<Url, String> {
    let mut url = auth_url.clone();
    let is_versioned = url.path().trim_end_matches('/').ends_with("/v3");
    {
        let segments = url.path_segments_mut();
        let mut segments = segments.map_err(|()| "auth_url: not an http(s) address".to_owned())?;
        segments.pop_if_empty();
        if !is_versioned {
            segments.push("v3");
        }
        segments.extend(["auth", "tokens"]);
    }
    if !["http", "https"].contains(&url.scheme()) {
        return Err("auth_url: not an http(s) address".to_owned());
    }
    url.set_query(Some("nocatalog"));
    Ok(url)
}

fn unreachable(why: &dyn std::fmt::Display) -> AuthError {
    warn!(error = %why, "Keystone cannot be reached");
    AuthError::unavailable(format!("Keystone cannot be reached: {why}"))
}

/// Neither a yes nor a no. What Keystone writes there is left out: it may repeat what was sent.
fn unexpected(status: StatusCode, headers: &HeaderMap, about: &str) -> AuthError {
    if status == StatusCode::TOO_MANY_REQUESTS {
        return AuthError::Limited {
            retry_after: retry_after(headers),
        };
    }
    warn!(%status, "Keystone did not judge {about}");
    AuthError::unavailable(format!("Keystone answered {status} to {about}"))
}

/// `Retry-After` as seconds or as a date (RFC 9110, section 10.2.3), at most five minutes.
fn retry_after(headers: &HeaderMap) -> Duration {
    let text = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    let seconds = text.and_then(|text| text.trim().parse().ok());
    let wait = seconds.map(Duration::from_secs).or_else(|| {
        let when = DateTime::parse_from_rfc2822(text?).ok()?;
        // Both ends of the time are the server's, so that its clock need not be right.
        let sent = headers.get("Date")?.to_str().ok()?;
        let sent = DateTime::parse_from_rfc2822(sent).ok()?;
        (when.with_timezone(&Utc) - sent.with_timezone(&Utc))
            .to_std()
            .ok()
    });
    wait.unwrap_or(DEFAULT_RETRY)
        .clamp(Duration::from_secs(1), MAX_RETRY)
}

async fn bounded_body(mut answer: Response) -> Result<Bytes, AuthError> {
    let mut body = BytesMut::new();
    loop {
        let piece = answer.chunk().await;
        match piece.map_err(|error| unreachable(&error.without_url()))? {
            None => return Ok(body.freeze()),
            Some(piece) if body.len() + piece.len() > MAX_ANSWER_BYTES => {
                return Err(unreachable(&"an answer of more than 1 MiB"));
            }
            Some(piece) => body.extend_from_slice(&piece),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_with_and_without_the_version() {
        for given in ["http://k/v3", "http://k/v3/", "http://k", "http://k/"] {
            let url = tokens_url(&given.parse().unwrap()).unwrap();
            assert_eq!(url.as_str(), "http://k/v3/auth/tokens?nocatalog", "{given}");
        }
        let url = tokens_url(&"https://k:5000/identity".parse().unwrap()).unwrap();
        assert_eq!(
            url.as_str(),
            "https://k:5000/identity/v3/auth/tokens?nocatalog"
        );
        assert!(tokens_url(&"mailto:k".parse().unwrap()).is_err());
        assert!(tokens_url(&"ftp://k/v3".parse().unwrap()).is_err());
    }

    #[test]
    fn when_to_come_back() {
        let wait = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            retry_after(&headers).as_secs()
        };
        assert_eq!(wait(&[]), 5);
        assert_eq!(wait(&[("retry-after", "7")]), 7);
        assert_eq!(wait(&[("retry-after", "0")]), 1);
        assert_eq!(wait(&[("retry-after", "86400")]), 300);
        assert_eq!(wait(&[("retry-after", "soon")]), 5);
        let dates = [
            ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        assert_eq!(wait(&dates), 10);
    }
}
