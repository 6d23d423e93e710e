//! Who is connected to the control socket: so many at once, and of each whether it has asked something.
//! Knows nothing of what is asked. A seat is kept for whoever is being answered; who has asked nothing makes room for others.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::service::TowerToHyperService;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Silence before a whole request, or between two, after which a seat is given to who comes (guess: a program says at once what
/// it wants).
pub(super) const SILENT: Duration = Duration::from_millis(500);

/// All who are connected and count.
#[derive(Clone)]
pub(super) struct Guests(Arc<Table>);

struct Table {
    most: usize,
    seats: Mutex<Seats>,
    left: Notify,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, Guest>,
}

struct Guest {
    /// Since when it could say something and has not; none while it is being answered.
    silent: Option<Instant>,
    leave: CancellationToken,
}

/// One connection's place. Dropped with the connection, it is free.
#[derive(Clone)]
pub(super) struct Seat(Arc<Place>);

struct Place {
    number: u64,
    table: Arc<Table>,
    leave: CancellationToken,
}

impl Table {
    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self, number: u64) {
        if self.seats().taken.remove(&number).is_some() {
            self.left.notify_one();
        }
    }
}

impl Guests {
    pub(super) fn new(most: usize) -> Guests {
        Guests(Arc::new(Table { most, seats: Mutex::default(), left: Notify::new() }))
    }

    /// A seat, if one is free.
    pub(super) fn sit(&self) -> Option<Seat> {
        let mut seats = self.0.seats();
        if seats.taken.len() >= self.0.most {
            return None;
        }
        let (number, leave) = (seats.next, CancellationToken::new());
        seats.next += 1;
        seats.taken.insert(number, Guest { silent: Some(Instant::now()), leave: leave.clone() });
        Some(Seat(Arc::new(Place { number, table: Arc::clone(&self.0), leave })))
    }

    /// Asks whoever has been silent for longest to leave; false if nobody has been for long enough.
    pub(super) fn show_out(&self) -> bool {
        let seats = self.0.seats();
        let silent = seats.taken.values().filter_map(|guest| Some((guest.silent?, &guest.leave)));
        let longest = silent.min_by_key(|(since, _)| *since).filter(|(since, _)| since.elapsed() >= SILENT);
        longest.inspect(|(_, leave)| leave.cancel()).is_some()
    }

    /// When somebody has left.
    pub(super) async fn left(&self) {
        self.0.left.notified().await;
    }
}

impl Seat {
    /// When it is wanted for somebody else.
    pub(super) fn shown_out(&self) -> CancellationToken {
        self.0.leave.clone()
    }

    /// Answers one request. Until it has been read to its end it is not heard; until the answer has left, it is not over.
    pub(super) async fn serve(&self, request: Request<Incoming>, router: Router) -> Result<Response<Body>, Infallible> {
        self.is_silent();
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(self.clone());
        let mut said = Said { body, seat: self.clone() };
        said.look();
        let answer = TowerToHyperService::new(router).call(Request::from_parts(parts, Body::new(said))).await?;
        Ok(answer.map(|body| Body::new(Answer { body, seat: self.clone() })))
    }

    /// It is being answered, whatever else it says.
    pub(super) fn is_heard(&self) {
        self.note(None);
    }

    fn is_silent(&self) {
        self.note(Some(Instant::now()));
    }

    /// It does not count any more: somebody else counts it.
    pub(super) fn leave(&self) {
        self.0.table.free(self.0.number);
    }

    fn note(&self, silent: Option<Instant>) {
        if let Some(guest) = self.0.table.seats().taken.get_mut(&self.0.number) {
            guest.silent = silent;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.free(self.number);
    }
}

/// What a request says.
struct Said {
    body: Incoming,
    seat: Seat,
}

impl Said {
    fn look(&mut self) {
        if self.body.is_end_stream() {
            self.seat.is_heard();
        }
    }
}

impl HttpBody for Said {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready() {
            self.look();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What is answered. Dropped, it has left, or nobody wants it.
struct Answer {
    body: Body,
    seat: Seat,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.seat.is_silent();
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
