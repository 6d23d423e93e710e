//! What every route needs: the query and the body read strictly, the node asked, the disk read off the loop.
//! Knows no route. Whatever is not understood is a [`Problem`], never a default.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use protocol::{Answer, Command, Status};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::api::{PAGE, PAGE_MAX};
use super::desk::{Ask, Desk, Shelf};
use super::json;
use super::problem::{Code, Problem};

/// Bytes of a request's body (DESIGN 10.2).
pub(super) const BODY_MAX: usize = 2 * 1024 * 1024;
/// Bytes of the body of an order (DESIGN 10.2): the largest order, escaped.
pub(super) const ORDER_BODY_MAX: usize = 8 * 1024 * 1024;
/// A body that is not a batch comes at once (guess: even 2 MiB through a busy socket).
pub(super) const BODY_WITHIN: Duration = Duration::from_secs(10);

/// The query of a request; a parameter that is unknown or stands twice is refused.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri).map(|Query(params)| Params(params)).map_err(|error| Problem::malformed(error.body_text()))
    }
}

/// The variable part of a route's path.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::from_request_parts(parts, state).await.map_err(|error| Problem::malformed(error.body_text()))?;
        Ok(Named(name))
    }
}

/// The whole body.
pub(super) struct Body<const MAX: usize = BODY_MAX>(pub(super) bytes::Bytes);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for Body<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        demand_type(request.headers(), &["application/json"])?;
        let too_large = || Problem::new(Code::TooLarge, format!("such a request has at most {MAX} bytes")).hint("nothing was done");
        let read = tokio::time::timeout(BODY_WITHIN, Limited::new(request.into_body(), MAX).collect()).await;
        match read {
            Ok(Ok(body)) => Ok(Body(body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(Problem::malformed(format!("the body cannot be read: {error}"))),
            Err(_) => Err(Problem::new(Code::TooSlow, format!("the body was not complete within {} s", BODY_WITHIN.as_secs()))),
        }
    }
}

impl<const MAX: usize> Body<MAX> {
    /// As a value of ours.
    pub(super) fn json<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        json::read(&self.0)
    }
}

/// A typo must not mean a default, and a form of some web page is never ours.
pub(super) fn demand_type(headers: &axum::http::HeaderMap, types: &[&str]) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    let bare = given.map(|text| text.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
    if bare.as_deref().is_some_and(|given| types.contains(&given)) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("the body is of type {}", given.unwrap_or("nothing said")))
        .hint(format!("say Content-Type: {}", types.first().unwrap_or(&"application/json"))))
}

/// How many of a page.
pub(super) fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(PAGE),
        Some(limit) if (1..=PAGE_MAX).contains(&limit) => Ok(limit),
        Some(_) => Err(Problem::malformed(format!("limit is a number from 1 to {PAGE_MAX}"))),
    }
}

/// Asks the node and waits for its word.
pub(super) async fn ask<T>(desk: &Desk, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Problem> {
    let (reply, answer) = oneshot::channel();
    desk.asks.send(ask(reply)).await.map_err(|_| Problem::stopping())?;
    answer.await.map_err(|_| Problem::stopping())
}

/// What the peer knows now.
pub(super) async fn status(desk: &Desk) -> Result<Status, Problem> {
    ask(desk, Ask::Status).await
}

/// Asks for a deed; a refusal is a problem.
pub(super) async fn command(desk: &Desk, command: Command) -> Result<Answer, Problem> {
    match ask(desk, |reply| Ask::Command { command, reply }).await? {
        Answer::Refused(refusal) => Err(refusal.into()),
        answer => Ok(answer),
    }
}

/// Reads from the disk without holding up the loop.
pub(super) async fn shelf<T: Send + 'static>(
    desk: &Desk,
    read: impl FnOnce(&dyn Shelf) -> Result<T, String> + Send + 'static,
) -> Result<T, Problem> {
    let shelf = Arc::clone(&desk.shelf);
    match tokio::task::spawn_blocking(move || read(shelf.as_ref())).await {
        Ok(result) => result.map_err(Problem::disk),
        Err(error) => Err(Problem::new(Code::Internal, error.to_string())),
    }
}

/// The beginning of a letter's id, as typed.
pub(super) fn id_prefix(text: &str) -> Result<String, Problem> {
    let prefix = text.to_ascii_lowercase();
    if protocol::log::is_prefix(&prefix) {
        return Ok(prefix);
    }
    Err(Problem::malformed(format!("{text:?} cannot begin a letter's id"))
        .hint("an id has 26 characters of 0-9 and a-z without i, l, o and u; its first four may be enough"))
}

/// Of letters that begin so, the one that is meant.
pub(super) fn one<T>(mut found: Vec<T>, prefix: &str, id: impl Fn(&T) -> String) -> Result<T, Problem> {
    if let Some(exact) = found.iter().position(|letter| id(letter) == prefix) {
        return Ok(found.swap_remove(exact));
    }
    match (found.pop(), found.is_empty()) {
        (None, _) => Err(Problem::new(Code::UnknownLetter, format!("no letter's id begins with {prefix}"))),
        (Some(one), true) => Ok(one),
        (Some(last), false) => {
            let mut candidates: Vec<String> = found.iter().map(&id).collect();
            candidates.push(id(&last));
            Err(Problem::new(Code::AmbiguousLetter, format!("{} letters' ids begin with {prefix}", candidates.len()))
                .hint("give more of it")
                .candidates(candidates.into_iter().take(10).collect()))
        }
    }
}
