//! The real binary as a process: first start, command line, signals, TLS.

mod addresses;
mod apply;
mod command_line;
mod draining;
mod retention;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use kontor::auth::password;
use reqwest::{Client, StatusCode, Version};

use crate::support::{PASSWORD, TestRegistry, image::digest};

const KONTOR: &str = env!("CARGO_BIN_EXE_kontor");

/// A registry in a process of its own, killed when the test ends.
struct Process {
    child: Child,
    /// Reads the log all the time: a full pipe would stop the registry.
    log: Option<JoinHandle<String>>,
    /// What it printed before it was ready.
    welcome: Vec<String>,
    /// Such as `127.0.0.1:1234`.
    host: String,
}

impl Process {
    fn start(data_dir: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_as("all", data_dir, variables)
    }

    fn start_as(role: &str, data_dir: &Path, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(KONTOR)
            .args(["serve", role])
            .arg("--data-dir")
            .arg(data_dir)
            .env("KONTOR__SERVER__LISTEN", "127.0.0.1:0")
            .env("KONTOR__LOG__FORMAT", "json")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            log
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut welcome = Vec::new();
        for line in lines.by_ref().map(Result::unwrap) {
            let is_last = line.starts_with("docker pull ") && !line.contains("&&");
            welcome.push(line);
            if is_last {
                break;
            }
        }
        let host = welcome
            .last()
            .unwrap_or_else(|| panic!("kontor serve printed nothing"));
        let host = host
            .split_whitespace()
            .last()
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned();
        Self {
            child,
            log: Some(log),
            welcome,
            host,
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the end; gives whether it was a success, and the log.
    fn end(mut self) -> (bool, String) {
        let log = self.log.take().unwrap().join().unwrap();
        (self.child.wait().unwrap().success(), log)
    }

    async fn login(&self, password: &str) -> StatusCode {
        let url = format!("http://{}/v2/", self.host);
        Client::new()
            .get(url)
            .basic_auth("admin", Some(password))
            .send()
            .await
            .unwrap()
            .status()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let mut child = Command::new(KONTOR)
        .args(arguments)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn password_of(welcome: &[String]) -> Option<String> {
    let login = welcome
        .iter()
        .find(|line| line.starts_with("docker login "))?;
    Some(login.split_once(" --password ")?.1.to_owned())
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_makes_all_that_is_needed_and_the_second_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let first = Process::start(&data_dir, &[]);
    let secret = password_of(&first.welcome).unwrap();
    let commands: Vec<&str> = first
        .welcome
        .iter()
        .filter_map(|line| line.strip_prefix("docker "))
        .collect();
    assert_eq!(commands.len(), 3, "{:?}", first.welcome);
    assert!(commands[1].contains(&format!("docker push {}/demo/alpine", first.host)));
    assert_eq!(first.login(&secret).await, 200);
    assert_eq!(first.login("wrong").await, 401);

    // While it runs, another node may use the same data.
    let second = Process::start(&data_dir, &[]);
    assert_eq!(password_of(&second.welcome), None, "{:?}", second.welcome);
    assert_eq!(second.login(&secret).await, 200);

    assert_eq!(mode(&data_dir), 0o700);
    assert_eq!(mode(&data_dir.join("signing-key.pem")), 0o600);
    assert_eq!(mode(&data_dir.join("kontor.db")), 0o600);
    for file in files(&data_dir) {
        let content = std::fs::read(&file).unwrap();
        let is_there = content
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!is_there, "the password stands in {}", file.display());
    }
    for process in [first, second] {
        process.signal("-TERM");
        let (is_success, log) = process.end();
        assert!(is_success, "{log}");
        assert!(!log.contains(&secret), "the password stands in the log");
    }
    let check = run(
        &[
            "check",
            "--digests",
            "--data-dir",
            data_dir.to_str().unwrap(),
        ],
        &[],
        "",
    );
    assert!(check.status.success(), "{}", text(&check.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_password_can_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let process = Process::start(
        &data_dir,
        &[("KONTOR__AUTH__INITIAL_ADMIN_PASSWORD", "first password")],
    );
    assert_eq!(
        password_of(&process.welcome),
        None,
        "a chosen password is not shown"
    );
    assert_eq!(process.login("first password").await, 200);
    let path = data_dir.to_str().unwrap();
    let output = run(
        &["user", "set-password", "admin", "--data-dir", path],
        &[],
        "second password\n",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(process.login("second password").await, 200);
    assert_eq!(
        process.login("first password").await,
        401,
        "the old one does not count any more"
    );
    let output = run(
        &[
            "user",
            "set-password",
            "admin",
            "--data-dir",
            "/nonexistent",
        ],
        &[],
        "x\n",
    );
    assert!(text(&output.stderr).contains("there is no registry in /nonexistent"));
    assert!(!output.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_first_starts_on_one_folder_make_one_registry() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let starts: Vec<_> = (0..4)
        .map(|_| {
            let data_dir = data_dir.clone();
            std::thread::spawn(move || Process::start(&data_dir, &[]))
        })
        .collect();
    let processes: Vec<Process> = starts
        .into_iter()
        .map(|start| start.join().unwrap())
        .collect();
    let passwords: Vec<String> = processes
        .iter()
        .filter_map(|process| password_of(&process.welcome))
        .collect();
    let [password] = passwords.as_slice() else {
        panic!("one password, not {passwords:?}")
    };
    for process in &processes {
        assert_eq!(process.login(password).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(
        &folder.path().join("data"),
        &[("KONTOR__SERVER__LISTEN", "[::1]:0")],
    );
    assert!(process.host.starts_with("[::1]:"), "{}", process.host);
    let answer = Client::new()
        .get(format!("http://{}/healthz", process.host))
        .send()
        .await;
    assert_eq!(answer.unwrap().status(), 200);
}

/// Begins an upload of two halves and sends the first.
fn half_an_upload(host: &str, content: &[u8]) -> TcpStream {
    let mut connection = TcpStream::connect(host).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let credentials =
        base64::Engine::encode(&base64::prelude::BASE64_STANDARD, "admin:secret word");
    let head = format!(
        "POST /v2/demo/app/blobs/uploads/?digest={} HTTP/1.1\r\nHost: {host}\r\n\
         Authorization: Basic {credentials}\r\nContent-Length: {}\r\n\r\n",
        digest(content),
        content.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(&content[..content.len() / 2]).unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn both_signals_let_requests_in_flight_end() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let variables = [("KONTOR__AUTH__INITIAL_ADMIN_PASSWORD", "secret word")];
        let process = Process::start(&data_dir, &variables);
        let content = vec![7; 2_000_000];
        let mut connection = half_an_upload(&process.host, &content);
        // The chunk is in the storage folder as soon as the first half is being written.
        let chunks = data_dir.join("storage/demo");
        wait_until(|| {
            files(&chunks)
                .iter()
                .any(|file| file.to_string_lossy().contains("chunks"))
        });
        process.signal(signal);
        let host = process.host.clone();
        wait_until(|| TcpStream::connect(&host).is_err());
        connection.write_all(&content[content.len() / 2..]).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{signal}: {answer}");
        let (is_success, log) = process.end();
        assert!(is_success, "{signal}: {log}");
    }
}

/// Polls a condition that must come true.
fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it did not come true within 20 seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_line_of_json_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("KONTOR__AUTH__INITIAL_ADMIN_PASSWORD", "s3cr3t-word")];
    let process = Process::start(&folder.path().join("data"), &variables);
    let url = format!("http://{}/v2/demo/app/tags/list", process.host);
    let answer = Client::new()
        .get(url)
        .basic_auth("admin", Some("s3cr3t-word"))
        .send()
        .await
        .unwrap();
    let id = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let body = answer.text().await.unwrap();
    process.signal("-TERM");
    let (_, log) = process.end();
    assert!(!log.contains("s3cr3t-word"));
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line["request_id"] == id.as_str())
        .collect();
    let [line] = lines.as_slice() else {
        panic!("{log}")
    };
    assert_eq!(line["method"], "GET");
    assert_eq!(line["status"], 404);
    assert_eq!(line["account"], "demo");
    assert_eq!(line["caller"], "static:admin");
    assert_eq!(line["sent_bytes"], body.len());
    assert!(line["seconds"].as_f64().unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_managed_from_the_command_line() {
    let registry = TestRegistry::start().await;
    let url = registry.url("");
    let variables = [
        ("KONTOR_SERVER", url.as_str()),
        ("KONTOR_PASSWORD", PASSWORD),
    ];
    let account = |arguments: &[&str]| {
        let arguments: Vec<&str> = ["account"].iter().chain(arguments).copied().collect();
        let output = run(&arguments, &variables, "");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {err}");
        out
    };
    account(&[
        "create",
        "team",
        "--auth-tenant",
        "t1",
        "--anonymous-pull",
        "pub/.*",
    ]);
    assert_eq!(
        row(&account(&["list"]), "team"),
        ["team", "t1", "default", "ready"]
    );
    assert!(account(&["show", "team"]).contains("pub/.*"));
    let shown = account(&[
        "update",
        "team",
        "--allow-sparse-manifests",
        "true",
        "--anonymous-pull",
        "",
    ]);
    assert!(
        row(&shown, "allow_sparse_manifests") == ["allow_sparse_manifests", "true"],
        "{shown}"
    );
    assert!(!shown.contains("pub/.*"), "{shown}");
    account(&["delete", "team"]);
    assert!(!account(&["list"]).contains("team"));

    let wrong = [
        ("KONTOR_SERVER", url.as_str()),
        ("KONTOR_PASSWORD", "wrong"),
    ];
    let output = run(&["account", "list"], &wrong, "");
    assert!(!output.status.success());
    assert!(
        text(&output.stderr).contains("401"),
        "{}",
        text(&output.stderr)
    );
    let nowhere = [
        ("KONTOR_SERVER", "http://127.0.0.1:1"),
        ("KONTOR_PASSWORD", PASSWORD),
    ];
    let output = run(&["account", "list"], &nowhere, "");
    assert!(
        text(&output.stderr).contains("is it running"),
        "{}",
        text(&output.stderr)
    );
}

/// What a command prints on standard output; it must succeed.
fn printed(url: &str, (user, password): (&str, &str), arguments: &[&str], input: &str) -> String {
    let variables = [
        ("KONTOR_SERVER", url),
        ("KONTOR_USER", user),
        ("KONTOR_PASSWORD", password),
    ];
    let output = run(arguments, &variables, input);
    let err = text(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {err}");
    text(&output.stdout)
}

/// The words of the line that begins with `first`.
fn row(out: &str, first: &str) -> Vec<String> {
    let mut lines = out
        .lines()
        .map(|line| line.split_whitespace().map(ToOwned::to_owned));
    let line = lines.find(|words| words.clone().next().as_deref() == Some(first));
    line.unwrap_or_else(|| panic!("no line begins with {first}: {out}"))
        .collect()
}

/// A secret stands alone on standard output, so that a script can take it.
fn only_line(out: String) -> String {
    assert_eq!(out.lines().count(), 1, "{out}");
    out.trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_tokens_are_managed_from_the_command_line() {
    let registry = TestRegistry::start().await;
    let url = registry.url("");
    let admin = |arguments: &[&str]| printed(&url, ("admin", PASSWORD), arguments, "");
    let password = only_line(admin(&["user", "create", "bob"]));
    let granted = admin(&["user", "grant", "bob", "demo", "view,pull"]);
    assert_eq!(row(&granted, "is_disabled"), ["is_disabled", "false"]);
    admin(&["user", "grant", "bob", "*", "all"]);
    let all = row(&admin(&["user", "list"]), "bob").concat();
    assert!(all.starts_with("bobfalsedemo:view,pull,*:view,"), "{all}");
    admin(&["user", "grant", "bob", "*", "none"]);
    let bob_row = || row(&admin(&["user", "list"]), "bob");
    assert_eq!(bob_row(), ["bob", "false", "demo:view,pull"]);
    admin(&["user", "disable", "bob"]);
    assert_eq!(bob_row(), ["bob", "true", "demo:view,pull"]);
    admin(&["user", "enable", "bob"]);
    assert_eq!(bob_row(), ["bob", "false", "demo:view,pull"]);
    registry.clock.advance(chrono::TimeDelta::seconds(2));

    let changed = printed(
        &url,
        ("bob", &password),
        &["user", "passwd"],
        "a better one\n",
    );
    assert_eq!(changed, "bob has a new password\n");
    let bob = |arguments: &[&str]| printed(&url, ("bob", "a better one"), arguments, "");
    let token = only_line(bob(&[
        "token",
        "create",
        "--permissions",
        "pull",
        "--description",
        "laptop",
    ]));
    let me = printed(&url, ("bob", &token), &["whoami", "-o", "json"], "");
    let me: serde_json::Value = serde_json::from_str(&me).unwrap();
    assert_eq!(me["identity"], "static:bob");
    assert_eq!(me["narrowed_to"], serde_json::json!(["pull"]));
    let listed = bob(&["token", "list", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = listed[0]["id"].as_str().unwrap();
    let cells = row(&bob(&["token", "list"]), id);
    assert_eq!((cells[1].as_str(), cells[4].as_str()), ("pull", "laptop"));
    bob(&["token", "delete", id]);
    assert_eq!(bob(&["token", "list"]), "");
    only_line(bob(&["token", "create"]));
    admin(&["token", "revoke", "--subject", "static:bob"]);
    assert_eq!(bob(&["token", "list"]), "");
    let revoked = admin(&["token", "revoke", "--jti", "some-jti"]);
    assert!(revoked.contains("two seconds"));
    let both = run(
        &["token", "revoke", "--jti", "a", "--subject", "b"],
        &[],
        "",
    );
    assert!(!both.status.success());
    admin(&["user", "delete", "bob"]);
    assert!(!admin(&["user", "list"]).contains("bob"));
    let chosen = ["user", "create", "eve", "--operator", "--password-stdin"];
    printed(&url, ("admin", PASSWORD), &chosen, "eves own word\n");
    printed(&url, ("eve", "eves own word"), &["user", "list"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn robots_are_managed_from_the_command_line() {
    let registry = TestRegistry::start().await;
    let url = registry.url("");
    let admin = |arguments: &[&str]| printed(&url, ("admin", PASSWORD), arguments, "");
    let who = |secret: &str| {
        let variables = [
            ("KONTOR_SERVER", url.as_str()),
            ("KONTOR_USER", "demo+ci"),
            ("KONTOR_PASSWORD", secret),
        ];
        run(&["whoami"], &variables, "").status.success()
    };
    let first = only_line(admin(&[
        "robot",
        "create",
        "demo",
        "ci",
        "--permissions",
        "pull,push",
        "--repository",
        "app",
        "--repository",
        "team/.*",
        "--expires-at",
        "2099-01-31T00:00:00Z",
    ]));
    assert!(who(&first));
    let listed = admin(&["robot", "list", "demo"]);
    let cells = [
        "demo+ci",
        "false",
        "pull,push",
        "app,team/.*",
        "2099-01-31T00:00:00Z",
    ];
    assert_eq!(row(&listed, "demo+ci")[..5], cells);
    registry.clock.advance(chrono::TimeDelta::seconds(1));
    let second = only_line(admin(&["robot", "rotate", "demo", "ci"]));
    assert!(who(&first) && who(&second));
    let shown = admin(&["robot", "show", "demo", "ci", "-o", "json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let id = shown["secrets"][0]["id"].as_str().unwrap();
    admin(&["robot", "delete-secret", "demo", "ci", id]);
    let disabled = admin(&["robot", "disable", "demo", "ci"]);
    assert_eq!(row(&disabled, "is_disabled"), ["is_disabled", "true"]);
    assert!(!who(&second));
    admin(&["robot", "enable", "demo", "ci"]);
    assert!(who(&second));
    admin(&["robot", "delete", "demo", "ci"]);
    assert_eq!(admin(&["robot", "list", "demo"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_even_when_everything_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("KONTOR__AUTH__INITIAL_ADMIN_PASSWORD", "s3cr3t-word"),
        ("KONTOR__LOG__LEVEL", "trace"),
    ];
    let process = Process::start(&folder.path().join("data"), &variables);
    let url = format!("http://{}", process.host);
    let (client, admin) = (Client::new(), ("admin", "s3cr3t-word"));
    let robot = only_line(printed(&url, admin, &["robot", "create", "demo", "ci"], ""));
    let personal = only_line(printed(&url, admin, &["token", "create"], ""));
    let random = only_line(printed(&url, admin, &["user", "create", "bob"], ""));
    printed(&url, admin, &["user", "passwd", "bob"], "bobs-new-word\n");
    let mut secrets = vec![
        "s3cr3t-word".to_owned(),
        "a-wrong-word".to_owned(),
        "bobs-new-word".to_owned(),
        random,
    ];
    for (user, secret) in [
        admin,
        ("admin", personal.as_str()),
        ("demo+ci", &robot),
        ("admin", "a-wrong-word"),
    ] {
        let login = client
            .get(format!("{url}/token?offline_token=true"))
            .basic_auth(user, Some(secret));
        let login: serde_json::Value = login.send().await.unwrap().json().await.unwrap();
        let Some(refresh) = login["refresh_token"].as_str() else {
            assert_eq!(secret, "a-wrong-word");
            continue;
        };
        let form = format!("grant_type=refresh_token&refresh_token={refresh}");
        let again = client.post(format!("{url}/token")).body(form).send().await;
        let again: serde_json::Value = again.unwrap().json().await.unwrap();
        let access = again["access_token"].as_str().unwrap();
        let pull = client
            .get(format!("{url}/v2/"))
            .bearer_auth(access)
            .send()
            .await;
        assert_eq!(pull.unwrap().status(), 200);
        let wrong = client.get(format!("{url}/v2/")).bearer_auth(refresh);
        assert_eq!(wrong.send().await.unwrap().status(), 401);
        secrets.extend([refresh.to_owned(), access.to_owned()]);
    }
    secrets.extend([robot, personal]);
    process.signal("-TERM");
    let (_, log) = process.end();
    assert!(log.lines().count() > 20, "much is logged");
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} stands in the log");
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &secret);
        assert!(
            !log.contains(&encoded),
            "{secret} stands in the log, encoded"
        );
    }
}

#[test]
fn the_configuration_is_checked_and_passwords_are_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kontor.toml");
    std::fs::write(&file, "[server]\nlisten = [\"127.0.0.1:1\", \"[::1]:1\"]\n").unwrap();
    let path = file.to_str().unwrap();
    let output = run(&["config", "check", "--config", path], &[], "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::write(&file, "[server]\nlisten_on = \"127.0.0.1:1\"\n").unwrap();
    let output = run(&["config", "check", "--config", path], &[], "");
    assert!(!output.status.success());
    let error = text(&output.stderr);
    assert!(
        error.contains("listen_on") && error.contains(path),
        "{error}"
    );
    let output = run(&["user", "hash-password"], &[], "correct horse\n");
    let hash = text(&output.stdout);
    assert!(password::verify(
        PASSWORD,
        hash.trim(),
        &mut password::Memory::default()
    ));
}

#[expect(
    clippy::print_stdout,
    reason = "a test that cannot run must not pass in silence"
)]
fn tell(what: &str) {
    println!("{what}");
}

/// Makes a certificate for 127.0.0.1; `name` is its subject.
fn certificate(folder: &Path, name: &str) -> Option<()> {
    let made = Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
        ])
        .arg(format!("/CN={name}"))
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(folder.join("new-key.pem"))
        .arg("-out")
        .arg(folder.join("new-cert.pem"))
        .stderr(Stdio::null())
        .status()
        .ok()?;
    assert!(made.success());
    for part in ["key", "cert"] {
        let (new, file) = (format!("new-{part}.pem"), format!("{part}.pem"));
        std::fs::rename(folder.join(new), folder.join(file)).unwrap();
    }
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_speaks_http_2_and_takes_a_renewed_certificate_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    if certificate(folder.path(), "first").is_none() {
        tell("NOT TESTED: there is no openssl command to make a certificate with");
        return;
    }
    let (certificate_file, key_file) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    let process = Process::start(
        &folder.path().join("data"),
        &[
            (
                "KONTOR__SERVER__TLS__CERTIFICATE_FILE",
                certificate_file.to_str().unwrap(),
            ),
            ("KONTOR__SERVER__TLS__KEY_FILE", key_file.to_str().unwrap()),
        ],
    );
    let url = format!("https://{}/healthz", process.host);
    let trusting = |file: &Path| {
        let root = reqwest::Certificate::from_pem(&std::fs::read(file).unwrap()).unwrap();
        Client::builder().tls_certs_only([root]).build().unwrap()
    };
    let answer = trusting(&certificate_file).get(&url).send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.version()),
        (StatusCode::OK, Version::HTTP_2)
    );
    let root = std::fs::read(&certificate_file).unwrap();
    let old_fashioned = Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&root).unwrap()])
        .http1_only()
        .build()
        .unwrap();
    let answer = old_fashioned.get(&url).send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.version()),
        (StatusCode::OK, Version::HTTP_11)
    );
    let first = std::fs::read(&certificate_file).unwrap();
    // Half of a renewal: the key does not belong to the certificate, so the old pair stays in use.
    std::fs::write(&key_file, "not a key").unwrap();
    std::fs::write(folder.path().join("first.pem"), &first).unwrap();
    let answer = trusting(&folder.path().join("first.pem"))
        .get(&url)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    certificate(folder.path(), "second").unwrap();
    let mut is_renewed = false;
    for _ in 0..200 {
        if trusting(&certificate_file).get(&url).send().await.is_ok() {
            is_renewed = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(is_renewed, "the renewed certificate is not served");
}
