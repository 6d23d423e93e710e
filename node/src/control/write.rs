//! The routes that change something: letters, what was read, signals, the name, connections, the end.
//! Decides nothing: each asks the peer once and passes its answer on. An answer means that the change is on the disk.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::name::PeerName;
use protocol::{Answer, Command};

use super::address;
use super::api;
use super::desk::{Ask, Desk, InboxLetter, Unreached};
use super::extract::{self, Body, Named, Params};
use super::names::Names;
use super::problem::{Code, Problem};
use super::read::{Nothing, blocked, written};

/// The header by which a request is idempotent.
const KEY: &str = "idempotency-key";

/// Letters marked in one request (guess: ten pages of a screen).
const READ_MAX: usize = 1_000;

/// Accepts a letter: it is on the disk when this is answered, with 201, or 200 if the key had accepted it before.
#[utoipa::path(post, path = "/v1/letters", params(("idempotency-key" = Option<String>, Header, description = "Makes the request idempotent for ever; like `key` in the body")), request_body = api::NewLetter, responses((status = 200, description = "Done", body = api::Letter), (status = 201, description = "Accepted anew", body = api::Letter)))]
pub(super) async fn letters(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    _: Params<Nothing>,
    body: Body,
) -> Result<Response, Problem> {
    let mut letter: api::NewLetter<'_> = body.json()?;
    let key = header_key(&headers)?;
    if key.is_some() && letter.key.is_some() && key.as_deref() != letter.key.as_deref() {
        return Err(Problem::new(Code::BadKey, "the key in the header is another than the one in the body"));
    }
    if let Some(beginning) = letter.in_reply_to.take() {
        letter.in_reply_to = Some(answered(&desk, &beginning).await?.into());
    }
    let new = letter.command(key).map_err(|error| Problem::new(Code::BadName, error.to_string()))?;
    let answer = match extract::command(&desk, Command::Send(new)).await {
        Err(problem) if problem.code == Code::AmbiguousPeer => {
            let status = extract::status(&desk).await?;
            return Err(Names::new(&status, desk.about.machine).tell_apart(problem));
        }
        answer => answer?,
    };
    let Answer::Accepted { letter, k, repeated } = answer else {
        return Err(Problem::new(Code::Internal, "the letter was not answered as one"));
    };
    let view = extract::shelf(&desk, move |shelf| shelf.sent_k(k)).await?;
    let view = view.ok_or_else(|| Problem::new(Code::Internal, format!("letter {letter} was accepted and is not there")))?;
    let status = extract::status(&desk).await?;
    let code = if repeated { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = (code, Json(Names::new(&status, desk.about.machine).sent(&view))).into_response();
    if let Ok(place) = HeaderValue::try_from(format!("/v1/sent/{letter}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Answers with the letter, as it is then.
#[utoipa::path(delete, path = "/v1/letters/{id}", params(("id" = String, Path, description = "A letter's id, or a unique beginning of it of at least four characters")), responses((status = 200, description = "Done", body = api::Letter)))]
pub(super) async fn discard(State(desk): State<Arc<Desk>>, Named(id): Named, _: Params<Nothing>) -> Result<Json<api::Letter>, Problem> {
    let view = written(&desk, &id).await?;
    let k = view.letter.k;
    extract::command(&desk, Command::Discard(Box::new(view.letter))).await?;
    let view = extract::shelf(&desk, move |shelf| shelf.sent_k(k)).await?;
    let view = view.ok_or_else(|| Problem::new(Code::Internal, format!("letter {id} was discarded and is not there")))?;
    let status = extract::status(&desk).await?;
    Ok(Json(Names::new(&status, desk.about.machine).sent(&view)))
}

/// A letter answers one of the inbox, or one's own.
async fn answered(desk: &Desk, beginning: &str) -> Result<String, Problem> {
    let prefix = extract::id_prefix(beginning)?;
    if prefix.len() == 26 {
        return Ok(prefix);
    }
    let wanted = prefix.clone();
    let found = extract::shelf(desk, move |shelf| {
        let mut ids: Vec<String> = shelf.inbox_by_id(&wanted)?.iter().map(|letter| letter.id.to_string()).collect();
        ids.extend(shelf.sent_by_id(&wanted)?.iter().map(|view| view.letter.id.to_string()));
        ids.sort();
        ids.dedup();
        Ok(ids)
    });
    extract::one(found.await?, &prefix, Clone::clone)
}

pub(super) fn header_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut given = headers.get_all(KEY).iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => match std::str::from_utf8(key.as_bytes()) {
            Ok(key) => Ok(Some(key.to_owned())),
            Err(_) => Err(Problem::new(Code::BadKey, "the key is not UTF-8")),
        },
        (Some(_), Some(_)) => Err(Problem::new(Code::BadKey, "the key stands twice")),
    }
}

/// Answers with the letters, as they are now. All or none are marked.
#[utoipa::path(post, path = "/v1/inbox/read", request_body = api::MarkRead, responses((status = 200, description = "Done", body = Vec<api::InboxEntry>)))]
pub(super) async fn inbox_read(
    State(desk): State<Arc<Desk>>,
    _: Params<Nothing>,
    body: Body,
) -> Result<Json<Vec<api::InboxEntry>>, Problem> {
    let wanted: api::MarkRead = body.json()?;
    if wanted.ids.len() + wanted.n.len() > READ_MAX {
        return Err(Problem::malformed(format!("at most {READ_MAX} letters at once")));
    }
    let prefixes = wanted.ids.iter().map(|id| extract::id_prefix(id)).collect::<Result<Vec<_>, _>>()?;
    let letters = find(&desk, prefixes, wanted.n).await?;
    let places: Vec<_> = letters.iter().filter(|letter| letter.read.is_none()).map(|letter| letter.place).collect();
    let numbers: Vec<u64> = letters.iter().map(|letter| letter.n).collect();
    let letters = if places.is_empty() {
        letters
    } else {
        extract::command(&desk, Command::MarkRead { letters: places }).await?;
        find(&desk, Vec::new(), numbers).await?
    };
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    Ok(Json(letters.iter().map(|letter| names.inbox(letter)).collect()))
}

async fn find(desk: &Desk, prefixes: Vec<String>, numbers: Vec<u64>) -> Result<Vec<InboxLetter>, Problem> {
    let found = extract::shelf(desk, move |shelf| {
        let mut found: Vec<Result<InboxLetter, Problem>> = Vec::with_capacity(prefixes.len() + numbers.len());
        for prefix in prefixes {
            found.push(extract::one(shelf.inbox_by_id(&prefix)?, &prefix, |letter| letter.id.to_string()));
        }
        for n in numbers {
            found.push(shelf.inbox_n(n)?.ok_or_else(|| Problem::new(Code::UnknownLetter, format!("no letter here has the number {n}"))));
        }
        Ok(found)
    });
    let found = found.await?.into_iter().collect::<Result<Vec<_>, _>>();
    found.map_err(|problem| if problem.hint.is_some() { problem } else { problem.hint("nothing was marked; letters here: node inbox") })
}

/// Says what this node signals; what is left out stays.
#[utoipa::path(put, path = "/v1/presence", request_body = api::Presence, responses((status = 200, description = "Done", body = api::Presence)))]
pub(super) async fn presence(State(desk): State<Arc<Desk>>, _: Params<Nothing>, body: Body) -> Result<Json<api::Presence>, Problem> {
    let wanted: api::Presence = body.json()?;
    if let Some(available) = wanted.available {
        extract::command(&desk, Command::SetAvailable(available)).await?;
    }
    if let Some(inactive) = wanted.inactive {
        extract::command(&desk, Command::SetInactive(inactive)).await?;
    }
    let status = extract::status(&desk).await?;
    Ok(Json(api::Presence { available: Some(status.available), inactive: Some(status.inactive) }))
}

/// Answers with all that are blocked then.
#[utoipa::path(put, path = "/v1/blocks/{peer}", params(("peer" = String, Path, description = "A name, a name with the end of its id, or an id")), request_body = api::Block, responses((status = 200, description = "Done", body = Vec<api::Peer>)))]
pub(super) async fn block(
    State(desk): State<Arc<Desk>>,
    Named(name): Named,
    _: Params<Nothing>,
    body: Body,
) -> Result<Json<Vec<api::Peer>>, Problem> {
    let wanted: api::Block = body.json()?;
    let status = extract::status(&desk).await?;
    let peer = Names::new(&status, desk.about.machine).resolve(&name)?;
    if peer == status.id {
        return Err(Problem::new(Code::Yourself, format!("{name} is this node itself")).hint("nobody was blocked"));
    }
    if !status.peers.iter().any(|known| known.id == peer) {
        return Err(Problem::new(Code::UnknownPeer, format!("{name} was never met")).hint("all names ever met: node peers --all"));
    }
    extract::command(&desk, Command::Block { peer, on: wanted.blocked }).await?;
    Ok(Json(blocked(&extract::status(&desk).await?)))
}

/// Takes another name; others are told at once.
#[utoipa::path(put, path = "/v1/name", request_body = api::Rename, responses((status = 200, description = "Done", body = api::Me)))]
pub(super) async fn name(State(desk): State<Arc<Desk>>, _: Params<Nothing>, body: Body) -> Result<Json<api::Me>, Problem> {
    let wanted: api::Rename = body.json()?;
    let name: PeerName = wanted.name.parse().map_err(|error| Problem::new(Code::BadName, format!("{:?}: {error}", wanted.name)))?;
    extract::command(&desk, Command::Rename(name)).await?;
    let status = extract::status(&desk).await?;
    Ok(Json(api::Me { id: status.id.to_string(), name: status.name.to_string() }))
}

/// Reaches a node that was not found by itself.
#[utoipa::path(post, path = "/v1/connect", request_body = api::Connect, responses((status = 200, description = "Done", body = api::Connected)))]
pub(super) async fn connect(State(desk): State<Arc<Desk>>, _: Params<Nothing>, body: Body) -> Result<Json<api::Connected>, Problem> {
    let wanted: api::Connect = body.json()?;
    let address = address::multiaddr(&wanted.address).map_err(|error| Problem::new(Code::BadAddress, error.to_string()))?;
    let tried = address.clone();
    match extract::ask(&desk, |reply| Ask::Connect { address, reply }).await? {
        Ok(reached) => Ok(Json(api::Connected { address: tried, reached })),
        Err(why) => {
            let hint = match &why {
                Unreached::Itself(_) => "give the address that another node's banner shows: node connect HOST",
                Unreached::NoHost(_) => "check its name, or give its address as its banner shows it: node connect 192.168.1.23",
                Unreached::NotOurs(_) => "compare the swarm and its key in both banners",
                Unreached::Other(_) => "is a node running there, in the same swarm, and does a firewall let its port through?",
            };
            Err(Problem::new(Code::NotReached, why.to_string()).hint(hint))
        }
    }
}

/// Stops the node in order.
#[utoipa::path(post, path = "/v1/stop", responses((status = 202, description = "Done", body = api::Stopping)))]
pub(super) async fn stop(State(desk): State<Arc<Desk>>, _: Params<Nothing>) -> Result<(StatusCode, Json<api::Stopping>), Problem> {
    desk.asks.send(Ask::Stop).await.map_err(|_| Problem::stopping())?;
    Ok((StatusCode::ACCEPTED, Json(api::Stopping { stopping: true })))
}
