use std::collections::BTreeMap;

use super::*;

/// Of GitHub's documentation.
const SECRET: &[u8] = b"It's a Secret to Everybody";
const BODY: &[u8] = b"Hello, World!";
const SIGNATURE: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

fn headers(pairs: &[(&str, &str)]) -> Vec<WebhookHeader> {
    pairs
        .iter()
        .map(|(name, value)| WebhookHeader { name: (*name).to_owned(), value: (*value).to_owned() })
        .collect()
}

fn of(forge: Forge, event: &str, body: &str) -> Delivery {
    let named = match forge {
        Forge::GitHub => ["x-github-event", "x-github-delivery"],
        Forge::GitLab => ["x-gitlab-event", "x-gitlab-event-uuid"],
        Forge::Gitea => ["x-gitea-event", "x-gitea-delivery"],
        Forge::Forgejo => ["x-forgejo-event", "x-forgejo-delivery"],
    };
    read(forge, &headers(&[(named[0], event), (named[1], "d-1")]), body.as_bytes()).unwrap()
}

#[test]
fn a_signature_is_accepted_in_the_headers_of_its_forge_alone() {
    let hub = format!("sha256={SIGNATURE}");
    let accepted = |forge, pairs: &[(&str, &str)]| is_genuine(forge, SECRET, &headers(pairs), BODY);
    assert!(accepted(Forge::GitHub, &[("x-hub-signature-256", &hub)]));
    for forge in [Forge::Gitea, Forge::Forgejo] {
        assert!(accepted(forge, &[("x-hub-signature-256", &hub)]));
        assert!(accepted(forge, &[("x-gitea-signature", SIGNATURE)]));
        // The first one counts, whatever the others are.
        assert!(!accepted(forge, &[("x-gitea-signature", "00"), ("x-hub-signature-256", &hub)]));
    }
    assert!(accepted(Forge::Forgejo, &[("x-forgejo-signature", SIGNATURE)]));
    assert!(!accepted(Forge::GitHub, &[("x-gitea-signature", SIGNATURE)]));
    let token = std::str::from_utf8(SECRET).unwrap();
    assert!(accepted(Forge::GitLab, &[("x-gitlab-token", token)]));
    assert!(!accepted(Forge::GitLab, &[("x-hub-signature-256", &hub)]));
    assert!(!accepted(Forge::GitHub, &[("x-gitlab-token", token)]));
}

#[test]
fn anything_but_the_one_right_signature_is_refused() {
    let right = format!("sha256={SIGNATURE}");
    let (short, long) = (&right[..right.len() - 2], format!("{right}00"));
    let another = right.replace("757107", "757108");
    for wrong in ["", "sha256=", "sha1=00", "x", "sha256=zz", short, &long, &another] {
        let headers = headers(&[("x-hub-signature-256", wrong)]);
        assert!(!is_genuine(Forge::GitHub, SECRET, &headers, BODY), "{wrong}");
    }
    let twice = headers(&[("x-hub-signature-256", &right), ("x-hub-signature-256", &right)]);
    assert!(!is_genuine(Forge::GitHub, SECRET, &twice, BODY));
    assert!(!is_genuine(Forge::GitHub, SECRET, &headers(&[]), BODY));
    let once = headers(&[("x-hub-signature-256", &right)]);
    assert!(is_genuine(Forge::GitHub, SECRET, &once, BODY));
    assert!(!is_genuine(Forge::GitHub, SECRET, &once, b"Hello, World"));
    assert!(!is_genuine(Forge::GitHub, b"It's a Secret to Everybody!", &once, BODY));
    for wrong in ["", "It's a Secret to Everybod", "It's a Secret to Everybody!"] {
        assert!(!is_genuine(Forge::GitLab, SECRET, &headers(&[("x-gitlab-token", wrong)]), BODY), "{wrong}");
    }
}

#[test]
fn the_headers_that_name_a_delivery_are_needed_once_and_are_names() {
    let long = "x".repeat(129);
    for (event, id) in [("", "1"), ("push", ""), ("push", "a\nb"), ("pu\u{7f}sh", "1"), ("push", &long)] {
        let pairs = [("x-github-event", event), ("x-github-delivery", id)];
        let refused = read(Forge::GitHub, &headers(&pairs), b"{}").unwrap_err();
        assert_eq!(refused.reason(), "WEBHOOK_MALFORMED", "{event} {id}");
    }
    let pairs = [("x-github-event", "push"), ("x-github-event", "ping"), ("x-github-delivery", "1")];
    assert!(read(Forge::GitHub, &headers(&pairs), b"{}").is_err());
    let both = [("x-gitlab-event", "Push Hook"), ("idempotency-key", "k"), ("x-gitlab-event-uuid", "u")];
    assert_eq!(read(Forge::GitLab, &headers(&both), b"{}").unwrap().id, "k");
}

#[derive(Deserialize)]
struct Examples {
    name: String,
    examples: Vec<serde_json::Value>,
}

/// Fetched by `make` with the other tools.
fn examples() -> Vec<Examples> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tools/node_modules/@octokit/webhooks-examples/api.github.com/index.json"
    );
    let text = std::fs::read(path).expect("scripts/tools.sh checks installs the payloads of GitHub");
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn every_payload_of_github_is_read_and_leads_to_what_its_event_is_about() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for kind in examples() {
        for example in &kind.examples {
            let delivery = of(Forge::GitHub, &kind.name, &example.to_string());
            let name = example["repository"]["full_name"].as_str();
            assert_eq!(delivery.repository.as_deref(), name, "{}", kind.name);
            let about = match delivery.about {
                About::Branches => "branches",
                About::PullRequests => "pull requests",
                About::Ping => "ping",
                About::Renamed { from } => {
                    let from_octocat = example["action"] == "transferred";
                    assert_eq!(
                        from,
                        if from_octocat { "octocat/Hello-World" } else { "Octocoders/Hello-World" }
                    );
                    "renamed"
                }
                About::Deleted => "deleted",
                About::Nothing => "nothing",
                About::Unreadable => panic!("{} cannot be read", kind.name),
            };
            let expected = match kind.name.as_str() {
                "push" | "create" | "delete" => &["branches"][..],
                "ping" => &["ping"],
                "repository" => &["branches", "renamed", "deleted", "nothing"],
                "status" | "check_run" | "check_suite" | "workflow_run" => &["pull requests"],
                name if name.starts_with("pull_request") => &["pull requests"],
                _ => &["nothing"],
            };
            assert!(expected.contains(&about), "{}: {about}", kind.name);
            *counts.entry(about).or_default() += 1;
        }
    }
    assert!(
        counts["branches"] >= 16 && counts["pull requests"] >= 60 && counts["renamed"] >= 4,
        "{counts:?}"
    );
    assert_eq!(counts["ping"], 4);
}

#[test]
fn a_renamed_repository_is_shown_with_both_names_and_a_deleted_one_with_its_own() {
    let now = Timestamp::from_micros(1);
    let renamed = r#"{"action": "renamed", "repository": {"full_name": "acme/new"},
        "changes": {"repository": {"name": {"from": "old"}}}}"#;
    let shown = notice(&of(Forge::GitHub, "repository", renamed), now).unwrap();
    assert_eq!(shown.message, "the host reports that acme/old is now acme/new");
    let deleted = r#"{"action": "deleted", "repository": {"full_name": "acme/old"}}"#;
    for forge in [Forge::GitHub, Forge::Gitea, Forge::Forgejo] {
        let shown = notice(&of(forge, "repository", deleted), now).unwrap();
        assert_eq!(shown.reason, "REPOSITORY_DELETED_AT_HOST");
    }
    let renamed = r#"{"event_name": "project_rename", "path_with_namespace": "acme/new",
        "old_path_with_namespace": "acme/old"}"#;
    let shown = notice(&of(Forge::GitLab, "System Hook", renamed), now).unwrap();
    assert_eq!(shown.message, "the host reports that acme/old is now acme/new");
    assert_eq!(notice(&of(Forge::GitHub, "push", "{}"), now), None);
}

/// Trimmed payloads of GitLab 17 and Gitea 1.22, whose forms of the same events differ.
#[test]
fn the_events_of_gitlab_gitea_and_forgejo_lead_to_the_same() {
    let project =
        r#""project": {"id": 1, "path_with_namespace": "acme/app", "web_url": "https://x/acme/app"}"#;
    for (event, body, about) in [
        (
            "Push Hook",
            r#"{"object_kind": "push", "ref": "refs/heads/main", PROJECT, "commits": []}"#,
            About::Branches,
        ),
        ("Tag Push Hook", r#"{"object_kind": "tag_push", PROJECT}"#, About::Branches),
        (
            "Merge Request Hook",
            r#"{"object_kind": "merge_request", PROJECT, "changes": {"title": {"previous": "a"}}}"#,
            About::PullRequests,
        ),
        (
            "Pipeline Hook",
            r#"{"object_kind": "pipeline", PROJECT, "builds": [{"id": 1}]}"#,
            About::PullRequests,
        ),
        (
            "Note Hook",
            r#"{"object_kind": "note", PROJECT, "merge_request": {"iid": 1}}"#,
            About::PullRequests,
        ),
        ("System Hook", r#"{"event_name": "push", PROJECT}"#, About::Branches),
        ("System Hook", r#"{"event_name": "user_create", "name": "x"}"#, About::Nothing),
        ("Wiki Page Hook", r#"{"object_kind": "wiki_page", PROJECT}"#, About::Nothing),
    ] {
        let delivery = of(Forge::GitLab, event, &body.replace("PROJECT", project));
        assert_eq!(delivery.about, about, "{event}");
        let names_one = !body.contains("user_create");
        assert_eq!(delivery.repository.as_deref(), names_one.then_some("acme/app"), "{event}");
    }
    let body = r#"{"ref": "refs/heads/main", "repository": {"id": 1, "full_name": "acme/app", "clone_url": "https://x/acme/app.git"}}"#;
    for forge in [Forge::Gitea, Forge::Forgejo] {
        for (event, about) in [
            ("push", About::Branches),
            ("create", About::Branches),
            ("delete", About::Branches),
            ("pull_request", About::PullRequests),
            ("pull_request_approved", About::PullRequests),
            ("pull_request_sync", About::PullRequests),
            ("status", About::PullRequests),
            ("issues", About::Nothing),
        ] {
            let delivery = of(forge, event, body);
            assert_eq!(
                (delivery.about, delivery.repository.as_deref()),
                (about, Some("acme/app")),
                "{event}"
            );
        }
    }
}

#[test]
fn parts_of_another_form_and_depth_do_not_matter_and_what_is_no_object_is_unreadable() {
    let deep = format!("{{\"a\": {}{}, \"ref\": 1}}", "[".repeat(200_000), "]".repeat(200_000));
    let named = format!("{{\"repository\": {}{}}}", "{\"full_name\": [".repeat(50_000), "]}".repeat(50_000));
    let odd = r#"{"repository": 7, "project": "x", "action": {"x": 1}, "changes": [1], "path_with_namespace": null}"#;
    for body in [&deep, &named, odd] {
        let delivery = of(Forge::GitHub, "push", body);
        assert_eq!((delivery.about, delivery.repository), (About::Branches, None));
        let delivery = of(Forge::GitHub, "repository", body);
        assert_eq!(delivery.about, About::Nothing);
    }
    let unclosed = "[".repeat(200_000);
    for body in ["", "x", "[]", "\"x\"", "{} {}", "{\"a\": }", "{\"action\": 1, \"action\": 2}", &unclosed] {
        assert_eq!(
            of(Forge::GitHub, "push", body).about,
            About::Unreadable,
            "{}",
            &body[..body.len().min(20)]
        );
    }
    let not_utf8 = [b"{\"action\": \"".as_slice(), &[0xff], b"\"}"].concat();
    let pairs = headers(&[("x-github-event", "push"), ("x-github-delivery", "1")]);
    assert_eq!(read(Forge::GitHub, &pairs, &not_utf8).unwrap().about, About::Unreadable);
}

#[test]
fn a_remote_is_recognized_by_the_full_name_in_each_form_of_its_address() {
    for url in [
        "https://github.com/Acme/App.git",
        "https://github.com/acme/app/",
        "ssh://git@github.com:22/acme/app.git",
        "git@github.com:acme/app.git",
        "https://git.example.org/gitlab/acme/app",
    ] {
        assert!(is_named(url, "acme/app"), "{url}");
        for other in ["acme/ap", "cme/app", "acme/app2", "", "/"] {
            assert!(!is_named(url, other), "{url} {other}");
        }
    }
    for (url, host) in [
        ("https://GitHub.com:443/a", "github.com"),
        ("git@github.com:a/b", "github.com"),
        ("ssh://git@[::1]:22/a", "::1"),
        ("/srv/a", ""),
    ] {
        assert_eq!(host_name(url), host, "{url}");
    }
}
