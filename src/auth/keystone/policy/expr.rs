//! One rule of a policy: its text becomes an expression, and the expression a yes or no. Pure.
//!
//! The grammar is oslo.policy's (`oslo_policy/_parser.py`): words apart by white space, parentheses at their ends,
//! `not` before `and` before `or`. Where oslo.policy logs a mistake and says no, this is an error at start.
//!
//! What a newcomer gets wrong: an expression never follows a `rule:` by itself. The rules it needs are computed before
//! it (`mod.rs`), so a long chain of rules costs neither stack nor exponential time.

use std::collections::BTreeMap;

/// The longest text of a rule, in bytes.
const MAX_RULE_BYTES: usize = 8 * 1024;

/// How deep parentheses may be nested: the stack of parsing and evaluation is bounded by it.
const MAX_DEPTH: usize = 40;

/// The one thing that is known of what is asked for: the project that owns the account.
const TARGET_PROJECT: &str = "target.project.id";

/// What may stand to the left of a colon, and the attribute of the token that it means. The attributes that are always
/// missing make sense only to rules that were written for several services: such a check is never true.
const ATTRIBUTES: [(&str, &str); 18] = [
    ("user_id", "user_id"),
    ("user_name", "user_name"),
    ("user_domain_id", "user_domain_id"),
    ("user_domain_name", "user_domain_name"),
    ("project_id", "project_id"),
    ("project_name", "project_name"),
    ("project_domain_id", "project_domain_id"),
    ("project_domain_name", "project_domain_name"),
    ("tenant_id", "project_id"),
    ("tenant_name", "project_name"),
    ("tenant_domain_id", "project_domain_id"),
    ("tenant_domain_name", "project_domain_name"),
    ("is_admin_project", "is_admin_project"),
    ("application_credential_id", "application_credential_id"),
    ("is_admin", "is_admin"),
    ("domain_id", "domain_id"),
    ("domain_name", "domain_name"),
    ("system_scope", "system_scope"),
];

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The names of the roles on the project of the token.
    pub roles: &'a [String],
    /// `user_id`, `project_id` and the like.
    pub attributes: &'a BTreeMap<String, String>,
    /// The id of the project that owns what is asked for.
    pub target_project: &'a str,
}

/// A rule. `R` is how another rule is named: by its name at first, by its number once all rules are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr<R> {
    Always,
    Never,
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
    Rule(R),
    Role(Template),
    Attribute(&'static str, Template),
    Literal(String, Template),
}

/// The right side of a check: text with places for the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    TargetProject,
}

impl Template {
    /// Python's `text % target`, as far as policies use it.
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            pieces.push(Piece::Text(plain(before)?));
            if let Some(after) = after.strip_prefix('%') {
                pieces.push(Piece::Text("%".to_owned()));
                rest = after;
                continue;
            }
            let place = after
                .strip_prefix('(')
                .and_then(|after| after.split_once(")s"));
            let Some((name, after)) = place else {
                return Err(format!("{text:?}: a % must begin %(name)s, or be doubled"));
            };
            if name != TARGET_PROJECT {
                return Err(format!(
                    "unknown target attribute %({name})s; there is %({TARGET_PROJECT})s"
                ));
            }
            pieces.push(Piece::TargetProject);
            rest = after;
        }
        pieces.push(Piece::Text(plain(rest)?));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        if pieces.is_empty() {
            return Err("nothing stands after the colon".to_owned());
        }
        Ok(Self(pieces))
    }

    fn fill(&self, target_project: &str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::TargetProject => target_project,
        });
        pieces.collect()
    }
}

/// A parenthesis inside a word is nearly always a forgotten space, as in `role:a)or`.
fn plain(text: &str) -> Result<String, String> {
    if text.contains(['(', ')']) {
        return Err(format!("{text:?}: a parenthesis inside a word"));
    }
    Ok(text.to_owned())
}

impl<R> Expr<R> {
    /// The rules that this one names.
    pub(super) fn references(&self) -> Vec<&R> {
        match self {
            Self::Not(inner) => inner.references(),
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().flat_map(Self::references).collect()
            }
            Self::Rule(name) => vec![name],
            _ => Vec::new(),
        }
    }

    /// The same with other names for rules. Errors: those of `number`.
    pub(super) fn renamed<S, E>(self, number: &impl Fn(R) -> Result<S, E>) -> Result<Expr<S>, E> {
        let all = |parts: Vec<Self>| -> Result<Vec<_>, E> {
            parts.into_iter().map(|part| part.renamed(number)).collect()
        };
        Ok(match self {
            Self::Always => Expr::Always,
            Self::Never => Expr::Never,
            Self::Not(inner) => Expr::Not(Box::new(inner.renamed(number)?)),
            Self::All(parts) => Expr::All(all(parts)?),
            Self::Any(parts) => Expr::Any(all(parts)?),
            Self::Rule(name) => Expr::Rule(number(name)?),
            Self::Role(template) => Expr::Role(template),
            Self::Attribute(name, template) => Expr::Attribute(name, template),
            Self::Literal(text, template) => Expr::Literal(text, template),
        })
    }
}

impl Expr<usize> {
    /// The answer, given those of the rules that this one names.
    pub(super) fn holds(&self, question: &Question<'_>, rules: &[bool]) -> bool {
        let filled = |template: &Template| template.fill(question.target_project);
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Not(inner) => !inner.holds(question, rules),
            Self::All(parts) => parts.iter().all(|part| part.holds(question, rules)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(question, rules)),
            Self::Rule(number) => rules.get(*number).copied().unwrap_or(false),
            Self::Role(template) => {
                let wanted = filled(template).to_lowercase();
                let mut roles = question.roles.iter();
                roles.any(|role| role.to_lowercase() == wanted)
            }
            Self::Attribute(name, template) => question
                .attributes
                .get(*name)
                .is_some_and(|value| *value == filled(template)),
            Self::Literal(text, template) => *text == filled(template),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Open,
    Close,
    And,
    Or,
    Not,
    Check(&'a str),
}

/// Reads the text of a rule. Errors say what is wrong and at which character, counted from one.
pub(super) fn parse(text: &str) -> Result<Expr<String>, String> {
    if text.is_empty() {
        return Ok(Expr::Always);
    }
    if text.len() > MAX_RULE_BYTES {
        return Err(format!("longer than {MAX_RULE_BYTES} bytes"));
    }
    let mut parser = Parser {
        tokens: tokens(text),
        next: 0,
    };
    let expr = parser.any(0)?;
    match parser.peek() {
        None => Ok(expr),
        Some(Token::Close) => Err(parser.fault("a ) without its (")),
        Some(_) => Err(parser.fault("\"and\" or \"or\" is missing")),
    }
}

/// Words with their places. Parentheses belong to the ends of a word only: `%(name)s` has them inside.
fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut found = Vec::new();
    let mut at = 1;
    for word in text.split(char::is_whitespace) {
        let opened = word.trim_start_matches('(');
        let open = word.len() - opened.len();
        found.extend((0..open).map(|n| (at + n, Token::Open)));
        let inner = opened.trim_end_matches(')');
        let token = match inner.to_ascii_lowercase().as_str() {
            "" => None,
            "and" => Some(Token::And),
            "or" => Some(Token::Or),
            "not" => Some(Token::Not),
            _ => Some(Token::Check(inner)),
        };
        found.extend(token.map(|token| (at + open, token)));
        let end = at + open + inner.chars().count();
        found.extend((0..opened.len() - inner.len()).map(|n| (end + n, Token::Close)));
        at += word.chars().count() + 1;
    }
    found
}

struct Parser<'a> {
    tokens: Vec<(usize, Token<'a>)>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(_, token)| *token)
    }

    fn take(&mut self, wanted: Token<'_>) -> bool {
        let is_there = self.peek() == Some(wanted);
        self.next += usize::from(is_there);
        is_there
    }

    fn fault(&self, why: &str) -> String {
        match self.tokens.get(self.next) {
            Some((at, _)) => format!("{why}, at character {at}"),
            None => format!("{why}, at the end"),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Expr<String>, String> {
        let mut parts = vec![self.all(depth)?];
        while self.take(Token::Or) {
            parts.push(self.all(depth)?);
        }
        Ok(one_or(parts, Expr::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Expr<String>, String> {
        let mut parts = vec![self.one(depth)?];
        while self.take(Token::And) {
            parts.push(self.one(depth)?);
        }
        Ok(one_or(parts, Expr::All))
    }

    fn one(&mut self, depth: usize) -> Result<Expr<String>, String> {
        let mut is_negated = false;
        while self.take(Token::Not) {
            is_negated = !is_negated;
        }
        let inner = match self.peek() {
            Some(Token::Open) if depth == MAX_DEPTH => {
                return Err(self.fault(&format!("more than {MAX_DEPTH} parentheses in another")));
            }
            Some(Token::Open) => {
                self.next += 1;
                let inner = self.any(depth + 1)?;
                match self.peek() {
                    Some(Token::Close) => self.next += 1,
                    None => return Err(self.fault("a ) is missing")),
                    Some(_) => return Err(self.fault("\"and\", \"or\" or ) is missing")),
                }
                inner
            }
            Some(Token::Check(word)) => {
                let expr = check(word).map_err(|why| self.fault(&why))?;
                self.next += 1;
                expr
            }
            _ => return Err(self.fault("a check is missing")),
        };
        Ok(match is_negated {
            true => Expr::Not(Box::new(inner)),
            false => inner,
        })
    }
}

fn one_or(
    mut parts: Vec<Expr<String>>,
    many: fn(Vec<Expr<String>>) -> Expr<String>,
) -> Expr<String> {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}

/// A word with a colon, `@` or `!`.
fn check(word: &str) -> Result<Expr<String>, String> {
    match word {
        "@" => return Ok(Expr::Always),
        "!" => return Ok(Expr::Never),
        _ => {}
    }
    let Some((kind, right)) = word.split_once(':') else {
        return Err(format!("{word:?} is not a check, which has a colon"));
    };
    match kind {
        "rule" if right.is_empty() => Err("rule: names no rule".to_owned()),
        "rule" => Ok(Expr::Rule(plain(right)?)),
        "role" => Ok(Expr::Role(Template::parse(right)?)),
        "http" | "https" => Err(format!(
            "{kind}: checks ask another server; they are not supported"
        )),
        _ => {
            let template = Template::parse(right)?;
            if let Some(text) = literal(kind) {
                return Ok(Expr::Literal(text, template));
            }
            let mut known = ATTRIBUTES.iter();
            match known.find(|(name, _)| *name == kind) {
                Some((_, attribute)) => Ok(Expr::Attribute(attribute, template)),
                None => Err(format!("unknown attribute {kind:?} before the colon")),
            }
        }
    }
}

/// What Python's `str(literal_eval(kind))` gives for the literals that make sense here.
fn literal(kind: &str) -> Option<String> {
    for quote in ['\'', '"'] {
        let inner = kind
            .strip_prefix(quote)
            .and_then(|kind| kind.strip_suffix(quote));
        if let Some(inner) = inner {
            let is_plain = !inner.contains([quote, '\\', '(', ')']);
            return is_plain.then(|| inner.to_owned());
        }
    }
    let is_number = kind == "0"
        || (!kind.starts_with('0')
            && !kind.is_empty()
            && kind.bytes().all(|byte| byte.is_ascii_digit()));
    (is_number || ["True", "False", "None"].contains(&kind)).then(|| kind.to_owned())
}
