//! Two long-lived streams per direction on every connection: asked for, accepted, handed over.
//! Knows nothing of frames, peers' merits or which connection is used for sending.
//! No stream that was negotiated is ever dropped here, but for a peer that opens absurdly many.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol};

use super::Lane;

/// A peer that has not agreed to our streams by then does not speak our protocol (research/libp2p.md, table: stream).
const NEGOTIATION_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams negotiated but not yet taken over by the loop. Guess: an honest peer opens two.
const UNCLAIMED_STREAMS: usize = 16;

/// What happened to a stream of one connection.
#[derive(Debug)]
pub(crate) enum Fact {
    /// The remote opened a stream to us: to be read.
    Inbound { lane: Lane, stream: Stream },
    /// A stream we asked for is open: to be written.
    Outbound { lane: Lane, stream: Stream },
    /// The remote would not, or could not, open a stream for us.
    Refused { lane: Lane, error: String },
}

/// A [`Fact`] and the connection it is about.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) peer: PeerId,
    pub(crate) connection: ConnectionId,
    pub(crate) fact: Fact,
}

/// Gives every connection a [`Handler`] and passes its facts on.
pub(crate) struct Behaviour {
    protocols: [StreamProtocol; 2],
    facts: VecDeque<Event>,
}

impl Behaviour {
    /// `protocols` are those of the urgent and of the bulk lane.
    pub(crate) fn new(protocols: [StreamProtocol; 2]) -> Self {
        Self { protocols, facts: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.protocols.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(self.protocols.clone()))
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, fact: THandlerOutEvent<Self>) {
        self.facts.push_back(Event { peer, connection, fact });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.facts.pop_front() {
            Some(event) => Poll::Ready(ToSwarm::GenerateEvent(event)),
            None => Poll::Pending,
        }
    }
}

/// One connection's half of the work: asks for both streams once, then only reports.
pub(crate) struct Handler {
    protocols: [StreamProtocol; 2],
    to_open: VecDeque<Lane>,
    facts: VecDeque<Fact>,
}

impl Handler {
    fn new(protocols: [StreamProtocol; 2]) -> Self {
        Self { protocols, to_open: VecDeque::from([Lane::Urgent, Lane::Bulk]), facts: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Fact;
    type InboundProtocol = LaneUpgrade;
    type OutboundProtocol = LaneUpgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Lane;

    fn listen_protocol(&self) -> SubstreamProtocol<LaneUpgrade> {
        let upgrade = LaneUpgrade(vec![(Lane::Urgent, self.protocols[0].clone()), (Lane::Bulk, self.protocols[1].clone())]);
        SubstreamProtocol::new(upgrade, ()).with_timeout(NEGOTIATION_TIMEOUT)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<LaneUpgrade, Lane, Fact>> {
        if let Some(lane) = self.to_open.pop_front() {
            let upgrade = LaneUpgrade(vec![(lane, self.protocols[lane.index()].clone())]);
            let protocol = SubstreamProtocol::new(upgrade, lane).with_timeout(NEGOTIATION_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        // No waker to keep: both queues are only filled by the connection that polls us.
        match self.facts.pop_front() {
            Some(fact) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(fact)),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, LaneUpgrade, LaneUpgrade, (), Lane>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (lane, stream), .. })
                if self.facts.len() < UNCLAIMED_STREAMS =>
            {
                self.facts.push_back(Fact::Inbound { lane, stream });
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (lane, stream), .. }) => {
                self.facts.push_back(Fact::Outbound { lane, stream })
            }
            ConnectionEvent::DialUpgradeError(refused) => {
                self.facts.push_back(Fact::Refused { lane: refused.info, error: format!("{:?}", refused.error) })
            }
            _ => {}
        }
    }
}

/// Negotiates one of the listed protocols and says which lane it is.
pub(crate) struct LaneUpgrade(Vec<(Lane, StreamProtocol)>);

impl LaneUpgrade {
    fn lane_of(&self, agreed: &StreamProtocol) -> Lane {
        self.0
            .iter()
            .find(|(_, protocol)| protocol == agreed)
            .map(|(lane, _)| *lane)
            .expect("only a protocol that we offered can be agreed upon")
    }
}

impl UpgradeInfo for LaneUpgrade {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let names: Vec<_> = self.0.iter().map(|(_, name)| name.clone()).collect();
        names.into_iter()
    }
}

impl InboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, agreed: StreamProtocol) -> Self::Future {
        ready(Ok((self.lane_of(&agreed), stream)))
    }
}

impl OutboundUpgrade<Stream> for LaneUpgrade {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, agreed: StreamProtocol) -> Self::Future {
        ready(Ok((self.lane_of(&agreed), stream)))
    }
}
