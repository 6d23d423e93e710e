//! The dispatcher: who it is, handing over, and asking it.
//! Elects nobody. That it is silent is no error: whoever asked says what it knows without it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use protocol::work::{Question, Results};
use protocol::{Answer, Command, PeerId, Refusal, Status, Timestamp};

use super::api;
use super::desk::{Ask, Desk};
use super::extract::{self, Body, Params};
use super::names::Names;
use super::problem::{Code, Problem};
use super::read::Nothing;
use super::time::{self, rfc3339};

/// Why a peer that answers has no answer.
pub(super) const NOT_HERE: &str = "it cannot answer that";

pub(super) fn shown(status: &Status) -> Option<api::Dispatcher> {
    let leader = status.leader.as_ref()?;
    let name = |id: PeerId| {
        let known =
            if id == status.id { Some(&status.name) } else { status.peers.iter().find(|peer| peer.id == id).map(|peer| &peer.name) };
        known.map_or_else(|| id.to_string(), ToString::to_string)
    };
    let id = leader.fence.leader;
    let led = u64::try_from(leader.for_.as_millis()).unwrap_or(u64::MAX);
    Some(api::Dispatcher {
        id: id.to_string(),
        name: name(id),
        term: leader.fence.term,
        since_at: rfc3339(Timestamp(time::now().0.saturating_sub(led))),
        standbys: leader.standbys.iter().map(|id| api::Standby { id: id.to_string(), name: name(*id) }).collect(),
    })
}

/// Who hands out the orders; null while nobody is known.
#[utoipa::path(get, path = "/v1/dispatcher", responses((status = 200, description = "Done", body = Option<api::Dispatcher>)))]
pub(super) async fn dispatcher(State(desk): State<Arc<Desk>>, _: Params<Nothing>) -> Result<Json<Option<api::Dispatcher>>, Problem> {
    Ok(Json(shown(&extract::status(&desk).await?)))
}

/// Lets another hand out the orders.
#[utoipa::path(post, path = "/v1/dispatcher/transfer", request_body = api::Transfer, responses((status = 202, description = "Done", body = api::Transferring)))]
pub(super) async fn transfer(
    State(desk): State<Arc<Desk>>,
    _: Params<Nothing>,
    body: Body,
) -> Result<(StatusCode, Json<api::Transferring>), Problem> {
    let wanted: api::Transfer = body.json()?;
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let peer = names.resolve(&wanted.to)?;
    if peer != status.id && names.peer(&peer).is_none() {
        let problem = Problem::from(Refusal::Unknown { name: wanted.to, nearest: Vec::new() });
        return Err(problem.hint("all names ever met: node peers --all"));
    }
    extract::command(&desk, Command::Transfer(peer)).await.map_err(|problem| match (problem.code, &status.leader) {
        (Code::NotDispatcher, Some(leader)) => problem.hint(format!("the dispatcher is {}: ask there", names.of(&leader.fence.leader))),
        (Code::NotDispatcher, None) => problem.hint("nobody is dispatcher now: one is elected within seconds"),
        _ => problem,
    })?;
    Ok((StatusCode::ACCEPTED, Json(api::Transferring { to: names.of(&peer), to_id: peer.to_string() })))
}

/// Asks a peer, or this node itself: what it answers, or why there is no answer.
pub(super) async fn question(desk: &Desk, to: PeerId, question: Question) -> Result<Result<Results, String>, Problem> {
    let command = Command::Ask { to, question: Box::new(question) };
    match extract::ask(desk, |reply| Ask::Command { command, reply }).await? {
        Answer::Results(results) => match *results {
            Results::NotHere => Ok(Err(NOT_HERE.to_owned())),
            results => Ok(Ok(results)),
        },
        Answer::Refused(refusal @ (Refusal::NoAnswer | Refusal::NotReachable(_) | Refusal::TooManyQuestions)) => {
            Ok(Err(refusal.to_string()))
        }
        Answer::Refused(refusal) => Err(refusal.into()),
        _ => Err(Problem::new(Code::Internal, "the question was not answered as one")),
    }
}
