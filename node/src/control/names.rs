//! Who is who, at one moment, for one answer.
//! Knows nothing beyond one [`Status`]. A key without a known name is called by its id.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use protocol::envelope::{Envelope, Kind};
use protocol::id::MachineId;
use protocol::mail::{Denial, Holder, Reason};
use protocol::name::{Addressee, PeerName, distinct};
use protocol::{PeerId, PeerStatus, Refusal, Status, Timestamp};

use super::api;
use super::desk::{Content, Delivery, InboxLetter, Outcome, SentView, State};
use super::json;
use super::problem::{Code, Problem};
use super::task;
use super::time::{for_people, now, rfc3339};

/// Machines that a letter is held by, at most (DESIGN 4: R).
const CUSTODIANS: usize = 3;

/// One status, indexed.
pub(super) struct Names<'a> {
    status: &'a Status,
    machine: MachineId,
    peers: HashMap<PeerId, &'a PeerStatus>,
    /// Names that more than one peer bears, this node included.
    shared: BTreeSet<&'a PeerName>,
}

impl<'a> Names<'a> {
    /// `machine` is the one this node runs on.
    pub(super) fn new(status: &'a Status, machine: MachineId) -> Names<'a> {
        let mut all: Vec<&PeerName> = status.peers.iter().map(|peer| &peer.name).chain([&status.name]).collect();
        all.sort_unstable();
        let shared = all.windows(2).filter(|two| two[0] == two[1]).map(|two| two[0]).collect();
        Names { status, machine, peers: status.peers.iter().map(|peer| (peer.id, peer)).collect(), shared }
    }

    /// A peer as it can be named: by its name alone, if no other bears it.
    pub(super) fn of(&self, id: &PeerId) -> String {
        let name = if *id == self.status.id { Some(&self.status.name) } else { self.peers.get(id).map(|peer| &peer.name) };
        name.map_or_else(|| id.to_string(), |name| self.told_apart(name, id))
    }

    fn told_apart(&self, name: &PeerName, id: &PeerId) -> String {
        if self.shared.contains(name) { distinct(name, id) } else { name.to_string() }
    }

    /// Of an ambiguous name: which of those who bear it are here, and since when the others are not.
    pub(super) fn tell_apart(&self, problem: Problem) -> Problem {
        if problem.code != Code::AmbiguousPeer {
            return problem;
        }
        let told = problem
            .candidates
            .iter()
            .filter_map(|candidate| Some(format!("{candidate} {}", self.whereabouts(&self.resolve(candidate).ok()?))));
        let told: Vec<String> = told.collect();
        let hint = problem.hint.clone().map(|hint| format!("{hint}; ")).unwrap_or_default() + &told.join("; ");
        problem.hint(hint)
    }

    fn whereabouts(&self, id: &PeerId) -> String {
        match self.peers.get(id) {
            None => "is this node itself".to_owned(),
            Some(peer) if peer.reachable => "is here".to_owned(),
            Some(peer) => format!("is away, last seen {}", for_people(peer.last_seen, now())),
        }
    }

    /// This node itself.
    pub(super) fn me(&self) -> PeerId {
        self.status.id
    }

    /// Who leads, as far as is known.
    pub(super) fn leader(&self) -> Option<PeerId> {
        self.status.leader.as_ref().map(|leader| leader.fence.leader)
    }

    /// Whether two peers run on different machines. One whose machine is not known is taken to have its own.
    pub(super) fn are_apart(&self, one: &PeerId, other: &PeerId) -> bool {
        let machine = |id: &PeerId| if *id == self.status.id { Some(self.machine) } else { self.peers.get(id).map(|peer| peer.machine) };
        one != other && (machine(one).is_none() || machine(one) != machine(other))
    }

    /// What is known of a peer.
    pub(super) fn peer(&self, id: &PeerId) -> Option<&'a PeerStatus> {
        self.peers.get(id).copied()
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
                Err(self.tell_apart(Problem { hint: Some("name one of the candidates".to_owned()), ..refusal.into() }))
            }
        }
    }

    pub(super) fn inbox(&self, letter: &InboxLetter) -> api::InboxEntry {
        api::InboxEntry {
            envelope: match &letter.content {
                Content::Letter(envelope) => self.envelope(envelope),
                Content::Outcome(outcome) => self.outcome(letter, outcome),
            },
            n: letter.n,
            missing_before: letter.missing_before,
            received_at: rfc3339(letter.received),
            read_at: letter.read.map(rfc3339),
        }
    }

    /// This node wrote the outcome, and to itself. What it says is the task, as `tasks` shows it.
    fn outcome(&self, letter: &InboxLetter, Outcome { order, end }: &Outcome) -> api::Envelope {
        let task = task::Own::new(task::Look { names: self, now: now() }, order, None, &task::Word::NoDispatcher).whole(end.as_ref());
        let payload = api::OutcomePayload { event: api::OutcomeEvent::Outcome, task };
        api::Envelope {
            id: letter.id.to_string(),
            kind: Kind::Event.as_str().to_owned(),
            author: self.of(&self.me()),
            author_id: self.me().to_string(),
            recipients: vec![self.of(&self.me())],
            recipient_ids: vec![Some(self.me().to_string())],
            payload: serde_json::to_value(payload).expect("a task is texts and numbers"),
            timestamp: rfc3339(letter.received),
            in_reply_to: None,
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
        let done = delivery.state > State::Accepted;
        let said = self.machines(&delivery.holders);
        let (held_by, of) = match delivery.peer {
            Some(recipient) if !done => (said.len(), self.others(&recipient).max(said.len())),
            _ => (0, 0),
        };
        let (state, at) = match delivery.state {
            State::Read => (api::State::Read, delivery.at),
            State::Delivered => (api::State::Delivered, delivery.at),
            State::Discarded => (api::State::Discarded, delivery.at),
            State::Accepted if !delivery.discarding && self.denial(delivery) == Some(Denial::Blocked) => (api::State::Parked, delivery.at),
            State::Accepted => said.first().map_or((api::State::Accepted, delivery.at), |at| (api::State::Held, Some(*at))),
        };
        let why = (!done).then(|| if delivery.discarding { api::Why::Discarding } else { self.why(delivery.peer) });
        api::Delivery {
            to: delivery.peer.map_or_else(|| delivery.name.to_string(), |id| self.told_apart(&delivery.name, &id)),
            to_id: delivery.peer.map(|id| id.to_string()),
            state,
            held_by: u32::try_from(held_by).unwrap_or(u32::MAX),
            of: u32::try_from(of).unwrap_or(u32::MAX),
            confirmed_at: at.map(rfc3339),
            why,
            why_not_held: delivery
                .peer
                .filter(|_| !done && !delivery.discarding && held_by < CUSTODIANS)
                .map(|to| self.why_not_held(to, of))
                .unwrap_or_default(),
            done,
        }
    }

    fn denial(&self, delivery: &Delivery) -> Option<Denial> {
        self.peers.get(&delivery.peer?)?.denial
    }

    /// When each of the other machines that hold a copy last said so, the longest ago first; the three latest of more.
    fn machines(&self, holders: &[Holder]) -> Vec<Timestamp> {
        let mut machines: BTreeMap<MachineId, Timestamp> = BTreeMap::new();
        let machine = |holder: &Holder| self.peers.get(&holder.peer).map_or(holder.machine, |peer| peer.machine);
        for (holder, machine) in holders.iter().map(|holder| (holder, machine(holder))).filter(|(_, machine)| *machine != self.machine) {
            let at = machines.entry(machine).or_insert(holder.at);
            *at = holder.at.max(*at);
        }
        let mut said: Vec<Timestamp> = machines.into_values().collect();
        said.sort();
        said.split_off(said.len().saturating_sub(CUSTODIANS))
    }

    /// Machines here that could hold mail for this recipient, three at most.
    fn others(&self, recipient: &PeerId) -> usize {
        let here = self.status.peers.iter().filter(|peer| peer.reachable && peer.id != *recipient && peer.machine != self.machine);
        here.map(|peer| peer.machine).collect::<BTreeSet<_>>().len().min(CUSTODIANS)
    }

    fn why_not_held(&self, recipient: PeerId, of: usize) -> Vec<api::WhyNotHeld> {
        let reasons = self.peers.get(&recipient).into_iter().flat_map(|peer| &peer.reasons);
        let company = self.status.peers.iter().any(|peer| peer.reachable && peer.id != recipient);
        let alone = if company { api::WhyNotHeld::SameMachine } else { api::WhyNotHeld::NoOtherMachine };
        let alone = (of == 0).then_some(alone);
        alone
            .into_iter()
            .chain(reasons.map(|reason| match reason {
                Reason::Full => api::WhyNotHeld::Full,
                Reason::DepositorFull => api::WhyNotHeld::DepositorFull,
                Reason::RecipientFull => api::WhyNotHeld::RecipientFull,
                Reason::Disk => api::WhyNotHeld::Disk,
                Reason::Leaving => api::WhyNotHeld::Leaving,
                Reason::Released => api::WhyNotHeld::Released,
                Reason::Blocked => api::WhyNotHeld::Blocked,
            }))
            .collect()
    }

    fn why(&self, peer: Option<PeerId>) -> api::Why {
        let Some(id) = peer else { return api::Why::NameNotKnown };
        match self.peers.get(&id) {
            None => api::Why::NeverMet,
            Some(PeerStatus { denial: Some(Denial::Blocked), .. }) => api::Why::Blocked,
            Some(peer) if !peer.reachable => api::Why::Away,
            Some(PeerStatus { denial: Some(Denial::Full), .. }) => api::Why::RecipientFull,
            Some(PeerStatus { denial: Some(Denial::Disk), .. }) => api::Why::RecipientDisk,
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
        services: peer.services.services.iter().map(|card| card.name.to_string()).collect(),
    }
}
