//! Which connections a peer has, which of them carries what we send, and when a peer counts as here.
//! Knows nothing of dialling, of events' receivers or of what frames say; owns no task and touches no socket.
//! A peer is seen while, and only while, a connection with both our streams open has not been given up;
//! it is lost only after what it had sent before has been read.

use std::collections::BTreeMap;

use bytes::Bytes;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId, Stream};
use tokio_util::sync::CancellationToken;

use super::wire::{self, Drain, Queue};
use super::{Lane, Limits};

/// Inbound streams of one lane on one connection: the one in use and one that replaces it (brief of the module).
const INBOUND_PER_LANE: usize = 2;

/// What the loop has to do after a change, in this order.
pub(crate) enum Step {
    /// Tell that the peer is here; when it has been told, open the gate.
    Seen { peer: PeerId, address: Multiaddr, gate: CancellationToken },
    /// Tell that the peer is gone.
    Lost { peer: PeerId },
    /// Tell that frames may have been lost.
    SendFailed { peer: PeerId, lane: Lane },
    /// Start a writer.
    Write { peer: PeerId, connection: ConnectionId, lane: Lane, stream: Stream, drain: Drain, cut: CancellationToken },
    /// Close a connection.
    Close { connection: ConnectionId },
    /// The last connection to the peer was given up or closed; `seen` says whether it had been in use.
    Gone { peer: PeerId, seen: bool },
}

/// What a reader needs to begin and to end.
pub(crate) struct Reading {
    /// Opened when the peer has been announced: no frame comes before.
    pub(crate) gate: CancellationToken,
    /// Cancelled when the connection is not worth reading any more.
    pub(crate) cut: CancellationToken,
}

/// All connections of all peers.
pub(crate) struct Links {
    peers: BTreeMap<PeerId, Link>,
    queue_frames: usize,
    queue_bytes: [usize; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Not announced (any more).
    Unseen,
    /// Announced.
    Seen,
    /// Gone, but what it sent is still being read.
    Leaving,
}

struct Link {
    connections: BTreeMap<ConnectionId, Connection>,
    presence: Presence,
    sending: Option<(ConnectionId, [Queue; 2])>,
    /// The other connections by which urgent frames go too: two processes may run with one key, and each must hear what is said to
    /// it. Where there is but one process, it hears a greeting or a receipt twice, which is harmless.
    beside: BTreeMap<ConnectionId, Queue>,
    /// Of the visit that is, or (while it is leaving) of the next.
    gate: CancellationToken,
}

struct Connection {
    address: Multiaddr,
    /// Our two streams, until they are taken for sending.
    streams: [Option<Stream>; 2],
    /// Live readers per lane.
    readers: [usize; 2],
    /// Closed or given up: only its readers are waited for.
    closed: bool,
    cut_readers: CancellationToken,
    cut_writers: CancellationToken,
}

impl Links {
    /// No connections yet.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            peers: BTreeMap::new(),
            queue_frames: limits.queue_frames,
            queue_bytes: [limits.urgent_queue_bytes, limits.bulk_queue_bytes],
        }
    }

    /// Whether there is a connection that was not given up.
    pub(crate) fn is_connected(&self, peer: &PeerId) -> bool {
        (self.peers.get(peer)).is_some_and(|link| link.connections.values().any(|connection| !connection.closed))
    }

    /// Whether the peer has been announced and is here.
    pub(crate) fn is_seen(&self, peer: &PeerId) -> bool {
        (self.peers.get(peer)).is_some_and(|link| link.presence == Presence::Seen)
    }

    /// A connection is up; its streams will follow.
    pub(crate) fn on_established(&mut self, peer: PeerId, connection: ConnectionId, address: Multiaddr) {
        let link = self.peers.entry(peer).or_insert_with(|| Link {
            connections: BTreeMap::new(),
            presence: Presence::Unseen,
            sending: None,
            beside: BTreeMap::new(),
            gate: CancellationToken::new(),
        });
        let new = Connection {
            address,
            streams: [None, None],
            readers: [0, 0],
            closed: false,
            cut_readers: CancellationToken::new(),
            cut_writers: CancellationToken::new(),
        };
        link.connections.insert(connection, new);
    }

    /// One of our streams is open.
    pub(crate) fn on_outbound(&mut self, peer: PeerId, connection: ConnectionId, lane: Lane, stream: Stream, out: &mut Vec<Step>) {
        if let Some(connection) = self.open(peer, connection) {
            connection.streams[lane.index()] = Some(stream);
        }
        self.settle(peer, out);
    }

    /// The peer opened a stream. `None`: it has too many, or its connection was given up; drop the stream.
    pub(crate) fn on_inbound(&mut self, peer: PeerId, connection: ConnectionId, lane: Lane) -> Option<Reading> {
        let gate = self.peers.get(&peer)?.gate.clone();
        let connection = self.open(peer, connection)?;
        let readers = &mut connection.readers[lane.index()];
        if *readers >= INBOUND_PER_LANE {
            return None;
        }
        *readers += 1;
        Some(Reading { gate, cut: connection.cut_readers.clone() })
    }

    /// A reader ended. A peer that wants to stay never ends its streams: after the last of a connection, it is given
    /// up; not before, since the other lane may still have much to say.
    pub(crate) fn on_reader_ended(&mut self, peer: PeerId, connection: ConnectionId, lane: Lane, out: &mut Vec<Step>) {
        let link = self.peers.get_mut(&peer);
        if let Some(state) = link.and_then(|link| link.connections.get_mut(&connection)) {
            state.readers[lane.index()] -= 1;
            if state.readers == [0, 0] {
                self.give_up(peer, connection, out);
            }
        }
        self.settle(peer, out);
    }

    /// The connection closed by itself, or as we wanted; what it brought is still read.
    pub(crate) fn on_closed(&mut self, peer: PeerId, connection: ConnectionId, out: &mut Vec<Step>) {
        self.retire(peer, connection, out);
        self.settle(peer, out);
    }

    /// Gives the connection up; what it brought is still read.
    pub(crate) fn give_up(&mut self, peer: PeerId, connection: ConnectionId, out: &mut Vec<Step>) {
        if self.open(peer, connection).is_some() {
            out.push(Step::Close { connection });
            self.on_closed(peer, connection, out);
        }
    }

    /// Gives the connection up and reads no more from it.
    pub(crate) fn cut(&mut self, peer: PeerId, connection: ConnectionId, out: &mut Vec<Step>) {
        let link = self.peers.get(&peer);
        if let Some(connection) = link.and_then(|link| link.connections.get(&connection)) {
            connection.cut_readers.cancel();
        }
        self.give_up(peer, connection, out);
    }

    /// Gives all connections of the peer up.
    pub(crate) fn cut_all(&mut self, peer: PeerId, out: &mut Vec<Step>) {
        let link = self.peers.get(&peer);
        let connections: Vec<_> = (link.iter()).flat_map(|link| link.connections.keys().copied()).collect();
        for connection in connections {
            self.cut(peer, connection, out);
        }
    }

    /// Queues a frame for the peer. `false`: it was dropped.
    pub(crate) fn push(&self, peer: &PeerId, lane: Lane, frame: Bytes) -> bool {
        let Some(link) = self.peers.get(peer) else {
            return false;
        };
        if lane == Lane::Urgent {
            for queue in link.beside.values() {
                // What is dropped here is said again: whoever hears nothing for a while asks.
                queue.push(frame.clone());
            }
        }
        link.sending.as_ref().is_some_and(|(_, queues)| queues[lane.index()].push(frame))
    }

    /// Lets all writers finish what is queued; nothing can be sent any more.
    pub(crate) fn finish_sending(&mut self) {
        for link in self.peers.values_mut() {
            link.sending = None;
            link.beside.clear();
            for connection in link.connections.values_mut() {
                connection.streams = [None, None];
            }
        }
    }

    /// The connection, unless it was closed or given up.
    fn open(&mut self, peer: PeerId, connection: ConnectionId) -> Option<&mut Connection> {
        let connection = self.peers.get_mut(&peer)?.connections.get_mut(&connection)?;
        (!connection.closed).then_some(connection)
    }

    fn retire(&mut self, peer: PeerId, id: ConnectionId, out: &mut Vec<Step>) {
        let Some(connection) = self.open(peer, id) else {
            return;
        };
        connection.closed = true;
        connection.streams = [None, None];
        connection.cut_writers.cancel();
        let link = self.peers.get_mut(&peer).expect("its connection was found");
        link.beside.remove(&id);
        if link.presence != Presence::Seen {
            // Its readers wait at the gate of a visit that this connection will not see.
            link.connections[&id].cut_readers.cancel();
        }
        let others = link.connections.values().any(|other| !other.closed);
        if let Some((_, queues)) = link.sending.take_if(|(sending, _)| *sending == id) {
            for lane in [Lane::Urgent, Lane::Bulk] {
                // Without another connection the loss of the peer says all about frames already handed over.
                if others || queues[lane.index()].waiting() > 0 {
                    out.push(Step::SendFailed { peer, lane });
                }
            }
        }
        if !others {
            let seen = link.presence == Presence::Seen;
            if seen {
                link.presence = Presence::Leaving;
                link.gate = CancellationToken::new();
            }
            out.push(Step::Gone { peer, seen });
        }
    }

    /// Draws the conclusions of any change.
    fn settle(&mut self, peer: PeerId, out: &mut Vec<Step>) {
        let Some(link) = self.peers.get_mut(&peer) else {
            return;
        };
        link.connections.retain(|_, connection| !connection.closed || connection.readers != [0, 0]);
        let drained = link.connections.values().all(|connection| !connection.closed);
        if link.presence == Presence::Leaving && drained {
            link.presence = Presence::Unseen;
            out.push(Step::Lost { peer });
        }
        if link.sending.is_none() && link.presence != Presence::Leaving {
            Self::choose(link, peer, (self.queue_frames, self.queue_bytes), out);
        }
        if let Some((sending, _)) = link.sending {
            for (&id, connection) in link.connections.iter_mut().filter(|(id, _)| **id != sending) {
                if let Some(stream) = connection.streams[Lane::Urgent.index()].take() {
                    let queue = write(peer, id, connection, Lane::Urgent, stream, (self.queue_frames, self.queue_bytes), out);
                    link.beside.insert(id, queue);
                }
            }
        }
        if link.connections.is_empty() && link.presence == Presence::Unseen {
            self.peers.remove(&peer);
        }
    }

    /// Sends on the first connection whose streams are both open, if there is one.
    fn choose(link: &mut Link, peer: PeerId, limits: (usize, [usize; 2]), out: &mut Vec<Step>) {
        let Link { connections, beside, .. } = link;
        let ready = connections.iter_mut().find(|(id, connection)| {
            let [urgent, bulk] = &connection.streams;
            bulk.is_some() && (urgent.is_some() || beside.contains_key(id))
        });
        let Some((&id, connection)) = ready else {
            return;
        };
        let ([urgent, Some(bulk)], beside) = (std::mem::take(&mut connection.streams), link.beside.remove(&id)) else {
            return;
        };
        if link.presence == Presence::Unseen {
            link.presence = Presence::Seen;
            out.push(Step::Seen { peer, address: connection.address.clone(), gate: link.gate.clone() });
        }
        let urgent = beside.or_else(|| Some(write(peer, id, connection, Lane::Urgent, urgent?, limits, out)));
        let bulk = write(peer, id, connection, Lane::Bulk, bulk, limits, out);
        link.sending = urgent.map(|urgent| (id, [urgent, bulk]));
    }
}

/// A queue for one of our streams, and the step that starts its writer.
fn write(
    peer: PeerId,
    id: ConnectionId,
    connection: &Connection,
    lane: Lane,
    stream: Stream,
    (frames, bytes): (usize, [usize; 2]),
    out: &mut Vec<Step>,
) -> Queue {
    let (queue, drain) = wire::queue(frames, bytes[lane.index()]);
    out.push(Step::Write { peer, connection: id, lane, stream, drain, cut: connection.cut_writers.clone() });
    queue
}
