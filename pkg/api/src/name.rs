//! What names may look like, and upstream's exact words when they do not (`apimachinery/pkg/util/validation` and
//! `pkg/api/validate/content`). Every function gives what is wrong; nothing when the text is valid.

/// What is wrong with a text, one sentence each.
pub type Problems = Vec<String>;

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;

/// How an object's name is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// [`dns1123_subdomain`]: most kinds.
    Subdomain,
    /// [`dns1123_label`]: namespaces, and what ends up in host names.
    Label,
    /// [`dns1035_label`]: services.
    Dns1035,
    /// [`path_segment`]: roles and other names with colons.
    PathSegment,
    /// [`address`]: IPAddresses.
    Address,
}

impl Rule {
    /// What is wrong with a name.
    pub fn check(self, name: &str) -> Problems {
        match self {
            Self::Subdomain => dns1123_subdomain(name),
            Self::Label => dns1123_label(name),
            Self::Dns1035 => dns1035_label(name),
            Self::PathSegment => path_segment(name),
            Self::Address => address(name),
        }
    }

    /// What is wrong with a `generateName`, which more characters will follow.
    pub fn check_prefix(self, prefix: &str) -> Problems {
        match self {
            Self::PathSegment => path_segment_prefix(prefix),
            _ => self.check(&mask_trailing_dash(prefix)),
        }
    }
}

/// A generated name may end its prefix with a dash; as upstream, the last two characters count as one letter.
fn mask_trailing_dash(prefix: &str) -> String {
    let mut name = prefix.to_owned();
    if name.len() > 1 && name.ends_with('-') {
        name.pop();
        name.pop();
        name.push('a');
    }
    name
}

/// An IP address as it is usually written: `10.9.8.7`, `2001:db8::1`.
pub fn address(text: &str) -> Problems {
    match text.parse::<std::net::IpAddr>() {
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
        Ok(address) if address.to_string() != text => {
            vec![format!("must be in canonical form (\"{address}\")")]
        }
        Ok(_) => Problems::new(),
    }
}

/// A label of a domain name, as RFC 1123 has it: `my-name`, `123-abc`.
pub fn dns1123_label(text: &str) -> Problems {
    let mut problems = too_long(text, LABEL_MAX);
    if !is_label(text) {
        problems.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            let rule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            explain(rule, LABEL, &["my-name", "123-abc"])
        });
    }
    problems
}

/// Labels joined by dots: `example.com`.
pub fn dns1123_subdomain(text: &str) -> Problems {
    let mut problems = too_long(text, SUBDOMAIN_MAX);
    if !is_subdomain(text) {
        problems.push(subdomain_rule());
    }
    problems
}

/// A subdomain whose first label is `*`.
pub fn wildcard_dns1123_subdomain(text: &str) -> Problems {
    let mut problems = too_long(text, SUBDOMAIN_MAX);
    if !text.strip_prefix("*.").is_some_and(is_subdomain) {
        let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        problems.push(explain(rule, &format!("\\*\\.{}", subdomain_pattern()), &["*.example.com"]));
    }
    problems
}

/// A label that starts with a letter, as RFC 1035 has it: `abc-123`.
pub fn dns1035_label(text: &str) -> Problems {
    let mut problems = too_long(text, LABEL_MAX);
    if !is_label(text) || text.starts_with(|c: char| c.is_ascii_digit()) {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        problems.push(explain(rule, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    problems
}

/// The key of a label or annotation, a finalizer, a resource: `name` or `example.com/name`.
pub fn qualified_name(text: &str) -> Problems {
    let rule = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let examples = &["MyName", "my.name", "123-abc"];
    let mut problems = Problems::new();
    let name = match text.split('/').collect::<Vec<_>>()[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(
                    subdomain_in_bytes(prefix).iter().map(|problem| format!("prefix part {problem}")),
                );
            }
            name
        }
        _ => {
            let rule = explain(rule, QUALIFIED, examples);
            return vec![format!(
                "a valid label key {rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        problems.push(format!("name part {}", max_bytes(LABEL_MAX)));
    }
    if !is_qualified(name) {
        problems.push(format!("name part {}", explain(rule, QUALIFIED, examples)));
    }
    problems
}

/// The value of a label: empty, or like the name of a label.
pub fn label_value(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.len() > LABEL_MAX {
        problems.push(max_bytes(LABEL_MAX));
    }
    if !text.is_empty() && !is_qualified(text) {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        problems.push(explain(rule, &format!("({QUALIFIED})?"), &["MyValue", "my_value", "12345"]));
    }
    problems
}

/// A name that can stand in a URL path.
pub fn path_segment(text: &str) -> Problems {
    match text {
        "." | ".." => vec![format!("may not be '{text}'")],
        _ => path_segment_prefix(text),
    }
}

/// The beginning of a name that can stand in a URL path.
pub fn path_segment_prefix(text: &str) -> Problems {
    let held = ["/", "%"].into_iter().filter(|part| text.contains(part));
    held.map(|part| format!("may not contain '{part}'")).collect()
}

/// The name of a port: at most 15 lower-case letters, digits and single dashes.
pub fn port_name(text: &str) -> Problems {
    let mut problems = too_long(text, 15);
    if text.is_empty() || !text.bytes().all(is_label_byte) {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// A port's number.
pub fn port_number(port: i64) -> Problems {
    in_range(port, 1, 65535)
}

/// A number between two others, inclusive.
pub fn in_range(number: i64, min: i64, max: i64) -> Problems {
    if (min..=max).contains(&number) {
        Problems::new()
    } else {
        vec![format!("must be between {min} and {max}, inclusive")]
    }
}

/// The name of an environment variable: any printable ASCII but `=`.
pub fn env_var(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.is_empty() {
        problems.push("environment variable name must be non-empty".to_owned());
    }
    if !text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        let rule = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        problems.push(rule.to_owned());
    }
    problems
}

/// A key of a ConfigMap or Secret, which is a file name.
pub fn config_key(text: &str) -> Problems {
    let mut problems = too_long(text, SUBDOMAIN_MAX);
    let is_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(is_key) {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        problems.push(explain(rule, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    match text {
        "." | ".." => problems.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// The name of an HTTP header.
pub fn http_header(text: &str) -> Problems {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Problems::new();
    }
    vec![explain(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// A number of percents: `93%`.
pub fn percent(text: &str) -> Problems {
    let digits = text.strip_suffix('%').filter(|digits| !digits.is_empty());
    if digits.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit())) {
        return Problems::new();
    }
    vec![explain(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn subdomain_pattern() -> String {
    format!("{LABEL}(\\.{LABEL})*")
}

fn subdomain_rule() -> String {
    let rule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
    explain(rule, &subdomain_pattern(), &["example.com"])
}

/// As [`dns1123_subdomain`], in the words of the newer validation, which counts bytes.
fn subdomain_in_bytes(text: &str) -> Problems {
    let long = (text.len() > SUBDOMAIN_MAX).then(|| max_bytes(SUBDOMAIN_MAX));
    long.into_iter().chain((!is_subdomain(text)).then(subdomain_rule)).collect()
}

fn is_label_byte(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_label_byte) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_qualified(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = text.bytes().next().zip(text.bytes().next_back());
    ends.is_some_and(|(first, last)| first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}

fn too_long(text: &str, max: usize) -> Problems {
    if text.len() > max { vec![format!("must be no more than {max} characters")] } else { Problems::new() }
}

fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn explain(rule: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<_> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Problems, good: &[&str], bad: &[(&str, &str)]) {
        for text in good {
            assert_eq!(rule(text), Problems::new(), "{text}");
        }
        for (text, expected) in bad {
            let problems = rule(text).join("; ");
            assert!(problems.contains(expected), "{text}: {problems}");
        }
    }

    #[test]
    fn labels_and_subdomains_follow_their_rfc() {
        let long = "a".repeat(64);
        check(
            dns1123_label,
            &["a", "0", "a-1", "a--1", &long[1..]],
            &[
                ("a.b", "must not contain dots"),
                (&long, "must be no more than 63 characters"),
                ("", "a lowercase RFC 1123 label must consist"),
                (
                    "-a",
                    "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ),
                ("A", "regex"),
                ("a_b", "regex"),
                ("é", "regex"),
            ],
        );
        check(
            dns1123_subdomain,
            &["a", "a.b", "1.2.3", &"a".repeat(253)],
            &[
                (
                    "a..b",
                    "(e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ),
                (&"a".repeat(254), "must be no more than 253 characters"),
                (".a", "subdomain"),
                ("", "subdomain"),
                ("a.B", "subdomain"),
            ],
        );
        check(
            dns1035_label,
            &["a", "abc-1"],
            &[("1a", "a DNS-1035 label must consist"), ("a-", "DNS-1035"), ("", "DNS-1035")],
        );
        check(
            wildcard_dns1123_subdomain,
            &["*.a.b"],
            &[("a.b", "must start with '*.'"), ("*.", "wildcard"), ("*", "wildcard")],
        );
    }

    #[test]
    fn labels_have_an_optional_prefix() {
        let long = "a".repeat(64);
        check(
            qualified_name,
            &["a", "A.b_c-1", "example.com/a"],
            &[
                ("", "name part must be non-empty; name part must consist of alphanumeric"),
                ("/a", "prefix part must be non-empty"),
                ("a/", "name part must be non-empty"),
                ("A_/b", "prefix part a lowercase RFC 1123 subdomain"),
                (&long, "name part must be no more than 63 bytes"),
                ("a/b/c", "a valid label key must consist of alphanumeric characters"),
                ("a b", "name part must consist"),
            ],
        );
        check(
            label_value,
            &["", "a", "A.b"],
            &[
                ("a b", "a valid label must be an empty string or consist"),
                (&long, "63 bytes"),
                ("-a", "regex"),
            ],
        );
    }

    #[test]
    fn other_names_have_their_own_rules() {
        check(
            port_name,
            &["http", "a-1"],
            &[
                ("", "must contain only alpha-numeric"),
                ("1", "at least one letter"),
                ("a--b", "consecutive"),
                ("a-", "begin or end"),
                ("abcdefghijklmnop", "no more than 15 characters"),
            ],
        );
        check(
            path_segment,
            &["system:node", ""],
            &[("..", "may not be '..'"), ("a/b%", "may not contain '/'; may not contain '%'")],
        );
        check(
            config_key,
            &["a", "A_b.c-"],
            &[("..", "must not be '..'"), ("..a", "must not start with '..'"), ("a/b", "a valid config key")],
        );
        check(env_var, &["A", "a.b c"], &[("", "must be non-empty"), ("a=b", "printable ASCII")]);
        check(percent, &["1%"], &[("%", "a valid percent string"), ("1", "percent")]);
        check(http_header, &["X-A"], &[("", "a valid HTTP header"), ("X A", "header")]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    }

    #[test]
    fn a_prefix_of_generated_names_may_end_with_a_dash() {
        assert_eq!(Rule::Subdomain.check_prefix("web-"), Problems::new());
        assert_ne!(Rule::Subdomain.check_prefix("web-."), Problems::new());
        assert_eq!(Rule::Address.check("fe80::1"), Problems::new());
        assert_eq!(Rule::Address.check("fe80::01"), ["must be in canonical form (\"fe80::1\")"]);
        assert_ne!(Rule::Address.check("web"), Problems::new());
        assert_eq!(Rule::PathSegment.check_prefix("."), Problems::new());
        assert_eq!(Rule::Label.check("a.b"), ["must not contain dots"]);
    }
}
