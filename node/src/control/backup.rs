//! A backup of the node, handed to whoever asked for it.
//! Writes no file: who asks puts it where that user may write, and learns there and then if it does not fit. An answer that ends
//! without an error is whole, and says so itself.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::desk::Desk;
use super::extract::Params;
use super::problem::{Code, Problem};
use super::read::Nothing;
use super::time;
use crate::store::backup::{BackupError, Origin};

/// Pieces that wait for who takes them (guess: half a MiB).
const PIECES: usize = 8;
/// How long one is waited for: as long as a snapshot is read, nothing of the database that is written over is given back (guess: a disk
/// that hangs).
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// All that the node is, in one stream: whoever asks puts it into a file.
#[utoipa::path(post, path = "/v1/backup", responses((status = 200, description = "The whole node, to be restored from; whole if it says so at its end", content_type = "application/octet-stream", body = Vec<u8>)))]
pub(super) async fn backup(State((desk, share)): State<(Arc<Desk>, Arc<Semaphore>)>, _: Params<Nothing>) -> Result<Response, Problem> {
    let Ok(place) = share.try_acquire_owned() else {
        return Err(Problem::busy("a backup is being made already"));
    };
    let about = &desk.about;
    let origin = Origin { program: about.version.clone(), peer: about.id, swarm: about.swarm.clone(), open: about.open, made: time::now() };
    let (sender, mut pieces) = mpsc::channel::<Result<Bytes, std::io::Error>>(PIECES);
    let shelf = Arc::clone(&desk.shelf);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let runtime = Handle::current();
        let give = |piece| {
            let given = runtime.block_on(tokio::time::timeout(TAKEN_WITHIN, sender.send(piece)));
            matches!(given, Ok(Ok(())))
        };
        match shelf.back_up(&origin, &mut |piece| give(Ok(Bytes::from(piece)))) {
            Ok(()) => {}
            Err(BackupError::Gone) => tracing::debug!("a backup was not taken to its end"),
            Err(error) => {
                tracing::warn!(%error, "a backup was not made");
                // It ends the answer early, so that nobody takes it for whole.
                let _ = give(Err(std::io::Error::other(error.to_string())));
            }
        }
    });
    let first = match pieces.recv().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return Err(Problem::disk(error.to_string())),
        None => return Err(Problem::new(Code::Internal, "the backup was given up")),
    };
    let rest = stream::unfold((Some(first), pieces), |(first, mut pieces)| async move {
        let piece = match first {
            Some(first) => Ok(first),
            None => pieces.recv().await?,
        };
        Some((piece, (None, pieces)))
    });
    let mut response = Response::new(Body::from_stream(rest));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}
