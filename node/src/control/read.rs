//! The routes that only look: status, peers, inbox, sent.
//! Changes nothing, not even what counts as read. A page ends with a link to the next one if there may be more.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use protocol::Status;
use protocol::input::Disk;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::api;
use super::desk::{Desk, InboxKind, InboxQuery, SentView};
use super::extract::{self, Named, Params};
use super::names::{self, Names};
use super::problem::Problem;
use super::time::rfc3339;

/// No parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// What this node is and sees.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, description = "Done", body = api::Status)))]
pub(super) async fn status(State(desk): State<Arc<Desk>>, _: Params<Nothing>) -> Result<Json<api::Status>, Problem> {
    let status = extract::status(&desk).await?;
    let counts = extract::shelf(&desk, |shelf| shelf.counts()).await?;
    let (low, free_bytes) = match status.disk {
        Disk::Enough => (false, counts.free_bytes),
        Disk::Low { free } => (true, free),
    };
    Ok(Json(api::Status {
        peer: api::Me { id: status.id.to_string(), name: status.name.to_string() },
        swarm: desk.about.swarm.clone(),
        open: desk.about.open,
        peers: api::PeerCounts { available: status.peers.iter().filter(|peer| peer.available).count(), known: status.peers.len() },
        addresses: status.addresses.clone(),
        dispatcher: super::dispatcher::shown(&status),
        orders: api::OrderCounts {
            open: status.open_orders,
            queued: status.queued_orders,
            offers: status.worker.offers.len(),
            draining: status.worker.draining,
        },
        epoch: status.epoch.to_string(),
        version: desk.about.version.clone(),
        available: status.available,
        inactive: status.inactive,
        cloned: status.cloned,
        letters: api::LetterCounts {
            inbox: counts.inbox,
            unread: counts.unread,
            sent: counts.sent,
            waiting: status.outbox_letters,
            waiting_bytes: status.outbox_bytes,
            held_bundles: status.held_bundles,
            held_bytes: status.held_bytes,
        },
        refused: status.refused.iter().map(|(cause, count)| (cause.as_str().to_owned(), *count)).collect(),
        search: (desk.search)(),
        record: api::RecordRoom {
            segments: counts.record.segments,
            bytes: counts.record.bytes,
            limit_bytes: desk.about.record.bytes,
            limit_seconds: desk.about.record.age.as_secs(),
            oldest_at: counts.record.oldest.map(|(at, _)| rfc3339(at)),
            oldest_of: counts.record.oldest.map(|(_, of)| Names::new(&status, desk.about.machine).of(&of.unwrap_or(status.id))),
        },
        disk: api::Disk { low, database_bytes: counts.database_bytes, free_bytes },
        unreached: unreached(&desk, &status),
        data_dir: desk.about.data_dir.display().to_string(),
        started_at: rfc3339(desk.about.started),
        boot: status.boot,
    }))
}

/// Whoever came from there meanwhile needs no dial.
fn unreached(desk: &Desk, status: &Status) -> Vec<api::Missing> {
    let missing = desk.unreached.borrow();
    let here = |address: &String| status.peers.iter().any(|peer| peer.connected && peer.addresses.contains(address));
    let missing = missing.iter().map(|(address, why)| api::Missing { address: address.to_string(), why: why.clone() });
    missing.filter(|missing| !here(&missing.address)).collect()
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PeersParams {
    #[serde(default)]
    all: bool,
    after: Option<String>,
    limit: Option<usize>,
}

/// By id, so that pages do not shift.
#[utoipa::path(get, path = "/v1/peers", params(PeersParams), responses((status = 200, description = "Done", body = Vec<api::Peer>, headers(("link" = String, description = "The next page, as rel=\"next\"; left out on the last")))))]
pub(super) async fn peers(State(desk): State<Arc<Desk>>, Params(params): Params<PeersParams>) -> Result<Response, Problem> {
    let limit = extract::limit(params.limit)?;
    let status = extract::status(&desk).await?;
    let mut peers: Vec<api::Peer> =
        status.peers.iter().filter(|peer| params.all || (peer.connected && peer.reachable)).map(names::peer).collect();
    peers.sort_by(|a, b| a.id.cmp(&b.id));
    if let Some(after) = &params.after {
        peers.retain(|peer| peer.id > *after);
    }
    let more = peers.len() > limit;
    peers.truncate(limit);
    let next = peers.last().filter(|_| more).map(|last| format!("/v1/peers?all={}&limit={limit}&after={}", params.all, last.id));
    Ok(page(Json(peers), next))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct InboxParams {
    #[serde(default)]
    after: u64,
    before: Option<u64>,
    limit: Option<usize>,
    #[serde(default)]
    unread: bool,
    from: Option<String>,
    #[serde(default)]
    newest: bool,
    #[param(inline)]
    only: Option<Only>,
}

/// Not all that is in the inbox.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Only {
    Letters,
    Outcomes,
}

/// Letters to this node, and how its orders ended; ascending by `n`.
#[utoipa::path(get, path = "/v1/inbox", params(InboxParams), responses((status = 200, description = "Done", body = Vec<api::InboxEntry>, headers(("link" = String, description = "The next page, as rel=\"next\"; left out on the last")))))]
pub(super) async fn inbox(State(desk): State<Arc<Desk>>, Params(params): Params<InboxParams>) -> Result<Response, Problem> {
    let limit = extract::limit(params.limit)?;
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let from = params.from.as_deref().map(|from| names.resolve(from)).transpose()?;
    let kind = match params.only {
        None => InboxKind::All,
        Some(Only::Letters) => InboxKind::Letters,
        Some(Only::Outcomes) => InboxKind::Outcomes,
    };
    // What this node itself writes into its inbox are the outcomes of its orders.
    let (kind, author) = match (kind, from) {
        (InboxKind::All, Some(me)) if me == status.id => (InboxKind::Outcomes, None),
        (InboxKind::Outcomes, Some(me)) if me == status.id => (kind, None),
        other => other,
    };
    let (after, before, unread, newest) = (params.after, params.before, params.unread, params.newest);
    let query = InboxQuery { after, before, unread, from: author, limit, newest, kind };
    let found = extract::shelf(&desk, move |shelf| shelf.inbox(&query)).await?;
    let next = found.last().filter(|_| found.len() == limit).map(|last| {
        let mut link = format!("/v1/inbox?limit={limit}");
        if params.newest {
            link += &format!("&newest=true&after={}&before={}", params.after, last.n);
        } else {
            link += &format!("&after={}", last.n);
            link += &params.before.map(|before| format!("&before={before}")).unwrap_or_default();
        }
        if params.unread {
            link += "&unread=true";
        }
        link += match params.only {
            None => "",
            Some(Only::Letters) => "&only=letters",
            Some(Only::Outcomes) => "&only=outcomes",
        };
        link + &from.map(|from| format!("&from={from}")).unwrap_or_default()
    });
    let entries: Vec<api::InboxEntry> = found.iter().map(|letter| names.inbox(letter)).collect();
    Ok(page(Json(entries), next))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SentParams {
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    newest: bool,
}

/// `after` is a letter's number among this node's, as the link says it.
#[utoipa::path(get, path = "/v1/sent", params(SentParams), responses((status = 200, description = "Done", body = Vec<api::Letter>, headers(("link" = String, description = "The next page, as rel=\"next\"; left out on the last")))))]
pub(super) async fn sent(State(desk): State<Arc<Desk>>, Params(params): Params<SentParams>) -> Result<Response, Problem> {
    let limit = extract::limit(params.limit)?;
    let after = match (&params.after, params.newest) {
        (None, _) => 0,
        (Some(after), false) => after.parse().map_err(|_| Problem::malformed("after is a number from a link to the next page"))?,
        (Some(_), true) => return Err(Problem::malformed("newest and after do not go together")),
    };
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let newest = params.newest;
    let found = extract::shelf(&desk, move |shelf| shelf.sent(after, limit, newest)).await?;
    let more = !newest && found.len() == limit;
    let next = found.last().filter(|_| more).map(|last| format!("/v1/sent?limit={limit}&after={}", last.letter.k));
    let letters: Vec<api::Letter> = found.iter().map(|view| names.sent(view)).collect();
    Ok(page(Json(letters), next))
}

/// A letter of this node, and how far it got.
#[utoipa::path(get, path = "/v1/sent/{id}", params(("id" = String, Path, description = "A letter's id, or a unique beginning of it of at least four characters")), responses((status = 200, description = "Done", body = api::Letter)))]
pub(super) async fn sent_one(State(desk): State<Arc<Desk>>, Named(id): Named, _: Params<Nothing>) -> Result<Json<api::Letter>, Problem> {
    let view = written(&desk, &id).await?;
    let status = extract::status(&desk).await?;
    Ok(Json(Names::new(&status, desk.about.machine).sent(&view)))
}

/// The one letter of this node whose id begins so.
pub(super) async fn written(desk: &Desk, id: &str) -> Result<SentView, Problem> {
    let prefix = extract::id_prefix(id)?;
    let wanted = prefix.clone();
    let found = extract::shelf(desk, move |shelf| shelf.sent_by_id(&wanted)).await?;
    extract::one(found, &prefix, |view| view.letter.id.to_string())
        .map_err(|problem| if problem.hint.is_some() { problem } else { problem.hint("letters of this node: node sent") })
}

/// Those from whom nothing is taken.
#[utoipa::path(get, path = "/v1/blocks", responses((status = 200, description = "Done", body = Vec<api::Peer>)))]
pub(super) async fn blocks(State(desk): State<Arc<Desk>>, _: Params<Nothing>) -> Result<Json<Vec<api::Peer>>, Problem> {
    Ok(Json(blocked(&extract::status(&desk).await?)))
}

/// Those from whom nothing is taken.
pub(super) fn blocked(status: &Status) -> Vec<api::Peer> {
    status.peers.iter().filter(|peer| peer.blocked).map(names::peer).collect()
}

pub(super) fn page(body: impl IntoResponse, next: Option<String>) -> Response {
    let mut response = body.into_response();
    if let Some(link) = next.and_then(|next| HeaderValue::try_from(format!("<{next}>; rel=\"next\"")).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}
