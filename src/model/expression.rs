//! Expressions in CEL: the operator's over the claims of a token, an account's over a manifest.
//!
//! The expression is checked when it is taken: its length, its depth, its names, its functions. The values that it is
//! evaluated with are a stranger's: whoever calls bounds them, and an expression cannot make much out of them, since it
//! loops at most twice over them and `replace`, `split`, `join` and `matches` take literals only. Nothing can stop an
//! evaluation, so a tenant, who is a stranger too, may not write what could take long or make something large. A newcomer
//! will want to print why an expression failed: the crate's errors hold values, so only their kind is told.

mod checks;

use std::{fmt, sync::Arc, thread};

use ::cel::{
    Context, Env, ExecutionError, Program, Value, extensions,
    objects::{Key, Map},
};
use serde_json::Value as Json;

/// The longest expression, in bytes.
const MAX_EXPRESSION_BYTES: usize = 4096;

/// Enough for [`MAX_EXPRESSION_BYTES`] of brackets in a debug build. Only what is used is ever taken.
const PARSER_STACK_BYTES: usize = 256 << 20;

/// Enough for the deepest expression that is taken, many times over.
const INTERPRETER_STACK_BYTES: usize = 16 << 20;

/// The longest list or text that an expression may give, in elements or bytes.
const MAX_RESULT: usize = 4096;

/// Who has written an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// Somebody who could stop the registry anyway.
    Operator,
    /// Somebody who must not be able to.
    Tenant,
}

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
    /// What is wrong with it, for its author. It does not panic, whatever the source.
    pub fn compile(
        source: &str,
        variables: &[&str],
        author: Author,
    ) -> Result<Self, ExpressionError> {
        if source.len() > MAX_EXPRESSION_BYTES {
            let text = format!("an expression has at most {MAX_EXPRESSION_BYTES} bytes");
            return Err(text.into());
        }
        // The parser calls itself for each level of the source, before anybody can count them.
        let (program, env) = on_stack(PARSER_STACK_BYTES, || parse(source, variables, author))
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

fn parse(
    source: &str,
    variables: &[&str],
    author: Author,
) -> Result<(Program, Arc<Env>), ExpressionError> {
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
    checks::check(program.expression(), variables, author).map_err(|(reason, id)| {
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
mod tests;
