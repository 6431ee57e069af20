//! Links in what a proxy passes on: those that lead to the root of the server behind it are made to lead through the
//! proxy again (upstream: `apimachinery/pkg/util/proxy/transport.go`).

/// The attributes that hold addresses, whatever tag they are in.
const ATTRIBUTES: [&[u8]; 16] = [
    b"href",
    b"src",
    b"action",
    b"formaction",
    b"cite",
    b"data",
    b"poster",
    b"longdesc",
    b"usemap",
    b"background",
    b"classid",
    b"codebase",
    b"profile",
    b"icon",
    b"manifest",
    b"archive",
];

/// Where a page is from.
pub(crate) struct Page<'a> {
    /// The path of the proxy, before that of the server behind it.
    pub(crate) prefix: &'a str,
    /// The names by which the server behind it knows itself.
    pub(crate) hosts: [&'a str; 2],
}

impl Page<'_> {
    /// The address that leads through the proxy; `None` when `link` does not lead to the server's root, or does already.
    pub(crate) fn rewritten(&self, link: &str) -> Option<String> {
        let path = match link.split_once("://") {
            Some((scheme, rest)) if ["http", "https"].contains(&scheme) => {
                let at = rest.find('/').unwrap_or(rest.len());
                let (host, path) = rest.split_at(at);
                self.hosts.contains(&host).then_some(path)?
            }
            _ if link.starts_with("//") => return None,
            _ => link,
        };
        if !path.starts_with('/') || path.starts_with(self.prefix) {
            return None;
        }
        Some(format!("{}{path}", self.prefix))
    }

    /// The page with its links rewritten; everything else stays as it is.
    pub(crate) fn rewrite(&self, html: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(html.len() + 256);
        let mut rest = html;
        while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
            let (before, from_tag) = rest.split_at(start);
            out.extend_from_slice(before);
            let end = tag_end(from_tag);
            self.tag(&from_tag[..end], &mut out);
            rest = &from_tag[end..];
        }
        out.extend_from_slice(rest);
        out
    }

    /// One tag, from its `<` to its `>`.
    fn tag(&self, tag: &[u8], out: &mut Vec<u8>) {
        let mut written = 0;
        for (name, value) in attributes(tag) {
            let known = ATTRIBUTES.iter().any(|known| known.eq_ignore_ascii_case(&tag[name.clone()]));
            let link = std::str::from_utf8(&tag[value.clone()]).ok().filter(|_| known);
            if let Some(link) = link.and_then(|link| self.rewritten(link)) {
                out.extend_from_slice(&tag[written..value.start]);
                out.extend_from_slice(link.as_bytes());
                written = value.end;
            }
        }
        out.extend_from_slice(&tag[written..]);
    }
}

/// The length of what begins with `<`: a `>` inside quotes does not end it. Comments and text with a lone `<` have no
/// attributes worth a look.
fn tag_end(from: &[u8]) -> usize {
    if !from.get(1).is_some_and(u8::is_ascii_alphabetic) {
        return 1;
    }
    let mut quote = None;
    for (at, byte) in from.iter().enumerate() {
        match (quote, *byte) {
            (None, b'>') => return at + 1,
            (None, mark @ (b'"' | b'\'')) => quote = Some(mark),
            (Some(mark), byte) if mark == byte => quote = None,
            _ => {}
        }
    }
    from.len()
}

/// The names and values of a start tag, as ranges of it.
fn attributes(tag: &[u8]) -> impl Iterator<Item = (std::ops::Range<usize>, std::ops::Range<usize>)> + '_ {
    let mut at = 1;
    std::iter::from_fn(move || {
        while let Some(equals) = tag.get(at..)?.iter().position(|byte| *byte == b'=').map(|found| at + found)
        {
            let name_end = tag[..equals].trim_ascii_end().len();
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b':';
            let name_length = tag[..name_end].iter().rev().take_while(|byte| is_name(byte)).count();
            let value = equals + 1 + (tag[equals + 1..].len() - tag[equals + 1..].trim_ascii_start().len());
            let (start, length) = match tag.get(value)? {
                quote @ (b'"' | b'\'') => {
                    let inner = &tag[value + 1..];
                    (value + 1, inner.iter().position(|byte| byte == quote).unwrap_or(inner.len()))
                }
                _ => {
                    let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'>';
                    let inner = &tag[value..];
                    (value, inner.iter().position(ends).unwrap_or(inner.len()))
                }
            };
            at = start + length + 1;
            if name_length > 0 {
                return Some((name_end - name_length..name_end, start..start + length));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page<'_> = Page { prefix: "/api/v1/x/proxy", hosts: ["10.42.0.5:80", "edge:6443"] };

    #[test]
    fn links_to_the_root_lead_through_the_proxy() {
        let check = |html: &str, expected: &str| {
            assert_eq!(String::from_utf8_lossy(&PAGE.rewrite(html.as_bytes())), expected);
        };
        check(r#"<a href="/rewriteme">test</a>"#, r#"<a href="/api/v1/x/proxy/rewriteme">test</a>"#);
        check("<IMG class=a SRC=/i.png>", "<IMG class=a SRC=/api/v1/x/proxy/i.png>");
        check("<img alt='a > b' src='/i'/>", "<img alt='a > b' src='/api/v1/x/proxy/i'/>");
        check(
            "<a href=\"http://10.42.0.5:80/a?b\">x</a><a href = \"/c\">",
            "<a href=\"/api/v1/x/proxy/a?b\">x</a><a href = \"/api/v1/x/proxy/c\">",
        );
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for html in [
            r#"<a href="rel/ative">"#,
            r#"<a href="//other/x"><a href="https://other/x"><a href="/api/v1/x/proxy/done">"#,
            r#"<p title="/x">a < b, href="/x" c</p>"#,
            "<a href=",
            "<a href=\"/unfinished",
            "<",
            "é<a href=\"#\">",
        ] {
            let rewritten = PAGE.rewrite(html.as_bytes());
            let expected = html.replace("\"/unfinished", "\"/api/v1/x/proxy/unfinished");
            assert_eq!(String::from_utf8_lossy(&rewritten), expected);
        }
    }
}
