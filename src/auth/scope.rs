//! Scopes of tokens, as Docker's token protocol writes them: `repository:account/name:pull,push`.
//!
//! Source: the distribution project's "Docker Registry Token Authentication: Token Scope
//! Documentation". A client asks for scopes and gets the part that it may have, so nothing in here
//! is an authorization, and a scope that cannot be read is skipped: it grants nothing.
//!
//! What a newcomer gets wrong: the name of a repository may hold a host with a port, and so a
//! colon. The actions are found from the right.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::oci::text::serde_as_text;

/// The most different resources that one request can ask for. A client asks for one, or for a few
/// when it mounts blobs.
pub const MAX_SCOPES: usize = 64;

/// The text is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error("a scope has the form <type>:<name>:<action>,<action>")]
pub struct ScopeError;

/// What kind of thing a scope is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// `repository`, also with a class: `repository(plugin)`.
    Repository,
    /// `registry`: the registry itself, of which only the catalog can be asked for.
    Registry,
    /// Any other type. It grants nothing.
    Other(String),
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repository => "repository",
            Self::Registry => "registry",
            Self::Other(name) => name,
        })
    }
}

impl FromStr for ResourceType {
    type Err = ScopeError;

    /// `resourcetype := resourcetypevalue [ '(' resourcetypevalue ')' ]`; the class in parentheses
    /// is deprecated and does not count.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_value = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
        };
        let value = match text.split_once('(') {
            Some((value, class)) if class.strip_suffix(')').is_some_and(is_value) => value,
            Some(_) => return Err(ScopeError),
            None => text,
        };
        match value {
            "repository" => Ok(Self::Repository),
            "registry" => Ok(Self::Registry),
            other if is_value(other) => Ok(Self::Other(other.to_owned())),
            _ => Err(ScopeError),
        }
    }
}

/// What may be done with the resource. The order is the one in which actions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Read from a repository.
    Pull,
    /// Write to a repository.
    Push,
    /// Delete from a repository.
    Delete,
    /// `*` on `registry:catalog`: list all repositories.
    Catalog,
}

impl Action {
    /// All that can be done with a repository, and what `*` means there.
    pub const OF_REPOSITORY: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// The action as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
            Self::Catalog => "*",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pull" => Ok(Self::Pull),
            "push" => Ok(Self::Push),
            "delete" => Ok(Self::Delete),
            "*" => Ok(Self::Catalog),
            _ => Err(ScopeError),
        }
    }
}

serde_as_text!(ResourceType);
serde_as_text!(Action);

/// One resource and what is asked for, or granted, on it. In JSON it has the shape of an entry of
/// the `access` claim of Docker's tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The kind of resource.
    #[serde(rename = "type")]
    pub resource: ResourceType,
    /// The name of the resource, as it came. It need not be the name of a repository that can
    /// exist.
    pub name: String,
    /// What may be done. It may be empty: then the scope grants nothing.
    pub actions: BTreeSet<Action>,
}

impl Scope {
    /// A scope on a repository, by its full name.
    pub fn repository(name: impl Into<String>, actions: impl IntoIterator<Item = Action>) -> Self {
        let actions = actions.into_iter().collect();
        Self {
            resource: ResourceType::Repository,
            name: name.into(),
            actions,
        }
    }

    /// The scope of listing all repositories, `registry:catalog:*`.
    pub fn catalog() -> Self {
        let actions = BTreeSet::from([Action::Catalog]);
        Self {
            resource: ResourceType::Registry,
            name: "catalog".to_owned(),
            actions,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.resource, self.name)?;
        for (index, action) in self.actions.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{action}")?;
        }
        Ok(())
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    /// Actions that do not exist, or not on this type, are left out: they grant nothing.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (resource, actions) = text.rsplit_once(':').ok_or(ScopeError)?;
        let (resource, name) = resource.split_once(':').ok_or(ScopeError)?;
        let resource: ResourceType = resource.parse()?;
        if name.is_empty() || !name.bytes().all(is_name_byte) {
            return Err(ScopeError);
        }
        let asked = actions.split(',').filter_map(|action| action.parse().ok());
        let actions = match resource {
            ResourceType::Repository => asked.flat_map(on_repository).copied().collect(),
            ResourceType::Registry => asked.filter(|action| *action == Action::Catalog).collect(),
            ResourceType::Other(_) => asked.collect(),
        };
        Ok(Self {
            resource,
            name: name.to_owned(),
            actions,
        })
    }
}

/// `resourcename` of the grammar, with a port, and with `*` for all repositories of an account. A name that passes can be quoted in a challenge as
/// it is.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':' | b'*')
}

fn on_repository(action: Action) -> &'static [Action] {
    match action {
        Action::Pull => &[Action::Pull],
        Action::Push => &[Action::Push],
        Action::Delete => &[Action::Delete],
        Action::Catalog => &Action::OF_REPOSITORY,
    }
}

/// Reads the values of all `scope` parameters of a token request, in the order of first mention.
///
/// One value may hold several scopes, separated by a space (OAuth 2.0, RFC 6749, section 3.3) or by
/// `+`, which is a space that was decoded by nobody. Scopes on one resource are merged: some
/// clients (Helm) send `...:pull` and `...:pull,push` for the same repository and then use only one
/// token. What cannot be read is skipped, and so is everything beyond [`MAX_SCOPES`] resources.
pub fn parse_scopes<'a>(params: impl Iterator<Item = &'a str>) -> Vec<Scope> {
    let mut scopes: Vec<Scope> = Vec::new();
    let texts = params.flat_map(|param| param.split([' ', '+']));
    for scope in texts.filter_map(|text| text.parse::<Scope>().ok()) {
        let is_same =
            |known: &&mut Scope| known.resource == scope.resource && known.name == scope.name;
        if let Some(known) = scopes.iter_mut().find(is_same) {
            known.actions.extend(scope.actions);
        } else if scopes.len() < MAX_SCOPES {
            scopes.push(scope);
        }
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(params: &[&str]) -> Vec<String> {
        parse_scopes(params.iter().copied())
            .iter()
            .map(Scope::to_string)
            .collect()
    }

    #[test]
    fn single_scopes_and_how_they_are_written_back() {
        let table = [
            ("repository:a/b:pull", "repository:a/b:pull"),
            ("repository:a/b:push,pull", "repository:a/b:pull,push"),
            (
                "repository:a/b:delete,push,pull,pull",
                "repository:a/b:pull,push,delete",
            ),
            ("repository:a/b:*", "repository:a/b:pull,push,delete"),
            ("repository:a/b:pull,*", "repository:a/b:pull,push,delete"),
            ("repository:a/b:", "repository:a/b:"),
            ("repository:a/b:pull,frobnicate", "repository:a/b:pull"),
            ("repository:a/b:PULL", "repository:a/b:"),
            (
                "repository:host:5000/a/b:pull",
                "repository:host:5000/a/b:pull",
            ),
            (
                "repository:host:5000/a/b:pull,push",
                "repository:host:5000/a/b:pull,push",
            ),
            ("repository(plugin):a/b:pull", "repository:a/b:pull"),
            ("repository:A/../b:pull", "repository:A/../b:pull"),
            ("registry:catalog:*", "registry:catalog:*"),
            ("registry:catalog:pull,*", "registry:catalog:*"),
            ("registry:catalog:pull", "registry:catalog:"),
            ("frob:x:pull,*", "frob:x:pull,*"),
            ("frob(class):x:delete", "frob:x:delete"),
        ];
        for (text, expected) in table {
            let scope: Scope = text.parse().unwrap();
            assert_eq!(scope.to_string(), expected, "{text:?}");
            assert_eq!(expected.parse(), Ok(scope));
        }
    }

    #[test]
    fn what_is_not_a_scope() {
        let bad = [
            "",
            ":",
            "::",
            "repository",
            "repository:",
            "repository:a/b",
            "repository::pull",
            ":a/b:pull",
            "Repository:a/b:pull",
            "repository():a/b:pull",
            "repository(:a/b:pull",
            "repository(x:a/b:pull",
            "repository(x)y:a/b:pull",
            "repository(x)(y):a:pull",
            "(x):a:pull",
            "re po:a/b:pull",
            "repository:a b:pull",
            "repository:a\"b:pull",
            "repository:a\\b:pull",
            "repository:a\nb:pull",
            "repository:\u{e4}:pull",
            "repository:a,b:pull",
        ];
        for text in bad {
            assert_eq!(text.parse::<Scope>(), Err(ScopeError), "{text:?}");
        }
    }

    #[test]
    fn several_parameters_and_several_scopes_in_one() {
        let table: [(&[&str], &[&str]); 8] = [
            (&[], &[]),
            (&["", " ", "+", "nonsense"], &[]),
            (
                &["repository:a/b:pull", "repository:a/c:pull"],
                &["repository:a/b:pull", "repository:a/c:pull"],
            ),
            (
                &["repository:a/b:pull repository:a/c:push"],
                &["repository:a/b:pull", "repository:a/c:push"],
            ),
            (
                &["repository:a/b:pull+repository:a/c:push"],
                &["repository:a/b:pull", "repository:a/c:push"],
            ),
            (
                &[
                    "repository:a/b:pull",
                    "x repository:a/c:pull",
                    "repository:a/b:push,pull",
                ],
                &["repository:a/b:pull,push", "repository:a/c:pull"],
            ),
            (
                &["repository(plugin):a/b:pull repository:a/b:push"],
                &["repository:a/b:pull,push"],
            ),
            (
                &["registry:catalog:* registry:catalog:*"],
                &["registry:catalog:*"],
            ),
        ];
        for (params, expected) in table {
            assert_eq!(parsed(params), expected, "{params:?}");
        }
    }

    #[test]
    fn a_type_does_not_merge_into_another() {
        assert_eq!(parsed(&["frob:a:pull", "repository:a:pull"]).len(), 2);
    }

    #[test]
    fn the_count_is_bounded_but_known_resources_still_merge() {
        let many: Vec<String> = (0..1000)
            .map(|n| format!("repository:a/{n}:pull"))
            .collect();
        let mut params: Vec<&str> = many.iter().map(String::as_str).collect();
        params.push("repository:a/0:push");
        let scopes = parsed(&params);
        assert_eq!(scopes.len(), MAX_SCOPES);
        assert_eq!(scopes[0], "repository:a/0:pull,push");
    }

    #[test]
    fn in_json_it_is_an_access_entry() {
        let json = r#"{"type":"repository","name":"a/b","actions":["pull","push"]}"#;
        let scope = Scope::repository("a/b", [Action::Push, Action::Pull]);
        assert_eq!(serde_json::to_string(&scope).unwrap(), json);
        assert_eq!(serde_json::from_str::<Scope>(json).unwrap(), scope);
        assert_eq!(Scope::catalog().to_string(), "registry:catalog:*");
    }
}
