//! The server behind the socket: who may speak, how many, for how long, and which route is whose.
//! Knows nothing of what routes do. No byte of another user is parsed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{Method, Uri};
use axum::{Extension, Router};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use protocol::Notice;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::desk::Desk;
use super::drain::heard_out;
use super::guests::{Guests, SILENT, Seat};
use super::problem::{Code, Problem};
use super::socket::{self, BindError};
use super::{backup, batch, dispatcher, events, log, openapi, orders, output, queries, read, services, write};

/// Connections at once (research/reliability.md 2.2), beside readers of events, …
pub const CONNECTIONS: usize = 64;
/// … which stay for as long as they like (guess: half as many) …
pub const READERS: usize = 32;
/// … and with batches (guess: a quarter). What is left is for requests that are answered at once.
pub const BATCHES: usize = 16;
/// Backups being made at once: each holds a snapshot, and reads all there is (guess: nobody needs two).
pub const BACKUPS: usize = 1;
/// Time for the head of a request, and between two on one connection (research/reliability.md 2.2).
const HEADER_WITHIN: Duration = Duration::from_secs(10);
/// The same for a connection that will be turned away (guess: a program says at once what it wants).
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks that the socket is still there (guess: a user who deleted it tries again about then).
const LOOK: Duration = Duration::from_secs(2);
/// What a connection that is still answered gets when the node stops (guess).
const FAREWELL: Duration = Duration::from_millis(500);

/// A socket that is listened on. Dropped, it is removed.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket that was bound.
    identity: (u64, u64),
}

impl Door {
    /// Opens the door of the node in this directory. Call it under the directory's lock.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn open(data_dir: &std::path::Path) -> Result<Door, BindError> {
        Door::at(socket::path(data_dir))
    }

    fn at(path: PathBuf) -> Result<Door, BindError> {
        let listener = socket::bind(&path)?;
        let identity = socket::identity(&path).map_err(|error| BindError::Io(path.clone(), error))?;
        Ok(Door { listener, path, identity })
    }

    /// Whether others still find this socket at its path.
    fn is_there(&self) -> bool {
        socket::identity(&self.path).is_ok_and(|found| found == self.identity)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // It may be gone already, with the whole directory, and another one's is not ours to remove.
        if self.is_there() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Serves until told to stop, and then a moment longer for those who are being answered.
pub async fn serve(desk: Desk, mut door: Door, stop: CancellationToken) {
    let notices = desk.notices.clone();
    let (router, busy) = (router(desk), Router::new().fallback(turned_away));
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = false;
    let guests = Guests::new(CONNECTIONS);
    let refusals = Arc::new(Semaphore::new(CONNECTIONS));
    let open = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            _ = look.tick() => {
                if !door.is_there() {
                    reopen(&mut door, &mut said, &notices);
                }
                continue;
            }
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
        let seat = tokio::select! {
            seat = admit(&guests, &refusals) => seat,
            () = stop.cancelled() => break,
        };
        match seat {
            Ok(seat) => {
                open.spawn(speak(stream, router.clone(), seat, stop.clone()));
            }
            Err(slot) => {
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(TURNED_AWAY_WITHIN).keep_alive(false);
                let connection = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(busy.clone()));
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(TURNED_AWAY_WITHIN * 2, connection).await;
                    drop(slot);
                });
            }
        }
    }
    open.close();
    let _ = tokio::time::timeout(FAREWELL, open.wait()).await;
    drop(door);
}

/// Somebody deleted the socket or put another in its place: without one, nobody could even stop this node.
fn reopen(door: &mut Door, said: &mut bool, notices: &broadcast::Sender<Notice>) {
    let warning = match Door::at(door.path.clone()) {
        Ok(opened) => {
            *door = opened;
            *said = false;
            format!("{} was gone and was made again", door.path.display())
        }
        Err(_) if *said => return,
        Err(error) => {
            *said = true;
            format!("the control socket is gone and cannot be made again, so no command reaches this node: {error}")
        }
    };
    tracing::debug!(warning);
    // Nobody may be watching.
    drop(notices.send(Notice::Warning(warning)));
}

/// A seat for whoever has come; or, where all are taken by others who are being answered, a place among those who are turned
/// away: as many at once as are served, and whoever comes then waits a moment, since refusals are short.
async fn admit(guests: &Guests, refusals: &Arc<Semaphore>) -> Result<Seat, OwnedSemaphorePermit> {
    loop {
        if let Some(seat) = guests.sit() {
            return Ok(seat);
        }
        if guests.show_out() {
            guests.left().await;
            continue;
        }
        tokio::select! {
            biased;
            Ok(slot) = Arc::clone(refusals).acquire_owned() => return Err(slot),
            () = guests.left() => {}
            // Somebody may have been silent for too long by then.
            () = tokio::time::sleep(SILENT) => {}
        }
    }
}

async fn speak(stream: UnixStream, router: Router, seat: Seat, stop: CancellationToken) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_WITHIN).max_buf_size(64 * 1024);
    let shown_out = seat.shown_out();
    let service = service_fn(|request: hyper::Request<Incoming>| seat.serve(request, router.clone()));
    let connection = server.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shown_out.cancelled() => {
            tracing::debug!("a connection to the control socket that asked nothing made room for another");
            return;
        }
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

async fn turned_away(request: Request) -> Problem {
    // Until the caller has said all: closed before, it would fail to write and never read why.
    let mut body = request.into_body();
    let _ = tokio::time::timeout(FAREWELL, async { while let Some(Ok(_)) = body.frame().await {} }).await;
    Problem::busy(&format!("{CONNECTIONS} connections to this node are open already"))
}

fn router(desk: Desk) -> Router {
    let desk = Arc::new(desk);
    let (routes, described) = routes(&desk).split_for_parts();
    routes
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_route)
        .layer(axum::middleware::from_fn(heard_out))
        .layer(Extension(openapi::finished(&described)))
        .with_state(desk)
}

/// Every route, with its description beside its handler.
fn routes(desk: &Arc<Desk>) -> OpenApiRouter<Arc<Desk>> {
    let share = |of: usize| (Arc::clone(desk), Arc::new(Semaphore::new(of)));
    let for_long = OpenApiRouter::new().routes(routes!(batch::letters)).routes(routes!(batch::orders)).with_state(share(BATCHES));
    let for_longer = OpenApiRouter::new().routes(routes!(events::events)).with_state(share(READERS));
    let whole = OpenApiRouter::new().routes(routes!(backup::backup)).with_state(share(BACKUPS));
    OpenApiRouter::with_openapi(openapi::begun())
        .routes(routes!(openapi::document))
        .routes(routes!(read::status))
        .routes(routes!(read::peers))
        .routes(routes!(read::inbox))
        .routes(routes!(write::inbox_read))
        .routes(routes!(read::sent))
        .routes(routes!(read::sent_one))
        .merge(for_longer)
        .merge(whole)
        .routes(routes!(log::log))
        .routes(routes!(log::verification))
        .routes(routes!(write::letters))
        .routes(routes!(write::discard))
        .merge(for_long)
        .routes(routes!(services::services))
        .routes(routes!(services::workers))
        .routes(routes!(services::who))
        .routes(routes!(services::offers, services::offer))
        .routes(routes!(services::withdraw))
        .routes(routes!(services::drain))
        .routes(routes!(orders::orders))
        .routes(routes!(orders::tasks))
        .routes(routes!(orders::task))
        .routes(routes!(orders::units))
        .routes(routes!(output::stdout))
        .routes(routes!(output::stderr))
        .routes(routes!(orders::cancel))
        .routes(routes!(dispatcher::dispatcher))
        .routes(routes!(dispatcher::transfer))
        .routes(routes!(queries::queries))
        .routes(routes!(write::connect))
        .routes(routes!(write::stop))
        .routes(routes!(write::presence))
        .routes(routes!(read::blocks))
        .routes(routes!(write::block))
        .routes(routes!(write::name))
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::new(Code::NoSuchRoute, format!("{} is not part of this API", uri.path())).hint("GET /v1/status says which version this is")
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("{method} is not for {}", uri.path()))
}
