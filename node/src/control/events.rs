//! The record of this node as it grows: server-sent events.
//! Buffers nothing: it reads by cursor from the disk, as fast as its reader. Sequences increase; what is gone is said as `gap`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use protocol::order::{Broken, Ended, Try};
use protocol::segment::{self, Entry, Tries};
use protocol::{Epoch, PeerId};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use utoipa::IntoParams;

use super::api;
use super::desk::{Desk, Shelf};
use super::extract::{self, Params};
use super::guests::Seat;
use super::names::Names;
use super::problem::Problem;
use super::server::READERS;
use super::time::rfc3339;

/// Entries read from the disk at once.
const READ: usize = 256;
/// Ids named with an event; more are said by its numbers.
const IDS: usize = 1_000;
/// Silence after which a comment is sent, so that either side learns of a dead other (DESIGN 10.2).
const ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsParams {
    after: Option<u64>,
}

/// What happens at this node, as server-sent events: the data of each is an `Event`, its id is `seq`, its name is `what`. Without a place to begin, from now on.
#[utoipa::path(get, path = "/v1/events", params(EventsParams, ("last-event-id" = Option<u64>, Header, description = "The last event that was read; stronger than `after`")), responses((status = 200, description = "Done", body = api::Event, content_type = "text/event-stream")))]
pub(super) async fn events(
    State((desk, share)): State<(Arc<Desk>, Arc<Semaphore>)>,
    Extension(seat): Extension<Seat>,
    headers: HeaderMap,
    Params(params): Params<EventsParams>,
) -> Result<Response, Problem> {
    let last = headers.get("last-event-id").map(|id| id.to_str().ok().and_then(|id| id.trim().parse().ok()));
    let after = match last {
        Some(None) => return Err(Problem::malformed("Last-Event-ID is the id of an event")),
        Some(last) => last,
        None => params.after,
    };
    let Ok(place) = share.try_acquire_owned() else {
        return Err(Problem::busy(&format!("{READERS} readers of events are here already")));
    };
    // It has a place among readers, and takes none from those who ask.
    seat.leave();
    let mut watch = desk.watch.clone();
    let now = watch.borrow_and_update().saturating_sub(1);
    let reader = Reader { after: after.unwrap_or(now), watch, desk, ready: VecDeque::new(), _place: place };
    let events = stream::unfold(reader, |mut reader| async move { reader.next().await.map(|event| (Ok::<_, Infallible>(event), reader)) });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE)).into_response();
    // Nothing more is asked on a connection that has no seat.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

struct Reader {
    desk: Arc<Desk>,
    watch: watch::Receiver<u64>,
    /// The last sequence read.
    after: u64,
    ready: VecDeque<Event>,
    /// Given back when its reader has gone.
    _place: OwnedSemaphorePermit,
}

impl Reader {
    /// None ends the stream: the node stops, or its disk cannot be read. The reader may resume.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let next = *self.watch.borrow_and_update();
            if self.after >= next.max(1) {
                // The record is shorter than its reader remembers: another one, from a backup.
                self.gap(next.saturating_sub(1), next);
            } else if self.after + 1 < next {
                self.read().await.ok()?;
            } else {
                self.watch.changed().await.ok()?;
            }
        }
    }

    async fn read(&mut self) -> Result<(), Problem> {
        let after = self.after;
        let entries = extract::shelf(&self.desk, move |shelf| {
            let entries = shelf.entries(after, READ)?;
            entries.into_iter().map(|(seq, chain, entry)| Ok((seq, chain, ids(shelf, &entry)?, entry))).collect::<Result<Vec<_>, String>>()
        });
        let entries = entries.await?;
        if entries.is_empty() {
            // The commit was told before it can be read: the next one will bring it along.
            return self.watch.changed().await.map_err(|_| Problem::stopping());
        }
        let status = extract::status(&self.desk).await?;
        let names = Names::new(&status, self.desk.about.machine);
        for (seq, chain, letters, entry) in entries {
            if seq > self.after + 1 {
                self.gap(seq - 1, seq);
            }
            self.after = seq;
            let event = api::Event { seq, chain: chain.to_string(), time: rfc3339(entry.time), what: shown(&names, &entry, letters) };
            self.push(entry.what.word(), &event);
        }
        Ok(())
    }

    fn gap(&mut self, after: u64, next: u64) {
        let what = api::What::Gap { after: self.after, next };
        self.after = after;
        self.push("gap", &api::Event { seq: after, chain: String::new(), time: rfc3339(super::time::now()), what });
    }

    fn push(&mut self, name: &str, event: &api::Event) {
        let data = serde_json::to_string(event).expect("an event is texts and numbers");
        self.ready.push_back(Event::default().id(event.seq.to_string()).event(name).data(data));
    }
}

/// The letters an entry is about, if they are this node's own.
fn ids(shelf: &dyn Shelf, entry: &Entry) -> Result<Vec<String>, String> {
    let (peer, epoch, first, last): (&PeerId, Epoch, u64, u64) = match &entry.what {
        segment::What::LettersDelivered { to, epoch, first, last } => (to, *epoch, *first, *last),
        segment::What::LettersDiscarded { to, epoch, first, last } => (to, *epoch, *first, *last),
        segment::What::LettersRead { by, epoch, first, last } => (by, *epoch, *first, *last),
        segment::What::LettersHeld { to, epoch, first, last, .. } => (to, *epoch, *first, *last),
        _ => return Ok(Vec::new()),
    };
    Ok(shelf.delivered_ids(peer, epoch, first, last, IDS)?.iter().map(ToString::to_string).collect())
}

/// An entry as events tell it, with the letters it is about as far as they are known.
pub(super) fn shown(names: &Names<'_>, entry: &Entry, letters: Vec<String>) -> api::What {
    use segment::What;
    let more = |first: u64, last: u64, letters: &[String]| last.saturating_sub(first) >= letters.len() as u64;
    match &entry.what {
        What::Started { boot, epoch } => api::What::Started { boot: *boot, epoch: epoch.to_string() },
        What::Stopped => api::What::Stopped,
        What::EpochMinted { old, new } => api::What::EpochMinted { old: old.to_string(), new: new.to_string() },
        What::Cloned { peer } => api::What::Cloned { peer: names.of(peer), peer_id: peer.to_string() },
        What::PeerCame { peer, name } => api::What::PeerCame { peer: name.to_string(), peer_id: peer.to_string() },
        What::PeerLeft { peer } => api::What::PeerLeft { peer: names.of(peer), peer_id: peer.to_string() },
        What::PeerRenamed { peer, old, new } => {
            api::What::PeerRenamed { peer: new.to_string(), peer_id: peer.to_string(), old: old.to_string() }
        }
        What::NameOnNewKey { name, old, new } => {
            api::What::NameOnNewKey { name: name.to_string(), old_id: old.to_string(), new_id: new.to_string() }
        }
        What::Signalled { available, inactive } => api::What::Signalled { available: *available, inactive: *inactive },
        What::LetterAccepted { letter, to, .. } => {
            api::What::LetterAccepted { letter: letter.to_string(), to_ids: to.iter().map(|(peer, _)| peer.to_string()).collect() }
        }
        What::LettersDelivered { to, epoch, first, last } => api::What::LettersDelivered {
            to: names.of(to),
            to_id: to.to_string(),
            epoch: epoch.to_string(),
            first: *first,
            last: *last,
            more: more(*first, *last, &letters),
            letters,
        },
        What::LettersDenied { by, why } => api::What::LettersDenied { by: names.of(by), by_id: by.to_string(), why: why.clone() },
        What::Blocked { peer, on } => api::What::Blocked { peer: names.of(peer), peer_id: peer.to_string(), on: *on },
        What::LettersDiscarded { to, epoch, first, last } => api::What::LettersDiscarded {
            to: names.of(to),
            to_id: to.to_string(),
            epoch: epoch.to_string(),
            first: *first,
            last: *last,
            more: more(*first, *last, &letters),
            letters,
        },
        What::LettersRead { by, epoch, first, last } => api::What::LettersRead {
            by: names.of(by),
            by_id: by.to_string(),
            epoch: epoch.to_string(),
            first: *first,
            last: *last,
            more: more(*first, *last, &letters),
            letters,
        },
        What::LettersHeld { to, epoch, first, last, by } => api::What::LettersHeld {
            to: names.of(to),
            to_id: to.to_string(),
            by: names.of(by),
            by_id: by.to_string(),
            epoch: epoch.to_string(),
            first: *first,
            last: *last,
            more: more(*first, *last, &letters),
            letters,
        },
        What::MailTaken { recipient, depositor, bundles, bytes } => api::What::MailTaken {
            recipient: names.of(recipient),
            recipient_id: recipient.to_string(),
            depositor: names.of(depositor),
            depositor_id: depositor.to_string(),
            bundles: *bundles,
            bytes: *bytes,
        },
        What::MailReleased { recipient, depositor, bundles } => api::What::MailReleased {
            recipient: names.of(recipient),
            recipient_id: recipient.to_string(),
            depositor: names.of(depositor),
            depositor_id: depositor.to_string(),
            bundles: *bundles,
        },
        What::MailWithdrawn { recipient, depositor, bundles } => api::What::MailWithdrawn {
            recipient: names.of(recipient),
            recipient_id: recipient.to_string(),
            depositor: names.of(depositor),
            depositor_id: depositor.to_string(),
            bundles: *bundles,
        },
        What::MailHandedOver { recipient, depositor, bundles } => api::What::MailHandedOver {
            recipient: names.of(recipient),
            recipient_id: recipient.to_string(),
            depositor: names.of(depositor),
            depositor_id: depositor.to_string(),
            bundles: *bundles,
        },
        What::LettersTaken { author, epoch, first, last } => api::What::LettersTaken {
            author: names.of(author),
            author_id: author.to_string(),
            epoch: epoch.to_string(),
            first: *first,
            last: *last,
        },
        What::LettersShown { first, last } => api::What::LettersShown { first_n: *first, last_n: *last },
        What::Elected { term, leader } => api::What::Elected { term: *term, leader: names.of(leader), leader_id: leader.to_string() },
        What::Offered { service } => api::What::Offered { service: service.to_string() },
        What::Withdrawn { service } => api::What::Withdrawn { service: service.to_string() },
        What::OrdersPlaced { first, last } => api::What::OrdersPlaced { first: *first, last: *last },
        What::OrdersQueued { orderer, epoch, first, last } => api::What::OrdersQueued {
            orderer: names.of(orderer),
            orderer_id: orderer.to_string(),
            epoch: epoch.to_string(),
            first: *first,
            last: *last,
        },
        What::OrdersHeld { orderer, epoch, first, last } => api::What::OrdersHeld {
            orderer: names.of(orderer),
            orderer_id: orderer.to_string(),
            epoch: epoch.to_string(),
            first: *first,
            last: *last,
        },
        What::UnitAssigned { of, worker } => {
            api::What::UnitAssigned { of: tried(names, of), worker: names.of(worker), worker_id: worker.to_string() }
        }
        What::UnitStarted { of } => api::What::UnitStarted { of: tried(names, of) },
        What::UnitEnded { of, ended } => {
            let (ended, exit_code, why) = how(ended);
            api::What::UnitEnded { of: tried(names, of), ended, exit_code, why }
        }
        What::UnitsAssigned { of, worker } => {
            api::What::UnitsAssigned { of: tries(names, of), worker: names.of(worker), worker_id: worker.to_string() }
        }
        What::UnitsStarted { of } => api::What::UnitsStarted { of: tries(names, of) },
        What::UnitsEnded { of, ended } => {
            let (ended, exit_code, _) = how(ended);
            api::What::UnitsEnded { of: tries(names, of), ended, exit_code }
        }
        What::Drained { on } => api::What::Drained { on: *on },
        What::TryBroken { of, why } => {
            let (word, signal) = match why {
                // Nobody writes of an order that has ended; and it is not wanted where it was, either way.
                Broken::Superseded | Broken::Closed => (api::Broken::Superseded, None),
                Broken::Stopping => (api::Broken::Stopping, None),
                Broken::Killed(signal) => (api::Broken::Killed, Some(*signal)),
                Broken::Crashed => (api::Broken::Crashed, None),
                Broken::Lost => (api::Broken::Lost, None),
            };
            api::What::TryBroken { of: tried(names, of), why: word, signal }
        }
        What::OrderCancelled { number, expired } => api::What::OrderCancelled { order: *number, expired: *expired },
        What::OrderEnded { number, end } => api::What::OrderEnded { order: *number, state: (*end).into() },
        What::RecordRefused { of, by, chain, cause } => api::What::RecordRefused {
            of: names.of(of),
            of_id: of.to_string(),
            by: names.of(by),
            by_id: by.to_string(),
            chain_of: chain.to_string(),
            cause: cause.clone(),
        },
        What::RecordPruned { of, chain, through, last_entry, .. } => api::What::RecordPruned {
            of: names.of(of),
            of_id: of.to_string(),
            chain_of: chain.to_string(),
            last_segment: *through,
            last_seq: *last_entry,
        },
        What::RecordForked { of, chain } => {
            api::What::RecordForked { of: names.of(of), of_id: of.to_string(), chain_of: chain.to_string() }
        }
        What::Refused { cause, count } => api::What::Refused { cause: cause.clone(), count: *count },
    }
}

fn how(ended: &Ended) -> (api::UnitEnd, Option<i32>, Option<String>) {
    match ended {
        Ended::Exited(code) => (api::UnitEnd::Exited, Some(*code), None),
        Ended::TimedOut => (api::UnitEnd::TimedOut, None, None),
        Ended::NotStarted(why) => (api::UnitEnd::NotStarted, None, Some(why.clone())),
        Ended::Cancelled => (api::UnitEnd::Cancelled, None, None),
    }
}

fn tries(names: &Names<'_>, of: &Tries) -> api::Tries {
    let run = |(first_order, last_order, first_unit, last_unit): &(u64, u64, u32, u32)| api::Run {
        first_order: *first_order,
        last_order: *last_order,
        first_unit: *first_unit,
        last_unit: *last_unit,
    };
    api::Tries {
        orderer: names.of(&of.orderer),
        orderer_id: of.orderer.to_string(),
        epoch: of.epoch.to_string(),
        attempt: of.attempt.number,
        term: of.attempt.term,
        units: of.count(),
        runs: of.runs.iter().map(run).collect(),
    }
}

fn tried(names: &Names<'_>, of: &Try) -> api::Try {
    api::Try {
        order: of.order.number,
        orderer: names.of(&of.order.orderer),
        orderer_id: of.order.orderer.to_string(),
        epoch: of.order.epoch.to_string(),
        unit: of.unit,
        attempt: of.attempt.number,
        term: of.attempt.term,
    }
}
