//! Policies in the form of oslo.policy: which roles may do what on accounts of which project.
//!
//! Pure but for reading the file. Everything that can be wrong with a policy is an error when it is read, with its
//! place: a rule that silently says no to everybody, or yes, is worse than a registry that does not start.
//!
//! What a newcomer gets wrong: the rules of a file replace the built-in ones, all of them. A right that the file does
//! not mention is given to nobody.

mod expr;
mod file;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use expr::Expr;
pub use expr::Question;
use file::Entry;

use crate::model::permission::Permission;

/// The largest file, in bytes.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// How many rules a file may have. Looking for cycles takes a stack of that depth.
const MAX_RULES: usize = 256;

/// The rule for rights that a file does not name, as in oslo.policy.
const DEFAULT: &str = "default";

/// The rule of each permission. The names are Keppel's.
const RULES: [(Permission, &str); 7] = [
    (Permission::View, "account:show"),
    (Permission::Pull, "account:pull"),
    (Permission::Push, "account:push"),
    (Permission::Delete, "account:delete"),
    (Permission::Change, "account:edit"),
    (Permission::QuotaView, "quota:show"),
    (Permission::QuotaChange, "quota:edit"),
];

/// A rule of Keppel's that is checked but not asked: what is listed is what may be seen.
const LIST: &str = "account:list";

/// The policy without a file. Roles imply one another in Keystone: admin, manager, member, reader.
const BUILT_IN: &str = r#"
cloud_admin: "role:cloud_registry_admin"
own_project: "project_id:%(target.project.id)s"
may_manage: "role:manager or role:admin"
may_write: "role:member or rule:may_manage"
may_read: "role:reader or rule:may_write"
account:list: "rule:account:show"
account:show: "rule:own_project and rule:may_read or rule:cloud_admin"
account:pull: "rule:own_project and rule:may_read or rule:cloud_admin"
account:push: "rule:own_project and rule:may_write or rule:cloud_admin"
account:delete: "rule:own_project and rule:may_write or rule:cloud_admin"
account:edit: "rule:own_project and rule:may_manage or rule:cloud_admin"
quota:show: "rule:own_project and rule:may_read or rule:cloud_admin"
quota:edit: "rule:cloud_admin"
"#;

/// A place in a file, both counted from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    place: Option<Place>,
    rule: Option<String>,
    reason: String,
}

/// A policy that cannot be used: the file, the place in it, and why.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the policy file {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// A policy that was checked.
pub struct Policy {
    rules: Vec<Expr<usize>>,
    /// For each of [`RULES`], the rules to compute, each after those that it names and itself last. Nothing to
    /// compute: nobody may.
    plans: [Vec<usize>; RULES.len()],
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("rules", &self.rules.len())
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// The policy that is used without a file.
    pub fn built_in() -> Result<Self, PolicyError> {
        Self::parse("the built-in policy", BUILT_IN)
    }

    /// Reads a file. Errors: it cannot be read, is larger than 256 KiB, or [`Policy::parse`] refuses it.
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let unreadable = |source| PolicyError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = fs::File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        let mut limited = file.take(MAX_FILE_BYTES as u64 + 1);
        limited.read_to_string(&mut text).map_err(unreadable)?;
        if text.len() > MAX_FILE_BYTES {
            let reason = format!("larger than {MAX_FILE_BYTES} bytes");
            return Err(unreadable(io::Error::other(reason)));
        }
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a policy in YAML or JSON; `name` stands in errors. Errors: a mistake in a rule, a rule that is named but
    /// missing, a cycle, an unknown `account:` or `quota:` rule, a right of accounts that no rule is about.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        Self::checked(text).map_err(|problem| {
            let place = problem.place.map_or_else(String::new, |place| {
                format!(":{}:{}", place.line, place.column)
            });
            let rule = problem
                .rule
                .map_or_else(String::new, |rule| format!(" rule {rule:?}:"));
            PolicyError::Invalid(format!("{name}{place}:{rule} {}", problem.reason))
        })
    }

    fn checked(text: &str) -> Result<Self, Problem> {
        let entries = file::entries(text)?;
        let numbers: HashMap<&str, usize> = entries
            .iter()
            .enumerate()
            .map(|(number, entry)| (entry.name.as_str(), number))
            .collect();
        let mut rules = Vec::with_capacity(entries.len());
        for entry in &entries {
            rules.push(rule(entry, &numbers).map_err(|reason| at(entry, reason))?);
        }
        // All of them, also those that no permission needs.
        let mut order = Order::new(&rules);
        for (number, entry) in entries.iter().enumerate() {
            order.visit(number).map_err(|cycle| {
                let names: Vec<&str> = cycle.iter().map(|n| entries[*n].name.as_str()).collect();
                at(entry, format!("it needs itself: {}", names.join(" -> ")))
            })?;
        }
        let mut plans: [Vec<usize>; RULES.len()] = Default::default();
        for (plan, (_, name)) in plans.iter_mut().zip(RULES) {
            match numbers.get(name).or_else(|| numbers.get(DEFAULT)) {
                Some(number) => *plan = needed(&rules, &order.sorted, *number),
                // Keppel's files have no rules about quotas; then nobody may.
                None if name.starts_with("quota:") => {}
                None => {
                    let reason = format!("there is neither a rule {name:?} nor {DEFAULT:?}");
                    return Err(Problem {
                        place: None,
                        rule: None,
                        reason,
                    });
                }
            }
        }
        Ok(Self { rules, plans })
    }

    /// Whether the policy allows it.
    pub fn allows(&self, permission: Permission, question: &Question<'_>) -> bool {
        let position = RULES.iter().position(|(of, _)| *of == permission);
        let Some(plan) = position.and_then(|position| self.plans.get(position)) else {
            return false;
        };
        let mut known = vec![false; self.rules.len()];
        for number in plan {
            known[*number] = self.rules[*number].holds(question, &known);
        }
        plan.last().is_some_and(|last| known[*last])
    }
}

fn at(entry: &Entry, reason: String) -> Problem {
    Problem {
        place: Some(entry.place),
        rule: Some(entry.name.clone()),
        reason,
    }
}

fn rule(entry: &Entry, numbers: &HashMap<&str, usize>) -> Result<Expr<usize>, String> {
    let is_ours = entry.name.starts_with("account:") || entry.name.starts_with("quota:");
    let is_known = entry.name == LIST || RULES.iter().any(|(_, name)| *name == entry.name);
    if is_ours && !is_known {
        let names: Vec<&str> = [LIST].into_iter().chain(RULES.map(|(_, n)| n)).collect();
        return Err(format!("unknown; there are {}", names.join(", ")));
    }
    expr::parse(&entry.text)?.renamed(&|name: String| {
        let number = numbers.get(name.as_str()).copied();
        number.ok_or_else(|| format!("there is no rule {name:?}"))
    })
}

/// Sorts the rules so that each comes after those that it names.
struct Order<'a> {
    rules: &'a [Expr<usize>],
    sorted: Vec<usize>,
    path: Vec<usize>,
}

impl<'a> Order<'a> {
    fn new(rules: &'a [Expr<usize>]) -> Self {
        Self {
            rules,
            sorted: Vec::new(),
            path: Vec::new(),
        }
    }

    /// As deep as there are rules at most. Errors: a cycle, from a rule to itself.
    fn visit(&mut self, number: usize) -> Result<(), Vec<usize>> {
        if self.sorted.contains(&number) {
            return Ok(());
        }
        let begin = self.path.iter().position(|on_path| *on_path == number);
        self.path.push(number);
        if let Some(begin) = begin {
            return Err(self.path.split_off(begin));
        }
        for next in self.rules[number].references() {
            self.visit(*next)?;
        }
        self.path.pop();
        self.sorted.push(number);
        Ok(())
    }
}

/// Of `sorted`, what `last` needs, and it itself.
fn needed(rules: &[Expr<usize>], sorted: &[usize], last: usize) -> Vec<usize> {
    let mut is_needed = vec![false; rules.len()];
    is_needed[last] = true;
    // Backwards: whoever names a rule comes after it.
    for number in sorted.iter().rev() {
        if is_needed[*number] {
            for named in rules[*number].references() {
                is_needed[*named] = true;
            }
        }
    }
    sorted
        .iter()
        .copied()
        .filter(|number| is_needed[*number])
        .collect()
}
