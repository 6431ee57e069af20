//! `Watch`: the events of a watch, object by object in JSON.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::Failure;
use crate::{Body, Error};

/// The longest event: an object of the largest size that is stored, and its frame.
const MAX_EVENT: usize = 8 << 20;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventKind {
    /// It is new, or began to match the selector.
    Added,
    /// It has changed.
    Modified,
    /// It is gone, or ceased to match.
    Deleted,
    /// Nothing happened up to this revision.
    Bookmark,
    /// The watch ends; [`Watch::next`] gives it as an error.
    Error,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object, in JSON.
    pub object: Bytes,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: EventKind,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// A running watch. Dropping it ends it.
pub struct Watch {
    body: Body,
    buffer: BytesMut,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    pub(crate) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next event; `None` when the server has ended the watch. Safe to cancel.
    ///
    /// # Errors
    /// When the server says why it ends the watch, or the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer) {
                let line = self.buffer.split_to(end + 1).freeze();
                if line.len() > 1 {
                    return parse(&line.slice(..end)).map(Some);
                }
                continue;
            }
            if self.buffer.len() > MAX_EVENT {
                return Err(Error::Request(format!("an event of more than {MAX_EVENT} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::Transport(error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn parse(line: &Bytes) -> Result<Event, Error> {
    let frame: Frame<'_> = serde_json::from_slice(line).map_err(Error::Decode)?;
    if frame.kind == EventKind::Error {
        return Err(Error::Api(Failure::parse(500, frame.object.get().as_bytes())));
    }
    let object = line.slice_ref(frame.object.get().as_bytes());
    Ok(Event { kind: frame.kind, object })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, StreamBody};
    use hyper_frames::body_of;

    /// Bodies that arrive in pieces.
    mod hyper_frames {
        use super::*;

        pub(super) fn body_of(pieces: &[&'static str]) -> Body {
            let frames: Vec<Result<_, crate::BoxError>> = pieces
                .iter()
                .map(|piece| Ok(http_body::Frame::data(Bytes::from_static(piece.as_bytes()))))
                .collect();
            StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
        }
    }

    #[tokio::test]
    async fn events_are_cut_at_newlines_however_they_arrive() {
        let mut watch = Watch::new(body_of(&[
            "{\"type\":\"ADDED\",\"obj",
            "ect\":{\"a\":1}}\n{\"type\":\"BOOKMARK\",\"object\":{}}\n",
        ]));
        let event =
            |kind, object: &'static str| Event { kind, object: Bytes::from_static(object.as_bytes()) };
        assert_eq!(watch.next().await.unwrap(), Some(event(EventKind::Added, "{\"a\":1}")));
        assert_eq!(watch.next().await.unwrap(), Some(event(EventKind::Bookmark, "{}")));
        assert_eq!(watch.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_error_event_is_the_failure_it_tells() {
        let text = r#"{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old resource version"}}"#;
        let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {}).boxed_unsync();
        assert!(Watch::new(body).next().await.unwrap_err().is_expired());
    }
}
