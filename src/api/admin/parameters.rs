//! Query parameters and conditions of the management API.
//!
//! What is not known is refused: a `dry_run` that is misspelt must not change anything. What a newcomer gets wrong: the
//! lists of `/v2/` take any parameter, since clients of that API send what they like.

use std::collections::BTreeMap;

use actix_web::{
    HttpRequest,
    http::header::{self, HeaderName},
};
use chrono::{DateTime, Utc};

use crate::{
    api::extract::query,
    error::{Code, Error, Result},
    model::{
        listing::PageOrder,
        precondition::{ChangeTerms, Precondition},
    },
};

/// The query parameters of a request.
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads them; each may come once and must be one of `known`.
    pub fn read(request: &HttpRequest, known: &[&str]) -> Result<Self> {
        let mut found = BTreeMap::new();
        for (name, value) in query(request) {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(refused(
                    &name,
                    &format!("it is not known here; known: {known}"),
                ));
            }
            if found.insert(name.clone(), value).is_some() {
                return Err(refused(&name, "it comes twice"));
            }
        }
        Ok(Self(found))
    }

    /// Something that is true or false, and false if it is left out.
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.0.get(name).map(String::as_str) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(refused(name, "it must be true or false")),
        }
    }

    /// A time (RFC 3339).
    pub fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>> {
        let time = |text: &String| {
            let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
            time.map_err(|_| refused(name, "it must be a time such as 2026-01-31T12:00:00Z"))
        };
        self.0.get(name).map(time).transpose()
    }

    /// The part of a list: `limit` and `last`.
    pub fn page(&self) -> Result<PageOrder> {
        let limit = self.0.get("limit").map(|text| match text.parse::<u32>() {
            Ok(limit @ 1..) => Ok(u64::from(limit)),
            _ => Err(refused("limit", "it must be a number from 1")),
        });
        Ok(PageOrder {
            limit: limit.transpose()?,
            last: self.0.get("last").cloned(),
        })
    }
}

fn refused(name: &str, reason: &str) -> Error {
    // The name is the client's own and may be long.
    let name: String = name.chars().take(64).collect();
    Error::with_message(
        Code::InvalidField,
        format!("query parameter {name}: {reason}"),
    )
}

/// What a `PUT` asks besides its document: `dry_run` and its conditions.
pub fn change_terms(request: &HttpRequest) -> Result<ChangeTerms> {
    Ok(ChangeTerms {
        is_dry_run: Parameters::read(request, &["dry_run"])?.flag("dry_run")?,
        condition: precondition(request)?,
    })
}

/// What `If-Match` and `If-None-Match` ask for.
pub fn precondition(request: &HttpRequest) -> Result<Precondition> {
    let if_match = header_list(request, header::IF_MATCH);
    let if_none_match = header_list(request, header::IF_NONE_MATCH);
    Precondition::parse(if_match.as_deref(), if_none_match.as_deref())
}

/// All values of a header in one line; one that is not text matches nothing.
fn header_list(request: &HttpRequest, name: HeaderName) -> Option<String> {
    let values = request.headers().get_all(name);
    let texts: Vec<&str> = values
        .map(|value| value.to_str().unwrap_or_default())
        .collect();
    (!texts.is_empty()).then(|| texts.join(","))
}
