//! How a process stops while a proxy stands before it, and what it does of all that kontor can do.

use super::*;

/// Sends a request over an open connection and reads the head and the short body of its answer.
fn ask(connection: &mut BufReader<TcpStream>, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: registry.example\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(connection.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let head = head.to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
    (head, text(&body))
}

fn connect(host: &str) -> BufReader<TcpStream> {
    let connection = TcpStream::connect(host).unwrap();
    let patience = Some(Duration::from_secs(30));
    connection.set_read_timeout(patience).unwrap();
    BufReader::new(connection)
}

fn is_ready(host: &str) -> bool {
    let (head, _) = ask(&mut connect(host), "/readyz");
    head.starts_with("http/1.1 200 ")
}

#[test]
fn a_process_that_is_about_to_stop_says_so_and_goes_on_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than the test: what is seen is seen before the listener closes.
    let variables = [("KONTOR__SERVER__DRAIN_DELAY_SECONDS", "3600")];
    let process = Process::start(&folder.path().join("data"), &variables);
    let mut kept = connect(&process.host);
    let (head, _) = ask(&mut kept, "/healthz");
    assert!(!head.contains("connection: close"), "{head}");
    assert!(is_ready(&process.host));
    process.signal("-TERM");
    wait_until(|| !is_ready(&process.host));
    let (head, body) = ask(&mut connect(&process.host), "/readyz");
    assert!(head.starts_with("http/1.1 503 "), "{head}");
    assert!(head.contains("retry-after: 5"), "{head}");
    assert_eq!(body, r#"{"ready":false,"stopping":true}"#);
    // Over the connection from before, and over new ones, all others get their answers, and no second one.
    let (head, _) = ask(&mut kept, "/healthz");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(kept.read(&mut [0]).unwrap(), 0);
    let (head, _) = ask(&mut connect(&process.host), "/v2/");
    assert!(head.starts_with("http/1.1 401 "), "{head}");
    assert!(head.contains("connection: close"), "{head}");
}

#[test]
fn a_process_ends_after_the_delay() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("KONTOR__SERVER__DRAIN_DELAY_SECONDS", "1")];
    let process = Process::start(&folder.path().join("data"), &variables);
    process.signal("-TERM");
    let (is_success, log) = process.end();
    assert!(is_success, "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn an_api_answers_clients_and_a_janitor_only_how_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    for (role, status) in [("api", 401), ("janitor", 404)] {
        let process = Process::start_as(role, &data_dir, &[]);
        assert!(is_ready(&process.host), "{role}");
        let answer = ask(&mut connect(&process.host), "/v2/").0;
        let expected = format!("http/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{role}: {answer}");
        process.signal("-TERM");
        let (is_success, log) = process.end();
        assert!(is_success, "{role}: {log}");
    }
}
