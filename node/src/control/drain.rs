//! The rest of a request that was refused before it was read: it is read and dropped, so that the connection can be used again.
//! Knows nothing of routes. What does not say how long it is, as batches do not, or is more than any request may hold, is not read:
//! then the connection is closed, as HTTP has it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

use super::extract::ORDER_BODY_MAX;

/// How long the rest is awaited (guess: it is on its way already).
const REST_WITHIN: Duration = Duration::from_secs(2);

/// The body of a request, lent to whoever handles it.
struct Lent(Arc<Mutex<Body>>);

impl Lent {
    fn with<T>(&self, act: impl FnOnce(&mut Body) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.with(|body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

/// Answers a request; of one that is refused, what it still has to say is heard out first.
pub(super) async fn heard_out(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // Whoever waits to be told to go on has sent nothing yet, and need not.
    let waits = parts.headers.contains_key(header::EXPECT);
    let body = Arc::new(Mutex::new(body));
    let response = next.run(Request::from_parts(parts, Body::new(Lent(Arc::clone(&body))))).await;
    if response.status().is_success() || waits {
        return response;
    }
    let mut rest = Lent(body);
    let most = u64::try_from(ORDER_BODY_MAX).unwrap_or(u64::MAX);
    if rest.size_hint().exact().is_some_and(|bytes| bytes <= most) {
        let mut left = ORDER_BODY_MAX;
        let read = async {
            while let Some(Ok(frame)) = rest.frame().await {
                left = match frame.data_ref().map_or(Some(left), |data| left.checked_sub(data.len())) {
                    Some(left) => left,
                    None => break,
                };
            }
        };
        // Who says no more in time is not waited for.
        let _ = tokio::time::timeout(REST_WITHIN, read).await;
    }
    response
}
