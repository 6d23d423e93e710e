//! The routes of services and workers: what is offered here and elsewhere, and who could start something now.
//! Decides nothing. What a list says of others is what they told last; `who` and a single peer's services are asked live.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use protocol::config::limits;
use protocol::id::MachineId;
use protocol::mail::Denial;
use protocol::service::{Allowed, Lack, Needs, Offering, Program, ServiceCard, ServiceName, Services};
use protocol::work::{Question, Results};
use protocol::{Answer, Command, PeerId, Status};
use serde::Deserialize;
use utoipa::IntoParams;

use super::api;
use super::desk::Desk;
use super::dispatcher::question;
use super::extract::{self, Body, Named, Params};
use super::names::Names;
use super::orders::software;
use super::problem::{Code, Problem};
use super::read::{Nothing, page};
use super::task::seconds;
use super::time::rfc3339;
use super::why;

/// The word for everyone in the swarm.
const ANYONE: &str = "anyone";
/// Peers asked at once (guess: a quarter of the questions that may wait).
const AT_ONCE: usize = 64;

// -- offering

/// What this node offers.
#[utoipa::path(get, path = "/v1/offers", responses((status = 200, description = "Done", body = Vec<api::Offer>)))]
pub(super) async fn offers(State(desk): State<Arc<Desk>>, _: Params<Nothing>) -> Result<Json<Vec<api::Offer>>, Problem> {
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    Ok(Json(status.worker.offers.iter().map(|offer| shown(&names, offer)).collect()))
}

/// Offers a service, or offers it otherwise.
#[utoipa::path(method(post, put), path = "/v1/offers", request_body = api::NewOffer, responses((status = 200, description = "Done", body = api::Offer), (status = 201, description = "Accepted anew", body = api::Offer)))]
pub(super) async fn offer(State(desk): State<Arc<Desk>>, _: Params<Nothing>, body: Body) -> Result<Response, Problem> {
    let wanted: api::NewOffer = body.json()?;
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let offering = offering(wanted, &status, &names, desk.about.open)?;
    let known = status.worker.offers.iter().any(|(offer, ..)| offer.card.name == offering.card.name);
    extract::command(&desk, Command::Offer(Box::new(offering.clone()))).await?;
    let code = if known { StatusCode::OK } else { StatusCode::CREATED };
    let now = extract::status(&desk).await?;
    let names = Names::new(&now, desk.about.machine);
    let offer = now.worker.offers.iter().find(|(offer, ..)| offer.card.name == offering.card.name).cloned().unwrap_or((offering, 0, 0));
    Ok((code, Json(shown(&names, &offer))).into_response())
}

/// Offers a service no more.
#[utoipa::path(delete, path = "/v1/offers/{name}", params(("name" = String, Path, description = "Of the service")), responses((status = 204, description = "Done")))]
pub(super) async fn withdraw(State(desk): State<Arc<Desk>>, Named(name): Named, _: Params<Nothing>) -> Result<StatusCode, Problem> {
    let service = service(&name)?;
    extract::command(&desk, Command::Withdraw(service)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Finishes what runs and takes nothing new, or takes orders again.
#[utoipa::path(post, path = "/v1/drain", request_body = api::Drain, responses((status = 200, description = "Done", body = api::Draining)))]
pub(super) async fn drain(State(desk): State<Arc<Desk>>, _: Params<Nothing>, body: Body) -> Result<Json<api::Draining>, Problem> {
    let wanted: api::Drain = body.json()?;
    extract::command(&desk, Command::Drain(wanted.draining)).await?;
    let status = extract::status(&desk).await?;
    let (running, queued) = busy(&status);
    Ok(Json(api::Draining { draining: status.worker.draining, running, queued }))
}

fn service(name: &str) -> Result<ServiceName, Problem> {
    name.parse().map_err(|error| Problem::new(Code::BadName, format!("{name:?} cannot be a service: {error}")))
}

fn busy(status: &Status) -> (u32, u32) {
    (status.worker.running, status.worker.queued)
}

/// As the peer takes it.
fn offering(wanted: api::NewOffer, status: &Status, names: &Names<'_>, open: bool) -> Result<Offering, Problem> {
    let bad = |detail: String| Problem::new(Code::BadOffer, detail).hint("nothing was changed; see: node offer --help");
    let name = service(&wanted.name).map_err(|problem| problem.hint("nothing was changed; choose another name"))?;
    let limit = wanted.limit.unwrap_or(1);
    if !(1..=limits::SLOTS).contains(&limit) {
        return Err(bad(format!("{limit} at once cannot be; it is 1 to {}", limits::SLOTS)));
    }
    let about = wanted.about.unwrap_or_default();
    if about.len() > limits::ABOUT_BYTES || about.chars().any(char::is_control) {
        return Err(bad(format!("what a service is about is one line of at most {} bytes", limits::ABOUT_BYTES)));
    }
    let (cores, memory_bytes) = (wanted.cores.unwrap_or(0), wanted.memory_bytes.unwrap_or(0));
    let machine = &status.statistics;
    if machine.cores > 0 && cores > machine.cores {
        return Err(bad(format!("each run would take {cores} cores and this machine has {}, so that it would never run", machine.cores)));
    }
    if machine.memory_bytes > 0 && memory_bytes > machine.memory_bytes {
        let (wanted, there) = (why::size(memory_bytes), why::size(machine.memory_bytes));
        return Err(bad(format!("each run would take {wanted} of memory and this machine has {there}, so that it would never run")));
    }
    let software: BTreeSet<String> = software(wanted.software).map_err(bad)?.into_iter().collect();
    if wanted.time_limit_seconds == Some(0) {
        return Err(bad("with a time limit of nothing it would never end well".to_owned()));
    }
    let program = match (wanted.command, wanted.builtin) {
        (Some(_), Some(_)) => return Err(bad("a service is a command or a builtin, not both".to_owned())),
        (None, None) => return Err(bad("what should be run? give a command, or a builtin".to_owned())),
        (None, Some(api::Builtin::Echo)) => Program::Echo,
        (Some(command), None) => Program::Command(runnable(command).map_err(bad)?),
    };
    let allowed = match (wanted.allow.as_deref(), open) {
        (None | Some([]), true) => {
            return Err(bad("who may order it? this swarm is open to everyone on this network".to_owned())
                .hint("nothing was changed; add --allow PEER… for some, or --allow anyone"));
        }
        (None | Some([]), false) => Allowed::Anyone,
        (Some([one]), _) if one == ANYONE => Allowed::Anyone,
        (Some(several), _) if several.iter().any(|one| one == ANYONE) => {
            return Err(bad("anyone and single peers do not go together".to_owned()));
        }
        (Some(several), _) if several.len() > limits::RECIPIENTS => {
            return Err(bad(format!("{} peers; at most {} may be named", several.len(), limits::RECIPIENTS)));
        }
        (Some(several), _) => Allowed::Peers(several.iter().map(|one| names.resolve(one)).collect::<Result<_, _>>()?),
    };
    let needs = Needs { cores, memory_bytes, software: software.clone() };
    Ok(Offering {
        card: ServiceCard { name, about, limit, needs, allowed },
        program,
        time_limit_ms: wanted.time_limit_seconds.map(|seconds| seconds.saturating_mul(1_000)),
        software,
        configured: false,
    })
}

/// A service as it stands in the configuration of a node.
///
/// # Errors
/// It cannot be offered so.
pub fn configured(wanted: api::NewOffer, status: &Status, machine: MachineId, open: bool) -> Result<Offering, Problem> {
    Ok(Offering { configured: true, ..offering(wanted, status, &Names::new(status, machine), open)? })
}

/// A program that is named by a path is there; one that is not is looked for when it is run.
fn runnable(command: Vec<String>) -> Result<Vec<String>, String> {
    let Some(program) = command.first().filter(|program| !program.is_empty()) else {
        return Err("what should be run? the command is empty".to_owned());
    };
    if command.iter().any(|arg| arg.contains('\0')) {
        return Err("an argument contains a NUL character, which no program can be given".to_owned());
    }
    let bytes: usize = command.iter().map(String::len).sum();
    if command.len() > limits::ORDER_ARGS || bytes > limits::ORDER_ARGS_BYTES {
        return Err(format!("the command has {} words and {bytes} bytes, which is too long", command.len()));
    }
    if program.contains('/') {
        let path = Path::new(program);
        if !path.is_absolute() {
            return Err(format!("{program} is not a whole path, and the node runs elsewhere than you; give it from / on"));
        }
        let there = std::fs::metadata(path).map_err(|error| format!("{program} cannot be run: {error}"))?;
        if there.is_dir() {
            return Err(format!("{program} is a directory, not a program"));
        }
        let executable = std::os::unix::fs::PermissionsExt::mode(&there.permissions()) & 0o111 != 0;
        if !there.is_file() {
            return Err(format!("{program} is neither a program nor any other file that could be run"));
        }
        if !executable {
            return Err(format!("{program} is not a program; to make it one: chmod +x {program}"));
        }
    }
    Ok(command)
}

fn shown(names: &Names<'_>, (offering, running, queued): &(Offering, u32, u32)) -> api::Offer {
    let card = &offering.card;
    let (command, builtin) = match &offering.program {
        Program::Echo => (None, Some(api::Builtin::Echo)),
        Program::Command(command) => (Some(command.clone()), None),
    };
    api::Offer {
        name: card.name.to_string(),
        about: card.about.clone(),
        limit: card.limit,
        running: *running,
        queued: *queued,
        cores: card.needs.cores,
        memory_bytes: card.needs.memory_bytes,
        software: offering.software.iter().cloned().collect(),
        time_limit_seconds: offering.time_limit_ms.map(|ms| ms / 1_000),
        allow: allow(names, &card.allowed),
        command,
        builtin,
        configured: offering.configured,
    }
}

fn allow(names: &Names<'_>, allowed: &Allowed) -> Vec<String> {
    match allowed {
        Allowed::Anyone => vec![ANYONE.to_owned()],
        Allowed::Peers(peers) => peers.iter().map(|peer| names.of(peer)).collect(),
    }
}

// -- what is offered

/// A worker as it is known here.
struct Known {
    id: PeerId,
    available: bool,
    services: Services,
}

/// This node itself, and all who are here and offer something.
fn known(status: &Status) -> Vec<Known> {
    let own = Services {
        services: status.worker.offers.iter().map(|(offering, ..)| offering.card.clone()).collect(),
        software: status.worker.offers.iter().flat_map(|(offering, ..)| offering.software.clone()).collect(),
        draining: status.worker.draining,
    };
    let own = Known { id: status.id, available: status.available && !status.cloned, services: own };
    let others = status.peers.iter().filter(|peer| peer.reachable).map(|peer| Known {
        id: peer.id,
        available: peer.available && !peer.cloned,
        services: peer.services.clone(),
    });
    std::iter::once(own).chain(others).filter(|known| !known.services.services.is_empty()).collect()
}

fn cards(names: &Names<'_>, me: PeerId, known: &Known) -> Vec<api::Service> {
    // It said so when it was met, or when it was asked to take a letter.
    let blocked = names.peer(&known.id).is_some_and(|peer| peer.denial == Some(Denial::Blocked));
    let card = |card: &ServiceCard| api::Service {
        service: card.name.to_string(),
        about: card.about.clone(),
        worker: names.of(&known.id),
        worker_id: known.id.to_string(),
        available: known.available && !known.services.draining,
        draining: known.services.draining,
        limit: card.limit,
        cores: card.needs.cores,
        memory_bytes: card.needs.memory_bytes,
        software: card.needs.software.iter().cloned().collect(),
        allow: allow(names, &card.allowed),
        allowed: card.allowed.allows(&me, &known.id) && !blocked,
    };
    known.services.services.iter().map(card).collect()
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ServicesParams {
    peer: Option<String>,
    service: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// One for each service of each worker, by service and worker. Of one peer: as it answers now.
#[utoipa::path(get, path = "/v1/services", params(ServicesParams), responses((status = 200, description = "Done", body = Vec<api::Service>, headers(("link" = String, description = "The next page, as rel=\"next\"; left out on the last")))))]
pub(super) async fn services(State(desk): State<Arc<Desk>>, Params(params): Params<ServicesParams>) -> Result<Response, Problem> {
    let limit = extract::limit(params.limit)?;
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let mut all: Vec<api::Service> = match &params.peer {
        None => known(&status).iter().flat_map(|known| cards(&names, status.id, known)).collect(),
        Some(peer) => {
            let id = names.resolve(peer)?;
            match services_of(&desk, &names, &status, id).await? {
                Ok(services) => services,
                Err(why) => {
                    return Err(Problem::new(Code::NoAnswer, format!("{} gives no answer now: {why}", names.of(&id)))
                        .hint("who is here: node peers; what all here offer: node services"));
                }
            }
        }
    };
    if let Some(wanted) = &params.service {
        all.retain(|service| service.service == *wanted);
    }
    let place = |service: &api::Service| format!("{}/{}", service.service, service.worker_id);
    all.sort_by_cached_key(place);
    if let Some(after) = &params.after {
        all.retain(|service| place(service) > *after);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let next = all.last().filter(|_| more).map(|last| {
        let only = |word: &str, what: Option<&str>| what.map(|what| format!("&{word}={}", super::client::quoted(what))).unwrap_or_default();
        let (peer, service) = (only("peer", params.peer.as_deref()), only("service", params.service.as_deref()));
        format!("/v1/services?limit={limit}&after={}{peer}{service}", super::client::quoted(&place(last)))
    });
    Ok(page(Json(all), next))
}

/// What a peer answers that it offers, or why it does not answer.
pub(super) async fn services_of(
    desk: &Desk,
    names: &Names<'_>,
    status: &Status,
    id: PeerId,
) -> Result<Result<Vec<api::Service>, String>, Problem> {
    Ok(match question(desk, id, Question::Services).await? {
        Ok(Results::Services(services)) => {
            let available = if id == status.id { status.available } else { names.peer(&id).is_some_and(|peer| peer.available) };
            Ok(cards(names, status.id, &Known { id, available, services }))
        }
        Ok(_) => Err("its answer is not understood".to_owned()),
        Err(why) => Err(why),
    })
}

// -- workers

/// Who offers services, and how busy they are.
#[utoipa::path(get, path = "/v1/workers", responses((status = 200, description = "Done", body = Vec<api::Worker>)))]
pub(super) async fn workers(State(desk): State<Arc<Desk>>, _: Params<Nothing>) -> Result<Json<Vec<api::Worker>>, Problem> {
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    Ok(Json(all_workers(&desk, &names, &status).await?))
}

/// All who are here and offer something, by name, with what they say of themselves now.
pub(super) async fn all_workers(desk: &Desk, names: &Names<'_>, status: &Status) -> Result<Vec<api::Worker>, Problem> {
    let asked = known(status).into_iter().map(|known| async move {
        let heard = if known.id == status.id { None } else { Some(statistics_of(desk, known.id).await?) };
        Ok::<_, Problem>(worker(names, status, &known, heard))
    });
    let mut workers =
        futures::stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    workers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Ok(workers)
}

/// How a peer is, or why it does not answer.
pub(super) async fn statistics_of(desk: &Desk, id: PeerId) -> Result<Result<api::Statistics, String>, Problem> {
    Ok(match question(desk, id, Question::Statistics).await? {
        Ok(Results::Statistics { statistics, running, queued, up_ms }) => {
            let (cores, memory) = machine(&statistics);
            Ok(api::Statistics { cores, memory, running, queued, up_seconds: seconds(up_ms) })
        }
        Ok(_) => Err("its answer is not understood".to_owned()),
        Err(why) => Err(why),
    })
}

fn machine(statistics: &protocol::beacon::Statistics) -> (api::Cores, api::Memory) {
    let cores = api::Cores { total: statistics.cores, free: f64::from(statistics.cores_free_percent) / 100.0 };
    (cores, api::Memory { total_bytes: statistics.memory_bytes, free_bytes: statistics.memory_free_bytes })
}

fn worker(names: &Names<'_>, status: &Status, known: &Known, heard: Option<Result<api::Statistics, String>>) -> api::Worker {
    let peer = names.peer(&known.id);
    let told = peer.map_or(&status.statistics, |peer| &peer.statistics);
    let (mut cores, mut memory) = machine(told);
    let (running, queued) = match &heard {
        None => {
            let (running, queued) = busy(status);
            (Some(running), Some(queued))
        }
        Some(Ok(now)) => {
            (cores, memory) = (now.cores, now.memory);
            (Some(now.running), Some(now.queued))
        }
        Some(Err(_)) => (None, None),
    };
    api::Worker {
        id: known.id.to_string(),
        name: names.of(&known.id),
        available: known.available && !known.services.draining,
        inactive: peer.map_or(status.inactive, |peer| peer.inactive),
        draining: known.services.draining,
        answered: !matches!(heard, Some(Err(_))),
        last_seen_at: peer.map(|peer| rfc3339(peer.last_seen)),
        services: known.services.services.iter().map(|card| card.name.to_string()).collect(),
        running,
        limit: known.services.services.iter().map(|card| card.limit).sum(),
        queued,
        cores,
        memory,
        software: known.services.software.iter().cloned().collect(),
    }
}

// -- who could start something now

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoParams {
    #[serde(default)]
    cores: u32,
    #[serde(default)]
    memory_bytes: u64,
    /// Words with commas between them.
    #[serde(default)]
    software: String,
}

/// All who say that they offer it, and all who are said to, asked now; those who would start at once first.
#[utoipa::path(get, path = "/v1/who/{service}", params(("service" = String, Path, description = "Its name"), WhoParams), responses((status = 200, description = "Done", body = Vec<api::Availability>)))]
pub(super) async fn who(
    State(desk): State<Arc<Desk>>,
    Named(name): Named,
    Params(params): Params<WhoParams>,
) -> Result<Json<Vec<api::Availability>>, Problem> {
    let name = service(&name)?;
    let words: Vec<String> = params.software.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let software = software(words).map_err(Problem::malformed)?.into_iter().collect();
    let needs = Needs { cores: params.cores, memory_bytes: params.memory_bytes, software };
    let status = extract::status(&desk).await?;
    let offers = |known: &Known| known.services.services.iter().any(|card| card.name == name);
    let told: Vec<PeerId> = known(&status).into_iter().filter(offers).map(|known| known.id).collect();
    // Kademlia may name others, whom no beacon tells of. It is asked beside them: mostly it has nothing to add, and costs no time.
    let (answers, named) = futures::join!(available(&desk, &told, &name, &needs), named(&desk, &name));
    let mut heard = answers?;
    let others: Vec<PeerId> = named?.into_iter().filter(|peer| !told.contains(peer)).collect();
    let hearsay = available(&desk, &others, &name, &needs).await?;
    // Who answers that it does not offer it was named by an advert that is out of date.
    heard.extend(
        hearsay.into_iter().filter(|(_, heard)| !matches!(heard, Ok(Results::Availability(said)) if said.why == Some(Lack::NotOffered))),
    );
    // Some may have got their names just now.
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let mut answers: Vec<api::Availability> = heard.into_iter().map(|(id, heard)| availability(&names, id, heard)).collect();
    let eta = |one: &api::Availability| one.eta_seconds.unwrap_or(f64::MAX);
    answers.sort_by(|a, b| {
        let rank = |one: &api::Availability| (one.available != Some(true), !one.answered);
        rank(a).cmp(&rank(b)).then(eta(a).total_cmp(&eta(b))).then(a.worker.cmp(&b.worker)).then(a.worker_id.cmp(&b.worker_id))
    });
    Ok(Json(answers))
}

/// What each of these answers, or why it does not.
async fn available(
    desk: &Desk,
    peers: &[PeerId],
    service: &ServiceName,
    needs: &Needs,
) -> Result<Vec<(PeerId, Result<Results, String>)>, Problem> {
    let asked = peers.iter().copied().map(|id| async move {
        let asked = Question::Availability { service: service.clone(), needs: needs.clone() };
        Ok::<_, Problem>((id, question(desk, id, asked).await?))
    });
    futures::stream::iter(asked).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

/// Who is said to offer a service, by the adverts that the swarm keeps.
async fn named(desk: &Desk, service: &ServiceName) -> Result<Vec<PeerId>, Problem> {
    match extract::command(desk, Command::FindProviders(service.clone())).await? {
        Answer::Named(peers) => Ok(peers),
        _ => Err(Problem::new(Code::Internal, "the question for providers was not answered as one")),
    }
}

fn availability(names: &Names<'_>, id: PeerId, heard: Result<Results, String>) -> api::Availability {
    let silent = api::Availability {
        worker: names.of(&id),
        worker_id: id.to_string(),
        answered: false,
        available: None,
        why: None,
        detail: None,
        tasks_remaining: None,
        eta_seconds: None,
        basis: None,
        running: None,
        limit: None,
        cores: None,
        memory: None,
        software: Vec::new(),
    };
    let Ok(Results::Availability(said)) = heard else { return silent };
    let lack = said.why.as_ref().map(why::word);
    api::Availability {
        answered: true,
        available: Some(said.available),
        why: lack.as_ref().map(|(word, _)| *word),
        detail: lack.and_then(|(_, detail)| detail),
        tasks_remaining: Some(said.remaining),
        eta_seconds: said.eta_ms.map(seconds),
        basis: Some(said.basis),
        running: Some(said.running),
        limit: Some(said.limit),
        cores: Some(api::Cores { total: said.cores.0, free: f64::from(said.cores.1) }),
        memory: Some(api::Memory { total_bytes: said.memory_bytes.0, free_bytes: said.memory_bytes.1 }),
        software: said.software.into_iter().collect(),
        ..silent
    }
}
