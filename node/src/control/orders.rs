//! The routes of orders and tasks: placing, looking, cancelling.
//! Decides nothing. What this node's disk has is shown whether or not anyone else answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use protocol::config::limits;
use protocol::input::NewOrder;
use protocol::order::{End, OrderKey, Priority};
use protocol::peer::OrderView;
use protocol::service::Needs;
use protocol::work::{Question, Results, Standing};
use protocol::{Answer, Command, Epoch, PeerId, Status};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::api::{self, Encoding, TaskState};
use super::desk::{Ask, Desk, OrderQuery, OrderSummary, UnitEnd};
use super::dispatcher::question;
use super::extract::{self, Body, Named, ORDER_BODY_MAX, Params};
use super::names::Names;
use super::problem::{Code, Problem};
use super::read::{Nothing, page};
use super::task::{Look, Own, Word, others};
use super::{time, write};

/// Memories of one orderer that are looked through for a number (guess: more are in one queue only if something is wrong).
const EPOCHS: usize = 8;
/// Pages of the dispatcher's queue that are asked for one page here: orders of this node are left out of it.
const PAGES: usize = 4;

// -- placing

/// Accepts an order: it is on the disk when this is answered, with 201, or 200 if the key had accepted it before.
#[utoipa::path(post, path = "/v1/orders", params(("idempotency-key" = Option<String>, Header, description = "Makes the request idempotent for ever; like `key` in the body")), request_body = api::NewOrder, responses((status = 200, description = "Done", body = api::Order), (status = 201, description = "Accepted anew", body = api::Order)))]
pub(super) async fn orders(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    _: Params<Nothing>,
    body: Body<ORDER_BODY_MAX>,
) -> Result<Response, Problem> {
    let mut order: api::NewOrder<'_> = body.json()?;
    let key = write::header_key(&headers)?;
    if key.is_some() && order.key.is_some() && key.as_deref() != order.key.as_deref() {
        return Err(Problem::new(Code::BadKey, "the key in the header is another than the one in the body"));
    }
    order.key = key.map(Into::into).or(order.key);
    let command = Command::Order(Box::new(new(order)?));
    let Answer::Placed { number, repeated } = extract::command(&desk, command).await.map_err(of_an_order)? else {
        return Err(Problem::new(Code::Internal, "the order was not answered as one"));
    };
    let me = desk.about.id.to_string();
    let mut shown = api::Order { order: number, orderer_id: me, state: TaskState::Accepted, held_by: 0, position: None, done: false };
    if repeated {
        let (task, _) = own(&desk, number, None).await?;
        shown = api::Order { state: task.state, held_by: task.held_by, position: task.position, done: task.done, ..shown };
    }
    let code = if repeated { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = (code, Json(shown)).into_response();
    if let Ok(place) = HeaderValue::try_from(format!("/v1/tasks/{number}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Letters and orders are refused for some of the same reasons.
pub(super) fn of_an_order(problem: Problem) -> Problem {
    let said = |text: String| text.replace("nothing was sent", "nothing was ordered").replace("another letter", "another order");
    Problem { detail: said(problem.detail), hint: problem.hint.map(said), ..problem }
}

/// As the peer takes it.
pub(super) fn new(order: api::NewOrder<'_>) -> Result<NewOrder, Problem> {
    let bad = |detail: String| Problem::malformed(detail).hint("nothing was ordered; see: node order --help");
    let service = order.service.parse().map_err(|error| {
        Problem::new(Code::BadName, format!("{:?} cannot be a service: {error}", order.service)).hint("what can be ordered: node services")
    })?;
    let priority = Priority::try_from(order.priority)
        .map_err(|_| bad(format!("{} is no priority: 1 is the front, 2 the middle and 3 the end of the queue", order.priority)))?;
    if order.expires_seconds == Some(0) {
        return Err(bad("the order would expire at once; give it time".to_owned()));
    }
    if order.cores > limits::CORES {
        return Err(bad(format!("{} cores are more than any machine has; at most {} can be asked for", order.cores, limits::CORES)));
    }
    if order.memory_bytes > limits::MEMORY_BYTES {
        let (asked, most) = (order.memory_bytes, limits::MEMORY_BYTES);
        return Err(bad(format!("{asked} bytes of memory are more than any machine has; at most {most} can be asked for")));
    }
    let stdin = match (order.stdin, order.stdin_encoding) {
        (None, _) => None,
        (Some(text), Encoding::Utf8) => Some(text.into_owned().into_bytes()),
        (Some(text), Encoding::Base64) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
            Some(bytes.map_err(|error| bad(format!("stdin is not Base64: {error}")))?)
        }
    };
    let mut args = order.args;
    if !order.items.is_empty() && !args.iter().any(|arg| arg.contains("{}")) {
        // Otherwise no unit would learn of its item.
        args.push("{}".to_owned());
    }
    Ok(NewOrder {
        service,
        args,
        items: order.items,
        stdin,
        priority,
        needs: Needs {
            cores: order.cores,
            memory_bytes: order.memory_bytes,
            software: software(order.software).map_err(bad)?.into_iter().collect(),
        },
        once: order.once,
        expires: order.expires_seconds.map(Duration::from_secs),
        key: order.key.map(std::borrow::Cow::into_owned),
    })
}

/// Words of software, as every peer takes them.
pub(super) fn software(words: Vec<String>) -> Result<Vec<String>, String> {
    if words.len() > limits::SOFTWARE {
        return Err(format!("{} words of software; at most {} are allowed", words.len(), limits::SOFTWARE));
    }
    let bad = |word: &&String| word.is_empty() || word.len() > limits::SOFTWARE_BYTES || !word.chars().all(protocol::name::printable);
    match words.iter().find(bad) {
        Some(word) => Err(format!("{word:?} cannot be a word of software: 1 to {} bytes without spaces", limits::SOFTWARE_BYTES)),
        None => Ok(words),
    }
}

// -- which task is meant

/// `17` mine, `nikki-pi/17` hers, `17.3` a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TaskId {
    pub(super) orderer: Option<String>,
    pub(super) number: u64,
    pub(super) unit: Option<u32>,
}

impl TaskId {
    pub(super) fn parse(text: &str) -> Result<TaskId, Problem> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (orderer, rest) = match text.rsplit_once('/') {
            Some((orderer, rest)) => (Some(orderer), rest),
            None => (None, text),
        };
        let (number, unit) = match rest.split_once('.') {
            Some((number, unit)) => (number, Some(unit)),
            None => (rest, None),
        };
        let parsed = || {
            let good = digits(number) && unit.is_none_or(digits) && orderer.is_none_or(|orderer| !orderer.is_empty());
            let number: u64 = number.parse().ok().filter(|number| good && *number > 0)?;
            let unit = unit.map(|unit| unit.parse::<u32>().ok().filter(|unit| *unit > 0));
            if unit == Some(None) { None } else { Some(TaskId { orderer: orderer.map(str::to_owned), number, unit: unit.flatten() }) }
        };
        parsed().ok_or_else(|| {
            Problem::malformed(format!("{text:?} is not the id of a task")).hint("like 17, nikki-pi/17 or 17.3, as node tasks shows them")
        })
    }
}

/// The peer whose order is meant, if it is not this node.
async fn orderer(desk: &Desk, id: &TaskId) -> Result<Option<PeerId>, Problem> {
    let Some(name) = &id.orderer else { return Ok(None) };
    let status = extract::status(desk).await?;
    let peer = Names::new(&status, desk.about.machine).resolve(name)?;
    Ok(Some(peer).filter(|peer| *peer != status.id))
}

fn unknown(number: u64) -> Problem {
    Problem::new(Code::UnknownOrder, format!("this node has placed no order {number}")).hint("orders of this node: node tasks --mine")
}

// -- what is known of it

pub(super) async fn view(desk: &Desk, number: u64) -> Result<Option<OrderView>, Problem> {
    extract::ask(desk, |reply| Ask::Order(number, reply)).await
}

async fn word(desk: &Desk, status: &Status, key: OrderKey) -> Result<Word, Problem> {
    let Some(leader) = status.leader.as_ref().map(|leader| leader.fence.leader) else { return Ok(Word::NoDispatcher) };
    Ok(match question(desk, leader, Question::Task(key)).await? {
        Ok(Results::Task(Some(standing))) => Word::Standing(Box::new(standing)),
        Ok(Results::Task(None)) => Word::Unknown(leader),
        _ => Word::Silent(leader),
    })
}

/// Whether this node has placed such an order, of so many units.
pub(super) async fn known(desk: &Desk, number: u64, unit: Option<u32>) -> Result<(), Problem> {
    let found = extract::shelf(desk, move |shelf| shelf.order(number, 0, 0)).await?;
    let (summary, _) = found.ok_or_else(|| unknown(number))?;
    has_unit(&summary, unit)
}

fn has_unit(summary: &OrderSummary, unit: Option<u32>) -> Result<(), Problem> {
    let Some(unit) = unit.filter(|unit| *unit > summary.units) else { return Ok(()) };
    let number = summary.number;
    let units = if summary.units == 1 { "1 unit".to_owned() } else { format!("{} units", summary.units) };
    Err(Problem::new(Code::UnknownOrder, format!("order {number} has {units}, and no unit {unit}"))
        .hint(format!("its units: node task {number} --units")))
}

/// An order of this node, or one unit of it; and the report of the unit, if it has ended.
pub(super) async fn own(desk: &Desk, number: u64, unit: Option<u32>) -> Result<(api::Task, Option<UnitEnd>), Problem> {
    let found = extract::shelf(desk, move |shelf| {
        let Some((summary, _)) = shelf.order(number, 0, 0)? else { return Ok(None) };
        let one = unit.or((summary.units == 1).then_some(1));
        let end = one.map(|one| shelf.unit_end(number, one)).transpose()?.flatten();
        let item = match unit {
            Some(unit) if summary.has_items => shelf.whole_order(number)?.and_then(|order| order.items.get(unit as usize - 1).cloned()),
            _ => None,
        };
        Ok(Some((summary, end, item)))
    });
    let (summary, end, item) = found.await?.ok_or_else(|| unknown(number))?;
    has_unit(&summary, unit)?;
    let status = extract::status(desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let (view, word) = if summary.state.outcome.is_some() {
        (None, Word::NoDispatcher)
    } else {
        let key = OrderKey { orderer: status.id, epoch: summary.epoch, number };
        (view(desk, number).await?, word(desk, &status, key).await?)
    };
    let own = Own::new(Look { names: &names, now: time::now() }, &summary, view.as_ref(), &word);
    let task = match unit {
        Some(unit) => own.unit(unit, item, end.as_ref()),
        None => own.whole(end.as_ref()),
    };
    Ok((task, end))
}

/// An order of another node, as the dispatcher knows it.
async fn hers(desk: &Desk, orderer: PeerId, id: &TaskId) -> Result<(Standing, Status), Problem> {
    let status = extract::status(desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let shown = format!("{}/{}", names.of(&orderer), id.number);
    let Some(leader) = status.leader.as_ref().map(|leader| leader.fence.leader) else {
        return Err(Problem::new(
            Code::UnknownOrder,
            format!("order {shown} is not of this node, and nobody is dispatcher now who would know it"),
        )
        .hint("ask at its own node, or again when one is elected: node dispatcher"));
    };
    let mut after = OrderKey { orderer, epoch: Epoch(0), number: id.number - 1 };
    for _ in 0..EPOCHS {
        let tasks = match question(desk, leader, Question::Tasks { after: Some(after) }).await? {
            Ok(Results::Tasks { tasks, .. }) => tasks,
            _ => {
                return Err(Problem::new(Code::NoAnswer, format!("the dispatcher, {}, does not answer now", names.of(&leader)))
                    .hint("try again, or ask at the order's own node"));
            }
        };
        match tasks.into_iter().next() {
            Some(standing) if standing.order.orderer == orderer && standing.order.number == id.number => return Ok((standing, status)),
            // Another memory of the same orderer: its numbers are looked through from the beginning.
            Some(standing) if standing.order.orderer == orderer => {
                let number = if standing.order.number < id.number && standing.order.epoch > after.epoch { id.number - 1 } else { u64::MAX };
                after = OrderKey { number, ..standing.order };
            }
            _ => break,
        }
    }
    Err(Problem::new(Code::UnknownOrder, format!("the dispatcher knows no open order {shown}"))
        .hint("if it has ended, its own node has the outcome; what is in progress: node tasks --running"))
}

// -- looking

/// An order, or one unit of it.
#[utoipa::path(get, path = "/v1/tasks/{id}", params(("id" = String, Path, description = "`17` mine, `nikki-pi/17` hers, `17.3` a unit; a slash is written %2F")), responses((status = 200, description = "Done", body = api::Task)))]
pub(super) async fn task(State(desk): State<Arc<Desk>>, Named(id): Named, _: Params<Nothing>) -> Result<Json<api::Task>, Problem> {
    let id = TaskId::parse(&id)?;
    let Some(orderer) = orderer(&desk, &id).await? else {
        return Ok(Json(own(&desk, id.number, id.unit).await?.0));
    };
    let (standing, status) = match hers(&desk, orderer, &id).await {
        // It has ended, or was never placed: its orderer has written down which, and how.
        Err(problem) if problem.code == Code::UnknownOrder && id.unit.is_none() => {
            let ended = super::log::end_of(&desk, orderer, id.number).await?;
            return ended.map(Json).ok_or(problem);
        }
        found => found?,
    };
    let names = Names::new(&status, desk.about.machine);
    let look = Look { names: &names, now: time::now() };
    match id.unit {
        None => Ok(Json(others(look, &standing))),
        Some(unit) => Ok(Json(unit_of_others(look, &standing, unit)?)),
    }
}

/// The dispatcher names only units that are with a worker.
fn unit_of_others(look: Look<'_>, standing: &Standing, unit: u32) -> Result<api::Task, Problem> {
    let whole = others(look, standing);
    let placed = standing.tries.iter().find(|placed| placed.unit == unit);
    let Some(placed) = placed else {
        return Err(Problem::new(Code::UnknownOrder, format!("unit {unit} of order {} is not with a worker now", whole.id))
            .hint("whether it waits or has ended is known at its orderer's node"));
    };
    let only = Standing { units: 1, ended: 0, waiting: 0, tries: vec![placed.clone()], ..standing.clone() };
    Ok(api::Task { id: format!("{}.{unit}", whole.id), unit: Some(unit), ..others(look, &only) })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct UnitsParams {
    #[serde(default)]
    after: u32,
    limit: Option<usize>,
    #[serde(default)]
    failed: bool,
}

/// Ascending by unit; all, or only those that failed.
#[utoipa::path(get, path = "/v1/tasks/{id}/units", params(("id" = String, Path, description = "`17` mine"), UnitsParams), responses((status = 200, description = "Done", body = Vec<api::Task>, headers(("link" = String, description = "The next page, as rel=\"next\"; left out on the last")))))]
pub(super) async fn units(
    State(desk): State<Arc<Desk>>,
    Named(id): Named,
    Params(params): Params<UnitsParams>,
) -> Result<Response, Problem> {
    let (limit, text) = (extract::limit(params.limit)?, id);
    let id = TaskId::parse(&text)?;
    if id.unit.is_some() {
        return Err(Problem::malformed(format!("{text} is a unit already")).hint(format!("see it: node task {text}")));
    }
    if let Some(orderer) = orderer(&desk, &id).await? {
        let (standing, status) = hers(&desk, orderer, &id).await?;
        let names = Names::new(&status, desk.about.machine);
        let look = Look { names: &names, now: time::now() };
        let wanted = standing.tries.iter().map(|placed| placed.unit).filter(|unit| *unit > params.after && !params.failed).take(limit);
        let units: Vec<api::Task> = wanted.filter_map(|unit| unit_of_others(look, &standing, unit).ok()).collect();
        return Ok(page(Json(units), None));
    }
    let (number, after, failed) = (id.number, params.after, params.failed);
    let found = extract::shelf(&desk, move |shelf| {
        let Some((summary, _)) = shelf.order(number, 0, 0)? else { return Ok(None) };
        let wanted: Vec<u32> = if failed {
            let failed = summary.state.failed.iter().flat_map(|(first, last)| first..=last).filter_map(|unit| u32::try_from(unit).ok());
            failed.filter(|unit| *unit > after).take(limit).collect()
        } else {
            (after.saturating_add(1)..=summary.units).take(limit).collect()
        };
        let mut ends: BTreeMap<u32, UnitEnd> = BTreeMap::new();
        if failed {
            for unit in &wanted {
                ends.extend(shelf.unit_end(number, *unit)?.map(|end| (*unit, end)));
            }
        } else if let Some((_, some)) = shelf.order(number, after, limit)? {
            ends.extend(some.into_iter().map(|end| (end.unit, end)));
        }
        let items = if summary.has_items { shelf.whole_order(number)?.map_or_else(Vec::new, |order| order.items) } else { Vec::new() };
        let items: BTreeMap<u32, String> =
            wanted.iter().filter_map(|unit| items.get(*unit as usize - 1).map(|item| (*unit, item.clone()))).collect();
        Ok(Some((summary, wanted, ends, items)))
    });
    let (summary, wanted, ends, mut items) = found.await?.ok_or_else(|| unknown(number))?;
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let (view, word) = if summary.state.outcome.is_some() {
        (None, Word::NoDispatcher)
    } else {
        let key = OrderKey { orderer: status.id, epoch: summary.epoch, number };
        (view(&desk, number).await?, word(&desk, &status, key).await?)
    };
    let own = Own::new(Look { names: &names, now: time::now() }, &summary, view.as_ref(), &word);
    let units: Vec<api::Task> = wanted.iter().map(|unit| in_list(own.unit(*unit, items.remove(unit), ends.get(unit)))).collect();
    let next = wanted.last().filter(|_| wanted.len() == limit).map(|last| {
        let failed = if failed { "&failed=true" } else { "" };
        format!("/v1/tasks/{number}/units?limit={limit}&after={last}{failed}")
    });
    Ok(page(Json(units), next))
}

/// Lists leave out what a program wrote: a page of it could be megabytes. What is left out is null, and not called cut.
fn in_list(task: api::Task) -> api::Task {
    // The end of what it complained about is what people look for.
    let whole = task.stderr.as_ref().filter(|_| task.state == TaskState::Failed && task.encoding == Encoding::Utf8);
    let stderr = whole.map(|text| last_line(text));
    api::Task {
        stdout_truncated: false,
        stderr_truncated: stderr.is_some() && (task.stderr_truncated || stderr.as_deref() != whole.map(|text| text.trim_end_matches('\n'))),
        stdout: None,
        stderr,
        ..task
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().take(200).collect()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Which {
    /// Of this node.
    #[default]
    Mine,
    /// Of everyone, not ended.
    Running,
    /// Of everyone: those of this node, and those of others that have not ended.
    All,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TasksParams {
    #[serde(default)]
    #[param(inline)]
    which: Which,
    after: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    newest: bool,
}

/// Where a list goes on: after an order of this node, or in the queue of the dispatcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    Mine(u64),
    Others(Option<OrderKey>),
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("others"), None, ..) => Some(Cursor::Others(None)),
            (Some(number), None, ..) => number.parse().ok().map(Cursor::Mine),
            (Some(orderer), Some(epoch), Some(number), None) => Some(Cursor::Others(Some(OrderKey {
                orderer: orderer.parse().ok()?,
                epoch: Epoch(epoch.parse().ok()?),
                number: number.parse().ok()?,
            }))),
            _ => None,
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cursor::Mine(number) => write!(f, "{number}"),
            Cursor::Others(None) => f.write_str("others"),
            Cursor::Others(Some(key)) => write!(f, "{}/{}/{}", key.orderer, key.epoch.0, key.number),
        }
    }
}

/// First those of this node, by number, then those of others, as the dispatcher has them.
#[utoipa::path(get, path = "/v1/tasks", params(TasksParams), responses((status = 200, description = "Done", body = Vec<api::Task>, headers(("link" = String, description = "The next page, as rel=\"next\"; left out on the last")))))]
pub(super) async fn tasks(State(desk): State<Arc<Desk>>, Params(params): Params<TasksParams>) -> Result<Response, Problem> {
    let limit = extract::limit(params.limit)?;
    let cursor = match (&params.after, params.newest) {
        (None, _) => Cursor::Mine(0),
        (Some(after), false) => Cursor::parse(after).ok_or_else(|| Problem::malformed("after is from a link to the next page"))?,
        (Some(_), true) => return Err(Problem::malformed("newest and after do not go together")),
    };
    if params.newest && params.which != Which::Mine {
        return Err(Problem::malformed("newest is for which=mine only"));
    }
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let look = Look { names: &names, now: time::now() };
    let mut tasks = Vec::new();
    let mut next = None;
    let mut queue = None;
    if let Cursor::Mine(after) = cursor {
        let query = OrderQuery { after, before: None, open: params.which == Which::Running, limit, newest: params.newest };
        let found = listed(&desk, query).await?;
        tasks = mine(&desk, &status, look, &found).await?;
        if found.len() == limit && !params.newest {
            next = found.last().map(|(last, _)| Cursor::Mine(last.number));
        } else if params.which != Which::Mine {
            queue = Some(None);
        }
    } else if let Cursor::Others(after) = cursor {
        queue = Some(after);
    }
    if let Some(after) = queue {
        let (more, cursor) = queued(&desk, &status, look, after, limit - tasks.len()).await?;
        tasks.extend(more);
        next = cursor;
    }
    let word = match params.which {
        Which::Mine => "mine",
        Which::Running => "running",
        Which::All => "all",
    };
    Ok(page(Json(tasks), next.map(|next| format!("/v1/tasks?which={word}&limit={limit}&after={next}"))))
}

/// Orders of this node, each with the end of its only unit.
async fn listed(desk: &Desk, query: OrderQuery) -> Result<Vec<(OrderSummary, Option<UnitEnd>)>, Problem> {
    let read = move |shelf: &dyn super::desk::Shelf| {
        let with_end = |summary: OrderSummary| {
            let end = if summary.units == 1 { shelf.unit_end(summary.number, 1)? } else { None };
            Ok((summary, end))
        };
        shelf.orders(&query)?.into_iter().map(with_end).collect::<Result<Vec<_>, String>>()
    };
    extract::shelf(desk, read).await
}

async fn mine(desk: &Desk, status: &Status, look: Look<'_>, found: &[(OrderSummary, Option<UnitEnd>)]) -> Result<Vec<api::Task>, Problem> {
    let open = || found.iter().map(|(summary, _)| summary).filter(|summary| summary.state.outcome.is_none());
    let first = open().min_by_key(|summary| summary.number);
    let (mut views, mut words): (BTreeMap<u64, OrderView>, BTreeMap<u64, Word>) = Default::default();
    let leader = status.leader.as_ref().map(|leader| leader.fence.leader);
    let mut silent = leader.map_or(Word::NoDispatcher, Word::Unknown);
    if let Some(first) = first {
        let (after, most) = (first.number - 1, open().count());
        let some = extract::ask(desk, |reply| Ask::Orders { after, most, reply }).await?;
        views.extend(some.into_iter().map(|view| (view.state.number, view)));
        if let Some(leader) = leader {
            let key = OrderKey { orderer: status.id, epoch: first.epoch, number: after };
            match question(desk, leader, Question::Tasks { after: Some(key) }).await? {
                Ok(Results::Tasks { tasks, .. }) => {
                    let own = tasks.into_iter().filter(|standing| standing.order.orderer == status.id);
                    words.extend(own.map(|standing| (standing.order.number, Word::Standing(Box::new(standing)))));
                }
                _ => silent = Word::Silent(leader),
            }
        }
    }
    let shown = |(summary, end): &(OrderSummary, Option<UnitEnd>)| {
        let word = words.get(&summary.number).unwrap_or(&silent);
        in_list(Own::new(look, summary, views.get(&summary.number), word).whole(end.as_ref()))
    };
    Ok(found.iter().map(shown).collect())
}

/// Orders of others, as the dispatcher has them, and where to go on.
async fn queued(
    desk: &Desk,
    status: &Status,
    look: Look<'_>,
    mut after: Option<OrderKey>,
    limit: usize,
) -> Result<(Vec<api::Task>, Option<Cursor>), Problem> {
    let Some(leader) = status.leader.as_ref().map(|leader| leader.fence.leader) else { return Ok((Vec::new(), None)) };
    let mut found = Vec::new();
    for _ in 0..PAGES {
        let Ok(Results::Tasks { tasks, more }) = question(desk, leader, Question::Tasks { after }).await? else { break };
        if tasks.is_empty() {
            return Ok((found, None));
        }
        for standing in tasks {
            if found.len() == limit {
                return Ok((found, Some(Cursor::Others(after))));
            }
            after = Some(standing.order);
            if standing.order.orderer == status.id {
                // Shown before, as this node itself knows them.
                after = Some(OrderKey { orderer: status.id, epoch: Epoch(u64::MAX), number: u64::MAX });
                continue;
            }
            found.push(others(look, &standing));
        }
        if !more {
            return Ok((found, None));
        }
    }
    let next = after.map(|after| Cursor::Others(Some(after)));
    Ok((found, next))
}

// -- cancelling

/// Cancels an order.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", params(("id" = String, Path, description = "`17`")), responses((status = 200, description = "Done", body = api::Task)))]
pub(super) async fn cancel(State(desk): State<Arc<Desk>>, Named(id): Named, _: Params<Nothing>) -> Result<Json<api::Task>, Problem> {
    let text = id;
    let id = TaskId::parse(&text)?;
    if let Some(orderer) = orderer(&desk, &id).await? {
        let status = extract::status(&desk).await?;
        let name = Names::new(&status, desk.about.machine).of(&orderer);
        return Err(Problem::new(Code::NotYours, format!("order {text} is {name}'s, and only who placed it can cancel it"))
            .hint(format!("nothing was changed; type it there: node cancel {}", id.number)));
    }
    if let Some(unit) = id.unit {
        return Err(Problem::malformed(format!("unit {unit} cannot be cancelled alone"))
            .hint(format!("nothing was changed; to cancel all that has not ended: node cancel {}", id.number)));
    }
    let Answer::Cancelling(orders) = extract::command(&desk, Command::Cancel(vec![id.number])).await? else {
        return Err(Problem::new(Code::Internal, "the cancel was not answered as one"));
    };
    if let Some((_, Some(end))) = orders.first()
        && *end != End::Cancelled
    {
        return Err(Problem::new(Code::AlreadyEnded, format!("order {} had ended already: {}", id.number, end.as_str()))
            .hint(format!("nothing was changed; see it: node task {}", id.number)));
    }
    Ok(Json(own(&desk, id.number, None).await?.0))
}
