//! Many letters or orders in one request: a line in, a line out, in order, for as long as it takes.
//! Knows nothing of what they are for. At most [`IN_FLIGHT`] lines wait for their answer; one bad line harms no other.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::BodyExt;
use protocol::{Answer, Command, LetterId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::api::{NewLetter, NewOrder};
use super::desk::{Ask, Desk};
use super::extract::{self, BODY_MAX, Params};
use super::guests::Seat;
use super::json;
use super::orders;
use super::problem::{Code, Problem};
use super::read::Nothing;
use super::server::BATCHES;

/// Lines that wait for their answer at once (measured: four times 1,024 gained a fifth; two of the driver's batches).
pub(super) const IN_FLIGHT: usize = 4096;
/// Bytes of a piece of the answer.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for a client that writes all before it reads: 8 MiB, or 170,000 ids.
const PIECES: usize = 128;

/// Silence in the middle of a line, after which no more of it is awaited (as long as for any other body) …
const LINE_WITHIN: Duration = extract::BODY_WITHIN;
/// … and between two lines (guess: whoever writes less often can say so again; a stopped program holds no place for ever).
const LINES_WITHIN: Duration = Duration::from_secs(600);

/// The desk, and the places of all batches.
type Shared = State<(Arc<Desk>, Arc<Semaphore>)>;

/// Accepts letters, a `NewLetter` on each line, and answers each line in order: `BatchAccepted`, or a `Problem` with its `line`.
#[utoipa::path(post, path = "/v1/letters/batch", request_body(content = String, content_type = "application/x-ndjson"), responses((status = 200, description = "Done", body = String, content_type = "application/x-ndjson")))]
pub(super) async fn letters(state: Shared, _: Params<Nothing>, request: Request) -> Result<Response, Problem> {
    begin(Kind::Letters, state, request)
}

/// Accepts orders, a `NewOrder` on each line, and answers each line in order: `BatchPlaced`, or a `Problem` with its `line`.
#[utoipa::path(post, path = "/v1/orders/batch", request_body(content = String, content_type = "application/x-ndjson"), responses((status = 200, description = "Done", body = String, content_type = "application/x-ndjson")))]
pub(super) async fn orders(state: Shared, _: Params<Nothing>, request: Request) -> Result<Response, Problem> {
    begin(Kind::Orders, state, request)
}

fn begin(kind: Kind, State((desk, share)): Shared, request: Request) -> Result<Response, Problem> {
    extract::demand_type(request.headers(), &["application/x-ndjson", "application/jsonl"])?;
    let seat = request.extensions().get::<Seat>().cloned();
    let place = share.try_acquire_owned().map_err(|_| Problem::busy(&format!("{BATCHES} batches are under way")))?;
    // It may be silent between two lines.
    seat.inspect(Seat::is_heard);
    let (out, pieces) = mpsc::channel::<Bytes>(PIECES);
    let batch = Batch { kind, desk, _place: place, out, waiting: VecDeque::new(), answer: BytesMut::new(), line: 0 };
    tokio::spawn(batch.run(request.into_body()));
    let pieces = stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (Ok::<_, Infallible>(piece), pieces)) });
    let mut response = Response::new(axum::body::Body::from_stream(pieces));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// What a line is.
#[derive(Clone, Copy)]
enum Kind {
    Letters,
    Orders,
}

impl Kind {
    fn command(self, line: &[u8]) -> Result<Command, Problem> {
        match self {
            Kind::Letters => {
                let letter: NewLetter<'_> = json::read(line)?;
                letter.command(None).map(Command::Send).map_err(|error| Problem::new(Code::BadName, error.to_string()))
            }
            Kind::Orders => {
                let order: NewOrder<'_> = json::read(line)?;
                Ok(Command::Order(Box::new(orders::new(order)?)))
            }
        }
    }
}

/// What a line has become, and which line that was.
enum Accepted {
    Letter(u64, LetterId),
    Order(u64, u64),
}

struct Batch {
    kind: Kind,
    desk: Arc<Desk>,
    _place: OwnedSemaphorePermit,
    out: mpsc::Sender<Bytes>,
    waiting: VecDeque<Waiting>,
    answer: BytesMut,
    line: u64,
}

/// What one line comes to.
enum Waiting {
    Asked(Kind, u64, oneshot::Receiver<Answer>),
    Known(Box<Problem>),
}

/// The client has gone. What was accepted stays accepted.
struct Gone;

impl Batch {
    async fn run(mut self, mut body: axum::body::Body) {
        let mut unread = BytesMut::new();
        let mut open = true;
        while open || !self.waiting.is_empty() {
            let done = tokio::select! {
                biased;
                answer = next(&mut self.waiting), if !self.waiting.is_empty() => {
                    self.note(answer);
                    self.settle().await
                }
                frame = tokio::time::timeout(if unread.is_empty() { LINES_WITHIN } else { LINE_WITHIN }, body.frame()),
                    if open && self.waiting.len() < IN_FLIGHT => match frame {
                    Err(_) => {
                        open = false;
                        self.waiting.push_back(Waiting::Known(Box::new(self.silent(!unread.is_empty()))));
                        Ok(())
                    }
                    Ok(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => {
                            unread.extend_from_slice(&data);
                            self.lines(&mut unread).await
                        }
                        Err(_) => Ok(()),
                    },
                    // A client that breaks off in the middle of a line has not said that line.
                    Ok(Some(Err(_))) => {
                        open = false;
                        Ok(())
                    }
                    Ok(None) => {
                        open = false;
                        let last = unread.split();
                        self.line(&last).await
                    }
                }
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn silent(&self, within_line: bool) -> Problem {
        let (where_, time) = if within_line { ("in the middle of a line", LINE_WITHIN) } else { ("after this line", LINES_WITHIN) };
        let line = if within_line { self.line + 1 } else { self.line };
        let said = format!("nothing came for {} s {where_}, so the batch is over", time.as_secs());
        Problem::new(Code::TooSlow, said).hint("what was not answered was not sent; begin another batch").line(line)
    }

    /// Takes all whole lines.
    async fn lines(&mut self, unread: &mut BytesMut) -> Result<(), Gone> {
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            let line = unread.split_to(end + 1);
            self.line(line.trim_ascii_end()).await?;
        }
        if unread.len() > BODY_MAX {
            let problem = Problem::new(Code::TooLarge, format!("a line has at most {BODY_MAX} bytes")).line(self.line + 1);
            self.waiting.push_back(Waiting::Known(Box::new(problem.hint("this line and what follows it was not sent"))));
            while !self.waiting.is_empty() {
                let answer = next(&mut self.waiting).await;
                self.note(answer);
            }
            self.flush().await?;
            return Err(Gone);
        }
        Ok(())
    }

    async fn line(&mut self, text: &[u8]) -> Result<(), Gone> {
        self.line += 1;
        if text.trim_ascii().is_empty() {
            return Ok(());
        }
        // One frame holds many lines: their answers are taken here, or none would be until it is read to its end.
        while self.waiting.len() >= IN_FLIGHT {
            let answer = next(&mut self.waiting).await;
            self.note(answer);
            self.settle().await?;
        }
        match self.kind.command(text) {
            Ok(command) => {
                let (reply, answer) = oneshot::channel();
                let sent = self.desk.asks.send(Ask::Command { command, reply }).await;
                self.waiting.push_back(match sent {
                    Ok(()) => Waiting::Asked(self.kind, self.line, answer),
                    Err(_) => Waiting::Known(Box::new(Problem::stopping().line(self.line))),
                });
            }
            Err(problem) => self.waiting.push_back(Waiting::Known(Box::new(problem.line(self.line)))),
        }
        Ok(())
    }

    /// Takes what else is answered already, then lets it go: many answers of one commit leave in one piece.
    async fn settle(&mut self) -> Result<(), Gone> {
        loop {
            if self.answer.len() >= PIECE {
                self.flush().await?;
            }
            let answer = match self.waiting.front_mut() {
                None => break,
                Some(Waiting::Known(_)) => None,
                Some(Waiting::Asked(.., receiver)) => match receiver.try_recv() {
                    Ok(answer) => Some(Ok(answer)),
                    Err(oneshot::error::TryRecvError::Empty) => break,
                    Err(oneshot::error::TryRecvError::Closed) => Some(Err(())),
                },
            };
            let first = self.waiting.pop_front();
            self.note(match (first, answer) {
                (Some(Waiting::Asked(kind, line, _)), Some(answer)) => outcome(kind, line, answer),
                (Some(Waiting::Known(problem)), _) => Err(problem),
                _ => break,
            });
        }
        self.flush().await
    }

    fn note(&mut self, answer: Result<Accepted, Box<Problem>>) {
        use bytes::BufMut as _;
        let mut out = (&mut self.answer).writer();
        // Writing into memory does not fail.
        let _ = match answer {
            Ok(Accepted::Letter(line, letter)) => writeln!(out, "{{\"line\":{line},\"id\":\"{letter}\"}}"),
            Ok(Accepted::Order(line, number)) => writeln!(out, "{{\"line\":{line},\"order\":{number}}}"),
            Err(problem) => serde_json::to_writer(&mut out, &problem).map_err(Into::into).and_then(|()| writeln!(out)),
        };
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        if self.answer.is_empty() {
            return Ok(());
        }
        self.out.send(self.answer.split().freeze()).await.map_err(|_| Gone)
    }
}

/// The outcome of the oldest line. Cancel-safe: it is taken off only when it is known.
async fn next(waiting: &mut VecDeque<Waiting>) -> Result<Accepted, Box<Problem>> {
    let outcome = match waiting.front_mut() {
        Some(Waiting::Asked(kind, line, answer)) => outcome(*kind, *line, answer.await.map_err(|_| ())),
        Some(Waiting::Known(problem)) => Err(problem.clone()),
        None => Err(Box::new(Problem::stopping())),
    };
    waiting.pop_front();
    outcome
}

fn outcome(kind: Kind, line: u64, answer: Result<Answer, ()>) -> Result<Accepted, Box<Problem>> {
    match answer {
        Ok(Answer::Accepted { letter, .. }) => Ok(Accepted::Letter(line, letter)),
        Ok(Answer::Placed { number, .. }) => Ok(Accepted::Order(line, number)),
        Ok(Answer::Refused(refusal)) => {
            let problem = Problem::from(refusal).line(line);
            Err(Box::new(if matches!(kind, Kind::Orders) { orders::of_an_order(problem) } else { problem }))
        }
        Ok(_) => Err(Box::new(Problem::new(Code::Internal, "the line was answered as something else").line(line))),
        Err(()) => Err(Box::new(Problem::stopping().line(line))),
    }
}
