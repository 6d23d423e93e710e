//! The server behind the socket: who may speak, how many, for how long, and which route is whose.
//! Knows nothing of what routes do. No byte of another user is parsed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, Uri};
use axum::routing::{get, post, put};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::desk::Desk;
use super::problem::{Code, Problem};
use super::socket::{self, BindError};
use super::{batch, events, read, write};

/// Connections at once (research/reliability.md 2.2).
pub const CONNECTIONS: usize = 64;
/// Time for the head of a request, and between two on one connection (research/reliability.md 2.2).
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// What a connection that is still answered gets when the node stops (guess).
const FAREWELL: Duration = Duration::from_millis(500);

/// A socket that is listened on. Dropped, it is removed.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens the door of the node in this directory. Call it under the directory's lock.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn open(data_dir: &std::path::Path) -> Result<Door, BindError> {
        let path = socket::path(data_dir);
        Ok(Door { listener: socket::bind(&path)?, path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // It may be gone already, with the whole directory.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves until told to stop, and then a moment longer for those who are being answered.
pub async fn serve(desk: Desk, door: Door, stop: CancellationToken) {
    let router = router(desk);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(CONNECTIONS));
    let open = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = door.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: others must close some first.
                    tracing::warn!(%error, "the control socket did not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        match stream.peer_cred() {
            Ok(credentials) if socket::may_steer(credentials.uid()) => {}
            Ok(credentials) => {
                tracing::warn!(uid = credentials.uid(), "another user came to the control socket");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a caller of the control socket could not be identified");
                continue;
            }
        }
        match Arc::clone(&slots).try_acquire_owned() {
            Ok(slot) => {
                let connection = speak(stream, router.clone(), stop.clone());
                open.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            // Politely as many at once as are served, and beyond that not.
            Err(_) => {
                if let Ok(slot) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(FAREWELL, turn_away(stream)).await;
                        drop(slot);
                    });
                }
            }
        }
    }
    open.close();
    let _ = tokio::time::timeout(FAREWELL, open.wait()).await;
    drop(door);
}

async fn speak(stream: UnixStream, router: Router, stop: CancellationToken) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_WITHIN).max_buf_size(64 * 1024);
    let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(FAREWELL, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the control socket broke");
    }
}

async fn turn_away(mut stream: UnixStream) -> std::io::Result<()> {
    let problem = Problem::new(Code::Busy, format!("{CONNECTIONS} connections are open")).hint("close some, or try again");
    let body = serde_json::to_string(&problem).expect("a problem is texts and numbers");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // Until the caller has said all: closed before, it would fail to write and never read why.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
}

fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/status", get(read::status))
        .route("/v1/peers", get(read::peers))
        .route("/v1/inbox", get(read::inbox))
        .route("/v1/inbox/read", post(write::inbox_read))
        .route("/v1/sent", get(read::sent))
        .route("/v1/sent/{id}", get(read::sent_one))
        .route("/v1/events", get(events::events))
        .route("/v1/letters", post(write::letters))
        .route("/v1/letters/batch", post(batch::letters))
        .route("/v1/connect", post(write::connect))
        .route("/v1/stop", post(write::stop))
        .route("/v1/presence", put(write::presence))
        .route("/v1/name", put(write::name))
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_route)
        .with_state(Arc::new(desk))
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(Code::NoSuchRoute, format!("{} is not part of this API", uri.path())).hint("GET /v1/status says which version this is")
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{method} is not for {}", uri.path()))
}
