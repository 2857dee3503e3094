use proptest::prelude::*;
use serde_json::{Value, json};

use super::Template;

fn network() -> Value {
    json!({
        "Id": "4f1d", "Name": "ov_net1", "Driver": "overlay", "Internal": false, "MTU": 1450,
        "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/24"}, {"Subnet": "10.1.0.0/24"}]},
        "Containers": {"aa": {"Name": "web"}, "bb": {"Name": "db"}},
        "Labels": {"tier": "front", "com.example.a-b": "x"},
        "HostRoutes": ["10.0.0.0/24", "10.1.0.0/24"], "Members": [], "Note": null,
    })
}

fn render(template: &str) -> Result<String, String> {
    let parsed: Template = template.parse().map_err(|error: super::TemplateError| error.to_string())?;
    parsed.render(&network()).map_err(|error| error.to_string())
}

fn shows(template: &str, expected: &str) {
    assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
}

fn fails(template: &str, part: &str) {
    let error = render(template).expect_err(template);
    assert!(error.contains(part), "{template}: {error}");
}

#[test]
fn fields_and_chains_are_printed_as_go_prints_them() {
    shows("{{.Name}}", "ov_net1");
    shows("{{ .IPAM.Driver }}", "default");
    shows("{{$.Name}} {{.MTU}} {{.Internal}} {{.Note}}", "ov_net1 1450 false <no value>");
    shows("{{.HostRoutes}}", "[10.0.0.0/24 10.1.0.0/24]");
    shows("{{.Labels}}", "map[com.example.a-b:x tier:front]");
    shows("{{(index .IPAM.Config 1).Subnet}}", "10.1.0.0/24");
    shows("plain", "plain");
}

#[test]
fn escapes_outside_of_actions_become_tabs_and_lines() {
    shows(r"{{.Name}}\t{{.Id}}\n", "ov_net1\t4f1d\n");
    shows(r#"{{"a\tb\"c"}}{{`d\t`}}"#, "a\tb\"cd\\t");
}

#[test]
fn blocks_choose_and_repeat() {
    shows("{{if .Internal}}in{{else}}out{{end}}", "out");
    shows("{{if .Internal}}a{{else if .Members}}b{{else if .MTU}}c{{else}}d{{end}}", "c");
    shows("{{range .HostRoutes}}<{{.}}>{{end}}", "<10.0.0.0/24><10.1.0.0/24>");
    shows("{{range $id, $c := .Containers}}{{$id}}={{$c.Name}}:{{.Name}} {{end}}", "aa=web:web bb=db:db ");
    shows("{{range $at, $route := .HostRoutes}}{{$at}} {{end}}", "0 1 ");
    shows("{{range $route := .HostRoutes}}{{$route}} {{end}}", "10.0.0.0/24 10.1.0.0/24 ");
    shows("{{range .Members}}x{{else}}nobody{{end}}{{range .Note}}x{{end}}", "nobody");
    shows("{{range .Containers}}{{$.Name}}/{{.Name}} {{end}}", "ov_net1/web ov_net1/db ");
    shows(
        "{{with .IPAM}}{{.Driver}}{{end}}{{with $d := .Driver}}{{$d}}{{end}}{{with .Note}}x{{else}}-{{end}}",
        "defaultoverlay-",
    );
    shows("{{$n := .Name}}{{if true}}{{$n = \"b\"}}{{$n := \"c\"}}{{$n}}{{end}}{{$n}}", "cb");
}

#[test]
fn trim_markers_and_comments_leave_no_trace() {
    shows("a  {{- /* why */ -}}  b {{- .Id -}} c", "ab4f1dc");
    shows("{{/* }} */}}x", "x");
}

#[test]
fn functions_do_what_docker_does() {
    shows("{{json .Labels}}", r#"{"com.example.a-b":"x","tier":"front"}"#);
    shows("{{json .}}", &network().to_string());
    shows("{{.Name | upper | json}}", r#""OV_NET1""#);
    shows("{{index .Labels \"com.example.a-b\"}}{{index .Labels \"none\"}}", "x");
    shows("{{len .Containers}} {{len .Name}}", "2 7");
    shows("{{join .HostRoutes \",\"}}", "10.0.0.0/24,10.1.0.0/24");
    shows("{{upper .Driver}} {{lower \"AB\"}} {{title .Driver}}", "OVERLAY ab Overlay");
    shows("{{println .Name .MTU}}{{print 1 \"a\"}}", "ov_net1 1450\n1a");
    shows("{{if and (eq .Driver \"bridge\" \"overlay\") (gt .MTU 1400) (not .Internal)}}y{{end}}", "y");
    shows(
        "{{or .Note .Members .Name}}{{ne 1 1}}{{le 1 1}}{{lt \"a\" \"b\"}}{{ge 1 2}}",
        "ov_net1falsetruetruefalse",
    );
    shows("{{printf \"%-6s|%5d|%03d|%q|100%%\" .Id .MTU 7 .Id}}", "4f1d  | 1450|007|\"4f1d\"|100%");
    shows("{{index (split .Name \"_\") 1}} {{truncate .Name 2}}{{pad .Id 1 1}}.", "net1 ov 4f1d .");
}

#[test]
fn an_unknown_field_is_named_with_those_that_there_are() {
    fails("{{.Nmae}}", "unknown field .Nmae: there are .Containers, .Driver, .HostRoutes, .IPAM");
    fails("{{.IPAM.Drivr}}", "unknown field .Drivr: there are .Config, .Driver");
    fails("{{.HostRoutes.Name}}", "this is a list");
    fails("{{.Name.Size}}", "has no fields");
    shows("{{.Labels.none}}|{{.Note.Deep.Er}}", "<no value>|<no value>");
}

#[test]
fn a_malformed_template_says_what_is_expected() {
    fails("{{.Name", "is not closed: expected }}");
    fails("{{nope .Name}}", "unknown function \"nope\": there are and, eq");
    fails("{{json}}", "json does not take 0 arguments: {{json .Labels}}");
    fails("{{range .Members}}", "{{range}} is not closed: expected {{end}}");
    fails("{{end}}", "{{end}} without");
    fails("{{else}}", "{{else}} without");
    fails("{{if .Name}}{{else}}{{else}}{{end}}", "{{else}} after {{else}}");
    fails("{{}}", "is empty");
    fails("{{$x}}", "variable $x is not defined");
    fails("{{(.Name}}", "'(' is not closed");
    fails("{{.Name)}}", "')' without '('");
    fails("{{.Name .Id}}", "expected '|'");
    fails("{{\"a}}", "a string is not closed");
    fails("{{.Name | .Id}}", "expected a function after '|'");
    fails("{{#}}", "'#' is not expected");
    fails("{{index .HostRoutes 7}}", "out of range: the list has 2");
    fails("{{upper .MTU}}", "upper expects text");
    fails("{{lt 1 \"a\"}}", "cannot be compared");
    fails("{{if}}{{end}}", "{{if}} needs a value");
    fails("{{/* a", "comment is not closed");
}

#[test]
fn what_is_nested_too_deep_or_too_long_is_refused() {
    fails(&format!("{}{}", "{{if .Name}}".repeat(65), "{{end}}".repeat(65)), "nested deeper than 64");
    fails(&format!("{{{{{}.Name{}}}}}", "(".repeat(65), ")".repeat(65)), "nested deeper than 64");
    fails(&format!("{{{{.Name{}}}}}", " | upper".repeat(65)), "more than 64 stages");
    fails(&"x".repeat(64 * 1024 + 1), "at most 65536");
}

#[test]
fn a_heading_keeps_the_titles_as_they_are() {
    let template: Template = "{{json .Name}}\t{{upper .ID}}".parse().unwrap();
    let headings = json!({"Name": "NAME", "ID": "NETWORK ID"});
    assert_eq!(template.render_heading(&headings).unwrap(), "NAME\tNETWORK ID");
}

/// Pieces that make templates which are nearly right.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "{{",
            "}}",
            "{{-",
            "-}}",
            "{{end}}",
            "{{else}}",
            "{{if .Name}}",
            "{{range .Containers}}",
            "{{else if",
            "{{range $k, $v := .Labels}}",
            "{{$x := 1}}",
            "{{$x}}",
            ".",
            ".Name",
            ".Labels.a",
            "$",
            "$x",
            "(",
            ")",
            "|",
            " ",
            "json",
            "index",
            "len",
            "printf",
            "\"%5d\"",
            "\"%9999s\"",
            "join",
            "slice",
            "\"",
            "`",
            "/*",
            "*/",
            "1",
            "-1",
            "truncate",
            "99999999999999999999",
            ":=",
            "=",
            ",",
            "with",
            "eq",
            "\\t",
            "é",
            "nil",
            "true",
        ])
        .prop_map(String::from),
        "[a-zé.$\"{}()| ]{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_template_panics(parts in prop::collection::vec(fragment(), 0..24)) {
        if let Ok(template) = parts.concat().parse::<Template>() {
            let _shown = (template.render(&network()), template.render_heading(&network()));
        }
    }

    #[test]
    fn text_without_actions_is_copied(text in "[^{\\\\]{0,40}") {
        prop_assert_eq!(render(&text), Ok(text));
    }

    #[test]
    fn any_text_field_is_printed_as_it_is(text in "\\PC{0,40}") {
        let template: Template = "{{.X}}".parse().unwrap();
        prop_assert_eq!(template.render(&json!({"X": text})).unwrap(), text);
    }
}
