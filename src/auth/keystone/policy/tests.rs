//! The policy against tables, against a second evaluator that knows nothing of its text, and against oslo.policy's own
//! way of parsing.

use super::*;

const RIGHTS: &str =
    "account:show: '!'\naccount:pull: '!'\naccount:push: '!'\naccount:delete: '!'\n";

fn attributes(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// Ann of project p1, with the roles `Member` and `reader`.
fn ann_may(policy: &Policy, permission: Permission, target_project: &str) -> bool {
    let roles = ["Member".to_owned(), "reader".to_owned()];
    let attributes = attributes(&[
        ("user_id", "u1"),
        ("user_name", "ann"),
        ("user_domain_name", "d"),
        ("project_id", "p1"),
        ("project_name", "one"),
        ("project_domain_id", "d1"),
        ("is_admin_project", "False"),
    ]);
    let question = Question {
        roles: &roles,
        attributes: &attributes,
        target_project,
    };
    policy.allows(permission, &question)
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Whether Ann may, by a policy whose `account:edit` is `rule`.
fn holds(rule: &str, target_project: &str) -> bool {
    let text = format!("{RIGHTS}yes: '@'\nno: '!'\naccount:edit: {}", quoted(rule));
    let policy = Policy::parse("p", &text).unwrap_or_else(|error| panic!("{rule}: {error}"));
    ann_may(&policy, Permission::Change, target_project)
}

#[test]
fn rules() {
    for (rule, expected) in [
        ("", true),
        ("@", true),
        ("!", false),
        ("role:member", true),
        ("role:MEMBER", true),
        ("role:admin", false),
        ("not role:admin", true),
        ("NOT role:admin AND role:reader", true),
        ("not not role:admin", false),
        ("not (role:admin or role:member)", false),
        ("not role:admin or role:member", true),
        ("rule:yes", true),
        ("rule:no", false),
        ("rule:no or rule:yes and rule:no", false),
        ("rule:yes or rule:yes and rule:no", true),
        ("(rule:yes or rule:yes) and rule:no", false),
        ("((rule:yes))", true),
        ("( rule:yes )\n\tand\r\n (rule:yes)", true),
        ("project_id:%(target.project.id)s", true),
        ("tenant_id:%(target.project.id)s", true),
        ("user_id:%(target.project.id)s", false),
        ("project_id:p1", true),
        ("project_id:P1", false),
        ("project_name:one and user_name:ann", true),
        ("project_id:p%(target.project.id)s", false),
        ("user_name:%%", false),
        ("'p1':%(target.project.id)s", true),
        ("\"p1\":%(target.project.id)s", true),
        ("'p2':%(target.project.id)s", false),
        ("'xp1y':x%(target.project.id)sy", true),
        ("'%':%%", true),
        ("True:True", true),
        ("0:0", true),
        ("None:x", false),
        ("is_admin:True", false),
        ("not is_admin:True", true),
        ("is_admin_project:True", false),
        ("is_admin_project:False", true),
        ("system_scope:all", false),
        ("domain_id:d1", false),
        ("application_credential_id:x", false),
        ("role:mem%(target.project.id)s", false),
        ("user_name:a:b", false),
    ] {
        assert_eq!(holds(rule, "p1"), expected, "{rule:?}");
    }
    assert!(!holds("project_id:%(target.project.id)s", "p2"));
    assert!(!holds("project_id:%(target.project.id)s", ""));
}

#[test]
fn mistakes_in_rules_are_named_with_their_place() {
    let many_open = format!("{}role:a{}", "(".repeat(41), ")".repeat(41));
    let long = "role:a or ".repeat(1000);
    for (rule, expected) in [
        ("role:a and", "a check is missing, at the end"),
        ("and role:a", "a check is missing, at character 1"),
        ("role:a or or role:b", "a check is missing, at character 11"),
        (
            "role:a role:b",
            "\"and\" or \"or\" is missing, at character 8",
        ),
        ("role:a not role:b", "is missing, at character 8"),
        ("(role:a", "a ) is missing, at the end"),
        ("(role:a role:b)", "is missing, at character 9"),
        ("role:a)", "a ) without its (, at character 7"),
        ("()", "a check is missing, at character 2"),
        ("not", "a check is missing, at the end"),
        (" ", "a check is missing"),
        ("admin", "\"admin\" is not a check"),
        ("'admin'", "is not a check"),
        ("role:", "nothing stands after the colon"),
        ("rule:", "names no rule"),
        ("rule:nowhere", "there is no rule \"nowhere\""),
        ("role:a)or", "a parenthesis inside a word, at character 1"),
        ("not(role:a)", "unknown attribute \"not(role\""),
        ("http://x/%(a)s", "http: checks"),
        (
            "role:a or https://x",
            "https: checks ask another server; they are not supported, at character 11",
        ),
        ("projct_id:x", "unknown attribute \"projct_id\""),
        ("roles:admin", "unknown attribute \"roles\""),
        (":x", "unknown attribute \"\""),
        ("01:x", "unknown attribute \"01\""),
        ("'a\\'b':x", "unknown attribute"),
        (
            "project_id:%(project_id)s",
            "unknown target attribute %(project_id)s",
        ),
        (
            "project_id:%(target.project.id)d",
            "a % must begin %(name)s",
        ),
        ("project_id:50%", "a % must begin"),
        (
            "\u{e4}:x or",
            "unknown attribute \"\u{e4}\" before the colon, at character 1",
        ),
        (&many_open, "more than 40 parentheses"),
        (&long, "longer than"),
    ] {
        let text = format!("# comment\n{RIGHTS}account:edit: {}", quoted(rule));
        let error = Policy::parse("p.yaml", &text).unwrap_err().to_string();
        let start = "p.yaml:6:15: rule \"account:edit\": ";
        assert!(
            error.starts_with(start) && error.contains(expected),
            "{rule:?}: {error}"
        );
    }
}

#[test]
fn mistakes_in_files_are_named_with_their_place() {
    for (text, expected) in [
        ("", "no rules"),
        ("# nothing\n", "no rules"),
        ("[]", "p:1:1: the file must be a mapping"),
        ("role:a", "p:1:1: the file must be a mapping"),
        ("a: '@'\na: '!'", "p:2:1: the rule \"a\" stands twice"),
        ("a:\nb: '@'", "rule \"a\": there is no text"),
        ("a: !\nb: '@'", "put ! into quotes"),
        ("a: !!str x", "put ! into quotes"),
        ("a: [[\"role:x\"]]", "p:1:4: rule \"a\": lists of lists"),
        ("a: {b: c}", "p:1:4: rule \"a\": the text must be a string"),
        ("a: &x '@'\nb: *x", "p:2:4: rule \"b\": aliases"),
        ("? [a]\n: b", "the name of a rule"),
        ("\"a b\": '@'", "cannot be the name"),
        ("a: \"role:x", "not valid YAML"),
        ("a: @", "not valid YAML"),
        ("{\"a\": \"@\"", "not valid YAML"),
        ("a: '@'\n---\nb: '@'", "a second document"),
        ("a: '@'", "neither a rule \"account:show\" nor \"default\""),
        (
            "default: '!'\n\naccount:pul: '@'",
            "p:3:14: rule \"account:pul\": unknown; there are account:list,",
        ),
        (
            "default: '!'\nquota:list: '@'",
            "p:2:13: rule \"quota:list\": unknown",
        ),
        (
            "default: 'rule:a'\na: 'rule:b'\nb: 'not (rule:c)'\nc: 'role:x or rule:a'",
            "it needs itself: a -> b -> c -> a",
        ),
        (
            "default: '!'\na: 'rule:a'",
            "p:2:4: rule \"a\": it needs itself: a -> a",
        ),
        // A rule that nobody needs is checked as well.
        ("default: '!'\nidle: 'role'", "p:2:7: rule \"idle\""),
        ("default: true", "\"true\" is not a check"),
    ] {
        let error = Policy::parse("p", text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let many: String = (0..=MAX_RULES).map(|n| format!("r{n}: '@'\n")).collect();
    let error = Policy::parse("p", &many).unwrap_err().to_string();
    assert!(error.contains("p:257:1: more than 256 rules"), "{error}");
}

#[test]
fn yaml_that_is_nested_without_end_is_refused() {
    for text in [
        "[".repeat(200_000),
        "{a: ".repeat(50_000),
        "- ".repeat(50_000),
    ] {
        assert!(Policy::parse("p", &text).is_err());
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.yaml");
    let refused = |path: &Path| Policy::read(path).unwrap_err().to_string();
    assert!(refused(&path).contains("policy.yaml"), "{}", refused(&path));
    fs::write(&path, b"a: \xff").unwrap();
    assert!(refused(&path).contains("UTF-8"), "{}", refused(&path));
    fs::write(&path, " ".repeat(MAX_FILE_BYTES + 1)).unwrap();
    assert!(refused(&path).contains("larger than"), "{}", refused(&path));
    fs::write(&path, "default: 'role:member'").unwrap();
    assert!(ann_may(
        &Policy::read(&path).unwrap(),
        Permission::Push,
        "p1"
    ));
}

/// As Keppel's documentation gives it, in JSON, with tabs.
const KEPPEL: &str = r#"{
	"cloud_rw": "role:cloud_registry_admin",
	"cloud_ro": "role:cloud_registry_viewer or rule:cloud_rw",
	"project_rw": "role:member",
	"project_ro": "role:registry_viewer or rule:project_rw",
	"any_rw": "rule:cloud_rw or rule:project_rw",
	"any_ro": "rule:cloud_ro or rule:project_ro",

	"matches_scope": "rule:cloud_ro or project_id:%(target.project.id)s",

	"account:list": "rule:any_ro",
	"account:show": "rule:any_ro and rule:matches_scope",
	"account:pull": "rule:any_ro and rule:matches_scope",
	"account:push": "rule:any_rw and rule:matches_scope",
	"account:delete": "rule:any_rw and rule:matches_scope",
	"account:edit": "rule:any_rw and rule:matches_scope"
}
"#;

#[test]
fn a_policy_of_keppel_is_taken_as_it_is() {
    let policy = Policy::parse("policy.json", KEPPEL).unwrap();
    for permission in Permission::ALL {
        let is_about_quotas = permission.as_str().starts_with("quota");
        assert_eq!(
            ann_may(&policy, permission, "p1"),
            !is_about_quotas,
            "{permission}"
        );
        assert!(!ann_may(&policy, permission, "p2"), "{permission}");
    }
}

#[test]
fn what_a_file_does_not_name_is_the_default() {
    let policy = Policy::parse("p", "default: 'role:member'\naccount:push: '!'").unwrap();
    for permission in Permission::ALL {
        let expected = permission != Permission::Push;
        assert_eq!(ann_may(&policy, permission, "p1"), expected, "{permission}");
    }
}

#[test]
fn the_built_in_policy() {
    use Permission::{Change, Delete, Pull, Push, QuotaChange, QuotaView, View};
    let policy = Policy::built_in().unwrap();
    let may = |role: &str, target_project: &str| -> Vec<Permission> {
        let roles = [role.to_owned()];
        let attributes = attributes(&[("project_id", "p1")]);
        let question = Question {
            roles: &roles,
            attributes: &attributes,
            target_project,
        };
        let all = Permission::ALL.into_iter();
        all.filter(|permission| policy.allows(*permission, &question))
            .collect()
    };
    assert_eq!(may("reader", "p1"), [View, Pull, QuotaView]);
    assert_eq!(may("member", "p1"), [View, Pull, Push, Delete, QuotaView]);
    for role in ["manager", "admin"] {
        assert_eq!(
            may(role, "p1"),
            [View, Pull, Push, Delete, Change, QuotaView]
        );
    }
    assert_eq!(may("cloud_registry_admin", "p2"), Permission::ALL);
    for role in ["reader", "member", "manager", "admin", "service", ""] {
        assert_eq!(may(role, "p2"), []);
    }
    assert_eq!(may("service", "p1"), []);
    assert!(QuotaChange.as_str() == "quota_change");
}

#[test]
fn a_long_chain_of_rules_costs_neither_stack_nor_time() {
    let mut text = String::from("default: 'rule:r0 and rule:r0'\nr250: 'role:member'\n");
    for n in 0..250 {
        let open = "(".repeat(39);
        let close = ")".repeat(39);
        text += &format!(
            "r{n}: '{open}rule:r{next}{close} and (rule:r{next} or rule:r{next})'\n",
            next = n + 1
        );
    }
    let policy = Policy::parse("p", &text).unwrap();
    assert!(ann_may(&policy, Permission::Pull, "p1"));
}

/// Reproducible numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// A rule and what it is worth to Ann.
enum Tree {
    Leaf(&'static str, bool),
    Not(Box<Tree>),
    Both(Box<Tree>, Box<Tree>),
    Either(Box<Tree>, Box<Tree>),
}

const LEAVES: [(&str, bool); 9] = [
    ("@", true),
    ("!", false),
    ("role:member", true),
    ("role:owner", false),
    ("rule:yes", true),
    ("rule:no", false),
    ("project_id:%(target.project.id)s", true),
    ("'x':%(target.project.id)s", false),
    ("user_name:ann", true),
];

impl Tree {
    fn new(random: &mut Random, depth: usize) -> Self {
        let inner = |random: &mut Random| Box::new(Self::new(random, depth - 1));
        match if depth == 0 { 0 } else { random.below(7) } {
            0 => {
                let (text, value) = LEAVES[random.below(LEAVES.len())];
                Self::Leaf(text, value)
            }
            1 | 2 => Self::Not(inner(random)),
            3 | 4 => Self::Both(inner(random), inner(random)),
            _ => Self::Either(inner(random), inner(random)),
        }
    }

    fn value(&self) -> bool {
        match self {
            Self::Leaf(_, value) => *value,
            Self::Not(inner) => !inner.value(),
            Self::Both(left, right) => left.value() && right.value(),
            Self::Either(left, right) => left.value() || right.value(),
        }
    }

    /// How tightly it binds: or 0, and 1, not 2, a check 3.
    fn rank(&self) -> usize {
        match self {
            Self::Either(..) => 0,
            Self::Both(..) => 1,
            Self::Not(_) => 2,
            Self::Leaf(..) => 3,
        }
    }

    /// The text, with parentheses where they are needed and sometimes where they are not.
    fn text(&self, random: &mut Random, needed: usize) -> String {
        let space = [" ", "  ", "\n"][random.below(3)];
        let text = match self {
            Self::Leaf(text, _) => (*text).to_owned(),
            Self::Not(inner) => format!("not{space}{}", inner.text(random, 2)),
            Self::Both(left, right) => {
                let and = ["and", "AND"][random.below(2)];
                format!(
                    "{}{space}{and} {}",
                    left.text(random, 1),
                    right.text(random, 1)
                )
            }
            Self::Either(left, right) => {
                format!(
                    "{} or{space}{}",
                    left.text(random, 0),
                    right.text(random, 0)
                )
            }
        };
        if self.rank() < needed || random.below(8) == 0 {
            return format!("({text})");
        }
        text
    }
}

#[test]
fn random_rules_are_worth_what_a_naive_evaluator_says() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut yes = 0;
    for _ in 0..5000 {
        let depth = random.below(6);
        let tree = Tree::new(&mut random, depth);
        let text = tree.text(&mut random, 0);
        assert_eq!(holds(&text, "p1"), tree.value(), "{text:?}");
        yes += usize::from(tree.value());
    }
    assert!((1000..4000).contains(&yes), "{yes} of 5000");
}

/// What stands on the stack of oslo.policy's parser: `_parser.py`, class `ParseState`.
#[derive(Clone, Copy, PartialEq)]
enum Oslo {
    Open,
    Close,
    And,
    Or,
    Not,
    Check(bool),
    AndExpr(bool),
    /// All parts but the last, and the last: `pop_check` takes it off again.
    OrExpr(bool, bool),
}

/// The reductions of oslo.policy, in its order, on values; `None` if it cannot parse the rule, and says no.
fn oslo(words: &[Oslo]) -> Option<bool> {
    use Oslo::{And, AndExpr, Check, Close, Not, Open, Or, OrExpr};
    let mut stack: Vec<Oslo> = Vec::new();
    for word in words {
        stack.push(*word);
        loop {
            let (taken, made) = match stack[..] {
                [.., Open, Check(a) | AndExpr(a), Close] => (3, Check(a)),
                [.., Open, OrExpr(a, b), Close] => (3, Check(a || b)),
                [.., Check(a) | AndExpr(a), And, Check(b)] => (3, AndExpr(a && b)),
                [.., OrExpr(a, b), And, Check(c)] => (3, OrExpr(a, b && c)),
                [.., Check(a) | AndExpr(a), Or, Check(b)] => (3, OrExpr(a, b)),
                [.., OrExpr(a, b), Or, Check(c)] => (3, OrExpr(a || b, c)),
                [.., Not, Check(a)] => (2, Check(!a)),
                _ => break,
            };
            stack.truncate(stack.len() - taken);
            stack.push(made);
        }
    }
    match stack[..] {
        [Check(a) | AndExpr(a)] => Some(a),
        [OrExpr(a, b)] => Some(a || b),
        _ => None,
    }
}

#[test]
fn random_words_mean_the_same_as_to_oslo_policy_or_are_refused_by_both() {
    let table = [
        ("(", Oslo::Open),
        (")", Oslo::Close),
        ("and", Oslo::And),
        ("or", Oslo::Or),
        ("not", Oslo::Not),
        ("@", Oslo::Check(true)),
        ("!", Oslo::Check(false)),
    ];
    let mut random = Random(42);
    let (mut parsed, mut refused) = (0, 0);
    for _ in 0..200_000 {
        let chosen: Vec<_> = (0..=random.below(9))
            .map(|_| table[random.below(7)])
            .collect();
        let words: Vec<&str> = chosen.iter().map(|(word, _)| *word).collect();
        let tokens: Vec<Oslo> = chosen.iter().map(|(_, token)| *token).collect();
        let text = words.join(" ");
        let policy = Policy::parse("p", &format!("default: '{text}'")).ok();
        let ours = policy.map(|policy| ann_may(&policy, Permission::Pull, "p1"));
        assert_eq!(ours, oslo(&tokens), "{text}");
        match ours {
            Some(_) => parsed += 1,
            None => refused += 1,
        }
    }
    assert!(
        parsed > 2000 && refused > 2000,
        "{parsed} parsed, {refused} refused"
    );
}
