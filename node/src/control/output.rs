//! What a task wrote, as it wrote it: the beginning from this node's disk, the rest from its worker.
//! Knows nothing of what it means. An answer that cannot be complete is not begun.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use protocol::PeerId;
use protocol::order::{Report, Try};
use protocol::work::{Question, Results};
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::desk::{Desk, UnitEnd};
use super::dispatcher::question;
use super::extract::{self, Named, Params};
use super::names::Names;
use super::orders::{TaskId, own, view};
use super::problem::{Code, Problem};

/// Pages that wait for a slow reader: 1 MiB, or that of many small units.
const PIECES: usize = 4;
/// Ends of units read from the disk at once.
const READ: usize = 64;

#[derive(Clone, Copy, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct OutputParams {
    /// Only what this node has: the beginning.
    #[serde(default)]
    here: bool,
}

/// What is kept of what it wrote to standard output.
#[utoipa::path(get, path = "/v1/tasks/{id}/stdout", params(("id" = String, Path, description = "`17` mine, `17.3` a unit"), OutputParams), responses((status = 200, description = "Done", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn stdout(state: State<Arc<Desk>>, id: Named, params: Params<OutputParams>) -> Result<Response, Problem> {
    output(state, id, params, false).await
}

/// What is kept of what it wrote to standard error.
#[utoipa::path(get, path = "/v1/tasks/{id}/stderr", params(("id" = String, Path, description = "`17` mine, `17.3` a unit"), OutputParams), responses((status = 200, description = "Done", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn stderr(state: State<Arc<Desk>>, id: Named, params: Params<OutputParams>) -> Result<Response, Problem> {
    output(state, id, params, true).await
}

/// Where one output is.
#[derive(Clone, Copy)]
struct Place {
    worker: PeerId,
    of: Try,
    stderr: bool,
}

async fn output(
    State(desk): State<Arc<Desk>>,
    Named(id): Named,
    Params(OutputParams { here }): Params<OutputParams>,
    stderr: bool,
) -> Result<Response, Problem> {
    let text = id;
    let id = TaskId::parse(&text)?;
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    if let Some(orderer) = &id.orderer
        && names.resolve(orderer)? != status.id
    {
        return Err(Problem::new(Code::NotYours, format!("what {text} wrote is {orderer}'s to read"))
            .hint(format!("type it there: node task {}", text.rsplit('/').next().unwrap_or_default())));
    }
    let (task, end) = own(&desk, id.number, id.unit).await?;
    if task.units.total > 1 {
        return Ok(of_all(desk, id.number, task.units.total, stderr));
    }
    let unit = id.unit.unwrap_or(1);
    let (place, first) = match end.map(|end| end.end) {
        Some(Ok(report)) => {
            let excerpt = if stderr { report.stderr } else { report.stdout };
            let place = Place { worker: report.worker, of: report.of, stderr };
            let whole = excerpt.kept.min(excerpt.total) <= excerpt.bytes.len() as u64;
            (if whole || here { None } else { Some(place) }, Bytes::from(excerpt.bytes.into_vec()))
        }
        Some(Err(why)) => return Err(none(&text, &format!("was given up: {why}"))),
        None => match running(&desk, id.number, unit).await? {
            Some((worker, of)) => (Some(Place { worker, of, stderr }), Bytes::new()),
            None => return Err(none(&text, if task.done { "ended without being run" } else { "has not been started yet" })),
        },
    };
    let Some(place) = place else { return Ok(plain(Body::from(first))) };
    // The first page of the rest is awaited: whoever gets an answer gets all of it, or an error that ends it.
    let begun = fetch(&desk, place, first.len() as u64).await?.map_err(|why| {
        let worker = names.of(&place.worker);
        let there = if first.is_empty() { String::new() } else { format!("; the first {} bytes are here", first.len()) };
        Problem::new(Code::NotReached, format!("the rest of what {text} wrote is at {worker}, which gives no answer now ({why}){there}"))
            .hint(format!("try again when {worker} is here: node peers"))
    })?;
    let (sender, pieces) = mpsc::channel::<Result<Bytes, std::io::Error>>(PIECES);
    tokio::spawn(async move {
        let from = first.len() as u64;
        // Whoever has gone is not told.
        if sender.send(Ok(first)).await.is_ok() {
            let _ = rest(&desk, place, from, Some(begun), &sender).await;
        }
    });
    Ok(plain(body(pieces)))
}

fn none(id: &str, why: &str) -> Problem {
    Problem::new(Code::NoOutput, format!("there is no output: {id} {why}")).hint(format!("see how far it is: node task {id}"))
}

fn plain(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

fn body(pieces: mpsc::Receiver<Result<Bytes, std::io::Error>>) -> Body {
    Body::from_stream(stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) }))
}

/// Who runs the unit now.
async fn running(desk: &Desk, number: u64, unit: u32) -> Result<Option<(PeerId, Try)>, Problem> {
    let view = view(desk, number).await?;
    Ok(view.and_then(|view| view.running.into_iter().find(|running| running.of.unit == unit)).map(|running| (running.worker, running.of)))
}

/// The reader has gone, or was told that there is no more.
struct Gone;

/// One page, and whether there are more; or why there is none.
async fn fetch(desk: &Desk, place: Place, from: u64) -> Result<Result<(Bytes, bool), String>, Problem> {
    let asked = Question::Output { of: place.of, stderr: place.stderr, from };
    Ok(match question(desk, place.worker, asked).await? {
        Ok(Results::Output { bytes, more }) => Ok((Bytes::from(bytes.into_vec()), more)),
        Ok(_) => Err("its answer is not understood".to_owned()),
        Err(why) => Err(why),
    })
}

/// Sends what is kept after `from`. An error ends the answer early, so that nobody takes it for whole.
async fn rest(
    desk: &Desk,
    place: Place,
    mut from: u64,
    mut begun: Option<(Bytes, bool)>,
    out: &mpsc::Sender<Result<Bytes, std::io::Error>>,
) -> Result<(), Gone> {
    loop {
        let fetched = match begun.take() {
            Some(page) => Ok(page),
            None => fetch(desk, place, from).await.unwrap_or_else(|problem| Err(problem.detail)),
        };
        let (bytes, more) = match fetched {
            Ok(page) => page,
            Err(why) => {
                let _ = out.send(Err(std::io::Error::other(why))).await;
                return Err(Gone);
            }
        };
        from += bytes.len() as u64;
        let last = !more || bytes.is_empty();
        out.send(Ok(bytes)).await.map_err(|_| Gone)?;
        if last {
            return Ok(());
        }
    }
}

/// What all ended units of an order wrote, in their order.
fn of_all(desk: Arc<Desk>, number: u64, units: u32, stderr: bool) -> Response {
    let (sender, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let mut after = 0;
        while after < units {
            let read = extract::shelf(&desk, move |shelf| Ok(shelf.order(number, after, READ)?.map_or_else(Vec::new, |(_, ends)| ends)));
            let ends: Vec<UnitEnd> = match read.await {
                Ok(ends) => ends,
                Err(problem) => return drop(sender.send(Err(std::io::Error::other(problem.detail))).await),
            };
            let Some(last) = ends.last() else { return };
            after = last.unit;
            for report in ends.into_iter().filter_map(|end| end.end.ok()) {
                if of_one(&desk, report, stderr, &sender).await.is_err() {
                    return;
                }
            }
        }
    });
    plain(body(pieces))
}

async fn of_one(desk: &Desk, report: Report, stderr: bool, out: &mpsc::Sender<Result<Bytes, std::io::Error>>) -> Result<(), Gone> {
    let excerpt = if stderr { report.stderr } else { report.stdout };
    let (here, kept) = (excerpt.bytes.len() as u64, excerpt.kept.min(excerpt.total));
    out.send(Ok(Bytes::from(excerpt.bytes.into_vec()))).await.map_err(|_| Gone)?;
    if kept > here {
        rest(desk, Place { worker: report.worker, of: report.of, stderr }, here, None, out).await?;
    }
    Ok(())
}
