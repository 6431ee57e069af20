//! `Body`: the one body type of requests and responses, in process and on the wire.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

/// An error of a body's source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of known or unknown length.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The largest request body, as upstream (`MaxRequestBodyBytes`): 3 MiB.
pub const MAX_REQUEST_BYTES: usize = 3 * 1024 * 1024;

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of no bytes.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Why a request body could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// More than [`MAX_REQUEST_BYTES`].
    #[error("limit is {MAX_REQUEST_BYTES}")]
    TooLarge,
    /// The client went away or broke the framing.
    #[error("unable to read the request body")]
    Broken(#[source] BoxError),
}

/// Reads a whole request body, or fails when it is larger than [`MAX_REQUEST_BYTES`].
pub(crate) async fn read(mut body: Body) -> Result<Bytes, ReadError> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ReadError::Broken)?.into_data() else { continue };
        if first.len() + all.len() + data.len() > MAX_REQUEST_BYTES {
            return Err(ReadError::TooLarge);
        }
        // Most bodies are one frame, which needs no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if !first.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}
