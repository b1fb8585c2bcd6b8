//! `foundry login` in a mesh with an identity provider: by device code and by a browser on the same machine, until the session
//! is ended. The browser is a few requests as a page sends them; a real one is in `web/stories/src/device.story.ts`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use foundry_proto::auth::v1::complete_sign_in_request::Proof;
use foundry_proto::auth::v1::{
    CompleteSignInRequest, CompleteSignInResponse, ConfirmProgramSignInRequest, ConfirmProgramSignInResponse,
    DenyProgramSignInRequest, DenyProgramSignInResponse, GetProgramSignInRequest, GetProgramSignInResponse,
    ProviderProof, SessionDelivery,
};
use foundry_testkit::{IdentityHost, Person};
use foundry_tests::{Mesh, Shape};
use prost::Message;

/// The address of the page in the configuration; what a browser sends to it reaches the mesh of the test.
const PUBLIC: &str = "http://127.0.0.1:7100";

/// An HTTP answer.
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

/// Sends a request over HTTP/1.1 and reads the whole answer.
fn http(host: &str, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(host).unwrap();
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let text = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let pairs = text.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers: HashMap<_, _> = pairs.map(|(n, v)| (n.to_lowercase(), v.to_owned())).collect();
    let body = all[end + 4..].to_vec();
    let chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    Answer { status, headers, body: if chunked { without_chunks(&body) } else { body } }
}

fn without_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
        if size == 0 {
            break;
        }
    }
    whole
}

/// A browser with the page, signed in.
struct Browser {
    host: String,
    cookie: String,
    key: String,
}

impl Browser {
    /// Goes through the provider as the person who is signed in there; with the set-up secret as the first owner.
    fn sign_in(mesh: &Mesh, provider: &IdentityHost) -> Self {
        let host = mesh.url("gateway").trim_start_matches("http://").to_owned();
        let secret = std::fs::read_to_string(mesh.data().join("auth/set-up.secret")).unwrap_or_default();
        let body = match secret.is_empty() {
            true => serde_json::json!({}),
            false => serde_json::json!({ "set_up_secret": secret.trim(), "organization": "acme" }),
        };
        let page = [("origin", PUBLIC), ("content-type", "application/json")];
        let begun = http(&host, "POST", "/auth/begin/github", &page, body.to_string().as_bytes());
        let said: serde_json::Value = serde_json::from_slice(&begun.body).unwrap();
        let binding = begun.headers["set-cookie"].split(';').next().unwrap().to_owned();
        let back = provider.consent(said["url"].as_str().expect("an address")).unwrap();
        let target = format!("{}?{}", back.path(), back.query().unwrap());
        let returned = http(&host, "GET", &target, &[("cookie", &binding)], b"");
        let (_, return_secret) = returned.headers["location"].split_once("#return=").expect("a return");
        let proof = ProviderProof {
            sign_in_id: said["sign_in_id"].as_str().unwrap().to_owned(),
            claim: said["claim"].as_str().unwrap().to_owned(),
            return_secret: return_secret.to_owned(),
        };
        let request = CompleteSignInRequest {
            proof: Some(Proof::Provider(proof)),
            session_delivery: SessionDelivery::Cookie.into(),
            ..Default::default()
        };
        let mut browser = Self { host, cookie: String::new(), key: String::new() };
        let (answer, _) = browser.send::<CompleteSignInResponse>("CompleteSignIn", &request, &[]).unwrap();
        browser.cookie = answer.headers["set-cookie"].split(';').next().unwrap().to_owned();
        browser.key = answer.headers["x-foundry-session-key"].clone();
        browser
    }

    /// Calls an rpc as a page does; the error is the name of its reason, or its text.
    fn send<R: Message + Default>(
        &self,
        rpc: &str,
        request: &impl Message,
        more: &[(&str, &str)],
    ) -> Result<(Answer, R), String> {
        let message = request.encode_to_vec();
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        body.extend(message);
        let mut headers = vec![("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        headers.extend([("origin", PUBLIC), ("user-agent", agent)]);
        if !self.cookie.is_empty() {
            headers.extend([("cookie", self.cookie.as_str()), ("x-foundry-session-key", self.key.as_str())]);
        }
        // What a test gives replaces what the page would send.
        headers.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        headers.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        let target = format!("/foundry.auth.v1.AuthService/{rpc}");
        let answer = http(&self.host, "POST", &target, &headers, &body);
        let status = answer.headers.get("grpc-status").map_or("0", String::as_str);
        if answer.status != 200 || status != "0" {
            let text = answer.headers.get("grpc-message").cloned();
            return Err(text.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned()));
        }
        let frame = &answer.body;
        if frame.first() != Some(&0) {
            return Err(String::from_utf8_lossy(frame).into_owned());
        }
        let size = u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize;
        let response = R::decode(&frame[5..5 + size]).unwrap();
        Ok((answer, response))
    }

    fn call<R: Message + Default>(&self, rpc: &str, request: &impl Message) -> R {
        self.send(rpc, request, &[]).map(|(_, response)| response).expect(rpc)
    }
}

/// A mesh with a provider whose members of `acme` may come in, and its first owner in a browser.
fn mesh() -> (Mesh, IdentityHost, Browser, tempfile::TempDir) {
    let provider = IdentityHost::start(&format!("{PUBLIC}/auth/callback/github"), 0);
    let secret = tempfile::tempdir().unwrap();
    let path = secret.path().join("client.secret");
    std::fs::write(&path, IdentityHost::CLIENT_SECRET).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = [
        format!("gateway.public_url={PUBLIC}"),
        format!("auth.sign_in.github.host={}", provider.origin()),
        format!("auth.sign_in.github.client_id={}", IdentityHost::CLIENT_ID),
        format!("auth.sign_in.github.client_secret=file:{}", path.display()),
        "auth.sign_in.github.allow_organizations=[\"acme\"]".to_owned(),
    ];
    let mesh = Mesh::start(Shape::Embedded, &settings.each_ref().map(String::as_str));
    let person = Person { id: 1, login: "boss".to_owned(), name: "The Boss".to_owned(), ..Person::default() };
    provider.sign_in(person);
    let browser = Browser::sign_in(&mesh, &provider);
    (mesh, provider, browser, secret)
}

/// `foundry login` in progress, with what it has said so far.
struct Login {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Login {
    fn start(mesh: &Mesh, arguments: &[&str]) -> Self {
        let mut command = mesh.command(&[&["login"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, said }
    }

    /// The rest of the first line that has this text, up to a space.
    fn after(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "it ended without: {text}");
            if let Some((_, rest)) = line.split_once(text) {
                return rest.split_whitespace().next().unwrap_or_default().to_owned();
            }
        }
    }

    /// Waits for its end; whether it succeeded, and everything it says from here on.
    fn end(mut self) -> (bool, String) {
        let mut text = String::new();
        self.said.read_to_string(&mut text).unwrap();
        let out = self.child.wait_with_output().unwrap();
        text.push_str(&String::from_utf8_lossy(&out.stdout));
        (out.status.success(), text)
    }
}

fn by_code(code: &str) -> ConfirmProgramSignInRequest {
    ConfirmProgramSignInRequest { user_code: code.to_owned(), ..Default::default() }
}

#[test]
fn a_machine_without_a_browser_is_signed_in_by_a_code_and_out_by_its_user() {
    let (mesh, _provider, browser, _secret) = mesh();
    let mut login = Login::start(&mesh, &["--device"]);
    assert_eq!(login.after("Open "), format!("{PUBLIC}/device"));
    let code = login.after("the code ");
    let shown = GetProgramSignInRequest { user_code: code.clone(), ..Default::default() };
    let shown: GetProgramSignInResponse = browser.call("GetProgramSignIn", &shown);
    let shown = shown.program_sign_in.unwrap();
    assert_eq!((shown.program.as_str(), shown.address.as_str()), ("foundry", "127.0.0.1"));
    for (what, header) in [
        ("another origin", ("origin", "http://127.0.0.1:9999")),
        ("no origin", ("origin", "")),
        ("no key", ("x-foundry-session-key", "")),
        ("a form", ("content-type", "application/x-www-form-urlencoded")),
        ("no session", ("cookie", "")),
    ] {
        let sent =
            browser.send::<ConfirmProgramSignInResponse>("ConfirmProgramSignIn", &by_code(&code), &[header]);
        assert!(sent.is_err(), "{what} must confirm nothing");
    }
    let target = format!("/foundry.auth.v1.AuthService/ConfirmProgramSignIn?user_code={code}");
    let cookies = [("cookie", browser.cookie.as_str()), ("x-foundry-session-key", browser.key.as_str())];
    assert_ne!(http(&browser.host, "GET", &target, &cookies, b"").status, 200, "and no GET either");
    let confirmed: ConfirmProgramSignInResponse = browser.call("ConfirmProgramSignIn", &by_code(&code));
    assert_eq!(confirmed.redirect_url, "");
    let (done, text) = login.end();
    assert!(done && text.contains("as boss, organization acme"), "{text}");

    let file = mesh.dir().join("config/foundry/credentials.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let stored: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let token = stored[mesh.url("gateway")]["token"].as_str().unwrap().to_owned();
    let who = mesh.cli_ok(&["whoami"]);
    for part in ["boss (The Boss)", "acme (owner)", &mesh.url("gateway"), "by device code, as foundry on "] {
        assert!(who.contains(part), "{who}");
    }
    let logins = mesh.cli_ok(&["logins", "list"]);
    assert!(logins.contains("Firefox on Linux") && logins.contains("at github"), "{logins}");
    assert!(logins.contains("(this one)"), "{logins}");

    assert!(mesh.cli_ok(&["logout"]).contains("signed out of"));
    assert!(!std::fs::read_to_string(&file).unwrap().contains(&token));
    let refused = mesh.command(&["whoami"]).env("FOUNDRY_TOKEN", &token).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("TOKEN_REVOKED"), "{refused:?}");
    let again = mesh.cli(&["logout"]);
    assert_eq!(again.status.code(), Some(3), "{again:?}");
}

#[test]
fn a_browser_on_the_same_machine_brings_the_code_back_to_the_program_that_began() {
    let (mut mesh, _provider, browser, _secret) = mesh();
    let link = mesh.cli_ok(&["login", "--web"]);
    assert_eq!(link.trim(), format!("{PUBLIC}/sign-in"), "where people sign in here, and no secret");

    let mut login = Login::start(&mesh, &[]);
    let address = login.after("  ");
    let id = address.strip_prefix(&format!("{PUBLIC}/device/")).expect("its own page").to_owned();
    let select = ConfirmProgramSignInRequest { program_sign_in_id: id, ..Default::default() };
    let confirmed: ConfirmProgramSignInResponse = browser.call("ConfirmProgramSignIn", &select);
    let back = confirmed.redirect_url.strip_prefix("http://").expect("an address of this machine");
    let (host, target) = back.split_once("/?").unwrap();
    let swapped = target.replace("state=", "state=x");
    assert_eq!(
        http(host, "GET", &format!("/?{swapped}"), &[], b"").status,
        404,
        "without its state it takes nothing"
    );
    let shown = http(host, "GET", &format!("/?{target}"), &[], b"");
    assert!(String::from_utf8_lossy(&shown.body).contains("You are signed in"), "{}", shown.status);
    let (done, text) = login.end();
    assert!(done && text.contains("as boss, organization acme"), "{text}");
    assert!(mesh.cli_ok(&["whoami"]).contains("by browser, as foundry on "));

    let mut login = Login::start(&mesh, &["--device"]);
    let code = login.after("the code ");
    let _: ConfirmProgramSignInResponse = browser.call("ConfirmProgramSignIn", &by_code(&code));
    let (done, text) = login.end();
    assert!(done, "{text}");
    assert!(mesh.cli_ok(&["whoami"]).contains("by device code, as foundry on "));
    let logins = mesh.cli_ok(&["logins", "list"]);
    assert_eq!(logins.matches("foundry on ").count(), 1, "the former session has ended: {logins}");

    let mut login = Login::start(&mesh, &["--browser"]);
    let address = login.after("  ");
    let id = address.strip_prefix(&format!("{PUBLIC}/device/")).expect("its own page").to_owned();
    let select = DenyProgramSignInRequest { program_sign_in_id: id, ..Default::default() };
    let denied: DenyProgramSignInResponse = browser.call("DenyProgramSignIn", &select);
    let (host, target) = denied.redirect_url.trim_start_matches("http://").split_once('/').unwrap();
    http(host, "GET", &format!("/{target}"), &[], b"");
    let (done, text) = login.end();
    assert!(!done && text.contains("denied"), "{text}");

    let out: serde_json::Value = serde_json::from_str(&mesh.cli_ok(&["logout", "--output", "json"])).unwrap();
    assert_eq!(out["signed_out_of"], mesh.url("gateway"));

    mesh.stop();
    let public = format!("gateway.public_url={PUBLIC}");
    let configured = ["--set", &public, "--set", "auth.sign_in.github.client_id=x"];
    let link = mesh.cli_ok(&[&["login", "--web"], &configured[..]].concat());
    assert_eq!(link.trim(), format!("{PUBLIC}/sign-in"), "before it runs, too, and no secret");
}
