//! Expressions in CEL: the operator's over the claims of a token, an account's over a manifest.
//!
//! The expression is checked when it is taken: its length, its depth, its names, its functions. The values that it is
//! evaluated with are a stranger's: whoever calls bounds them, and an expression cannot make much out of them, since it
//! loops at most twice over them and `replace`, `split`, `join` and `matches` take literals only. A newcomer will want to
//! print why an expression failed: the crate's errors hold values, so only their kind is told.

use std::{fmt, sync::Arc, thread};

use ::cel::{
    Context, Env, ExecutionError, IdedExpr, Program, Value,
    common::ast::{EntryExpr, Expr, LiteralValue},
    extensions,
    objects::{Key, Map},
};
use serde_json::Value as Json;

/// The longest expression, in bytes.
const MAX_EXPRESSION_BYTES: usize = 4096;

/// How deep an expression may be nested. The interpreter takes more than 32 KiB of stack for each level.
const MAX_DEPTH: usize = 64;

/// Enough for [`MAX_EXPRESSION_BYTES`] of brackets in a debug build. Only what is used is ever taken.
const PARSER_STACK_BYTES: usize = 256 << 20;

/// Enough for [`MAX_DEPTH`] levels, many times over.
const INTERPRETER_STACK_BYTES: usize = 16 << 20;

/// How many macros such as `map` may stand in one another.
const MAX_LOOPS: usize = 2;

/// The longest list or text that an expression may give, in elements or bytes.
const MAX_RESULT: usize = 4096;

/// What an expression may call, besides operators.
const FUNCTIONS: [&str; 22] = [
    "bool",
    "charAt",
    "contains",
    "double",
    "endsWith",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "or",
    "orValue",
    "replace",
    "size",
    "split",
    "startsWith",
    "string",
    "substring",
    "trim",
    "type",
    "upperAscii",
];

/// Functions whose arguments must be literals: with a value in their place, the result could be as large as the product of
/// both, and a pattern would be a stranger's.
const LITERAL_ARGUMENTS: [&str; 4] = ["join", "matches", "replace", "split"];

/// Why an expression cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionError {
    reason: String,
    /// Line and column, from 1, if a place is to blame.
    place: Option<(usize, usize)>,
}

impl fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ExpressionError {}

impl From<String> for ExpressionError {
    fn from(reason: String) -> Self {
        Self {
            reason,
            place: None,
        }
    }
}

/// Why an expression has no result for some values. It holds none of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluationError(&'static str);

/// An expression that was checked.
pub struct Expression {
    program: Program,
    env: Arc<Env>,
}

impl Expression {
    /// Checks `source`, which may name `variables`.
    ///
    /// # Errors
    /// What is wrong with it, for the operator. It does not panic, whatever the source.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Self, ExpressionError> {
        if source.len() > MAX_EXPRESSION_BYTES {
            let text = format!("an expression has at most {MAX_EXPRESSION_BYTES} bytes");
            return Err(text.into());
        }
        // The parser calls itself for each level of the source, before anybody can count them.
        let (program, env) = on_stack(PARSER_STACK_BYTES, || parse(source, variables))
            .unwrap_or_else(|| Err("this is not an expression in CEL".to_owned().into()))?;
        Ok(Self { program, env })
    }

    /// The result for these values.
    ///
    /// # Errors
    /// The kind of the failure. It does not panic.
    pub fn evaluate(&self, variables: &[(&str, &Json)]) -> Result<Json, EvaluationError> {
        let run = || {
            let mut context = Context::with_env(Arc::clone(&self.env));
            for (name, value) in variables {
                context.add_variable_from_value(*name, from_json(value));
            }
            let result = self.program.execute(&context);
            to_json(&result.map_err(|error| kind(&error))?)
        };
        on_stack(INTERPRETER_STACK_BYTES, run)
            .unwrap_or(Err("the interpreter failed"))
            .map_err(EvaluationError)
    }
}

/// Runs `work` in a thread of its own with so much stack; `None` if it panics. The crate calls itself without a bound and
/// trusts its own trees; a stack that overflows would end the process. A thread costs some 20 microseconds.
fn on_stack<T: Send>(stack_bytes: usize, work: impl FnOnce() -> T + Send) -> Option<T> {
    thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(stack_bytes);
        builder.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").finish_non_exhaustive()
    }
}

fn parse(source: &str, variables: &[&str]) -> Result<(Program, Arc<Env>), ExpressionError> {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings)
        .map_err(|error| error.to_string())?;
    let program = env.compile(source).map_err(|errors| {
        let first = errors.errors.first();
        let place = first.and_then(|error| {
            let line = usize::try_from(error.pos.0).ok()?;
            let column = usize::try_from(error.pos.1).ok()?;
            (line > 0).then_some((line, column))
        });
        let reason = first.map_or_else(|| errors.to_string(), |error| error.msg.clone());
        ExpressionError { reason, place }
    })?;
    check(program.expression(), variables).map_err(|(reason, id)| {
        let offset = program.source_info().offset_for(id);
        let place = offset.and_then(|(start, _)| place_of(source, start as usize));
        ExpressionError { reason, place }
    })?;
    Ok((program, Arc::new(env)))
}

/// The line and the column, from 1, of a byte.
fn place_of(source: &str, offset: usize) -> Option<(usize, usize)> {
    let before = source.get(..offset)?;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[line_start..].chars().count() + 1;
    Some((before.matches('\n').count() + 1, column))
}

/// Parts of an expression that are still to be checked, each with its depth and the loops around it.
struct Parts<'a> {
    open: Vec<(&'a IdedExpr, usize, usize)>,
    /// Names that loops know.
    known: Vec<&'a str>,
    /// Names that are used, each with the part that does.
    named: Vec<(&'a str, u64)>,
}

/// Without recursion, since it is depth that it looks for. Says what is wrong, and with which part.
fn check(root: &IdedExpr, variables: &[&str]) -> Result<(), (String, u64)> {
    let mut parts = Parts {
        open: vec![(root, 1, 0)],
        known: Vec::new(),
        named: Vec::new(),
    };
    while let Some((expr, depth, loops)) = parts.open.pop() {
        if depth > MAX_DEPTH {
            let text = format!("it is nested deeper than {MAX_DEPTH} levels");
            return Err((text, expr.id));
        }
        let inner = parts.inner(expr).map_err(|text| (text, expr.id))?;
        let most = MAX_LOOPS - loops;
        if inner.iter().any(|(_, more)| *more > most) {
            let text = "map, filter, all, exists and exists_one cannot stand in one another";
            return Err((format!("{text} more than {MAX_LOOPS} deep"), expr.id));
        }
        let inner = inner.into_iter();
        parts
            .open
            .extend(inner.map(|(part, more)| (part, depth + 1, loops + more)));
    }
    let is_known = |name: &&str| variables.contains(name) || parts.known.contains(name);
    match parts.named.iter().find(|(name, _)| !is_known(name)) {
        None => Ok(()),
        Some((name, id)) => {
            let all = variables.join(", ");
            Err((format!("it names {name:?}, which is none of {all}"), *id))
        }
    }
}

impl<'a> Parts<'a> {
    /// The parts of `expr`, each with the number of loops that it is in besides those around `expr`.
    fn inner(&mut self, expr: &'a IdedExpr) -> Result<Vec<(&'a IdedExpr, usize)>, String> {
        let once = |part| (part, 0);
        Ok(match &expr.expr {
            Expr::Unspecified => return Err("this is not an expression in CEL".to_owned()),
            Expr::Struct(_) => return Err("messages are not known here, only maps".to_owned()),
            Expr::Literal(_) => Vec::new(),
            Expr::Ident(name) => {
                self.named.push((name, expr.id));
                Vec::new()
            }
            Expr::Select(select) => vec![(&*select.operand, 0)],
            Expr::List(list) => list.elements.iter().map(once).collect(),
            Expr::Map(map) => {
                let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(entry) => Some([(&entry.key, 0), (&entry.value, 0)]),
                    EntryExpr::StructField(_) => None,
                });
                entries.flatten().collect()
            }
            Expr::Call(call) => {
                check_call(&call.func_name, &call.args)?;
                let target = call.target.as_deref();
                target.into_iter().chain(&call.args).map(once).collect()
            }
            Expr::Comprehension(each) => {
                self.known.extend([&*each.iter_var, &*each.accu_var]);
                self.known.extend(each.iter_var2.as_deref());
                let (start, stop) = (&each.accu_init, &each.loop_cond);
                let (step, result) = (&each.loop_step, &each.result);
                vec![
                    (&each.iter_range, 0),
                    (start, 1),
                    (stop, 1),
                    (step, 1),
                    (result, 1),
                ]
            }
        })
    }
}

fn check_call(name: &str, arguments: &[IdedExpr]) -> Result<(), String> {
    let is_operator = name.starts_with(['_', '@', '!', '-']);
    if !is_operator && !FUNCTIONS.contains(&name) {
        let all = FUNCTIONS.join(", ");
        return Err(format!("it calls {name:?}, which is none of {all}"));
    }
    let is_literal = |argument: &IdedExpr| matches!(argument.expr, Expr::Literal(_));
    if LITERAL_ARGUMENTS.contains(&name) && !arguments.iter().all(is_literal) {
        return Err(format!("the arguments of {name} must be literals"));
    }
    if name == "matches"
        && let Some(Expr::Literal(LiteralValue::String(pattern))) =
            arguments.first().map(|argument| &argument.expr)
        && let Err(error) = regex::Regex::new(pattern.inner())
    {
        return Err(error.to_string());
    }
    Ok(())
}

/// Whole numbers stay whole; what does not fit becomes a floating-point number.
fn from_json(value: &Json) -> Value {
    match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_i64().map_or_else(
            || Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            Value::Int,
        ),
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(from_json).collect())),
        Json::Object(entries) => {
            let entries = entries.iter().map(|(name, value)| {
                let name = Key::String(Arc::new(name.clone()));
                (name, from_json(value))
            });
            Value::Map(Map {
                map: Arc::new(entries.collect()),
            })
        }
    }
}

fn to_json(value: &Value) -> Result<Json, &'static str> {
    const TOO_LARGE: &str = "the result is too large";
    Ok(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) if text.len() > MAX_RESULT => return Err(TOO_LARGE),
        Value::String(text) => Json::String(text.as_str().to_owned()),
        Value::List(items) if items.len() > MAX_RESULT => return Err(TOO_LARGE),
        Value::List(items) => Json::Array(
            items
                .iter()
                .map(to_json)
                .collect::<Result<_, &'static str>>()?,
        ),
        Value::Map(entries) => {
            let entries = entries.map.iter().map(|(name, value)| match name {
                Key::String(name) => Ok((name.as_str().to_owned(), to_json(value)?)),
                _ => Err("a key of a map in the result is no text"),
            });
            Json::Object(entries.collect::<Result<_, &'static str>>()?)
        }
        _ => return Err("the result is of a kind that has no use here"),
    })
}

/// The kind of a failure; the crate's own texts hold values.
fn kind(error: &ExecutionError) -> &'static str {
    match error {
        ExecutionError::NoSuchKey(_) => "a value that it needs is missing (test with has())",
        ExecutionError::NoSuchOverload(_)
        | ExecutionError::UnexpectedType { .. }
        | ExecutionError::UnsupportedTargetType { .. }
        | ExecutionError::UnsupportedBinaryOperator(..)
        | ExecutionError::ValuesNotComparable(..)
        | ExecutionError::UnsupportedIndex(..) => "a value is of another type than it needs",
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than it needs",
        _ => "it has no result",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn evaluated(source: &str, claims: &Json) -> Result<Json, String> {
        let compiled =
            Expression::compile(source, &["claims"]).map_err(|error| error.to_string())?;
        let result = compiled.evaluate(&[("claims", claims)]);
        result.map_err(|error| error.to_string())
    }

    #[test]
    fn expressions_give_what_they_say() {
        let claims = json!({
            "sub": "system:serviceaccount:shop:builder", "level": 3, "ratio": 0.5, "ok": true, "nothing": null,
            "groups": ["/team-a", "/team-b/admin", "other"], "nested": {"deep": ["x"]}, "big": u64::MAX,
        });
        for (source, expected) in [
            ("claims.sub", json!("system:serviceaccount:shop:builder")),
            ("claims.sub.split(':')[2]", json!("shop")),
            (
                "claims.sub.replace(':', '.')",
                json!("system.serviceaccount.shop.builder"),
            ),
            (
                "has(claims.missing) ? claims.missing : 'none'",
                json!("none"),
            ),
            (
                "claims.groups.filter(g, g.startsWith('/team-'))",
                json!(["/team-a", "/team-b/admin"]),
            ),
            (
                "claims.groups.filter(g, g.matches('^/team-[a-z]+$')).map(g, {'auth_tenant_id': g.substring(1), 'permissions': ['pull']})",
                json!([{"auth_tenant_id": "team-a", "permissions": ["pull"]}]),
            ),
            ("claims.level == 3 && claims.level > 2", json!(true)),
            ("claims['nested'].deep[0] + '!'", json!("x!")),
            ("'x' in claims.nested.deep", json!(true)),
            ("claims.ok ? claims.ratio : 1.0", json!(0.5)),
            ("claims.nothing", json!(null)),
            ("size(claims.groups)", json!(3)),
            (
                "claims.sub.upperAscii().lowerAscii() == claims.sub",
                json!(true),
            ),
            (
                "claims.groups.exists(a, claims.groups.exists(b, b == a))",
                json!(true),
            ),
        ] {
            assert_eq!(evaluated(source, &claims), Ok(expected), "{source}");
        }
    }

    #[test]
    fn failures_say_their_kind_and_no_value() {
        let claims = json!({"sub": "hunter2", "n": 1, "groups": ["hunter2"]});
        for source in [
            "claims.missing",
            "claims.sub + claims.n",
            "claims.sub[0]",
            "claims.groups[9]",
            "claims.n / 0",
            "claims.sub.map(x, x)",
            "claims.sub.substring(99)",
            "int(claims.sub)",
            "claims.sub ? 1 : 2",
            "claims.sub < claims.n",
            "{claims.groups: 1}",
            "{1: claims.sub}",
            "-claims.sub",
            "!claims.sub",
            "-9223372036854775807 - 2 - claims.n",
        ] {
            let failed = evaluated(source, &claims).unwrap_err();
            assert!(!failed.contains("hunter2"), "{source}: {failed}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_at_start() {
        let deep = |open: &str, middle: &str, close: &str, times: usize| {
            format!("{}{middle}{}", open.repeat(times), close.repeat(times))
        };
        for source in [
            String::new(),
            "claims.".to_owned(),
            "claims.sub ==".to_owned(),
            "'unfinished".to_owned(),
            "\"\\".to_owned(),
            "'\\x'".to_owned(),
            "'\\ud800'".to_owned(),
            "0xffffffffffffffffffff".to_owned(),
            "1e999999x".to_owned(),
            "\u{0}".to_owned(),
            "claims.😀".to_owned(),
            "`".to_owned(),
            "Message{a: 1}".to_owned(),
            "claim.sub".to_owned(),
            "user".to_owned(),
            "claims.sub.startWith('x')".to_owned(),
            "claims.sub.matches('(')".to_owned(),
            "claims.sub.matches(claims.sub)".to_owned(),
            "claims.sub.replace('a', claims.sub)".to_owned(),
            "claims.a.map(a, claims.a.map(b, claims.a.map(c, c)))".to_owned(),
            "a".repeat(MAX_EXPRESSION_BYTES + 1),
            deep("(", "1", ")", 2000),
            deep("[", "1", "]", 2000),
            deep("{1:", "1", "}", 1000),
            deep("-(", "1", ")", 1300),
            deep("true?", "1", ":1", 600),
            format!("1{}", "+1".repeat(2000)),
            format!("claims{}", ".a".repeat(2000)),
            format!("claims{}", "[0]".repeat(1300)),
            format!("claims{}", ".trim()".repeat(580)),
        ] {
            let compiled = Expression::compile(&source, &["claims"]);
            assert!(compiled.is_err(), "{source:.60}");
        }
    }

    #[test]
    fn what_is_wrong_is_found_at_its_place() {
        for (source, place) in [
            ("claims.sub ==", "line 1, column "),
            ("true &&\n  claim.sub", "line 2, column 3: "),
            ("claims.a == 'ä' &&\n\n foo(1)", "line 3, column "),
        ] {
            let refused = Expression::compile(source, &["claims"]).unwrap_err();
            assert!(
                refused.to_string().starts_with(place),
                "{source:?}: {refused}"
            );
        }
    }

    #[test]
    fn the_deepest_expression_has_a_result() {
        for (open, middle, close) in [
            ("-(", "1", ")"),
            ("[", "1", "]"),
            ("{'a':", "1", "}"),
            ("true ? (", "1", ") : 2"),
            ("string(", "'1'", ")"),
            ("", "claims.sub", ".trim()"),
            ("", "'a'", "+'a'"),
        ] {
            let nested = |times: usize| {
                let source = format!("{}{middle}{}", open.repeat(times), close.repeat(times));
                Expression::compile(&source, &["claims"]).ok()
            };
            let deepest = (1..MAX_DEPTH).rev().find_map(nested).unwrap();
            let result = deepest.evaluate(&[("claims", &json!({"sub": "x"}))]);
            assert!(result.is_ok(), "{open} {close}: {result:?}");
        }
    }

    #[test]
    fn no_text_of_the_operator_ends_the_process() {
        // Pieces of the language in any order: most are no expressions, none may panic or overflow the stack.
        const PIECES: [&str; 24] = [
            "claims", ".", "sub", "(", ")", "[", "]", "{", "}", "?", ":", "'x'", "1", "-", "!",
            "+", "in", ",", "has", "map", "&&", "r'", "b'\\xff'", ".?",
        ];
        let mut state: u64 = 7;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap()
        };
        for _ in 0..2000 {
            let length = next() % 12 + 1;
            let source: String = (0..length).map(|_| PIECES[next() % PIECES.len()]).collect();
            if let Ok(compiled) = Expression::compile(&source, &["claims"]) {
                drop(compiled.evaluate(&[("claims", &json!({"sub": "x"}))]));
            }
        }
    }

    #[test]
    fn two_loops_over_the_longest_lists_end_soon() {
        let items: Vec<_> = (0..512).map(|number| format!("g{number}")).collect();
        let claims = json!({"a": items});
        let source = "claims.a.all(x, claims.a.exists(y, y == x))";
        let began = std::time::Instant::now();
        assert_eq!(evaluated(source, &claims), Ok(json!(true)));
        assert!(began.elapsed() < std::time::Duration::from_secs(5));
    }
}
