//! Watches: a stream of framed events until the client leaves, its time is over, or the server ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use edgek_api::resource::Resource;
use edgek_api::status::Status;
use edgek_store_watch::{Start, Watch, WatchEvent, WatchOptions};
use futures::Stream;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt;

use crate::body::{Body, BoxError, full};
use crate::error::Rejection;
use crate::info::ResourcePath;
use crate::list::read_error;
use crate::negotiate::Output;
use crate::options::{ListOptions, Use};
use crate::route::Call;
use crate::server::Inner;
use crate::show::EventEncoder;

/// A watch that does not say for how long ends after this, plus up to as much again, so that clients do not all come
/// back at once. As upstream's `--min-request-timeout`.
const TIMEOUT: Duration = Duration::from_secs(1800);

/// How many bytes of events are put together before they are sent.
const CHUNK: usize = 32 * 1024;

/// Answers a watch.
pub(crate) fn watch(
    call: &Call<'_>,
    path: &ResourcePath,
    resource: &Arc<Resource>,
) -> Result<Response<Body>, Rejection> {
    let output = call.accept.stream()?;
    let mut options = ListOptions::parse(call.query(), resource, &path.namespace, Use::Watch)?;
    if !path.name.is_empty() {
        // The older path of a watch on one object.
        let selector = format!("metadata.name={}", path.name);
        options.filter.fields = edgek_api::selector::field::Selector::parse(&selector, resource)
            .map_err(|error| Status::bad_request(error.to_string()))?;
    }
    let collection = call.server.registry.collection(resource).ok_or(Rejection::NoSuchPath)?;
    let timeout = options
        .timeout
        .unwrap_or_else(|| TIMEOUT + TIMEOUT.mul_f64(f64::from(std::process::id() % 97) / 97.0));
    let watch = collection.watch(WatchOptions {
        start: start(&options),
        filter: options.filter,
        bookmarks: options.bookmarks,
    });
    let encoder = EventEncoder::new(call.server.clone(), resource.clone(), output);
    let body = match watch {
        Ok(watch) => Events::new(
            call.server,
            watch,
            encoder,
            timeout,
            options.bookmarks == edgek_store_watch::Bookmarks::Allowed,
        )
        .boxed_unsync(),
        // As upstream: the stream begins, and its only event is the error.
        Err(error) => full(encoder.error(&read_error(&error))),
    };
    Ok(stream(body, output))
}

fn start(options: &ListOptions) -> Start {
    match (options.initial_events, options.version.0) {
        (Some(true), _) => Start::InitialEvents { not_older_than: options.version },
        (Some(false), 0) => Start::Now,
        (None, 0) => Start::Objects,
        _ => Start::After(options.version),
    }
}

fn stream(body: Body, output: Output) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(output.format.stream_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// The body of a watch.
struct Events {
    watch: Watch,
    encoder: EventEncoder,
    /// Resolves when the time is over or the server ends.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    bookmarks: bool,
    done: bool,
}

impl Events {
    fn new(
        server: &Arc<Inner>,
        watch: Watch,
        encoder: EventEncoder,
        timeout: Duration,
        bookmarks: bool,
    ) -> Self {
        let scope = server.scope.clone();
        let end = Box::pin(async move {
            tokio::select! {
                () = edgek_base_lifecycle::sleep(timeout) => {}
                () = scope.cancelled() => {}
            }
        });
        Self { watch, encoder, end, bookmarks, done: false }
    }

    fn write(&mut self, event: &WatchEvent, chunk: &mut BytesMut) {
        chunk.put_slice(&self.encoder.event(event));
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let mut chunk = BytesMut::new();
        while !this.done && chunk.len() < CHUNK {
            match Pin::new(&mut this.watch).poll_next(context) {
                Poll::Ready(Some(event)) => this.write(&event, &mut chunk),
                Poll::Ready(None) => this.done = true,
                Poll::Pending => break,
            }
        }
        if !this.done && chunk.is_empty() && this.end.as_mut().poll(context).is_ready() {
            this.done = true;
            if let Some(event) = this.bookmarks.then(|| this.watch.bookmark()).flatten() {
                this.write(&event, &mut chunk);
            }
        }
        match (chunk.is_empty(), this.done) {
            (false, _) => Poll::Ready(Some(Ok(Frame::data(chunk.freeze())))),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
