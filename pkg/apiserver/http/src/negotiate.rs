//! Content negotiation: which format and view of an object a client accepts, and what its body is.

use edgek_api::resource::Resource;
use edgek_api::status::{Reason, Status};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Uri};

use crate::decode::internal_type;
use crate::error::Rejection;
use crate::query::Query;
use crate::table::Include;

/// The formats objects are read and written in, in upstream's order.
pub(crate) const MEDIA_TYPES: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAM_TYPES: [&str; 3] = [
    "application/json;stream=watch",
    "application/yaml;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// What the path of a collection is read in: lists, and streams of events.
const COLLECTION_TYPES: [&str; 5] =
    [MEDIA_TYPES[0], MEDIA_TYPES[1], MEDIA_TYPES[2], STREAM_TYPES[0], STREAM_TYPES[2]];

/// A format of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/json" | "*/*" => Self::Json,
            "application/yaml" => Self::Yaml,
            "application/vnd.kubernetes.protobuf" => Self::Protobuf,
            _ => return None,
        })
    }

    /// The media type of a body in this format.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Json => MEDIA_TYPES[0],
            Self::Yaml => MEDIA_TYPES[1],
            Self::Protobuf => MEDIA_TYPES[2],
        }
    }

    /// The media type of a stream of watch events in this format.
    pub(crate) fn stream_type(self) -> &'static str {
        match self {
            Self::Json => MEDIA_TYPES[0],
            Self::Yaml => STREAM_TYPES[1],
            Self::Protobuf => STREAM_TYPES[2],
        }
    }
}

/// What of an object is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum View {
    /// All of it.
    #[default]
    Whole,
    /// Rows of a table, as `kubectl get` prints.
    Table,
    /// Its metadata.
    Metadata,
    /// The metadata of each object of a list.
    MetadataList,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) view: View,
    pub(crate) pretty: bool,
    /// What of an object a table's row carries.
    pub(crate) include: Include,
}

/// One clause of an `Accept` header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Clause {
    media_type: String,
    quality: u16,
    /// `as`, `g` and `v`: the kind an answer is to be turned into.
    kind: String,
    group: String,
    version: String,
    pretty: bool,
    stream: bool,
}

/// What a client accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    /// By falling quality; empty when the client takes anything.
    clauses: Vec<Clause>,
    pretty: bool,
    include: Include,
}

impl Accept {
    /// What the client of this request accepts.
    pub(crate) fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        let query = Query::new(uri.query().unwrap_or_default());
        let include = Include::parse(&query.get("includeObject").unwrap_or_default());
        let pretty = match query.get("pretty") {
            Some(asked) => matches!(&*asked, "1" | "t" | "T" | "true" | "TRUE" | "True"),
            // People read what these fetch.
            None => headers.get(USER_AGENT).is_some_and(|agent| {
                ["curl", "Wget", "Mozilla/5.0"]
                    .iter()
                    .any(|human| agent.as_bytes().starts_with(human.as_bytes()))
            }),
        };
        let mut clauses: Vec<Clause> = Vec::new();
        for value in headers.get_all(ACCEPT) {
            let value = value.to_str().unwrap_or_default();
            if !matches!(value, "" | "application/json" | "*/*") {
                clauses.extend(value.split(',').filter(|clause| !clause.trim().is_empty()).map(clause));
            } else if !value.is_empty() {
                clauses.push(Clause {
                    media_type: MEDIA_TYPES[0].to_owned(),
                    quality: 1000,
                    ..Clause::default()
                });
            }
        }
        clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
        Self { clauses, pretty, include }
    }

    /// How an object of a resource is to be written.
    pub(crate) fn object(&self, resource: &Resource) -> Result<Output, Rejection> {
        let output = self.choose(true).ok_or_else(|| self.refused(&MEDIA_TYPES, &MEDIA_TYPES))?;
        if output.view == View::MetadataList {
            let it = internal_type(&resource.group, &resource.kind);
            return Err(other_view(&format!(
                "PartialObjectMetadataList, but the requested object is not a list (*{it})"
            )));
        }
        Ok(output)
    }

    /// How a list of a resource is to be written.
    pub(crate) fn list(&self, resource: &Resource) -> Result<Output, Rejection> {
        let output = self.choose(true).ok_or_else(|| self.refused(&MEDIA_TYPES, &COLLECTION_TYPES))?;
        if output.view == View::Metadata {
            let it = internal_type(&resource.group, &resource.list_kind);
            return Err(other_view(&format!(
                "PartialObjectMetadata, but the requested object is a list (*{it})"
            )));
        }
        Ok(output)
    }

    /// How watch events are to be written.
    pub(crate) fn stream(&self) -> Result<Output, Rejection> {
        self.choose(true).ok_or_else(|| self.refused(&STREAM_TYPES, &COLLECTION_TYPES))
    }

    /// How an answer that has no other views is to be written.
    pub(crate) fn plain(&self) -> Result<Output, Rejection> {
        self.choose(false).ok_or_else(|| self.refused(&MEDIA_TYPES, &MEDIA_TYPES))
    }

    /// Upstream refuses in two places: its router knows media types, what comes after it their parameters.
    fn refused(&self, formats: &[&str], representations: &[&str]) -> Rejection {
        if self.clauses.iter().any(|clause| Format::of(&clause.media_type).is_some()) {
            return Status::not_acceptable(formats).into();
        }
        let message =
            format!("406: Not Acceptable\n\nAvailable representations: {}", representations.join(", "));
        Status::failure(406, Reason::NotAcceptable, message).with_causes(Vec::new()).into()
    }

    /// How an error is to be written: it always can be.
    pub(crate) fn error(&self) -> Output {
        self.choose(true).map_or(Output { pretty: self.pretty, ..Output::default() }, |output| Output {
            view: View::Whole,
            ..output
        })
    }

    /// The version of aggregated discovery the client prefers to the legacy one (`v2`).
    pub(crate) fn aggregated_discovery(&self) -> Option<&str> {
        let first = self.clauses.iter().find(|clause| Format::of(&clause.media_type).is_some())?;
        let aggregated = first.group == "apidiscovery.k8s.io"
            && first.kind == "APIGroupDiscoveryList"
            && first.version == "v2";
        aggregated.then_some(first.version.as_str())
    }

    /// Whether the first clause asks for this media type.
    pub(crate) fn prefers(&self, media_type: &str) -> bool {
        self.clauses.first().is_some_and(|clause| clause.media_type == media_type)
    }

    fn choose(&self, views: bool) -> Option<Output> {
        if self.clauses.is_empty() {
            return Some(Output { pretty: self.pretty, include: self.include, ..Output::default() });
        }
        self.clauses.iter().find_map(|clause| {
            let format = Format::of(&clause.media_type)?;
            let view = match (clause.kind.as_str(), clause.group.as_str(), clause.version.as_str()) {
                ("", "", "") => View::Whole,
                ("Table", "meta.k8s.io", "v1" | "v1beta1") if views && format != Format::Protobuf => {
                    View::Table
                }
                ("PartialObjectMetadata", "meta.k8s.io", "v1" | "v1beta1") if views => View::Metadata,
                ("PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") if views => View::MetadataList,
                _ => return None,
            };
            Some(Output { format, view, pretty: self.pretty || clause.pretty, include: self.include })
        })
    }
}

/// The refusal of a view that what is asked for does not have.
fn other_view(requested: &str) -> Rejection {
    Status::failure(406, Reason::NotAcceptable, format!("you requested {requested}")).into()
}

fn clause(text: &str) -> Clause {
    let mut parts = text.split(';').map(str::trim);
    let mut clause = Clause {
        media_type: parts.next().unwrap_or_default().to_ascii_lowercase(),
        quality: 1000,
        ..Clause::default()
    };
    for parameter in parts {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim_matches('"');
        match key {
            "as" => clause.kind = value.to_owned(),
            "g" => clause.group = value.to_owned(),
            "v" => clause.version = value.to_owned(),
            "pretty" => clause.pretty = value == "1",
            "stream" => clause.stream = true,
            "q" => {
                // Three decimals are all that the standard knows.
                let quality = value.parse::<f32>().unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0;
                clause.quality = quality.round() as u16;
            }
            _ => {}
        }
    }
    clause
}

/// The format of a request's body.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<Format, Rejection> {
    match media_type(headers).as_str() {
        "" => Ok(Format::Json),
        "*/*" | "application/*" => Err(Status::unsupported_media_type(&MEDIA_TYPES).into()),
        other => Format::of(other).ok_or_else(|| Status::unsupported_media_type(&MEDIA_TYPES).into()),
    }
}

/// The media type of a request's body, without parameters; empty when it has none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use edgek_api::resource::Catalog;

    use super::*;

    fn accept(header: &str) -> Accept {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header.parse().unwrap());
        Accept::of(&headers, &"/api/v1/pods".parse().unwrap())
    }

    fn pods() -> &'static Resource {
        Catalog::builtin().find("", "v1", "pods").unwrap()
    }

    fn check(header: &str, expected: Option<(Format, View)>) {
        let chosen = accept(header).object(pods()).ok().map(|output| (output.format, output.view));
        assert_eq!(chosen, expected, "{header}");
    }

    #[test]
    fn the_first_acceptable_clause_of_the_highest_quality_counts() {
        check("*/*", Some((Format::Json, View::Whole)));
        check("application/json", Some((Format::Json, View::Whole)));
        check("application/vnd.kubernetes.protobuf,application/json", Some((Format::Protobuf, View::Whole)));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Some((Format::Json, View::Table)),
        );
        check(
            "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json",
            Some((Format::Json, View::Whole)),
        );
        check("application/json;q=0.5,application/yaml", Some((Format::Yaml, View::Whole)));
        check(
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            Some((Format::Json, View::Metadata)),
        );
        check("application/json;as=Unheard;g=of;v=v1", None);
        check("text/html", None);
    }

    #[test]
    fn what_is_not_acceptable_is_told_in_upstreams_words() {
        let Err(Rejection::Status(status)) = accept("text/html").object(pods()) else { panic!("accepted") };
        assert_eq!(status.code, 406);
        assert_eq!(
            status.message,
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        let unknown = accept("application/json;as=Unheard;g=of;v=v1").object(pods());
        let Err(Rejection::Status(status)) = unknown else { panic!("accepted") };
        assert_eq!(
            status.message,
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
    }
}
