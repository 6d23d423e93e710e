//! `queries`: one question to one peer, or to all that are here.
//! Knows nothing that the other routes do not. Who does not answer in time is listed as such.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use futures::StreamExt;
use protocol::work::{Question, Results};
use protocol::{PeerId, Status};
use serde::Serialize;

use super::api::{self, About};
use super::desk::Desk;
use super::dispatcher::{NOT_HERE, question, shown};
use super::extract::{self, Body, Params};
use super::names::{self, Names};
use super::problem::{Code, Problem};
use super::read::Nothing;
use super::services::{all_workers, services_of, statistics_of};
use super::task::{Look, others, seconds};
use super::time;

/// The word for all that are here.
const SWARM: &str = "swarm";
/// Peers asked at once (guess: a quarter of the questions that may wait).
const AT_ONCE: usize = 64;
/// Pages of peers that one is asked for (guess: ten times as many as have been tested).
const PAGES: usize = 8;

/// Asks a peer, or all that are here.
#[utoipa::path(post, path = "/v1/queries", request_body = api::NewQuery, responses((status = 200, description = "Done", body = Vec<api::QueryResults>)))]
pub(super) async fn queries(
    State(desk): State<Arc<Desk>>,
    _: Params<Nothing>,
    body: Body,
) -> Result<Json<Vec<api::QueryResults>>, Problem> {
    let wanted: api::NewQuery = body.json()?;
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let asked: Vec<PeerId> = if wanted.to == SWARM {
        match (wanted.what, &status.leader) {
            // Its tasks are with its dispatcher.
            (About::Tasks, Some(leader)) => vec![leader.fence.leader],
            (About::Tasks, None) => {
                return Err(Problem::new(Code::NoAnswer, "nobody is dispatcher now, and nobody else knows all tasks")
                    .hint("one is elected within seconds; your own: node tasks --mine"));
            }
            _ => std::iter::once(status.id).chain(status.peers.iter().filter(|peer| peer.reachable).map(|peer| peer.id)).collect(),
        }
    } else {
        vec![names.resolve(&wanted.to)?]
    };
    let (desk, names, status) = (&desk, &names, &status);
    let answers = asked.into_iter().map(|id| async move {
        let answer = answer(desk, names, status, id, wanted.what).await?;
        let (results, why) = match answer {
            Ok(results) => (results, None),
            Err(why) => (serde_json::Value::Null, Some(why)),
        };
        Ok::<_, Problem>(api::QueryResults { peer: names.of(&id), peer_id: id.to_string(), answered: why.is_none(), why, results })
    });
    let answers = futures::stream::iter(answers).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let mut answers = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
    answers.sort_by(|a, b| (&a.peer, &a.peer_id).cmp(&(&b.peer, &b.peer_id)));
    Ok(Json(answers))
}

/// What one peer says, or why it says nothing.
async fn answer(
    desk: &Desk,
    names: &Names<'_>,
    status: &Status,
    id: PeerId,
    what: About,
) -> Result<Result<serde_json::Value, String>, Problem> {
    Ok(match what {
        About::Peers => peers_of(desk, id).await?.map(|peers| json(&peers)),
        About::Services => services_of(desk, names, status, id).await?.map(|services| json(&services)),
        About::Statistics => statistics_of(desk, id).await?.map(|statistics| json(&statistics)),
        About::Workers => match statistics_of(desk, id).await? {
            Ok(_) => Ok(json(&all_workers(desk, names, status).await?.into_iter().find(|worker| worker.id == id.to_string()))),
            Err(why) => Err(why),
        },
        About::Tasks => {
            // The first page: who wants all follows `tasks`.
            match question(desk, id, Question::Tasks { after: None }).await? {
                Ok(Results::Tasks { tasks, .. }) => {
                    let look = Look { names, now: time::now() };
                    Ok(json(&tasks.iter().map(|standing| others(look, standing)).collect::<Vec<_>>()))
                }
                Ok(_) => Err("its answer is not understood".to_owned()),
                Err(why) if why == NOT_HERE => Err(not_leading(names, id).unwrap_or(why)),
                Err(why) => Err(why),
            }
        }
        About::Status => match statistics_of(desk, id).await? {
            Ok(statistics) => {
                let dispatcher = shown(status).is_some_and(|leader| leader.id == id.to_string());
                let peer = names.peer(&id).map(names::peer);
                Ok(serde_json::json!({ "peer": peer, "dispatcher": dispatcher, "statistics": statistics }))
            }
            Err(why) => Err(why),
        },
    })
}

/// Only the dispatcher has tasks to tell of.
fn not_leading(names: &Names<'_>, id: PeerId) -> Option<String> {
    let leader = names.leader().filter(|leader| *leader != id)?;
    Some(format!("it is not the dispatcher, which alone knows all tasks; that is {}", names.of(&leader)))
}

/// Whom a peer sees, page by page.
async fn peers_of(desk: &Desk, id: PeerId) -> Result<Result<Vec<api::Seen>, String>, Problem> {
    let (mut all, mut after) = (Vec::new(), None);
    for _ in 0..PAGES {
        let (peers, more) = match question(desk, id, Question::Peers { after }).await? {
            Ok(Results::Peers { peers, more }) => (peers, more),
            Ok(_) => return Ok(Err("its answer is not understood".to_owned())),
            Err(why) => return Ok(Err(why)),
        };
        after = peers.last().map(|seen| seen.peer);
        all.extend(peers.into_iter().map(|seen| api::Seen {
            id: seen.peer.to_string(),
            name: seen.name.to_string(),
            available: seen.available,
            inactive: seen.inactive,
            here_seconds: seconds(seen.for_ms),
        }));
        if !more || after.is_none() {
            break;
        }
    }
    Ok(Ok(all))
}

fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("texts and numbers are JSON")
}
