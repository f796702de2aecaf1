//! What expressions give, what they cannot do, and that no text ends the process.

use serde_json::json;

use super::{
    checks::{MAX_DEPTH, MAX_TENANT_LOOPS},
    *,
};

fn evaluated(source: &str, claims: &Json) -> Result<Json, String> {
    let compiled = Expression::compile(source, &["claims"], Author::Operator)
        .map_err(|error| error.to_string())?;
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
        let compiled = Expression::compile(&source, &["claims"], Author::Operator);
        assert!(compiled.is_err(), "{source:.60}");
    }
}

#[test]
fn a_tenant_cannot_write_what_takes_long_or_becomes_large() {
    let taken = |source: &str| {
        let compiled = Expression::compile(source, &["a", "b"], Author::Tenant);
        compiled.map(drop).map_err(|error| error.to_string())
    };
    // A pattern is compiled each time.
    let patterns = |count| vec!["a.x.matches('^[a-z]+$')"; count].join(" || ");
    assert_eq!(taken(&patterns(8)), Ok(()));
    let refused = taken(&patterns(9)).unwrap_err();
    assert!(refused.contains("more than 8 times"), "{refused}");
    for source in [
        "'x' in a && a.x == '1' && a['y/z'].startsWith('2')",
        "a.all(x, x > 1) || a.exists(x, x.y.z == 'q') || a.exists_one(x, x == 1)",
        "size(a.filter(x, x.size > 3)) < 4",
        "a.filter(x, x.size > 3).map(x, x.name).all(n, n.endsWith('.gz'))",
        "a.x.matches('^[a-z]+$') && a.size() * 2 - 1 > 4",
        "a.b.c.all(x, x in ['1', '2'])",
        "[1, 2].size() == 2",
    ] {
        assert_eq!(taken(source), Ok(()), "{source}");
    }
    let loops = |count: usize| vec!["a.all(x, x > 1)"; count].join(" && ");
    assert_eq!(taken(&loops(MAX_TENANT_LOOPS)), Ok(()));
    for source in [
        loops(MAX_TENANT_LOOPS + 1).as_str(),
        "a.all(x, b.all(y, x == y))",
        "a.map(x, b.map(y, y))",
        "a.x.split('').all(c, c == 'x')",
        "(a + b).all(x, x)",
        "a + b",
        "a.map(x, x + x)",
        "a.map(x, x).filter(y, y + y == 'xx')",
        "a.filter(x, x.y + 'z' == 'yz')",
        "a.all(x, x.y + 'z' == 'yz')",
        "a.x.replace('a', 'aaaa')",
        "a.map(x, x.y).join('')",
        "[1, 2, 3].all(x, x > 0)",
        "a[0].all(x, x > 0)",
        "(true ? a : b).all(x, x > 0)",
        "a.all(x, x.matches('y'))",
        "a.map(x, a).all(x, x.all(y, y))",
        "a.map(x, @result)",
        "a.map(x, `@result`)",
        "a.map(x, __result__)",
    ] {
        assert!(taken(source).is_err(), "{source}");
    }
}

#[test]
fn what_is_wrong_is_found_at_its_place() {
    for (source, place) in [
        ("claims.sub ==", "line 1, column "),
        ("true &&\n  claim.sub", "line 2, column 3: "),
        ("claims.a == 'ä' &&\n\n foo(1)", "line 3, column "),
    ] {
        let refused = Expression::compile(source, &["claims"], Author::Operator).unwrap_err();
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
            Expression::compile(&source, &["claims"], Author::Operator).ok()
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
        "claims", ".", "sub", "(", ")", "[", "]", "{", "}", "?", ":", "'x'", "1", "-", "!", "+",
        "in", ",", "has", "map", "&&", "r'", "b'\\xff'", ".?",
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
        if let Ok(compiled) = Expression::compile(&source, &["claims"], Author::Operator) {
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
