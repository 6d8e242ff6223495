//! `shared/PROTOCOL.md` is what really happens: its examples are run, its clients are started, and what is said
//! fits the schema beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ibid_tests::{Home, JsonClient, eventually, pythons};
use serde_json::Value;

/// Members whose values, not only their types, are as printed.
const EXACT: [&str; 7] = ["run", "step", "id", "state", "kind", "repeated", "changed"];

fn shared(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(name)
}

fn document() -> String {
    std::fs::read_to_string(shared("PROTOCOL.md")).unwrap()
}

/// The fenced blocks of the document: what follows the fence, and the lines.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(about) = line.strip_prefix("```") {
            let body: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((about.to_owned(), body.join("\n")));
        }
    }
    blocks
}

fn block(text: &str, about: &str) -> String {
    blocks(text).into_iter().find(|(name, _)| name == about).unwrap_or_else(|| panic!("there is no block {about}")).1
}

/// Compares what was said with what is printed: members, types, and the values of some.
fn compare(place: &str, printed: &Value, said: &Value) -> Result<(), String> {
    match (printed, said) {
        (Value::Object(printed), Value::Object(said)) => {
            let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>().join(", ");
            if names(printed) != names(said) {
                return Err(format!("{place}: printed are {}; there are {}", names(printed), names(said)));
            }
            printed.iter().try_for_each(|(name, value)| {
                let exact = EXACT.contains(&name.as_str()) && !value.is_object() && !value.is_array();
                if exact && value != &said[name] {
                    return Err(format!("{place}.{name}: printed is {value}; it is {}", said[name]));
                }
                compare(&format!("{place}.{name}"), value, &said[name])
            })
        }
        (Value::Array(printed), Value::Array(said)) => match (printed.first(), said.first()) {
            (Some(printed), Some(said)) => compare(&format!("{place}[0]"), printed, said),
            (None, None) => Ok(()),
            _ => Err(format!("{place}: printed are {}; there are {}", printed.len(), said.len())),
        },
        _ if std::mem::discriminant(printed) == std::mem::discriminant(said) => Ok(()),
        _ => Err(format!("{place}: printed is {printed}; it is {said}")),
    }
}

struct Schema(BTreeMap<String, jsonschema::Validator>);

impl Schema {
    fn new(document: &Value) -> Self {
        let part = |schema: &Value| {
            let whole = serde_json::json!({"$defs": document["$defs"], "allOf": [schema]});
            jsonschema::validator_for(&whole).unwrap()
        };
        let mut all = BTreeMap::new();
        for (name, method) in document["methods"].as_object().unwrap() {
            all.insert(format!("params {name}"), part(&method["params"]));
            all.insert(format!("result {name}"), part(&method["result"]));
        }
        for (name, notification) in document["notifications"].as_object().unwrap() {
            all.insert(format!("params {name}"), part(&notification["params"]));
        }
        Self(all)
    }

    fn check(&self, what: &str, value: &Value) {
        let validator = self.0.get(what).unwrap_or_else(|| panic!("the schema has no {what}"));
        if let Err(error) = validator.validate(value) {
            panic!("{what} does not fit its schema: {error} at {}: {value}", error.instance_path());
        }
    }
}

fn schema() -> Value {
    ibid::protocol::schema::document()
}

#[test]
fn the_schema_beside_the_document_is_that_of_the_types() {
    let made = format!("{:#}\n", schema());
    let path = shared("protocol.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(made == kept, "the protocol has changed: UPDATE_SCHEMA=1 cargo test -p ibid-tests schema");
}

#[test]
fn every_method_has_a_section_and_an_example() {
    let text = document();
    for method in ibid::protocol::METHODS {
        assert!(text.contains(&format!("### `{method}`")), "{method} has no section");
        assert!(text.contains(&format!("\"method\":\"{method}\"")), "{method} has no example");
    }
}

#[test]
fn the_examples_are_what_happens_and_fit_the_schema() {
    let text = document();
    let home = Home::new();
    let _daemon = home.daemon();
    home.write("news.py", &block(&text, "python news.py"));
    let python = &pythons()[0].path;
    let schema = Schema::new(&schema());
    // What was said that nothing printed so far stands for.
    let mut ordinary = (JsonClient::connect(&home.socket()), Vec::new());
    let mut worker = (JsonClient::connect(&home.socket()), Vec::new());
    for (about, body) in blocks(&text) {
        let (client, early) = match about.as_str() {
            "json-rpc" => (&mut ordinary.0, &mut ordinary.1),
            "json-rpc worker" => (&mut worker.0, &mut worker.1),
            _ => continue,
        };
        let mut method = String::new();
        for line in body.lines() {
            let (mark, json) = line.split_at(2);
            let json = json.replace("$DIR", &home.path().display().to_string());
            let json = json.replace("$PYTHON", &python.display().to_string());
            let printed: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {line}"));
            if mark == "> " {
                assert!(client.send_raw(format!("{json}\n").as_bytes()), "the connection has ended: {json}");
                method = printed["method"].as_str().unwrap().to_owned();
                continue;
            }
            // What was not asked for may come in between.
            let fits = |said: &Value| said.get("method") == printed.get("method");
            let said = match early.iter().position(fits) {
                Some(at) => early.remove(at),
                None => loop {
                    let said = client.line().unwrap_or_else(|| panic!("nothing more was said; printed is {printed}"));
                    if fits(&said) {
                        break said;
                    }
                    early.push(said);
                },
            };
            compare(&method, &printed, &said)
                .unwrap_or_else(|error| panic!("{error}\nprinted {printed}\nsaid    {said}"));
            match said["method"].as_str() {
                Some(notification) => schema.check(&format!("params {notification}"), &said["params"]),
                None if said.get("result").is_some() => schema.check(&format!("result {method}"), &said["result"]),
                None => {}
            }
        }
        for line in body.lines().filter_map(|line| line.strip_prefix("> ")) {
            let sent: Value = serde_json::from_str(line).unwrap();
            let method = sent["method"].as_str().unwrap();
            if ibid::protocol::METHODS.contains(&method) && !body.contains("\"error\"") {
                schema.check(&format!("params {method}"), sent.get("params").unwrap_or(&serde_json::json!({})));
            }
        }
    }
}

#[test]
fn the_three_clients_work_as_printed() {
    let text = document();
    let home = Home::new();
    let _daemon = home.daemon();
    home.register("news", &block(&text, "python news.py"));
    let is_there = |program: &str| {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok()
    };
    let python = pythons()[0].path.display().to_string();
    let mut tried = 0;
    for (about, name, interpreter) in [
        ("sh example.sh", "example.sh", "sh"),
        ("python example.py", "example.py", python.as_str()),
        ("javascript example.js", "example.js", "node"),
    ] {
        let program = block(&text, about);
        assert!(program.lines().count() < 30, "{name}");
        if !is_there(interpreter) || interpreter == "sh" && !(is_there("socat") || is_there("nc")) {
            continue;
        }
        home.write(name, &program);
        let output = Command::new(interpreter)
            .arg(home.path().join(name))
            .env("IBID_SOCKET", home.socket())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<_> = printed.lines().collect();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && lines.len() >= 3, "{name}: {printed}{error}");
        assert_eq!(lines[lines.len() - 2], "event", "{name}: {printed}{error}");
        assert!(lines[lines.len() - 1].ends_with(":1.2"), "{name}: {printed}{error}");
        tried += 1;
        eventually("the re-run has ended", Duration::from_secs(20), || {
            (home.json(&["runs", "--limit", "1"])["runs"][0]["state"] == "succeeded").then_some(())
        });
    }
    assert!(tried > 0, "Python is always there");
}
