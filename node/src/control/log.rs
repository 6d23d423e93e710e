//! `log` and `log/verification`: the record as it is kept here, a page at a time.
//! Knows nothing of segments. A page may be short and go on all the same: where much is looked through for little.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::response::Response;
use protocol::log::{About, Answer, Cursor, Logged, Question};
use protocol::segment::{Entry, What};
use protocol::work::{self, Results};
use protocol::{PeerId, Status, Timestamp};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::api;
use super::desk::Desk;
use super::dispatcher;
use super::events;
use super::extract::{self, Params};
use super::names::Names;
use super::orders::{self, TaskId};
use super::problem::{Code, Problem};
use super::read::{Nothing, page};
use super::time::{parse, rfc3339};
use crate::store::{ChainSeen, Flaw, FlawKind};

/// Pages looked through for the end of an order: each reads blocks of up to 200,000 entries of which none fits, or finds it.
const PAGES: usize = 16;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct LogParams {
    after: Option<String>,
    limit: Option<usize>,
    since: Option<String>,
    until: Option<String>,
    peer: Option<String>,
    order: Option<String>,
    letter: Option<String>,
    what: Option<String>,
    #[serde(default)]
    local: bool,
    #[serde(default)]
    #[param(inline)]
    by: By,
    #[serde(default)]
    newest: bool,
}

/// In which order entries come.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum By {
    /// By their authors' clocks.
    #[default]
    Time,
    /// As they became known; there always is a next page.
    Arrival,
}

/// What happened, as everybody wrote it down.
#[utoipa::path(get, path = "/v1/log", params(LogParams), responses((status = 200, description = "Done", body = Vec<api::LogEntry>, headers(("link" = String, description = "The next page, as rel=\"next\"; left out on the last")))))]
pub(super) async fn log(State(desk): State<Arc<Desk>>, Params(params): Params<LogParams>) -> Result<Response, Problem> {
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let keeper = match &status.leader {
        Some(leader) if !params.local => leader.fence.leader,
        _ => status.id,
    };
    let question = question(&params, &names, &keeper)?;
    let answer = answer(&desk, &status, &names, question.clone(), params.local).await?;
    if !answer.candidates.is_empty() {
        let candidates: Vec<String> = answer.candidates.iter().map(ToString::to_string).collect();
        return Err(Problem::new(Code::AmbiguousLetter, format!("{} letters' ids begin so", candidates.len()))
            .hint("give more of it")
            .candidates(candidates));
    }
    if params.by == By::Time && params.after.is_none() && answer.entries.is_empty() && answer.next.is_none() {
        match question.about {
            // What others have placed, only they know.
            Some(About::Order { orderer, number, unit }) if orderer == status.id => orders::known(&desk, number, unit).await?,
            Some(About::Letter { prefix }) if !is_letter(&desk, &status, &names, &prefix, params.local).await? => {
                return Err(Problem::new(Code::UnknownLetter, format!("no letter whose id begins with {prefix} is known"))
                    .hint("letters of this node: node sent, node inbox"));
            }
            _ => {}
        }
    }
    let next = answer.next.map(|next| link(&params, &next, &keeper));
    let entries: Vec<api::LogEntry> = answer.entries.iter().map(|logged| entry(&names, logged)).collect();
    let mut response = page(Json(entries), next);
    if let Some(Ok(since)) = answer.whole_since.map(|since| HeaderValue::try_from(rfc3339(since))) {
        response.headers_mut().insert(api::WHOLE_SINCE, since);
    }
    Ok(response)
}

/// How an order of another node ended, as that has written it down; none if nothing of it is known to have ended.
pub(super) async fn end_of(desk: &Desk, orderer: PeerId, number: u64) -> Result<Option<api::Task>, Problem> {
    let status = extract::status(desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let about = Some(About::Order { orderer, number, unit: None });
    let ended = |after| Question {
        limit: 1,
        newest: true,
        about: about.clone(),
        what: vec!["order_ended".to_owned()],
        after,
        ..Question::default()
    };
    let mut found = Answer::default();
    for _ in 0..PAGES {
        found = match answer(desk, &status, &names, ended(found.next), false).await {
            Ok(found) => found,
            // Who keeps everybody's record does not answer: then nothing is known.
            Err(problem) if problem.code == Code::NoAnswer => return Ok(None),
            Err(problem) => return Err(problem),
        };
        if !found.entries.is_empty() || found.next.is_none() {
            break;
        }
    }
    Ok(found.entries.into_iter().find_map(|logged| match logged.what {
        Some(What::OrderEnded { end, .. }) => Some(api::Task {
            id: format!("{}/{number}", names.of(&orderer)),
            order: number,
            orderer: names.of(&orderer),
            orderer_id: orderer.to_string(),
            state: end.into(),
            done: true,
            why: Some("as its node has written down; more of it is known only there".to_owned()),
            ended_at: Some(rfc3339(logged.time)),
            ..api::Task::default()
        }),
        _ => None,
    }))
}

/// Whether there is a letter whose id begins so, as far as this node and whoever keeps the record know.
async fn is_letter(desk: &Desk, status: &Status, names: &Names<'_>, prefix: &str, local: bool) -> Result<bool, Problem> {
    let typed = prefix.to_owned();
    let here = move |shelf: &dyn super::desk::Shelf| Ok(!shelf.sent_by_id(&typed)?.is_empty() || !shelf.inbox_by_id(&typed)?.is_empty());
    if extract::shelf(desk, here).await? {
        return Ok(true);
    }
    let any = Question { limit: 1, about: Some(About::Letter { prefix: prefix.to_owned() }), ..Question::default() };
    let answer = answer(desk, status, names, any, local).await?;
    Ok(!answer.entries.is_empty() || answer.next.is_some() || !answer.candidates.is_empty())
}

/// From this node's disk, or from who keeps everybody's record.
async fn answer(desk: &Desk, status: &Status, names: &Names<'_>, question: Question, local: bool) -> Result<Answer, Problem> {
    const LOCAL: &str = "what this node itself has: node log --local";
    let leader = status.leader.as_ref().map(|leader| leader.fence.leader);
    match leader {
        _ if local => {}
        Some(leader) if leader == status.id => {}
        None => {
            return Err(Problem::new(Code::NoAnswer, "nobody is dispatcher now, and so nobody keeps everybody's record")
                .hint(format!("one is elected within seconds; {LOCAL}")));
        }
        Some(leader) => {
            return match dispatcher::question(desk, leader, work::Question::Log(question)).await? {
                Ok(Results::Log(answer)) => Ok(answer),
                Ok(_) => Err(Problem::new(Code::Internal, "the question was not answered as one")),
                Err(why) => {
                    Err(Problem::new(Code::NoAnswer, format!("{}, who keeps the record, did not tell of it: {why}", names.of(&leader)))
                        .hint(LOCAL))
                }
            };
        }
    }
    extract::shelf(desk, move |shelf| shelf.log(&question)).await
}

fn question(params: &LogParams, names: &Names<'_>, keeper: &PeerId) -> Result<Question, Problem> {
    let instant = |name: &str, text: &Option<String>| -> Result<Option<Timestamp>, Problem> {
        let read = |text: &String| parse(text).ok_or_else(|| Problem::malformed(format!("{name} is a time like 2026-11-23T15:12:48.266Z")));
        text.as_ref().map(read).transpose()
    };
    let arrivals = params.by == By::Arrival;
    if arrivals && params.newest {
        return Err(Problem::malformed("by=arrival and newest do not go together: whoever follows goes forward"));
    }
    let about = match (&params.order, &params.letter) {
        (None, None) => None,
        (Some(order), None) => {
            let TaskId { orderer, number, unit } = TaskId::parse(order)?;
            let orderer = orderer.map(|name| names.resolve(&name)).transpose()?.unwrap_or_else(|| names.me());
            Some(About::Order { orderer, number, unit })
        }
        (None, Some(letter)) => Some(About::Letter { prefix: extract::id_prefix(letter)? }),
        (Some(_), Some(_)) => return Err(Problem::malformed("order and letter do not go together")),
    };
    let what: Vec<String> = params.what.iter().flat_map(|what| what.split(',')).map(str::to_owned).collect();
    if let Some(word) = what.iter().find(|word| word.is_empty() || !What::WORDS.iter().any(|known| known.starts_with(word.as_str()))) {
        // A beginning is enough, so beginnings are compared.
        let near = |known: &&&str| strsim::osa_distance(known.get(..=word.len()).unwrap_or(known), word);
        let mut candidates: Vec<&&str> = What::WORDS.iter().collect();
        candidates.sort_by_key(near);
        let candidates = candidates.into_iter().take(3).map(|word| (*word).to_owned()).collect();
        return Err(Problem::malformed(format!("nothing that is written down is called {word:?}"))
            .hint("the beginning of a kind is enough, like letter or order; all kinds: node log --what help")
            .candidates(candidates));
    }
    let question = Question {
        after: params.after.as_deref().map(|after| cursor(after, arrivals, keeper)).transpose()?,
        limit: extract::limit(params.limit)?,
        arrivals,
        newest: params.newest,
        since: instant("since", &params.since)?,
        until: instant("until", &params.until)?,
        peer: params.peer.as_deref().map(|peer| names.resolve(peer)).transpose().map_err(|problem| names.tell_apart(problem))?,
        about,
        what,
    };
    if question.within_limits() { Ok(question) } else { Err(Problem::malformed("at most 16 kinds of entry can be asked for")) }
}

/// `now` begins with what becomes known from now on. Every other place is one on the disk of who gave it, whose id is at its end.
fn cursor(text: &str, arrivals: bool, keeper: &PeerId) -> Result<Cursor, Problem> {
    let (place, of) = text.rsplit_once('.').unwrap_or((text, ""));
    if of.parse::<PeerId>().is_ok_and(|of| of != *keeper) {
        return Err(Problem::new(Code::OtherKeeper, "another node keeps everybody's record now, in another order")
            .hint("ask for it from the beginning, or since the last that you know"));
    }
    let numbers: Option<Vec<u64>> = place.split('.').map(|number| number.parse().ok()).collect();
    let small = |number: u64| u32::try_from(number).ok();
    let read = || match (arrivals, text, numbers.as_deref()) {
        (true, "now", _) => Some(Cursor::Arrival { no: u64::MAX, told: 0 }),
        (true, _, Some([no, told])) => Some(Cursor::Arrival { no: *no, told: small(*told)? }),
        (false, _, Some([clock, copy @ (0 | 1), ordinal, seq])) => {
            Some(Cursor::Time { clock: *clock, copy: *copy == 1, ordinal: small(*ordinal)?, seq: *seq })
        }
        _ => None,
    };
    read().ok_or_else(|| Problem::malformed("after comes from a link to the next page"))
}

fn link(params: &LogParams, next: &Cursor, keeper: &PeerId) -> String {
    let after = match next {
        Cursor::Time { clock, copy, ordinal, seq } => format!("{clock}.{}.{ordinal}.{seq}.{keeper}", u8::from(*copy)),
        Cursor::Arrival { no, told } => format!("{no}.{told}.{keeper}&by=arrival"),
    };
    let mut link = format!("/v1/log?after={after}");
    let texts = [
        ("since", &params.since),
        ("until", &params.until),
        ("peer", &params.peer),
        ("order", &params.order),
        ("letter", &params.letter),
        ("what", &params.what),
    ];
    for (name, text) in texts {
        link += &text.as_ref().map(|text| format!("&{name}={}", super::client::quoted(text))).unwrap_or_default();
    }
    link += &params.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
    if params.newest {
        link += "&newest=true";
    }
    if params.local { link + "&local=true" } else { link }
}

fn entry(names: &Names<'_>, logged: &Logged) -> api::LogEntry {
    let (what, subject, detail) = match &logged.what {
        None => ("unknown".to_owned(), None, serde_json::Value::Object(serde_json::Map::new())),
        Some(what) => {
            let shown = events::shown(names, &Entry { time: logged.time, what: what.clone() }, Vec::new());
            let mut detail = serde_json::to_value(&shown).unwrap_or_default();
            if let Some(fields) = detail.as_object_mut() {
                fields.remove("what");
                // Ids of letters are known of this node's own only, and there by its events.
                fields.remove("letters");
                fields.remove("more");
            }
            (what.word().to_owned(), subject(names, &logged.author, what), detail)
        }
    };
    api::LogEntry {
        peer: names.of(&logged.author),
        peer_id: logged.author.to_string(),
        chain: logged.chain.to_string(),
        branch: logged.branch,
        seq: logged.seq,
        time: rfc3339(logged.time),
        what,
        subject,
        detail,
        doubtful: logged.doubtful,
    }
}

/// What or whom an entry is about, as it is typed.
fn subject(names: &Names<'_>, author: &PeerId, what: &What) -> Option<String> {
    let order = |orderer: &PeerId, first: u64, last: u64| {
        let number = if first == last { first.to_string() } else { format!("{first}-{last}") };
        Some(format!("{}/{number}", names.of(orderer)))
    };
    match what {
        What::Started { .. } | What::Stopped | What::EpochMinted { .. } | What::Signalled { .. } | What::Drained { .. } => None,
        What::Cloned { peer } | What::PeerLeft { peer } | What::Blocked { peer, .. } => Some(names.of(peer)),
        What::PeerCame { name, .. } | What::NameOnNewKey { name, .. } => Some(name.to_string()),
        What::PeerRenamed { new, .. } => Some(new.to_string()),
        What::LetterAccepted { letter, .. } => Some(letter.to_string()),
        What::LettersDelivered { to, .. } | What::LettersDiscarded { to, .. } | What::LettersHeld { to, .. } => Some(names.of(to)),
        What::LettersDenied { by, .. } | What::LettersRead { by, .. } => Some(names.of(by)),
        What::LettersTaken { author, .. } => Some(names.of(author)),
        What::LettersShown { first, last } if first == last => Some(first.to_string()),
        What::LettersShown { first, last } => Some(format!("{first}-{last}")),
        What::MailTaken { recipient, .. }
        | What::MailReleased { recipient, .. }
        | What::MailWithdrawn { recipient, .. }
        | What::MailHandedOver { recipient, .. } => Some(names.of(recipient)),
        What::Elected { leader, .. } => Some(names.of(leader)),
        What::Offered { service } | What::Withdrawn { service } => Some(service.to_string()),
        What::OrdersPlaced { first, last } => order(author, *first, *last),
        What::OrdersQueued { orderer, first, last, .. } | What::OrdersHeld { orderer, first, last, .. } => order(orderer, *first, *last),
        What::UnitAssigned { of, .. } | What::UnitStarted { of } | What::UnitEnded { of, .. } | What::TryBroken { of, .. } => {
            order(&of.order.orderer, of.order.number, of.order.number).map(|order| format!("{order}.{}", of.unit))
        }
        What::UnitsAssigned { of, .. } | What::UnitsStarted { of } | What::UnitsEnded { of, .. } => {
            let (first, last) = (of.runs.iter().map(|run| run.0).min()?, of.runs.iter().map(|run| run.1).max()?);
            order(&of.orderer, first, last)
        }
        What::OrderCancelled { number, .. } | What::OrderEnded { number, .. } => order(author, *number, *number),
        What::RecordRefused { of, .. } | What::RecordPruned { of, .. } | What::RecordForked { of, .. } => Some(names.of(of)),
        What::Refused { cause, .. } => Some(cause.clone()),
    }
}

/// Looks at every row on this node's disk.
#[utoipa::path(get, path = "/v1/log/verification", responses((status = 200, description = "Done", body = api::Verification)))]
pub(super) async fn verification(State(desk): State<Arc<Desk>>, _: Params<Nothing>) -> Result<Json<api::Verification>, Problem> {
    let status = extract::status(&desk).await?;
    let names = Names::new(&status, desk.about.machine);
    let (me, swarm) = (status.id, desk.about.swarm.clone());
    let found = extract::shelf(&desk, move |shelf| shelf.verify(&me, &swarm)).await?;
    Ok(Json(api::Verification {
        good: found.flaws_in_all == 0,
        chains: found.chains.iter().map(|seen| chain(&names, seen)).collect(),
        flaws: found.flaws.iter().map(|one| flaw(&names, one)).collect(),
        flaws_in_all: found.flaws_in_all,
    }))
}

fn chain(names: &Names<'_>, seen: &ChainSeen) -> api::LogChain {
    api::LogChain {
        peer: names.of(&seen.author),
        peer_id: seen.author.to_string(),
        chain: seen.chain.to_string(),
        branch: seen.branch,
        copy: seen.copy,
        first_segment: seen.first,
        last_segment: seen.last,
        first_seq: seen.first_entry,
        last_seq: seen.last_entry,
        first_at: rfc3339(seen.from),
        last_at: rfc3339(seen.to),
        good: seen.good,
        follows: seen.follows.map(|(chain, ..)| chain.to_string()),
        follows_segment: seen.follows.map(|(_, number, _)| number),
        jumped_back: seen.follows.is_some_and(|(.., goes_on)| goes_on),
    }
}

fn flaw(names: &Names<'_>, flaw: &Flaw) -> api::LogFlaw {
    api::LogFlaw {
        peer: names.of(&flaw.author),
        peer_id: flaw.author.to_string(),
        chain: flaw.chain.to_string(),
        copy: flaw.copy,
        first_segment: flaw.first,
        last_segment: flaw.last,
        first_seq: flaw.entries.map(|(first, _)| first),
        last_seq: flaw.entries.map(|(_, last)| last),
        kind: match flaw.kind {
            FlawKind::Damaged => api::LogFlawKind::Damaged,
            FlawKind::Signature => api::LogFlawKind::Signature,
            FlawKind::Misplaced => api::LogFlawKind::Misplaced,
            FlawKind::Hash => api::LogFlawKind::Hash,
            FlawKind::Missing => api::LogFlawKind::Missing,
            FlawKind::Sequence => api::LogFlawKind::Sequence,
            FlawKind::Forked => api::LogFlawKind::Forked,
            FlawKind::Index => api::LogFlawKind::Index,
        },
    }
}
