//! Hostname, resolver and hosts of sandboxes, on the command line.

use serde_json::json;

use crate::fake::{Fake, World};

#[test]
fn names_reach_the_agent() {
    let fake = Fake::start(World::default());
    let line = "sandbox create --hostname web.example.org --domainname example.org --dns 10.0.0.53 --dns fd00::53 \
                --dns-search example.org --dns-search . --dns-opt ndots:2 --dns-option use-vc --add-host db:10.0.0.5 \
                --add-host db6:::1 --add-host db7=[fd00::7] --add-host me:host-gateway box";
    assert_eq!(fake.ask(line, &[]).done(), "box\n");
    let expected = json!({
        "name": "box", "hostname": "web.example.org", "domain": "example.org", "dns_servers": ["10.0.0.53", "fd00::53"],
        "dns_search": ["example.org", "."], "dns_options": ["ndots:2", "use-vc"],
        "hosts": [
            {"name": "db", "address": "10.0.0.5"}, {"name": "db6", "address": "::1"},
            {"name": "db7", "address": "fd00::7"}, {"name": "me", "address": "host-gateway"},
        ],
    });
    assert_eq!(fake.said("CreateSandbox"), [expected]);
}

#[test]
fn malformed_names_are_bad_usage_and_name_what_is_wrong() {
    let fake = Fake::start(World::default());
    for (line, part) in [
        (
            "--hostname a_b!",
            "'a_b!' for '--hostname <NAME>': \"a_b!\" is not a valid part of a name: expected letters",
        ),
        ("--domainname ..", "a part between dots is empty"),
        ("--dns resolver", "\"resolver\" is not an IP address: expected one such as 10.0.0.5 or fd00::5"),
        ("--dns 10.0.0.53:53", "\"10.0.0.53:53\" is not an IP address"),
        ("--dns-search /", "expected a domain such as example.org, or \".\" for none"),
        ("--add-host db", "it has no address: expected NAME:ADDRESS such as db:10.0.0.5"),
        ("--add-host db:10.0.0.256", "\"10.0.0.256\" is not an address"),
        ("--add-host #db:10.0.0.5", "the name \"#db\": \"#db\" is not a valid part of a name"),
    ] {
        let error = fake.ask(&format!("sandbox create {line}"), &[]).failed(2);
        assert!(error.contains(part), "{line}: {error}");
    }
    let error = fake.ask("sandbox create --dns-opt", &["ndots:2\nnameserver 10.0.0.1"]).failed(2);
    assert!(error.contains("expected one word, such as ndots:2"), "{error}");
    assert!(fake.calls().is_empty());
}
