//! What an expression may be: the walk over its tree, before it is ever evaluated.
//!
//! It must not call itself: how deep a tree is, is what it looks for. A newcomer will want to let one more function
//! through; ask first what it makes of the longest text, in the innermost loop.

use ::cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr, LiteralValue},
};

use super::Author;

/// How deep an expression may be nested. The interpreter takes more than 32 KiB of stack for each level.
pub(super) const MAX_DEPTH: usize = 64;

/// How many macros such as `map` an operator may put in one another.
const MAX_LOOPS: usize = 2;

/// How many a tenant may put beside one another.
pub(super) const MAX_TENANT_LOOPS: usize = 8;

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

/// What a tenant cannot call: it makes long lists and texts of short ones.
const NOT_FOR_TENANTS: [&str; 5] = ["join", "or", "orValue", "replace", "split"];

/// How many patterns the rule of a tenant may have.
const MAX_TENANT_MATCHES: usize = 8;

/// The operator for sums, and for putting texts and lists together.
const PLUS: &str = "_+_";

/// Parts of an expression that are still to be checked, each with its depth and the loops around it.
struct Parts<'a> {
    open: Vec<(&'a IdedExpr, usize, usize)>,
    /// Names that loops know.
    known: Vec<&'a str>,
    /// Names that are used, each with the part that does.
    named: Vec<(&'a str, u64)>,
    author: Author,
    /// How many loops there were.
    loops: usize,
    /// How many sums there may be yet: loops that gather something bring one each.
    sums: usize,
    /// How many calls of `matches` there may be yet: each compiles a pattern.
    matches: usize,
}

/// Without recursion, since it is depth that it looks for. Says what is wrong, and with which part.
pub(super) fn check(
    root: &IdedExpr,
    variables: &[&str],
    author: Author,
) -> Result<(), (String, u64)> {
    let mut parts = Parts {
        open: vec![(root, 1, 0)],
        known: Vec::new(),
        named: Vec::new(),
        author,
        loops: 0,
        sums: 0,
        matches: MAX_TENANT_MATCHES,
    };
    let max_loops = match author {
        Author::Operator => MAX_LOOPS,
        Author::Tenant => 1,
    };
    while let Some((expr, depth, loops)) = parts.open.pop() {
        if depth > MAX_DEPTH {
            let text = format!("it is nested deeper than {MAX_DEPTH} levels");
            return Err((text, expr.id));
        }
        let inner = parts.inner(expr, loops).map_err(|text| (text, expr.id))?;
        let most = max_loops - loops;
        if inner.iter().any(|(_, more)| *more > most) {
            let text = "map, filter, all, exists and exists_one cannot stand in one another";
            return Err((format!("{text} more than {max_loops} deep"), expr.id));
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
    fn inner(
        &mut self,
        expr: &'a IdedExpr,
        loops: usize,
    ) -> Result<Vec<(&'a IdedExpr, usize)>, String> {
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
                if self.author == Author::Tenant {
                    self.check_tenants_call(&call.func_name, loops)?;
                }
                let target = call.target.as_deref();
                target.into_iter().chain(&call.args).map(once).collect()
            }
            Expr::Comprehension(each) => {
                let gathers =
                    !matches!(each.accu_init.expr, Expr::Literal(LiteralValue::Boolean(_)));
                self.sums += usize::from(gathers);
                if self.author == Author::Tenant {
                    self.check_tenants_loop(&each.iter_range)?;
                }
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

impl Parts<'_> {
    fn check_tenants_call(&mut self, name: &str, loops: usize) -> Result<(), String> {
        if NOT_FOR_TENANTS.contains(&name) {
            return Err(format!("{name} cannot be called here"));
        }
        if name == "matches" && loops > 0 {
            let text = "matches cannot be called in a loop: use startsWith, endsWith or contains";
            return Err(text.to_owned());
        }
        if name == "matches" {
            let left = self.matches.checked_sub(1);
            let few = format!("it calls matches more than {MAX_TENANT_MATCHES} times");
            self.matches = left.ok_or(few)?;
        }
        if name == PLUS {
            let left = self.sums.checked_sub(1);
            self.sums = left.ok_or("nothing can be put together with + here")?;
        }
        Ok(())
    }

    /// What is looped over must be a value that was given, or what another loop has left of one.
    fn check_tenants_loop(&mut self, over: &IdedExpr) -> Result<(), String> {
        self.loops += 1;
        if self.loops > MAX_TENANT_LOOPS {
            return Err(format!("it has more than {MAX_TENANT_LOOPS} loops"));
        }
        match over.expr {
            Expr::Ident(_) | Expr::Select(_) | Expr::Comprehension(_) => Ok(()),
            _ => Err("a loop must go over a variable".to_owned()),
        }
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
