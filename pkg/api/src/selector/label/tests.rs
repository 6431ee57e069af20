//! Tests of `label`.

use serde_json::json;

use super::*;

fn check(text: &str, expected: Result<&str, &str>) {
    let parsed = Selector::parse(text).map(|s| s.to_string()).map_err(|e| e.to_string());
    assert_eq!(parsed, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
}

#[test]
fn requirements_are_read_and_written_in_order_of_key() {
    for text in [
        "x=a,y=b,z=c",
        "",
        "x!=a,y=b",
        "x=",
        "x=,z=",
        "!x",
        "x>1",
        "x>1,z<5",
        "x in (a,b)",
        "x notin ()",
        "x==a",
    ] {
        check(text, Ok(text));
    }
    check("y=b , x = a", Ok("x=a,y=b"));
    check("x in (b,,a,a),y,z notin ()", Ok("x in (,a,b),y,z notin ()"));
    check("x in (,a)", Ok("x in (,a)"));
    check("x in (a,)", Ok("x in (,a)"));
    check("notin=in", Ok("notin=in"));
    check("in in (in,notin)", Ok("in in (in,notin)"));
    check("x= ", Ok("x="));
    check("a,", Err("found '', expected: identifier after ','"));
}

#[test]
fn mistakes_are_told_in_upstreams_words() {
    check(
        "x=a||y=b",
        Err(
            "unable to parse requirement: values[0][x]: Invalid value: \"a||y\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
    );
    check("x==a==b", Err("found '==', expected: ',' or 'end of string'"));
    check("!x=a", Err("found '=', expected: ',' or 'end of string'"));
    check(
        "x<a",
        Err(
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    );
    check("!", Err("unable to parse requirement: found '', expected: identifier"));
    check(",a", Err("found ',', expected: !, identifier, or 'end of string'"));
    check("x a", Err("unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt"));
    check("x in a", Err("unable to parse requirement: found 'a' expected: '('"));
    check("x in (a", Err("unable to parse requirement: found '', expected: ',' or ')'"));
    check("x in (a b)", Err("unable to parse requirement: found 'b', expected: ',' or ')'"));
    check("x in (!a)", Err("unable to parse requirement: found '!', expected: ',', ')' or identifier"));
    check("x in (a,=)", Err("unable to parse requirement: found '=', expected: ',', or identifier"));
    check("x=(", Err("unable to parse requirement: found '(', expected: identifier"));
    let key = Selector::parse("a_/b").unwrap_err().to_string();
    assert!(
        key.starts_with(
            "unable to parse requirement: <nil>: Invalid value: \"a_/b\": prefix part a lowercase"
        ),
        "{key}"
    );
}

#[test]
fn labels_are_matched_by_every_operator() {
    let labels = json!({"foo": "bar", "n": "5", "notin": "in"});
    let check = |text: &str, expected| {
        assert_eq!(Selector::parse(text).unwrap().matches_value(&labels), expected, "{text}")
    };
    for text in [
        "",
        "foo=bar",
        "foo==bar",
        "foo!=x",
        "x!=a",
        "foo in (a,bar)",
        "x notin (a)",
        "foo",
        "!x",
        "n>4",
        "n<6",
        "notin=in",
    ] {
        check(text, true);
    }
    for text in [
        "foo=x",
        "x=",
        "foo!=bar",
        "foo in (a)",
        "x in (a)",
        "foo notin (bar)",
        "x",
        "!foo",
        "n>5",
        "n<5",
        "foo>1",
        "x<1",
        "foo=bar,x",
    ] {
        check(text, false);
    }
}

#[test]
fn a_label_selector_object_selects_like_its_text() {
    let check = |object: Value, expected: Result<&str, &str>| {
        let shown = Selector::from_object(&object).map(|s| s.to_string()).map_err(|e| e.to_string());
        assert_eq!(shown, expected.map(str::to_owned).map_err(str::to_owned));
    };
    check(
        json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "c", "operator": "DoesNotExist"},
        ]}),
        Ok("a in (x,y),b=1,!c"),
    );
    check(
        json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}),
        Err("\"Near\" is not a valid label selector operator"),
    );
    check(
        json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
        Err("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"),
    );
    assert!(Selector::from_object(&json!({})).unwrap().matches(|_| None));
    let nothing = Selector::from_object(&Value::Null).unwrap();
    assert!(!nothing.matches(|_| None) && !nothing.is_empty());
}
