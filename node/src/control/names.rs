//! Who is who, at one moment, for one answer.
//! Knows nothing beyond one [`Status`]. A key without a known name is called by its id.

use std::collections::HashMap;

use protocol::envelope::Envelope;
use protocol::name::{Addressee, distinct};
use protocol::{PeerId, PeerStatus, Refusal, Status};

use super::api;
use super::desk::{Delivery, InboxLetter, SentView, State};
use super::json;
use super::problem::{Code, Problem};
use super::time::rfc3339;

/// One status, indexed.
pub(super) struct Names<'a> {
    status: &'a Status,
    peers: HashMap<PeerId, &'a PeerStatus>,
}

impl<'a> Names<'a> {
    pub(super) fn new(status: &'a Status) -> Names<'a> {
        Names { status, peers: status.peers.iter().map(|peer| (peer.id, peer)).collect() }
    }

    pub(super) fn of(&self, id: &PeerId) -> String {
        if *id == self.status.id {
            return self.status.name.to_string();
        }
        self.peers.get(id).map_or_else(|| id.to_string(), |peer| peer.name.to_string())
    }

    /// The one peer meant by this.
    pub(super) fn resolve(&self, text: &str) -> Result<PeerId, Problem> {
        let wanted: Addressee = text.parse().map_err(|error| Problem::new(Code::BadName, format!("{text:?} cannot be a peer: {error}")))?;
        let everyone = || self.status.peers.iter().map(|peer| (&peer.name, peer.id)).chain([(&self.status.name, self.status.id)]);
        let (name, ending) = match &wanted {
            Addressee::Id(id) => return Ok(*id),
            Addressee::Name(name) => (name, ""),
            Addressee::Ending(name, ending) => (name, ending.as_str()),
        };
        let found: Vec<PeerId> = everyone().filter(|(n, id)| *n == name && id.to_base58().ends_with(ending)).map(|(_, id)| id).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            [] => {
                let mut near: Vec<(usize, String)> =
                    everyone().map(|(n, _)| (strsim::osa_distance(n.as_str(), name.as_str()), n.to_string())).collect();
                near.sort();
                near.dedup();
                // A third of the letters may be wrong (guess).
                let nearest = near.into_iter().filter(|(far, n)| far * 3 <= n.chars().count()).map(|(_, n)| n).take(3).collect();
                let refusal = Refusal::Unknown { name: text.to_owned(), nearest };
                Err(Problem { hint: Some("all names ever met: node peers --all".to_owned()), ..refusal.into() })
            }
            many => {
                let candidates = many.iter().map(|id| distinct(name, id)).collect();
                let refusal = Refusal::Ambiguous { name: text.to_owned(), candidates };
                Err(Problem { hint: Some("name one of the candidates".to_owned()), ..refusal.into() })
            }
        }
    }

    pub(super) fn inbox(&self, letter: &InboxLetter) -> api::InboxEntry {
        api::InboxEntry {
            envelope: self.envelope(&letter.envelope),
            n: letter.n,
            missing_before: letter.missing_before,
            received_at: rfc3339(letter.received),
            read_at: letter.read.map(rfc3339),
        }
    }

    fn envelope(&self, envelope: &Envelope) -> api::Envelope {
        api::Envelope {
            id: envelope.id.to_string(),
            kind: envelope.kind.clone(),
            author: self.of(&envelope.author),
            author_id: envelope.author.to_string(),
            recipients: envelope.recipients.iter().map(|id| self.of(id)).collect(),
            recipient_ids: envelope.recipients.iter().map(|id| Some(id.to_string())).collect(),
            payload: json::shown(&envelope.payload),
            timestamp: rfc3339(envelope.timestamp),
            in_reply_to: envelope.in_reply_to.map(|id| id.to_string()),
        }
    }

    pub(super) fn sent(&self, view: &SentView) -> api::Letter {
        let deliveries: Vec<api::Delivery> = view.deliveries.iter().map(|delivery| self.delivery(delivery)).collect();
        api::Letter {
            envelope: api::Envelope {
                id: view.letter.id.to_string(),
                kind: view.letter.kind.clone(),
                author: self.status.name.to_string(),
                author_id: self.status.id.to_string(),
                recipients: deliveries.iter().map(|delivery| delivery.to.clone()).collect(),
                recipient_ids: deliveries.iter().map(|delivery| delivery.to_id.clone()).collect(),
                payload: json::shown(&view.letter.payload),
                timestamp: rfc3339(view.letter.timestamp),
                in_reply_to: view.letter.in_reply_to.map(|id| id.to_string()),
            },
            delivered: deliveries.iter().all(|delivery| delivery.state >= api::State::Delivered),
            deliveries,
        }
    }

    fn delivery(&self, delivery: &Delivery) -> api::Delivery {
        let state = match delivery.state {
            State::Accepted => api::State::Accepted,
            State::Delivered => api::State::Delivered,
            State::Read => api::State::Read,
        };
        let done = state >= api::State::Delivered;
        api::Delivery {
            to: delivery.name.to_string(),
            to_id: delivery.peer.map(|id| id.to_string()),
            state,
            held_by: 0,
            of: 0,
            confirmed_at: delivery.at.map(rfc3339),
            why: if done { None } else { Some(self.why(delivery.peer)) },
            done,
        }
    }

    fn why(&self, peer: Option<PeerId>) -> api::Why {
        let Some(id) = peer else { return api::Why::NameNotKnown };
        match self.peers.get(&id) {
            None => api::Why::NeverMet,
            Some(peer) if !peer.reachable => api::Why::Away,
            Some(peer) if peer.cloned => api::Why::Cloned,
            Some(peer) if !peer.welcomes => api::Why::NotAvailable,
            Some(_) => api::Why::AwaitingReceipt,
        }
    }
}

/// Another peer, as the API shows it.
pub(super) fn peer(peer: &PeerStatus) -> api::Peer {
    api::Peer {
        id: peer.id.to_string(),
        name: peer.name.to_string(),
        available: peer.available,
        inactive: peer.inactive,
        cloned: peer.cloned,
        connected: peer.connected && peer.reachable,
        addresses: peer.addresses.clone(),
        first_seen_at: rfc3339(peer.first_seen),
        last_seen_at: rfc3339(peer.last_seen),
        services: Vec::new(),
    }
}
