//! Events of the loop on their way to a receiver that may be behind.
//! Refuses to wait, and to know what an event means beyond whether it may be dropped.
//! What tells of peers coming and going is never dropped, and keeps its order.

use std::collections::{HashSet, VecDeque};

use libp2p::PeerId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Event, Lane};

/// Beyond this, what merely informs (gossip, found, failed dials) is dropped. Guess: some seconds of 100 nodes' gossip.
const DROPPABLE_MAX: usize = 1024;

/// An event, and the gate to open once it has been handed over.
struct Waiting {
    event: Event,
    gate: Option<CancellationToken>,
}

/// The queue. Bounded: droppable events by their limit, the others by the peers there are.
#[derive(Default)]
pub(crate) struct Outgoing {
    waiting: VecDeque<Waiting>,
    /// `SendFailed` events in the queue, so that none is there twice.
    failed: HashSet<(PeerId, Lane)>,
}

impl Outgoing {
    /// Queues an event that must arrive.
    pub(crate) fn push(&mut self, event: Event) {
        self.waiting.push_back(Waiting { event, gate: None });
    }

    /// Queues an event that must arrive, and behind which others may go.
    pub(crate) fn push_gated(&mut self, event: Event, gate: CancellationToken) {
        let gate = Some(gate);
        self.waiting.push_back(Waiting { event, gate });
    }

    /// Queues an event that may be dropped. `false`: it was.
    pub(crate) fn offer(&mut self, event: Event) -> bool {
        let room = self.waiting.len() < DROPPABLE_MAX;
        if room {
            self.push(event);
        }
        room
    }

    /// Queues `SendFailed`, unless it is queued already.
    pub(crate) fn send_failed(&mut self, to: PeerId, lane: Lane) {
        if self.failed.insert((to, lane)) {
            self.push(Event::SendFailed { to, lane });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Hands over as much as there is room for, beginning with the room that was waited for.
    pub(crate) fn hand_over<'a>(&mut self, events: &'a mpsc::Sender<Event>, room: mpsc::Permit<'a, Event>) {
        let mut room = Some(room);
        while let Some(permit) = room.take() {
            let Some(Waiting { event, gate }) = self.waiting.pop_front() else {
                return;
            };
            if let Event::SendFailed { to, lane } = event {
                self.failed.remove(&(to, lane));
            }
            permit.send(event);
            if let Some(gate) = gate {
                gate.cancel();
            }
            if !self.waiting.is_empty() {
                room = events.try_reserve().ok();
            }
        }
    }
}
