//! The calls of GitHub's API, and the answers of its stand-in, against the description that GitHub publishes.

use std::collections::BTreeSet;

use foundry_forge::{ForgeKind, Given, Known, NewPullRequest, find_or_create};
use foundry_testkit::Exchange;
use serde_json::{Map, Value};

use crate::apps;
use crate::forges::{TOKEN, forge, host};

/// What decides whether a value is valid; a keyword that is in neither list fails the test.
const CHECKED: [&str; 13] = [
    "$ref",
    "allOf",
    "anyOf",
    "oneOf",
    "type",
    "nullable",
    "enum",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "format",
    "minimum",
];
const NOTES: [&str; 11] = [
    "title",
    "description",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "externalDocs",
    "x-github-breaking-changes",
    "x-multi-segment",
    "xml",
];

/// What the library sends in vain: the number is in the path.
const SURPLUS: [(&str, &str); 1] = [("pulls/update", "pull_number")];

/// The description, fetched by `make` with the other tools.
struct Described(Value);

impl Described {
    fn read() -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tools/node_modules/@octokit/openapi/generated/api.github.com.json"
        );
        let text = std::fs::read(path).expect("scripts/tools.sh installs the description of GitHub's API");
        Self(serde_json::from_slice(&text).unwrap())
    }

    /// What a reference names, or the value itself.
    fn at<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(to) => self.at(self.0.pointer(to.trim_start_matches('#')).expect(to)),
            None => value,
        }
    }

    /// The operation of a call, with the parts of its path that are parameters.
    fn operation<'a>(&'a self, call: &'a Exchange) -> (&'a Value, Vec<(&'a str, &'a str)>) {
        let path = call.path.strip_prefix("/api/v3").unwrap();
        let parts: Vec<&str> = path.split('/').collect();
        let matching = |template: &'a str| {
            let wanted: Vec<&str> = template.split('/').collect();
            let pairs = || wanted.iter().zip(&parts);
            let name = |part: &&'a str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let fits = wanted.len() == parts.len() && pairs().all(|(w, p)| name(w).is_some() || w == p);
            fits.then(|| pairs().filter_map(|(w, p)| Some((name(w)?, *p))).collect::<Vec<_>>())
        };
        let paths = self.0["paths"].as_object().unwrap();
        let found = paths.iter().filter_map(|(template, of)| Some((of, matching(template)?)));
        let (of, parameters) = found.min_by_key(|(_, parameters)| parameters.len()).expect(path);
        let operation = of.get(call.method.to_ascii_lowercase());
        (operation.unwrap_or_else(|| panic!("no {} {path}", call.method)), parameters)
    }

    /// Checks one call with its answer, and returns the name of its operation.
    fn check(&self, call: &Exchange) -> String {
        let (operation, in_path) = self.operation(call);
        let name = operation["operationId"].as_str().unwrap();
        let parameters: Vec<&Value> =
            operation["parameters"].as_array().into_iter().flatten().map(|p| self.at(p)).collect();
        let query = url::form_urlencoded::parse(call.query.as_bytes()).into_owned();
        let in_query: Vec<(String, String)> = query.collect();
        let sent = in_path.iter().map(|(name, value)| ("path", *name, *value));
        let sent = sent.chain(in_query.iter().map(|(n, value)| ("query", n.as_str(), value.as_str())));
        for (place, parameter, text) in sent {
            let known = parameters.iter().find(|p| p["in"] == place && p["name"] == parameter);
            let schema =
                &known.unwrap_or_else(|| panic!("{name} has no {place} parameter {parameter}"))["schema"];
            let is_number = self.at(schema)["type"] == "integer";
            let value = if is_number { serde_json::from_str(text).unwrap() } else { Value::from(text) };
            self.valid(schema, &value).unwrap_or_else(|why| panic!("{name} {parameter}: {why}"));
        }
        for parameter in parameters.iter().filter(|p| p["required"] == true && p["in"] == "query") {
            assert!(in_query.iter().any(|(n, _)| parameter["name"] == **n), "{name} lacks {parameter}");
        }
        let described = operation.get("requestBody").map(|body| self.at(body));
        match (&call.body, described.map(|body| &body["content"]["application/json"]["schema"])) {
            (Value::Null, _) => assert!(described.is_none_or(|body| body["required"] != true), "{name}"),
            (body, None) => panic!("{name} takes no body, but {body} was sent"),
            (body, Some(schema)) => {
                self.valid(schema, body).unwrap_or_else(|why| panic!("{name}: {why} in {body}"));
                // A field with another name is no error for a host, and has no effect.
                let known = &self.at(schema)["properties"];
                let sent = body.as_object().unwrap().keys().map(String::as_str);
                for field in sent.filter(|field| !SURPLUS.contains(&(name, *field))) {
                    assert!(known.get(field).is_some(), "{name} takes no {field}");
                }
            }
        }
        // Every GET can be conditional; the description says so of some only.
        if call.status == 304 && call.method == "GET" {
            return name.to_owned();
        }
        let answers = &operation["responses"];
        let answer = answers.get(call.status.to_string()).map(|answer| self.at(answer));
        let answer = answer.unwrap_or_else(|| panic!("{name} does not answer {}", call.status));
        let schema = &answer["content"]["application/json"]["schema"];
        self.valid(schema, &call.answer)
            .unwrap_or_else(|why| panic!("{name} answered {}: {why}", call.status));
        name.to_owned()
    }

    /// Whether a value is valid by a schema, and where it is not.
    fn valid(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.at(schema);
        let all = schema.as_object().ok_or("there is no schema")?;
        for keyword in all.keys() {
            let known = CHECKED.contains(&keyword.as_str()) || NOTES.contains(&keyword.as_str());
            assert!(known, "the test does not know the keyword {keyword}");
        }
        if value.is_null() && all.get("nullable").is_some_and(|it| it == true) {
            return Ok(());
        }
        let list = |keyword| all.get(keyword).and_then(Value::as_array);
        for part in list("allOf").into_iter().flatten() {
            self.valid(part, value)?;
        }
        for keyword in ["anyOf", "oneOf"] {
            // More than one of `oneOf` fits in the description of GitHub itself.
            if let Some(parts) = list(keyword) {
                let failed: Vec<String> =
                    parts.iter().filter_map(|part| self.valid(part, value).err()).collect();
                if failed.len() == parts.len() {
                    return Err(format!("none of {keyword} fits: {}", failed.join("; ")));
                }
            }
        }
        if list("enum").is_some_and(|values| !values.contains(value)) {
            return Err(format!("{value} is none of {:?}", all["enum"]));
        }
        let fits = match all.get("type").and_then(Value::as_str) {
            None => true,
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some(other) => panic!("the test does not know the type {other}"),
        };
        if !fits {
            return Err(format!("{value} is no {}", all["type"]));
        }
        self.parts(all, value)
    }

    fn parts(&self, all: &Map<String, Value>, value: &Value) -> Result<(), String> {
        if let (Some(format), Some(text)) = (all.get("format"), value.as_str()) {
            let fits = match format.as_str().unwrap() {
                "date-time" => text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z'),
                "uri" => url::Url::parse(text).is_ok(),
                _ => true,
            };
            if !fits {
                return Err(format!("{text} is no {format}"));
            }
        }
        if let (Some(least), Some(number)) = (all.get("minimum"), value.as_f64())
            && number < least.as_f64().unwrap()
        {
            return Err(format!("{number} is less than {least}"));
        }
        let fields = value.as_object();
        let lacking = all.get("required").and_then(Value::as_array).into_iter().flatten();
        let lacking: Vec<&str> = lacking
            .filter_map(Value::as_str)
            .filter(|name| fields.is_some_and(|fields| !fields.contains_key(*name)))
            .collect();
        if !lacking.is_empty() {
            return Err(format!("it lacks {}", lacking.join(", ")));
        }
        for (name, field) in fields.into_iter().flatten() {
            let known = all.get("properties").and_then(|known| known.get(name));
            let other = all.get("additionalProperties").filter(|other| other.is_object());
            if let Some(schema) = known.or(other) {
                self.valid(schema, field).map_err(|why| format!("{name}: {why}"))?;
            }
        }
        if let (Some(items), Some(values)) = (all.get("items"), value.as_array()) {
            for (n, item) in values.iter().enumerate() {
                self.valid(items, item).map_err(|why| format!("[{n}]: {why}"))?;
            }
        }
        Ok(())
    }
}

#[tokio::test]
async fn every_call_and_what_is_read_of_its_answer_are_as_github_describes_them() {
    let (host, _dir) = host();
    let forge = forge(&host, ForgeKind::GitHub, "v3", TOKEN);
    let new = |head: &str| NewPullRequest {
        head: head.to_owned(),
        base: "main".to_owned(),
        title: "Add a parser".to_owned(),
        body: "In Rust.".to_owned(),
        draft: true,
        mark: foundry_forge::mark("job_1"),
    };
    let given = Given { title: true, body: true, base: true };
    host.open("team/app", "feat/y", "from a fork", true);
    let (first, _) = find_or_create(&*forge, &new("feat/x"), given).await.unwrap();
    forge.create(&new("feat/x")).await.unwrap_err();
    forge.create(&new("absent")).await.unwrap_err();
    let other = NewPullRequest {
        title: "Add a lexer".to_owned(),
        body: "Else.".to_owned(),
        mark: foundry_forge::mark("job_2"),
        ..new("feat/x")
    };
    find_or_create(&*forge, &other, given).await.unwrap();
    for (name, passed) in [("build", Some(true)), ("lint", Some(false)), ("test", None)] {
        host.check("team/app", "feat/x", name, passed);
    }
    host.review("team/app", first.number, "ann", "APPROVED");
    host.review("team/app", first.number, "ben", "COMMENTED");
    host.comment("team/app", first.number, "ben", ("src/a.rs", 3), "Shorter?");
    host.ask("team/app", first.number, "cy");
    let p = forge.read(first.number).await.unwrap();
    let facts = forge.facts(&p, &Known::default()).await.unwrap();
    assert_eq!(facts.remarks.len(), 1);
    forge.facts(&p, &facts.known).await.unwrap();
    let mark = forge.changed("").await.unwrap().mark;
    forge.changed(&mark).await.unwrap();
    forge.list_open(1).await.unwrap();
    host.merge("team/app", first.number);
    forge.read(first.number).await.unwrap();
    forge.read(99).await.unwrap_err();

    let clock = foundry_testkit::test_env().env.clock;
    host.install(apps::app(&clock));
    apps::token(&host, "/team/app.git", "Iv23a", 77).await.unwrap();
    for (path, app_id, installation_id) in
        [("/team/app.git", "other", 77), ("/team/app.git", "Iv23a", 78), ("/team/x.git", "Iv23a", 77)]
    {
        apps::token(&host, path, app_id, installation_id).await.unwrap_err();
    }

    let described = Described::read();
    let made = host.exchanges();
    let used: BTreeSet<String> = made.iter().map(|call| described.check(call)).collect();
    let expected = [
        "apps/create-installation-access-token",
        "checks/list-for-ref",
        "pulls/create",
        "pulls/get",
        "pulls/list",
        "pulls/list-review-comments",
        "pulls/list-reviews",
        "pulls/update",
        "repos/get-combined-status-for-ref",
    ];
    assert_eq!(used, expected.map(str::to_owned).into());
    assert!(made.iter().any(|call| call.status == 304) && made.iter().any(|call| call.status == 422));
}

#[test]
fn what_github_would_not_take_is_found() {
    let described = Described::read();
    let call = |method: &str, path: &str, query: &str, body: Value| Exchange {
        method: method.to_owned(),
        path: format!("/api/v3{path}"),
        query: query.to_owned(),
        body,
        status: 304,
        answer: Value::Null,
    };
    let is_refused = |it: Exchange| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| described.check(&it))).is_err()
    };
    let pulls = "/repos/team/app/pulls";
    assert!(!is_refused(call("GET", pulls, "state=all&per_page=1", Value::Null)));
    for wrong in [
        call("GET", pulls, "state=merged", Value::Null),
        call("GET", pulls, "size=1", Value::Null),
        call("GET", "/repos/team/app/pulls/x", "", Value::Null),
        call("DELETE", pulls, "", Value::Null),
        call("GET", "/repos/team/app/merge-requests", "", Value::Null),
    ] {
        assert!(is_refused(wrong.clone()), "{wrong:?}");
    }
    let created = |body: Value| Exchange {
        status: 422,
        answer: serde_json::json!({ "message": "m", "documentation_url": "u" }),
        ..call("POST", pulls, "", body)
    };
    let good = serde_json::json!({ "title": "t", "head": "h", "base": "b" });
    assert!(!is_refused(created(good.clone())));
    for (field, value) in [("draft", Value::from("yes")), ("source", Value::from("h"))] {
        let mut body = good.clone();
        body[field] = value;
        assert!(is_refused(created(body)), "{field}");
    }
    assert!(is_refused(created(serde_json::json!({ "title": "t", "head": "h" }))));
    assert!(is_refused(Exchange { answer: serde_json::json!([]), ..created(good) }));
}
