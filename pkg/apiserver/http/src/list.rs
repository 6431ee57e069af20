//! Lists: pages of the cache, put together from the stored bytes without parsing them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use bytes::{BufMut, Bytes, BytesMut};
use edgek_api::resource::Resource;
use edgek_api::status::{Cause, Status};
use edgek_store_watch::{List, ListOptions as StoreOptions, Object, ReadError};
use http::Response;
use http_body::{Frame, SizeHint};

use crate::body::{Body, BoxError};
use crate::error::Rejection;
use crate::info::ResourcePath;
use crate::options::{ListOptions, Use};
use crate::route::Call;
use crate::server::Inner;
use crate::show;

/// How many bytes of a list are put together at a time.
const CHUNK: usize = 64 * 1024;

/// Answers a list.
pub(crate) fn list(
    call: &Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let output = call.accept.list(resource)?;
    let options = ListOptions::parse(call.query(), resource, &path.namespace, Use::List)?;
    let list = select(call.server, resource, options)?;
    Ok(show::list(call.server, resource, list, output))
}

/// The objects that a list or deletecollection is about.
pub(crate) fn select(
    server: &Inner,
    resource: &Arc<Resource>,
    options: ListOptions,
) -> Result<List, Rejection> {
    let collection = server.registry.collection(resource).ok_or(Rejection::NoSuchPath)?;
    let options =
        StoreOptions { filter: options.filter, limit: options.limit, token: options.token, at: options.at };
    collection.list(&options).map_err(|error| match &error {
        ReadError::ContinueExpired { token } => {
            Rejection::Continue(Box::new(read_error(&error)), token.clone())
        }
        _ => read_error(&error).into(),
    })
}

/// The status of a read that was refused.
pub(crate) fn read_error(error: &ReadError) -> Status {
    let text = error.to_string();
    match error {
        ReadError::TooOld { .. } | ReadError::ListExpired | ReadError::ContinueExpired { .. } => {
            Status::expired(text)
        }
        ReadError::TooLarge { .. } => Status::timeout(&text, 1).with_causes(vec![Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".into(),
            field: String::new(),
        }]),
        ReadError::Continue(_) | ReadError::VersionWithContinue => Status::bad_request(text),
    }
}

/// The JSON of a list: its head, its objects separated by commas, and the end.
pub(crate) struct JsonList {
    head: Option<Bytes>,
    items: vec::IntoIter<Arc<Object>>,
    first: bool,
    done: bool,
    remaining: usize,
}

const TAIL: &[u8] = b"]}";

impl JsonList {
    /// The JSON of a list whose text up to and with the bracket of its items is `head`.
    pub(crate) fn new(head: Vec<u8>, items: Vec<Arc<Object>>) -> Self {
        let bytes: usize = items.iter().map(|object| object.bytes().len()).sum();
        let remaining = head.len() + bytes + items.len().saturating_sub(1) + TAIL.len();
        Self { head: Some(head.into()), items: items.into_iter(), first: true, done: false, remaining }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.remaining
    }

    fn chunk(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut chunk = BytesMut::with_capacity(self.remaining.min(CHUNK + CHUNK / 4));
        chunk.put_slice(&self.head.take().unwrap_or_default());
        while chunk.len() < CHUNK {
            let Some(object) = self.items.next() else {
                chunk.put_slice(TAIL);
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                chunk.put_u8(b',');
            }
            chunk.put_slice(object.bytes());
        }
        self.remaining -= chunk.len();
        Some(chunk.freeze())
    }
}

impl http_body::Body for JsonList {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining as u64)
    }
}
