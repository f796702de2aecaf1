//! What follows from how images refer to each other, and what comes before all policies.

use serde_json::json;

use super::*;

#[test]
fn what_an_index_lists_stays_with_it() {
    // The second child is of the kind that BuildKit makes for attestations: no tag, and nothing but the index has it.
    let images = || {
        vec![
            image("x", &["v1"]).lists(&["a", "b", "gone"]),
            image("a", &[]),
            image("b", &[]),
            image("c", &["c"]),
        ]
    };
    let untagged = json!([{"match_repository": ".*", "only_untagged": true, "action": "delete"}]);
    check(
        images(),
        untagged.clone(),
        &["kept", "parent 0", "parent 0", "kept"],
    );
    let v1 = json!([{"match_repository": ".*", "match_tag": "v1", "action": "delete"}]);
    check(
        images(),
        v1.clone(),
        &["delete 0", "with parent 0", "with parent 0", "kept"],
    );
    // Another index, a tag or a policy keeps a child.
    let shared = || {
        let mut images = images();
        images.push(image("y", &["y"]).lists(&["a"]));
        images[2].tags = vec!["own".parse().unwrap()];
        images
    };
    check(
        shared(),
        v1,
        &["delete 0", "parent 4", "kept", "kept", "kept"],
    );
    let young = timed(
        json!({"on": "last_pulled_at", "newer_than": {"value": 1, "unit": "d"}}),
        "protect",
    );
    let mut pulled = images();
    pulled[1] = pulled[1].clone().pulled(5);
    check(
        pulled,
        json!([young, delete_all()[0]]),
        &["delete 1", "policy 0", "delete 1", "delete 1"],
    );
    // Children are not counted, and an index of indexes passes on what it is.
    let newest = timed(json!({"on": "pushed_at", "newest": 1}), "protect");
    let nested = vec![
        image("x", &["x"]).lists(&["y"]).pushed(3 * DAY),
        image("y", &[]).lists(&["a"]).pushed(2 * DAY),
        image("a", &[]).pushed(DAY),
        image("old", &[]).pushed(4 * DAY),
    ];
    check(
        nested.clone(),
        json!([newest, delete_all()[0]]),
        &["policy 0", "parent 0", "parent 1", "delete 1"],
    );
    let x = json!([{"match_repository": ".*", "match_tag": "x", "action": "delete"}]);
    check(
        nested,
        x,
        &["delete 0", "with parent 0", "with parent 1", "kept"],
    );
}

#[test]
fn what_is_about_a_manifest_lives_and_dies_with_it() {
    let tag = |name: &str, suffix: &str| format!("{}{suffix}", digest(name).fallback_tag());
    let images = || {
        vec![
            image("a", &["v1"]),
            image("sbom", &[]).about("a"),
            image("signature of the sbom", &[]).about("sbom"),
            image("cosign", &[&tag("a", ".sig")]),
            image("attestation", &[&tag("a", ".att"), &tag("a", ".sbom")]),
            image("referrers", &[&tag("a", "")]).lists(&["sbom"]),
            image("orphan", &[&tag("gone", ".sig")]).about("gone"),
            image("also an image", &[&tag("a", ".sig.old"), "v2"]),
        ]
    };
    check(
        images(),
        json!([
            {"match_repository": ".*", "match_tag": "v1", "action": "protect"},
            {"match_repository": ".*", "action": "delete"},
        ]),
        &[
            "policy 0",
            "parent 5",
            "subject 1",
            "subject 0",
            "subject 0",
            "subject 0",
            "delete 1",
            "delete 1",
        ],
    );
    check(
        images(),
        json!([{"match_repository": ".*", "match_tag": "v1", "action": "delete"}]),
        &[
            "delete 0",
            "with subject 0",
            "with subject 1",
            "with subject 0",
            "with subject 0",
            "with subject 0",
            "kept",
            "kept",
        ],
    );
    // What is just being made about an image keeps that.
    let mut fresh = images();
    fresh[2].pushed_at = now();
    let outcome = [
        "recent",
        "recent",
        "recent",
        "subject 0",
        "subject 0",
        "subject 0",
        "delete 0",
        "delete 0",
    ];
    check(fresh, delete_all(), &outcome);
}

#[test]
fn recent_uploads_holds_and_tag_policies_come_first() {
    let images = vec![
        image("a", &["a"]).pushed(599),
        image("b", &["b"]).pushed(600),
        image("c", &["release", "other"]),
        image("d", &["held"]),
        image("e", &["let-go"]),
        image("f", &["x"]).lists(&["g"]).pushed(599),
        image("g", &[]),
    ];
    let case = |holds: Vec<GcHold>| Case {
        images: images.clone(),
        policies: delete_all(),
        tag_policies: json!([
            {"match_repository": "nope", "block_delete": true},
            {"match_repository": ".*", "match_tag": "other", "block_delete": true},
            {"match_repository": ".*", "block_push": true},
        ]),
        holds,
    };
    let hold = |tag: Option<&str>, until| GcHold {
        tag: tag.map(|tag| tag.parse().unwrap()),
        until,
    };
    let holds = vec![
        hold(Some("held"), ago(-1)),
        hold(Some("let-go"), now()),
        hold(None, ago(1)),
    ];
    assert_eq!(
        case(holds).outcome(),
        [
            "recent",
            "delete 0",
            "tag_policy 1",
            "hold",
            "delete 0",
            "recent",
            "parent 5"
        ]
    );
    let whole = vec![hold(None, ago(-1))];
    assert_eq!(
        case(whole).outcome(),
        ["recent", "hold", "hold", "hold", "hold", "recent", "hold"]
    );
}

#[test]
fn what_a_run_left_behind_goes_with_the_next() {
    let tag = format!("{}.sig", digest("gone").fallback_tag());
    let with_subject = || Condemned::Subject(digest("gone"));
    let with_parent = || Condemned::Parent(digest("gone"));
    let images = vec![
        image("a", &[]).about("gone").condemned(with_subject()),
        image("b", &[&tag]).condemned(with_subject()),
        image("c", &["mine"])
            .about("gone")
            .condemned(with_subject()),
        image("d", &[]).condemned(with_parent()),
        image("e", &["mine too"[..4].trim()]).condemned(with_parent()),
        image("f", &[]).condemned(with_parent()),
        image("x", &["x"]).lists(&["f"]),
        image("g", &[]).condemned(with_parent()).pushed(5),
        image("h", &[]).about("x").condemned(with_subject()),
    ];
    let expected = [
        "with subject -1",
        "with subject -1",
        "kept",
        "with parent -1",
        "kept",
        "parent 6",
        "kept",
        "recent",
        "subject 6",
    ];
    check(images, json!([]), &expected);
}

#[test]
fn images_that_need_each_other_stay() {
    // By fallback tags alone, since nobody makes manifests that name each other's digest.
    let (a, b) = (digest("a").fallback_tag(), digest("b").fallback_tag());
    let images = vec![
        image("a", &[&b]),
        image("b", &[&a]),
        image("c", &[]).about("c"),
    ];
    check(
        images,
        delete_all(),
        &["subject 1", "subject 0", "delete 0"],
    );
}

#[test]
fn what_goes_is_in_an_order_that_can_be_followed() {
    let images = vec![
        image("a", &[]),
        image("y", &[]).lists(&["a"]),
        image("s", &[]).about("x"),
        image("x", &["x"]).lists(&["y", "a"]),
    ];
    let policies: Vec<GcPolicy> = serde_json::from_value(delete_all()).unwrap();
    let repo = "app".parse().unwrap();
    let (tag_policies, holds) = ([], []);
    let input = GcInput {
        owner: "tests",
        repo: &repo,
        images: &images,
        policies: &policies,
        tag_policies: &tag_policies,
        holds: &holds,
        now: now(),
    };
    let plan = GcPlan::new(input);
    let order: Vec<usize> = plan.doomed().collect();
    let at = |place: usize| order.iter().position(|other| *other == place).unwrap();
    assert_eq!(order.len(), 4);
    assert!(at(3) < at(1) && at(1) < at(0) && at(3) < at(2), "{order:?}");
}
