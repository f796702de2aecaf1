//! Tests of reading manifests. They are a file of their own because there are many.

use std::fmt::Write as _;

use super::super::digest::{Algorithm, Digest};
use super::*;

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

fn hex(byte: char) -> String {
    byte.to_string().repeat(64)
}

/// A descriptor in JSON, of a digest that consists of one character only.
fn descriptor(media_type: &str, byte: char) -> String {
    format!(
        r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":7}}"#,
        hex(byte)
    )
}

fn config() -> String {
    descriptor(CONFIG_TYPE, 'c')
}

fn image(extra: &str) -> String {
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 'a');
    format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{layer}]{extra}}}"#,
        config()
    )
}

fn index(extra: &str) -> String {
    let child = descriptor(media_type::OCI_MANIFEST, 'b');
    format!(r#"{{"schemaVersion":2,"manifests":[{child}]{extra}}}"#)
}

fn parse(body: &str, content_type: Option<&str>) -> Result<Manifest, ManifestError> {
    Manifest::parse(body.as_bytes(), content_type)
}

/// The message of an error, for bodies that are refused by the JSON reader.
fn message(body: &str) -> String {
    parse(body, Some(media_type::OCI_MANIFEST))
        .unwrap_err()
        .to_string()
}

#[test]
fn an_image() {
    let extra = r#","artifactType":"a/b","annotations":{"k":"v"},"x":{"y":[1]}"#;
    let manifest = parse(&image(extra), Some(media_type::OCI_MANIFEST)).unwrap();
    assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
    assert_eq!(manifest.kind, ManifestKind::Image);
    assert_eq!(manifest.config.as_ref().unwrap().digest.hex(), hex('c'));
    assert_eq!(manifest.blobs.len(), 1);
    assert_eq!(manifest.blobs[0].size, 7);
    assert_eq!(
        manifest
            .all_blobs()
            .map(|b| b.digest.hex().as_bytes()[0])
            .collect::<Vec<_>>(),
        b"ca"
    );
    assert!(manifest.manifests.is_empty() && manifest.subject.is_none());
    assert_eq!(manifest.artifact_type.as_deref(), Some("a/b"));
    assert_eq!(
        manifest.annotations,
        BTreeMap::from([("k".to_owned(), "v".to_owned())])
    );
}

#[test]
fn an_index() {
    let platform = r#"{"architecture":"arm64","os":"linux","variant":"v8","os.features":["x"]}"#;
    let child = descriptor(media_type::OCI_MANIFEST, 'b');
    let child = child.replace(r#""size":7"#, &format!(r#""size":7,"platform":{platform}"#));
    // BuildKit's cache export: a layer and a config among the manifests.
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 'a');
    let cache = descriptor("application/vnd.buildkit.cacheconfig.v0", 'd');
    let body = format!(r#"{{"schemaVersion":2,"manifests":[{child},{layer},{cache}]}}"#);
    let manifest = parse(&body, Some(media_type::DOCKER_MANIFEST_LIST)).unwrap();
    assert_eq!(manifest.kind, ManifestKind::Index);
    assert_eq!(manifest.media_type, media_type::DOCKER_MANIFEST_LIST);
    assert_eq!(manifest.manifests.len(), 3);
    assert_eq!(
        manifest.manifests[0].platform.as_ref().unwrap()["variant"],
        "v8"
    );
    assert!(manifest.config.is_none() && manifest.blobs.is_empty());
    assert_eq!(manifest.artifact_type, None);
}

#[test]
fn an_artifact_manifest() {
    let subject = descriptor(media_type::OCI_MANIFEST, 'b');
    let blob = descriptor("text/spdx", 'a');
    let body = format!(
        r#"{{"mediaType":"{}","artifactType":"sbom/x","blobs":[{blob}],"subject":{subject}}}"#,
        media_type::OCI_ARTIFACT
    );
    for content_type in [None, Some(media_type::OCI_ARTIFACT)] {
        let manifest = parse(&body, content_type).unwrap();
        assert_eq!(manifest.kind, ManifestKind::Artifact);
        assert_eq!(manifest.blobs.len(), 1);
        assert_eq!(manifest.subject.as_ref().unwrap().digest.hex(), hex('b'));
        assert_eq!(manifest.artifact_type.as_deref(), Some("sbom/x"));
    }
}

#[test]
fn the_artifact_type_that_the_referrers_api_shows() {
    let table = [
        (image(""), Some(CONFIG_TYPE)),
        (image(r#","artifactType":"""#), Some(CONFIG_TYPE)),
        (image(r#","artifactType":null"#), Some(CONFIG_TYPE)),
        (image(r#","artifactType":"x/y""#), Some("x/y")),
        (index(""), None),
        (index(r#","artifactType":"x/y""#), Some("x/y")),
    ];
    for (body, expected) in table {
        assert_eq!(
            parse(&body, None).unwrap().artifact_type.as_deref(),
            expected,
            "{body}"
        );
    }
}

#[test]
fn header_and_body_decide_on_the_type() {
    let (image, index) = (image, index);
    let typed = |media_type: &str| format!(r#","mediaType":"{media_type}""#);
    let oci = typed(media_type::OCI_MANIFEST);
    let docker = typed(media_type::DOCKER_MANIFEST);
    let list = typed(media_type::DOCKER_MANIFEST_LIST);
    let parameters = format!("{}; charset=utf-8", media_type::OCI_MANIFEST);
    let upper = media_type::OCI_MANIFEST.to_ascii_uppercase();
    let good: [(String, Option<&str>, &str); 13] = [
        (image(""), None, media_type::OCI_MANIFEST),
        (image(""), Some(""), media_type::OCI_MANIFEST),
        (
            image(""),
            Some(media_type::OCI_MANIFEST),
            media_type::OCI_MANIFEST,
        ),
        (
            image(""),
            Some(media_type::DOCKER_MANIFEST),
            media_type::DOCKER_MANIFEST,
        ),
        (image(""), Some(&parameters), media_type::OCI_MANIFEST),
        (image(""), Some(&upper), media_type::OCI_MANIFEST),
        (image(&oci), Some(&upper), media_type::OCI_MANIFEST),
        (image(&oci), None, media_type::OCI_MANIFEST),
        (image(&docker), None, media_type::DOCKER_MANIFEST),
        (image(r#","mediaType":"""#), None, media_type::OCI_MANIFEST),
        (
            image(r#","mediaType":null"#),
            None,
            media_type::OCI_MANIFEST,
        ),
        (index(""), None, media_type::OCI_INDEX),
        (index(&list), None, media_type::DOCKER_MANIFEST_LIST),
    ];
    for (body, content_type, expected) in good {
        assert_eq!(
            parse(&body, content_type).unwrap().media_type,
            expected,
            "{body} {content_type:?}"
        );
    }

    let mismatch = |header: &str, body: &str| ManifestError::Mismatch {
        header: header.into(),
        body: body.into(),
    };
    let unsupported = |media_type: &str| ManifestError::Unsupported(media_type.into());
    let bad: [(String, Option<&str>, ManifestError); 8] = [
        (
            image(&docker),
            Some(media_type::OCI_MANIFEST),
            mismatch(media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST),
        ),
        (
            image(&typed("x/y")),
            Some(media_type::OCI_MANIFEST),
            mismatch(media_type::OCI_MANIFEST, "x/y"),
        ),
        (
            image(&typed(&upper)),
            Some(&upper),
            mismatch(media_type::OCI_MANIFEST, &upper),
        ),
        (image(&typed(&upper)), None, unsupported(&upper)),
        (image(&typed(&parameters)), None, unsupported(&parameters)),
        (
            image(""),
            Some("application/json"),
            unsupported("application/json"),
        ),
        (image(&typed("x/y")), None, unsupported("x/y")),
        ("{}".into(), None, ManifestError::UnknownKind),
    ];
    for (body, content_type, expected) in bad {
        assert_eq!(
            parse(&body, content_type),
            Err(expected),
            "{body} {content_type:?}"
        );
    }
}

#[test]
fn the_message_for_an_unsupported_type_lists_the_supported_ones() {
    let message = parse(&image(""), Some("text/plain"))
        .unwrap_err()
        .to_string();
    for supported in MANIFESTS {
        assert!(message.contains(supported), "{message}");
    }
}

#[test]
fn schema_1_is_refused_with_the_way_out() {
    let schema1 =
        r#"{"schemaVersion":1,"name":"a","tag":"b","fsLayers":[{"blobSum":"x"}],"history":[]}"#;
    let typed = |media_type: &str| image(&format!(r#","mediaType":"{media_type}""#));
    let table: [(String, Option<&str>); 7] = [
        (schema1.into(), None),
        (schema1.into(), Some(media_type::DOCKER_SCHEMA1)),
        (schema1.into(), Some(media_type::DOCKER_SCHEMA1_SIGNED)),
        (schema1.into(), Some(media_type::DOCKER_MANIFEST)),
        (
            "not even JSON".into(),
            Some(media_type::DOCKER_SCHEMA1_SIGNED),
        ),
        (typed(media_type::DOCKER_SCHEMA1), None),
        (
            image("").replace(":2,", ":1,"),
            Some(media_type::OCI_MANIFEST),
        ),
    ];
    for (body, content_type) in table {
        assert_eq!(
            parse(&body, content_type),
            Err(ManifestError::Schema1),
            "{body}"
        );
    }
    assert!(
        ManifestError::Schema1
            .to_string()
            .contains("schema version 2 or OCI")
    );
}

#[test]
fn the_schema_version_is_2_if_there_is_one() {
    for version in ["0", "3", "18446744073709551615"] {
        for body in [image(""), index("")] {
            let body = body.replacen(":2,", &format!(":{version},"), 1);
            assert_eq!(
                parse(&body, None),
                Err(ManifestError::SchemaVersion),
                "{body}"
            );
        }
    }
    let without = image("").replacen(r#""schemaVersion":2,"#, "", 1);
    assert!(parse(&without, None).is_ok());
    for version in ["-1", "2.0", "2.5", "\"2\"", "[2]", "18446744073709551616"] {
        let body = image("").replacen(":2,", &format!(":{version},"), 1);
        assert!(
            matches!(parse(&body, None), Err(ManifestError::Malformed(_))),
            "{body}"
        );
    }
}

/// CVE-2021-41190: the same bytes must not be an image to one client and an index to another.
#[test]
fn a_manifest_of_two_kinds_is_refused() {
    let child = descriptor(media_type::OCI_MANIFEST, 'b');
    let table: [(String, Option<&str>, &str); 9] = [
        (
            image(&format!(r#","manifests":[{child}]"#)),
            None,
            "manifests",
        ),
        (
            image(r#","manifests":[]"#),
            Some(media_type::OCI_MANIFEST),
            "manifests",
        ),
        (
            image(r#","blobs":[]"#),
            Some(media_type::OCI_MANIFEST),
            "blobs",
        ),
        (
            image(r#","fsLayers":[]"#),
            Some(media_type::DOCKER_MANIFEST),
            "fsLayers",
        ),
        (image(""), Some(media_type::OCI_INDEX), "config"),
        (
            index(r#","layers":[]"#),
            Some(media_type::OCI_INDEX),
            "layers",
        ),
        (
            index(&format!(r#","config":{}"#, config())),
            Some(media_type::OCI_INDEX),
            "config",
        ),
        (index(""), Some(media_type::OCI_MANIFEST), "manifests"),
        (index(""), Some(media_type::OCI_ARTIFACT), "manifests"),
    ];
    for (body, content_type, field) in table {
        match parse(&body, content_type) {
            Err(ManifestError::Ambiguous(found, _)) => assert_eq!(found, field, "{body}"),
            other => panic!("{body} {content_type:?}: {other:?}"),
        }
    }
    // What Go writes for fields that it does not use is no second kind.
    assert!(parse(&image(r#","manifests":null"#), None).is_ok());
}

#[test]
fn ambiguous_json_is_refused() {
    let table = [
        (image(r#","layers":[]"#), "\"layers\" stands twice"),
        (
            image(r#","mediaType":"a","mediaType":"a""#),
            "\"mediaType\" stands twice",
        ),
        (image(r#","Manifests":[]"#), "must be written \"manifests\""),
        (
            image(r#","annotations":{"a":"1","a":"2"}"#),
            "\"a\" stands twice",
        ),
        (
            image("").replacen(r#""size":7"#, r#""size":7,"size":7"#, 1),
            "\"size\" stands twice",
        ),
        (
            image("").replacen(r#""size":7"#, r#""size":7,"Size":8"#, 1),
            "must be written \"size\"",
        ),
    ];
    for (body, expected) in table {
        let message = message(&body);
        assert!(message.contains(expected), "{body}: {message}");
    }
}

#[test]
fn bad_bodies_are_refused() {
    let with_size = |size: &str| image("").replacen(r#""size":7"#, &format!(r#""size":{size}"#), 1);
    let with_digest = |digest: &str| image("").replacen(&format!("sha256:{}", hex('c')), digest, 1);
    let table: Vec<(String, &str)> = vec![
        (String::new(), "EOF"),
        ("[]".into(), "a manifest is a JSON object"),
        ("null".into(), "a manifest is a JSON object"),
        ("{\"config\":".into(), "EOF"),
        (format!("{} x", image("")), "trailing characters"),
        ("{\"x\":".repeat(100_000), "recursion limit"),
        (
            image(&format!(r#","x":{}1{}"#, "[".repeat(500), "]".repeat(500))),
            "recursion limit",
        ),
        (with_size("-1"), "invalid value"),
        (with_size("7.0"), "invalid type"),
        (with_size("\"7\""), "invalid type"),
        (with_size("null"), "invalid type"),
        (
            with_size("9223372036854775808"),
            "at most 9223372036854775807",
        ),
        (with_size("18446744073709551616"), "invalid type"),
        (with_size("1e999"), "number out of range"),
        (
            image("").replacen(r#","size":7"#, "", 1),
            "missing field `size`",
        ),
        (with_digest("sha256:abc"), "exactly 64 lowercase hex"),
        (
            with_digest(&format!("sha256:{}", hex('C'))),
            "exactly 64 lowercase hex",
        ),
        (
            with_digest(&format!("md5:{}", "a".repeat(32))),
            "is not supported",
        ),
        (
            with_digest(&format!("sha384:{}", hex('a'))),
            "is not supported",
        ),
        (with_digest("../../etc/passwd"), "a digest has the form"),
        (with_digest(""), "a digest has the form"),
        (image(r#","annotations":{"a":1}"#), "invalid type"),
        (image(r#","annotations":[]"#), "invalid type"),
        (image(r#","subject":"x""#), "invalid type"),
        (
            image(r#","subject":["x"]"#),
            "a descriptor is a JSON object",
        ),
        (
            image("").replacen(r#""layers":["#, r#""layers":[null,"#, 1),
            "invalid type",
        ),
        (
            r#"{"config":null,"layers":[]}"#.into(),
            "must have a \"config\"",
        ),
        (r#"{"layers":{}}"#.into(), "invalid type"),
        ("{}".into(), "must have a \"config\""),
    ];
    for (body, expected) in table {
        let message = message(&body);
        assert!(message.contains(expected), "{}: {message}", excerpt(&body));
    }
    assert_eq!(
        Manifest::parse(b"{\"x\":\"\xff\"}", None),
        Err(ManifestError::NotUtf8)
    );
    assert_eq!(
        Manifest::parse(b"\xff\xfe{\0}\0", None),
        Err(ManifestError::NotUtf8)
    );
}

#[test]
fn messages_do_not_repeat_long_input() {
    let long = "x".repeat(100_000);
    let table = [
        parse(&image(&format!(r#","annotations":"{long}""#)), None),
        parse(&image(&format!(r#","{long}":1,"{long}":1"#)), None),
        parse(&image(&format!(r#","mediaType":"{long}""#)), None),
        parse(
            &image(&format!(r#","mediaType":"{long}""#)),
            Some(media_type::OCI_MANIFEST),
        ),
        parse(&image(""), Some(&long)),
    ];
    for result in table {
        let message = result.unwrap_err().to_string();
        assert!(message.len() < 700, "{} bytes", message.len());
    }
}

#[test]
fn null_is_empty_as_go_writes_it() {
    let body = format!(
        r#"{{"config":{},"layers":null,"annotations":null,"subject":null}}"#,
        config()
    );
    let body = body.replacen(
        r#""size":7"#,
        r#""size":7,"urls":null,"annotations":null,"platform":null"#,
        1,
    );
    let manifest = parse(&body, Some(media_type::OCI_MANIFEST)).unwrap();
    assert!(
        manifest.blobs.is_empty() && manifest.annotations.is_empty() && manifest.subject.is_none()
    );
    let config = manifest.config.unwrap();
    assert!(config.urls.is_empty() && config.annotations.is_empty() && config.platform.is_none());
}

#[test]
fn the_largest_size_is_that_of_a_signed_integer() {
    let body = image("").replacen(r#""size":7"#, r#""size":9223372036854775807"#, 1);
    assert_eq!(
        parse(&body, None).unwrap().config.unwrap().size,
        i64::MAX as u64
    );
    let body = image("").replacen(r#""size":7"#, r#""size":0"#, 1);
    assert_eq!(parse(&body, None).unwrap().config.unwrap().size, 0);
}

#[test]
fn the_number_of_descriptors_is_bounded() {
    let list = |count: usize| {
        let mut body = String::from(r#"{"manifests":["#);
        let child = descriptor("x/y", 'a');
        for n in 0..count {
            let comma = if n == 0 { "" } else { "," };
            write!(body, "{comma}{child}").unwrap();
        }
        body.push_str("]}");
        body
    };
    assert_eq!(
        parse(&list(MAX_DESCRIPTORS), None).unwrap().manifests.len(),
        MAX_DESCRIPTORS
    );
    assert_eq!(
        parse(&list(MAX_DESCRIPTORS + 1), None),
        Err(ManifestError::TooManyDescriptors)
    );
}

#[test]
fn artifacts_with_the_empty_descriptor_and_unknown_types() {
    let empty = Digest::of(Algorithm::Sha256, b"{}");
    let body = format!(
        r#"{{"schemaVersion":2,"artifactType":"x/y","config":{{"mediaType":"{}","digest":"{empty}","size":2,
            "data":"e30="}},"layers":[{}]}}"#,
        media_type::OCI_EMPTY,
        descriptor("chemical/x-pdb", 'a'),
    );
    let manifest = parse(&body, Some(media_type::OCI_MANIFEST)).unwrap();
    assert_eq!(manifest.config.unwrap().digest, empty);
    assert_eq!(manifest.artifact_type.as_deref(), Some("x/y"));
    // sha512 digests, and a descriptor without a media type.
    let digest = Digest::of(Algorithm::Sha512, b"x");
    let body = format!(r#"{{"config":{{"digest":"{digest}","size":1}},"layers":[]}}"#);
    let manifest = parse(&body, None).unwrap();
    assert_eq!(manifest.artifact_type, None);
    assert_eq!(
        manifest.config.unwrap().digest.algorithm(),
        Algorithm::Sha512
    );
}

#[test]
fn foreign_layers() {
    let with_urls =
        descriptor("x/y", 'a').replacen(r#""size":7"#, r#""size":7,"urls":["https://a/b"]"#, 1);
    let table = [
        (descriptor(media_type::DOCKER_FOREIGN_LAYER, 'a'), true),
        (
            descriptor(
                "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
                'a',
            ),
            true,
        ),
        (with_urls, true),
        (
            descriptor("application/vnd.oci.image.layer.v1.tar", 'a'),
            false,
        ),
        (
            descriptor("x/y", 'a').replacen(r#""size":7"#, r#""size":7,"urls":[]"#, 1),
            false,
        ),
    ];
    for (json, expected) in table {
        let descriptor: Descriptor = serde_json::from_str(&json).unwrap();
        assert_eq!(descriptor.is_foreign(), expected, "{json}");
    }
}

#[test]
fn a_descriptor_is_written_without_what_it_lacks() {
    let json = descriptor("x/y", 'a');
    let parsed: Descriptor = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&parsed).unwrap(), json);
}
