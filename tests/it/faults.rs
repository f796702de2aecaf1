//! What clients see, and what is left, when the storage fails or they behave badly.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use reqwest::Method;
use serde_json::json;
use storage_drivers::{Op, faulty::Fault};

use crate::support::{
    Setup, TestRegistry, assert_oci_error,
    image::{OCI_MANIFEST, bytes, digest, manifest},
};

async fn assert_clean(registry: &TestRegistry) {
    let report = registry.registry.check(true).await.unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[tokio::test]
async fn a_push_to_a_failing_storage_is_503_and_can_be_tried_again() {
    for fault in [Fault::Full, Fault::ReadOnly, Fault::Temporary] {
        let registry = TestRegistry::start().await;
        let content = bytes(1, 5000);
        let digest = digest(&content);
        let start = registry
            .admin(Method::POST, "/v2/demo/app/blobs/uploads/")
            .send()
            .await
            .unwrap();
        let location = start.headers()["location"].to_str().unwrap().to_owned();
        let single = format!("/v2/demo/app/blobs/uploads/?digest={digest}");
        let finish = format!("{location}?digest={digest}");
        for (method, path) in [
            (Method::PATCH, &location),
            (Method::PUT, &finish),
            (Method::POST, &single),
        ] {
            registry.faults.fail_next(Op::Write, 1, fault);
            let answer = registry
                .admin(method, path)
                .body(content.clone())
                .send()
                .await
                .unwrap();
            assert_eq!(answer.headers()["retry-after"], "5");
            assert_oci_error(answer, 503, "UNAVAILABLE").await;
        }
        let answer = registry
            .admin(Method::PUT, &finish)
            .body(content.clone())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201, "the same upload goes on");

        let image = manifest(&content, &[]);
        registry.faults.fail_next(Op::Write, 1, fault);
        let push = registry
            .admin(Method::PUT, "/v2/demo/app/manifests/v1")
            .header("Content-Type", OCI_MANIFEST)
            .body(image.to_string());
        assert_oci_error(push.send().await.unwrap(), 503, "UNAVAILABLE").await;
        registry.push_manifest("demo/app", "v1", &image).await;
        assert_clean(&registry).await;
    }
}

#[tokio::test]
async fn a_failure_that_does_not_pass_is_500_without_its_reason() {
    let registry = TestRegistry::start().await;
    let digest = registry.push_blob("demo/app", b"content").await;
    registry.faults.fail_next(Op::Read, 1, Fault::Permanent);
    let answer = registry
        .admin(Method::GET, &format!("/v2/demo/app/blobs/{digest}"))
        .send()
        .await
        .unwrap();
    let body = assert_oci_error(answer, 500, "UNKNOWN").await;
    assert!(!body.to_string().contains("injected"), "{body}");
}

#[tokio::test]
async fn a_lost_object_is_never_a_404() {
    let registry = TestRegistry::start().await;
    let digest = registry.push_blob("demo/app", b"content").await;
    let tenant = storage_drivers::Tenant {
        account: "demo".into(),
        auth_tenant_id: "demo".into(),
    };
    let mut objects = registry.storage.list(&tenant).await.unwrap();
    let object = futures::TryStreamExt::try_next(&mut objects)
        .await
        .unwrap()
        .unwrap();
    registry.storage.delete(&tenant, &object.key).await.unwrap();
    let answer = registry
        .admin(Method::GET, &format!("/v2/demo/app/blobs/{digest}"))
        .send()
        .await
        .unwrap();
    assert_oci_error(answer, 500, "UNKNOWN").await;
    let report = registry.registry.check(false).await.unwrap();
    assert!(
        report.problems[0].contains("is missing"),
        "{:?}",
        report.problems
    );
}

#[tokio::test]
async fn a_read_that_breaks_off_never_looks_complete() {
    let registry = TestRegistry::start().await;
    let content = bytes(2, 3 << 20);
    let digest = registry.push_blob("demo/app", &content).await;
    registry.faults.cut_next_read(1 << 20);
    let answer = registry
        .admin(Method::GET, &format!("/v2/demo/app/blobs/{digest}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.content_length(), Some(3 << 20));
    assert!(answer.bytes().await.is_err());
}

/// Sends bytes on a connection of its own and gives everything that comes back until it is closed.
fn talk(registry: &TestRegistry, request: &[u8]) -> String {
    let mut connection = TcpStream::connect(registry.address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    connection.write_all(request).unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has been ended by the registry as well; one that stays has not.
    if let Err(error) = connection.read_to_end(&mut answer) {
        let is_ended = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(is_ended, "the registry did not end the connection: {error}");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_in_the_middle_is_given_up_and_leaves_nothing() {
    let setup = Setup::default().config(|config| config.server.idle_timeout_seconds = 1);
    let registry = setup.start().await;
    let token = registry
        .token("admin", &["repository:demo/app:pull,push"])
        .await;
    let digest = digest(b"never sent");
    for head in [
        format!("POST /v2/demo/app/blobs/uploads/?digest={digest} HTTP/1.1"),
        "PUT /v2/demo/app/manifests/v1 HTTP/1.1".to_owned(),
    ] {
        let request = format!(
            "{head}\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Length: 100000\r\n\
             Content-Type: {OCI_MANIFEST}\r\n\r\nonly this",
            registry.address
        );
        let answer = talk(&registry, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("REQUEST_TIMEOUT"), "{answer}");
    }
    assert_eq!(registry.object_count("demo").await, 0);
    assert_clean(&registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_and_a_head_that_is_too_large_are_refused() {
    let setup = Setup::default().config(|config| config.server.head_timeout_seconds = 1);
    let registry = setup.start().await;
    let silent = talk(&registry, b"");
    assert!(
        silent.is_empty() || silent.starts_with("HTTP/1.1 408 "),
        "{silent}"
    );
    let answer = talk(&registry, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
        "{answer}"
    );
    let mut bomb = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n".to_vec();
    for number in 0..2000 {
        bomb.extend_from_slice(format!("X-{number}: {}\r\n", "y".repeat(400)).as_bytes());
    }
    bomb.extend_from_slice(b"\r\n");
    let answer = talk(&registry, &bomb);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    let answer = registry.admin(Method::GET, "/v2/").send().await.unwrap();
    assert_eq!(answer.status(), 200, "others are still served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let setup = Setup::default().config(|config| config.server.idle_timeout_seconds = 1);
    let registry = setup.start().await;
    let digest = registry.push_blob("demo/app", &bytes(3, 32 << 20)).await;
    let token = registry.token("admin", &["repository:demo/app:pull"]).await;
    let mut connection = TcpStream::connect(registry.address).unwrap();
    let request = format!(
        "GET /v2/demo/app/blobs/{digest} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\r\n",
        registry.address
    );
    connection.write_all(request.as_bytes()).unwrap();
    let in_flight = || async {
        let metrics = registry
            .anonymous(Method::GET, "/metrics")
            .send()
            .await
            .unwrap();
        let text = metrics.text().await.unwrap();
        let line = text
            .lines()
            .find(|line| line.starts_with("kontor_http_in_flight "))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    // The request for the metrics is one itself.
    let mut ended = false;
    for _ in 0..300 {
        if in_flight().await == 1 {
            ended = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(ended, "the stalled download still holds its resources");
    drop(connection);
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_nothing() {
    let registry = TestRegistry::start().await;
    let token = registry
        .token("admin", &["repository:demo/app:pull,push"])
        .await;
    let digest = digest(b"never sent");
    {
        let mut connection = TcpStream::connect(registry.address).unwrap();
        let request = format!(
            "POST /v2/demo/app/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: {}\r\n\
             Authorization: Bearer {token}\r\nContent-Length: 100000\r\n\r\nhalf",
            registry.address
        );
        connection.write_all(request.as_bytes()).unwrap();
        registry.faults.calls_reached(Op::Write, 1).await;
    }
    for _ in 0..200 {
        if registry.object_count("demo").await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(registry.object_count("demo").await, 0);
    assert_clean(&registry).await;
}

#[tokio::test]
async fn readiness_tells_which_part_fails() {
    let registry = TestRegistry::start().await;
    let ready = registry
        .anonymous(Method::GET, "/readyz")
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
    registry.faults.fail_next(Op::Check, 10, Fault::ReadOnly);
    let answer = registry
        .anonymous(Method::GET, "/readyz")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "5");
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["parts"]["database"], "ok");
    assert_eq!(body["parts"]["storage default"], "failed");
    let alive = registry
        .anonymous(Method::GET, "/healthz")
        .send()
        .await
        .unwrap();
    assert_eq!(alive.status(), 200);
}

#[tokio::test]
async fn what_strangers_send_never_becomes_a_label_and_chunked_bodies_are_counted() {
    let registry = TestRegistry::start().await;
    let invented = Method::from_bytes(b"INVENTED").unwrap();
    let answer = registry
        .anonymous(invented, "/v2/secret/repo/tags/list")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 405);
    let body = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>(bytes(
        1, 1000,
    ))]));
    let path = format!(
        "/v2/demo/app/blobs/uploads/?digest={}",
        digest(&bytes(1, 1000))
    );
    let answer = registry
        .admin(Method::POST, &path)
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let metrics = registry
        .anonymous(Method::GET, "/metrics")
        .send()
        .await
        .unwrap();
    let text = metrics.text().await.unwrap();
    assert!(
        !text.contains("INVENTED") && !text.contains("secret"),
        "{text}"
    );
    assert!(text.contains("method=\"other\""), "{text}");
    assert!(
        text.contains("kontor_http_body_bytes_total{direction=\"in\"} 1000"),
        "{text}"
    );
}

#[tokio::test]
async fn a_backend_that_hangs_does_not_slow_the_others() {
    use kontor::config::{BackendConfig, CommonConfig};
    use storage_drivers::StorageConfig;
    let registry = Setup::default()
        .second()
        .config(|config| {
            let common = CommonConfig {
                max_calls: 2,
                ..CommonConfig::default()
            };
            let driver = StorageConfig::Memory {};
            let backend = BackendConfig { driver, common };
            config.storage.insert("second".to_owned(), backend);
        })
        .start()
        .await;
    let order = json!({ "auth_tenant_id": "demo", "storage": "second" });
    assert_eq!(registry.account("slow", order).await.status(), 201);
    let slow = registry.push_blob("slow/app", b"slow").await;
    let fast = registry.push_blob("demo/app", b"fast").await;
    let second = registry.second.as_ref().unwrap();
    let gate = second.faults.hold(Op::Read);
    // Far more than the backend's own limit.
    let path = format!("/v2/slow/app/blobs/{slow}");
    let stuck: Vec<_> = (0..50)
        .map(|_| tokio::spawn(registry.admin(Method::GET, &path).send()))
        .collect();
    second.faults.calls_reached(Op::Read, 2).await;
    for seed in 0..20 {
        let answer = registry.get(&format!("/v2/demo/app/blobs/{fast}")).await;
        assert_eq!(answer.bytes().await.unwrap().as_ref(), b"fast");
        registry.push_blob("demo/app", &bytes(seed, 10)).await;
    }
    assert_eq!(second.faults.calls(Op::Read), 2, "the others wait outside");
    assert_eq!(registry.get("/readyz").await.status(), 200);
    gate.open();
    for pull in stuck {
        assert_eq!(pull.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn a_node_is_ready_while_one_of_its_backends_works() {
    let registry = Setup::default().second().start().await;
    let readyz = async || {
        let answer = registry
            .anonymous(Method::GET, "/readyz")
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<serde_json::Value>().await.unwrap())
    };
    let second = registry.second.as_ref().unwrap();
    second.faults.fail_next(Op::Check, 2, Fault::Temporary);
    let (status, body) = readyz().await;
    assert_eq!((status, &body["ready"]), (200, &json!(true)));
    assert_eq!(body["parts"]["storage second"], "failed");
    registry.faults.fail_next(Op::Check, 1, Fault::Temporary);
    assert_eq!(readyz().await.0, 503);
    assert_eq!(readyz().await.0, 200);
}
