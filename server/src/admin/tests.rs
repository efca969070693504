//! The admin port over a real loopback port, with a real token.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::dev::ServerHandle;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sip::digest::Ha1;

use super::*;

/// A house that remembers what it was told.
struct Doll {
    store: Store,
    ready: AtomicBool,
    told: Mutex<Vec<String>>,
}

impl Caretaker for Doll {
    fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) { Ok(()) } else { Err("draining".to_owned()) }
    }

    fn store(&self) -> Option<Store> {
        Some(self.store.clone())
    }

    fn tree(&self) -> Work<Value> {
        Box::pin(async { json!({ "name": "root", "children": [] }) })
    }

    fn account_changed(&self, aor: &Aor) -> Work<()> {
        self.told.lock().push(aor.to_string());
        Box::pin(async {})
    }
}

/// An admin port on a thread of its own; it ends with this.
pub(crate) struct Port {
    pub(crate) at: SocketAddr,
    token: Token,
    house: Arc<Doll>,
    handle: ServerHandle,
    pub(crate) dir: tempfile::TempDir,
}

impl Drop for Port {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

/// Opens one, with an empty store behind it.
pub(crate) fn port() -> Port {
    let dir = tempfile::tempdir().unwrap();
    let token = Token::read_or_make(&dir.path().join("admin.token")).unwrap();
    let house = Arc::new(Doll { store: Store::in_memory(), ready: AtomicBool::new(true), told: Mutex::default() });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let loaded = crate::settings::from_text("p.toml", "domain = \"example.com\"\n", std::iter::empty()).unwrap();
    let admin = Admin {
        house: house.clone(),
        log: Log::detached(),
        token: token.clone(),
        rules: Rules::of(&loaded.settings),
        sources: vec![Arc::new(crate::telemetry::Process)],
    };
    let (give, take) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let server = serve(listener, admin).unwrap();
            give.send(server.handle()).unwrap();
            server.await.unwrap();
        });
    });
    Port { at, token, house, handle: take.recv().unwrap(), dir }
}

impl Port {
    /// With the token: status and body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_as(&format!("Authorization: Bearer {}\r\n", self.token.as_str()), method, path, body)
    }

    fn ask_as(&self, header: &str, method: &str, path: &str, body: &str) -> (u16, String) {
        let length = body.len();
        self.raw(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}Content-Length: {length}\r\n\r\n{body}").as_bytes())
    }

    fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut line = TcpStream::connect(self.at).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        line.write_all(request).unwrap();
        let mut answer = Vec::new();
        // A connection that is cut after its answer has given it all the same.
        let _ = line.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, if chunked { unchunked(body) } else { body.to_owned() })
    }

    fn json(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = self.ask(method, path, &body.to_string());
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn account(&self, aor: &str) -> Option<storage::Account> {
        self.house.store.account(&Aor::parse(aor).unwrap()).wait().unwrap()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.house.told.lock())
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}

#[test]
fn health_readiness_and_metrics_are_open() {
    let port = port();
    assert_eq!(port.ask_as("", "GET", "/healthz", "").0, 200);
    assert_eq!(port.ask_as("", "GET", "/readyz", "").0, 200);
    let (status, text) = port.ask_as("", "GET", "/metrics", "");
    assert_eq!(status, 200);
    assert!(text.contains("\nparlour_ready 1\n") && text.contains("process_resident_memory_bytes "), "{text}");
    port.house.ready.store(false, Ordering::Relaxed);
    assert_eq!(port.ask_as("", "GET", "/readyz", ""), (503, "draining\n".to_owned()));
    assert_eq!(port.ask_as("", "GET", "/healthz", "").0, 200, "a house that drains is alive");
}

#[test]
fn everything_else_needs_the_token() {
    let port = port();
    let paths = [
        "/tree",
        "/log",
        "/users",
        "/users/sip:a@example.com",
        "/backup",
        "/rooms",
        "/trace/x",
        "/headroom",
        "/",
        "/nowhere",
    ];
    for path in paths {
        for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic YTpi\r\n"] {
            for method in ["GET", "POST", "PUT", "DELETE"] {
                let (status, body) = port.ask_as(header, method, path, "");
                assert_eq!(status, 401, "{method} {path} with {header:?}");
                assert!(body.contains("\"error\""), "{body}");
            }
        }
    }
}

#[test]
fn what_is_not_there_says_so_in_json() {
    let port = port();
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("DELETE", "/tree", 405),
        ("PATCH", "/users", 405),
        ("POST", "/healthz", 405),
        ("GET", "/rooms", 501),
        ("POST", "/rooms/sip:x@y/close", 501),
        ("GET", "/trace/abc", 501),
        ("GET", "/headroom", 501),
        ("GET", "/", 501),
    ] {
        let (found, body) = port.ask(method, path, "");
        assert_eq!(found, status, "{method} {path}");
        assert!(serde_json::from_str::<Value>(&body).unwrap()["error"].is_string(), "{method} {path}: {body}");
    }
}

#[test]
fn the_log_filter_is_read_and_set() {
    let port = port();
    assert_eq!(port.ask("GET", "/log", ""), (200, "info\n".to_owned()));
    assert_eq!(port.ask("PUT", "/log", "info,net=debug"), (200, "info,net=debug\n".to_owned()));
    for wrong in ["\0 = no filter =", "", "loud"] {
        assert_eq!(port.ask("PUT", "/log", wrong).0, 400, "{wrong:?}");
    }
    assert_eq!(port.ask("PUT", "/log", &"a".repeat(5_000)).0, 413);
    assert_eq!(port.ask("GET", "/log", ""), (200, "info,net=debug\n".to_owned()));
}

#[test]
fn a_user_is_made_shown_changed_and_removed_and_the_house_is_told() {
    let port = port();
    let user = json!({ "aor": "sip:dora@example.com", "password": "one", "aliases": ["tel:+441"], "services": ["xdm", "message"] });
    let shown = json!({ "aor": "sip:dora@example.com", "aliases": ["tel:+441"], "login": "dora", "services": ["message", "xdm"], "history_limit": null });
    assert_eq!(port.json("POST", "/users", &user), (201, shown.clone()));
    assert_eq!(port.account("tel:+441").unwrap().ha1_sha256, Ha1::of("dora", "example.com", "one").sha256);
    assert_eq!(port.json("POST", "/users", &user).0, 409, "made twice");
    assert_eq!(port.json("GET", "/users/tel%3A%2B441", &Value::Null), (200, shown.clone()), "by its alias, escaped");
    assert_eq!(port.json("GET", "/users", &Value::Null), (200, json!([shown])));
    assert_eq!(port.told(), ["sip:dora@example.com"]);

    let change = json!({ "password": "two", "history_limit": 9 });
    let (status, changed) = port.json("PUT", "/users/sip%3Adora%40example.com", &change);
    assert_eq!((status, &changed["history_limit"]), (200, &json!(9)));
    assert_eq!(port.account("sip:dora@example.com").unwrap().ha1_md5, Ha1::of("dora", "example.com", "two").md5);
    assert_eq!(port.told(), ["sip:dora@example.com"]);

    assert_eq!(port.ask("DELETE", "/users/sip:dora@example.com", "").0, 204);
    assert_eq!(port.ask("DELETE", "/users/sip:dora@example.com", "").0, 404);
    assert_eq!(port.json("PUT", "/users/sip:dora@example.com", &change).0, 404);
    assert_eq!(port.told(), ["sip:dora@example.com"]);
    assert_eq!(port.json("GET", "/users", &Value::Null), (200, json!([])));
}

#[test]
fn of_many_users_the_good_ones_are_taken_and_the_faulty_ones_named() {
    let port = port();
    let user = |name: &str| json!({ "aor": format!("sip:{name}@example.com"), "password": "x" });
    let many = json!([user("a"), { "aor": "sip:b@elsewhere.example", "password": "x" }, user("c"), user("a")]);
    let (status, answer) = port.json("POST", "/users", &many);
    assert_eq!((status, &answer["added"]), (207, &json!(2)));
    assert_eq!((&answer["faults"][0]["index"], &answer["faults"][1]["index"]), (&json!(1), &json!(3)));
    let more: Vec<_> = (0..1_000).map(|n| user(&format!("u{n}"))).collect();
    assert_eq!(port.json("POST", "/users", &json!(more)), (200, json!({ "added": 1_000, "faults": [] })));
    assert_eq!(port.json("GET", "/users", &Value::Null).1.as_array().map(Vec::len), Some(1_002));
}

#[test]
fn a_faulty_body_is_refused_with_the_reason() {
    let port = port();
    for (method, path, body, words) in [
        ("POST", "/users", "", "JSON"),
        ("POST", "/users", "{", "JSON"),
        ("POST", "/users", "{\"aor\": \"sip:a@example.com\"}", "password"),
        ("POST", "/users", "{\"aor\": \"sip:a@example.com\", \"password\": \"x\", \"colour\": 1}", "colour"),
        ("POST", "/users", "{\"aor\": \"bob\", \"password\": \"x\"}", "address of record"),
        ("POST", "/users", "[[[[", "JSON"),
        ("PUT", "/users/sip:a@example.com", "{}", "nothing to change"),
        ("PUT", "/users/bob", "{\"password\": \"x\"}", "address of record"),
        ("POST", "/backup", "{\"dir\": \"relative\"}", "absolute"),
    ] {
        let (status, text) = port.ask(method, path, body);
        assert_eq!(status, 400, "{method} {path} {body}: {text}");
        assert!(text.contains(words), "{text} does not say {words}");
    }
    assert_eq!(port.told(), [] as [&str; 0]);
}

#[test]
fn garbage_and_giants_harm_nobody() {
    let port = port();
    let giant = vec![b'x'; 1 << 20];
    let mut head = b"GET /healthz HTTP/1.1\r\nX: ".to_vec();
    head.extend_from_slice(&giant);
    for garbage in [&b"\0\xff\0\r\n\r\n"[..], b"SIP/2.0 200 OK\r\n\r\n", &giant, &head] {
        let mut line = TcpStream::connect(port.at).unwrap();
        line.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        // It may be cut off while we write.
        let _ = line.write_all(garbage);
        let mut answer = Vec::new();
        let _ = line.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
        assert_eq!(port.ask_as("", "GET", "/healthz", "").0, 200);
    }
    let length = limits::ADMIN_BODY_BYTES_MAX + 1;
    let announced = format!("POST /users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    assert_eq!(port.raw(announced.as_bytes()).0, 401, "no body is read of who has no token");
}
