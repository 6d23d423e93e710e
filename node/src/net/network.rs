//! The loop: commands, what libp2p reports and what the tasks report come in at one `select!`, and are translated.
//! Decides nothing about peers beyond whether they speak our protocol; never waits for the receiver of events.
//! All that outlives a panic is in [`Kept`]; all else is rebuilt.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::kad::store::RecordStore as _;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, ListenError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, TransportError, gossipsub, identify, kad, mdns, ping};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::behaviour::{self, Behaviour, BehaviourEvent, Names};
use super::cards::Cards;
use super::counters::Counters;
use super::dialing::{self, Dialing, Target};
use super::links::{Links, Reading, Step};
use super::outgoing::Outgoing;
use super::telling::Telling;
use super::wire::{self, ReadEnd};
use super::{Command, Config, Event, GossipToken, Lane, Verdict, gossip, streams, transport};

/// Commands taken at once, before libp2p has its turn again. Guess.
const COMMANDS_AT_ONCE: usize = 256;
/// After a newcomer the swarm is asked who else is there; so soon that nobody notices, so late that a burst asks once.
const LOOKUP_DELAY: Duration = Duration::from_millis(200);
/// At least this between two lookups (research/libp2p.md section 3: debounced 2 s).
const LOOKUP_SPACING: Duration = Duration::from_secs(2);
/// Among many, a lookup asks dozens of peers, and each of them has told whom it knows already: then more seldom (measured:
/// lookups of all after each newcomer kept 50 nodes busy for ten seconds).
const LOOKUP_SPACING_OF_MANY: Duration = Duration::from_secs(30);
const MANY: usize = 8;
/// Keys advertised (DESIGN 6).
const ADVERTS: usize = 64;
/// Peers taken from the answers to one question for providers. Guess: more than a service has.
const PROVIDERS: usize = 1024;
/// And one every minute (research/libp2p.md, table: kad).
const LOOKUP_INTERVAL: Duration = Duration::from_secs(60);
/// Peers that mDNS may make us know (research/libp2p.md, table: mDNS).
const HEARD_MAX: usize = 2000;
/// Addresses taken from one peer's word at a time; `dialing` keeps as many.
const ADDRESSES_AT_ONCE: usize = 16;
/// On the way out, what is queued may take this long to leave. Guess.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// What outlives a panic of the network: the book of addresses, and what the receiver of events must still hear.
pub(crate) struct Kept {
    dialing: Dialing,
    outgoing: Outgoing,
    /// Peers that were, or are about to be, announced.
    seen: BTreeSet<PeerId>,
    /// Ports we got, per configured address, to get the same again.
    ports: Vec<Option<u16>>,
    /// Peers heard by mDNS, of any swarm.
    heard: HashSet<PeerId>,
    /// What we provide.
    adverts: BTreeSet<[u8; 32]>,
    /// Our own card.
    card: Option<([u8; 32], Bytes)>,
}

impl Kept {
    /// With the remembered peers in the book, to be dialled at once.
    pub(crate) fn new(config: &Config) -> Self {
        // Chance is needed for jitter only; the hasher of the standard library is seeded well enough for that.
        let seed = std::hash::RandomState::new().hash_one("jitter");
        let me = config.keypair.public().to_peer_id();
        let mut dialing = Dialing::new(me, ChaCha8Rng::seed_from_u64(seed));
        for (peer, addresses) in &config.remembered {
            dialing.remembered(*peer, addresses, Instant::now());
        }
        Self {
            dialing,
            outgoing: Outgoing::default(),
            seen: BTreeSet::new(),
            ports: vec![None; config.listen.len()],
            heard: HashSet::new(),
            adverts: BTreeSet::new(),
            card: None,
        }
    }

    /// The network panicked: everybody is lost, everybody will be dialled.
    pub(crate) fn on_panic(&mut self, panics: u32) {
        for peer in std::mem::take(&mut self.seen) {
            self.outgoing.push(Event::PeerLost { peer });
        }
        self.outgoing.push(Event::Restarted { panics });
        self.dialing.start_over(Instant::now());
    }
}

/// How a task ended, and whose it was.
struct Ended<T> {
    peer: PeerId,
    connection: ConnectionId,
    lane: Lane,
    how: T,
}

/// A dial under way.
struct Flight {
    target: Target,
    addresses: Vec<Multiaddr>,
}

/// The running network.
pub(crate) struct Network<'a> {
    swarm: libp2p::Swarm<Behaviour>,
    kept: &'a mut Kept,
    counters: Arc<Counters>,
    links: Links,
    flights: HashMap<ConnectionId, Flight>,
    readers: JoinSet<Ended<ReadEnd>>,
    writers: JoinSet<Ended<bool>>,
    /// A connection's own task panicked.
    broken: mpsc::UnboundedReceiver<()>,
    /// Which configured address a listener is for.
    listeners: HashMap<ListenerId, usize>,
    listening: BTreeSet<Multiaddr>,
    external: BTreeSet<Multiaddr>,
    /// Addresses that connected peers gave of themselves, as far as Kademlia knows them.
    identified: HashMap<PeerId, Vec<Multiaddr>>,
    identify_as: String,
    lookup_at: Instant,
    last_lookup: Option<Instant>,
    /// When what we provide is told; again and again by Kademlia itself.
    telling: Telling,
    /// Questions for providers under way, and who was named so far.
    searches: HashMap<kad::QueryId, (u64, BTreeSet<PeerId>)>,
    cards: Cards,
    swarm_name: String,
    frame_max: u32,
    frame_stall: Duration,
}

impl<'a> Network<'a> {
    /// Builds everything and begins to listen. Must be called on the runtime that will run it.
    pub(crate) fn new(config: &Config, counters: Arc<Counters>, kept: &'a mut Kept) -> io::Result<Self> {
        let (break_off, broken) = mpsc::unbounded_channel();
        let executor = move |task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let break_off = break_off.clone();
            tokio::spawn(async move {
                if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                    // Nobody listens only when all is being dropped anyway.
                    let _ = break_off.send(());
                }
            });
        };
        let cards = Cards::new(kept.card.clone());
        let mut network = Self {
            swarm: behaviour::swarm(config, executor)?,
            links: Links::new(&config.limits),
            kept,
            counters,
            flights: HashMap::new(),
            readers: JoinSet::new(),
            writers: JoinSet::new(),
            broken,
            listeners: HashMap::new(),
            listening: BTreeSet::new(),
            external: BTreeSet::new(),
            identified: HashMap::new(),
            identify_as: Names::new(&config.swarm_name)?.identify(),
            lookup_at: Instant::now() + LOOKUP_INTERVAL,
            last_lookup: None,
            telling: Telling::default(),
            searches: HashMap::new(),
            cards,
            swarm_name: config.swarm_name.clone(),
            frame_max: config.limits.frame_max,
            frame_stall: config.limits.frame_stall,
        };
        for (index, address) in config.listen.iter().enumerate() {
            network.listen(index, address);
        }
        Ok(network)
    }

    /// Runs until told to stop, or until nobody gives commands or hears events any more.
    pub(crate) async fn run(&mut self, commands: &mut mpsc::Receiver<Command>, events: &mpsc::Sender<Event>) {
        let mut batch = Vec::with_capacity(COMMANDS_AT_ONCE);
        loop {
            self.dial_what_is_due();
            self.look_up_if_due();
            self.provide_if_due();
            self.cards.put_if_due(&mut self.swarm.behaviour_mut().kad);
            let deadline = self.deadline();
            tokio::select! {
                count = commands.recv_many(&mut batch, COMMANDS_AT_ONCE) => {
                    let go_on = count > 0 && batch.drain(..).all(|command| self.on_command(command));
                    if !go_on {
                        break;
                    }
                }
                event = self.swarm.select_next_some() => self.on_swarm_event(event, events),
                Some(ended) = self.readers.join_next() => self.on_reader_ended(ended),
                Some(ended) = self.writers.join_next() => self.on_writer_ended(ended),
                Some(()) = self.broken.recv() => {
                    // libp2p would go on believing in that connection: only a new network is a sound one.
                    std::panic::resume_unwind(Box::new("a connection's task panicked"));
                }
                room = events.reserve(), if !self.kept.outgoing.is_empty() => match room {
                    Ok(room) => self.kept.outgoing.hand_over(events, room),
                    Err(_) => break,
                },
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
        }
        self.stop().await;
    }

    /// Lets what is queued go out and the others close the connections, within [`STOP_GRACE`].
    async fn stop(&mut self) {
        self.links.finish_sending();
        let leave = async {
            let writers = &mut self.writers;
            let swarm = &mut self.swarm;
            loop {
                tokio::select! {
                    ended = writers.join_next() => if ended.is_none() { break },
                    _ = swarm.select_next_some() => {}
                }
            }
            // Both our streams have ended: who has read them to the end closes the connection. Were we to close it
            // first, with something of theirs unread, the system would reset it and what is under way be lost.
            while swarm.connected_peers().next().is_some() {
                swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(STOP_GRACE, leave).await.is_err() {
            tracing::debug!("stopped before everything queued had left");
        }
    }

    fn deadline(&self) -> Instant {
        let others = [self.kept.dialing.deadline(), self.telling.deadline(), self.cards.deadline()];
        others.into_iter().flatten().fold(self.lookup_at, Instant::min)
    }

    // ---- commands ----

    /// `false`: it was the command to stop.
    fn on_command(&mut self, command: Command) -> bool {
        match command {
            Command::Send { to, lane, frame } => self.send(to, lane, frame),
            Command::Publish(bytes) => self.publish(bytes),
            Command::Judge { token, verdict } => {
                gossip::judge(&mut self.swarm.behaviour_mut().gossip, &token, verdict);
            }
            Command::Advertise(keys) => self.provide(keys),
            Command::FindProviders { token, key } => {
                let query = self.swarm.behaviour_mut().kad.get_providers(kad::RecordKey::new(&key));
                self.searches.insert(query, (token, BTreeSet::new()));
            }
            Command::PutCard { key, card } => {
                self.kept.card = Some((key, card.clone()));
                self.cards.put(key, card);
            }
            Command::FindCard { peer, key } => {
                let answer = self.cards.find(peer, key, &mut self.swarm.behaviour_mut().kad);
                answer.into_iter().for_each(|event| self.kept.outgoing.push(event));
            }
            Command::Dial { peer, addresses, urgent } => self.dial(peer, addresses, urgent),
            Command::Forget { peer } => {
                let mut steps = Vec::new();
                self.links.cut_all(peer, &mut steps);
                self.perform(steps);
                self.swarm.behaviour_mut().kad.remove_peer(&peer);
                self.identified.remove(&peer);
            }
            Command::Stop => return false,
            #[cfg(debug_assertions)]
            Command::Panic => std::panic::resume_unwind(Box::new("told to")),
        }
        true
    }

    fn send(&mut self, to: PeerId, lane: Lane, frame: Bytes) {
        let fits = !frame.is_empty() && frame.len() <= self.frame_max as usize;
        if !fits || !self.links.push(&to, lane, frame) {
            self.counters.frames_dropped.add(1);
            self.kept.outgoing.send_failed(to, lane);
        }
    }

    fn publish(&mut self, bytes: Bytes) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        match gossip::publish(gossip, bytes.into()) {
            Ok(()) => self.counters.gossip_out.add(1),
            // Alone: there is nobody to miss it.
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => {
                self.counters.gossip_dropped.add(1);
                tracing::debug!(%error, "a gossip message was not published");
            }
        }
    }

    fn dial(&mut self, peer: Option<PeerId>, addresses: Vec<Multiaddr>, urgent: bool) {
        let now = Instant::now();
        let loopback = urgent || self.only_loopback();
        let (good, bad): (Vec<_>, Vec<_>) = (addresses.into_iter())
            .partition(|address| dialing::usable(address, loopback) && agrees(address, peer) && (urgent || !dialing::is_named(address)));
        if !bad.is_empty() && urgent {
            let error = "not the address of a TCP port of that peer".to_owned();
            self.dial_failed(peer, bad, error);
        }
        let (with_id, without_id): (Vec<_>, Vec<_>) = (good.into_iter()).partition(|address| peer.or(dialing::peer_of(address)).is_some());
        for address in &with_id {
            if let Some(peer) = peer.or(dialing::peer_of(address)) {
                self.dial_peer(peer, std::slice::from_ref(address), urgent, now);
            }
        }
        match peer {
            Some(peer) if with_id.is_empty() => self.dial_peer(peer, &[], urgent, now),
            _ => {}
        }
        if !without_id.is_empty() && !(self.kept.dialing).asked_road(without_id.clone(), urgent, now) {
            let error = "too many addresses are being tried already".to_owned();
            self.dial_failed(None, without_id, error);
        }
    }

    fn dial_peer(&mut self, peer: PeerId, addresses: &[Multiaddr], urgent: bool, now: Instant) {
        if !urgent {
            self.kept.dialing.found(peer, addresses, now);
            return;
        }
        self.kept.dialing.asked(peer, addresses, now);
        if self.kept.dialing.addresses(&peer).is_empty() && !self.links.is_connected(&peer) {
            self.dial_failed(Some(peer), Vec::new(), "no address is known".to_owned());
        }
    }

    // ---- dialling and finding ----

    fn dial_what_is_due(&mut self) {
        let now = Instant::now();
        while let Some(order) = self.kept.dialing.due(now) {
            let options = match order.target {
                Target::Peer(peer) => DialOpts::peer_id(peer)
                    // Whether it is connected is ours to know: libp2p also believes in connections we gave up.
                    .condition(PeerCondition::Always)
                    .addresses(order.addresses.clone())
                    .build(),
                Target::Road(_) => {
                    let address = order.addresses.first().cloned();
                    DialOpts::unknown_peer_id().address(address.expect("a road is walked one address at a time")).build()
                }
            };
            let connection = options.connection_id();
            let flight = Flight { target: order.target, addresses: order.addresses };
            self.counters.dials.add(1);
            match self.swarm.dial(options) {
                Ok(()) => {
                    self.flights.insert(connection, flight);
                }
                Err(error) => self.on_flight_failed(flight, &error),
            }
        }
    }

    fn on_flight_failed(&mut self, flight: Flight, error: &DialError) {
        let now = Instant::now();
        self.counters.dial_failures.add(1);
        if is_mismatch(error) {
            self.counters.mismatches.add(1);
        }
        if let Some(address) = not_ours(error) {
            self.kept.outgoing.offer(Event::NotOurs { address, dialled: true });
        }
        match error {
            DialError::LocalPeerId { address } => {
                self.kept.dialing.on_wrong_address(flight.target, address);
            }
            DialError::WrongPeerId { obtained, address } => {
                if matches!(flight.target, Target::Peer(_)) {
                    self.kept.dialing.on_wrong_address(flight.target, address);
                    self.found(*obtained, vec![address.clone()]);
                }
            }
            _ => {}
        }
        self.kept.dialing.on_failed(flight.target, now);
        let peer = match flight.target {
            Target::Peer(peer) => Some(peer),
            Target::Road(_) => None,
        };
        self.dial_failed(peer, flight.addresses, describe_dial(error));
    }

    fn dial_failed(&mut self, peer: Option<PeerId>, addresses: Vec<Multiaddr>, error: String) {
        tracing::debug!(?peer, ?addresses, error, "a dial failed");
        self.kept.outgoing.offer(Event::DialFailed { peer, addresses, error });
    }

    /// Somebody, perhaps lying, said where a peer is.
    fn found(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) -> bool {
        let loopback = self.only_loopback();
        addresses.retain(|address| dialing::usable(address, loopback) && agrees(address, Some(peer)) && !dialing::is_named(address));
        addresses.truncate(ADDRESSES_AT_ONCE);
        let news = !addresses.is_empty() && self.kept.dialing.found(peer, &addresses, Instant::now()) && !self.links.is_connected(&peer);
        if news {
            self.kept.outgoing.offer(Event::Found { peer, addresses });
        }
        news
    }

    fn look_up_if_due(&mut self) {
        let now = Instant::now();
        if now < self.lookup_at {
            return;
        }
        // The first of a series asks for our own neighbours; the next anywhere, since an answer names 20 at most.
        let after_news = self.last_lookup.is_some_and(|last| now - last < 2 * LOOKUP_SPACING);
        let target = match after_news {
            true => PeerId::random(),
            false => *self.swarm.local_peer_id(),
        };
        self.last_lookup = Some(now);
        self.lookup_at = now + LOOKUP_INTERVAL;
        if !self.kept.seen.is_empty() {
            self.swarm.behaviour_mut().kad.get_closest_peers(target);
        }
    }

    fn look_up_soon(&mut self) {
        let soon = Instant::now() + LOOKUP_DELAY;
        let spacing = if self.kept.seen.len() < MANY { LOOKUP_SPACING } else { LOOKUP_SPACING_OF_MANY };
        let at = self.last_lookup.map_or(soon, |last| soon.max(last + spacing));
        self.lookup_at = self.lookup_at.min(at);
    }

    // ---- services ----

    fn provide(&mut self, keys: Vec<[u8; 32]>) {
        let wanted: BTreeSet<[u8; 32]> = keys.into_iter().take(ADVERTS).collect();
        for gone in self.kept.adverts.difference(&wanted) {
            self.swarm.behaviour_mut().kad.stop_providing(&kad::RecordKey::new(gone));
        }
        let same = self.kept.adverts == wanted;
        self.kept.adverts = wanted;
        if !same {
            self.telling.begin(Instant::now());
        }
    }

    fn provide_if_due(&mut self) {
        let now = Instant::now();
        if !self.telling.take(now) {
            return;
        }
        for key in &self.kept.adverts {
            if let Err(error) = self.swarm.behaviour_mut().kad.start_providing(kad::RecordKey::new(key)) {
                tracing::debug!(%error, "a service could not be advertised");
                self.telling.on_missed(now);
            }
        }
    }

    fn on_providers(&mut self, query: kad::QueryId, answer: kad::GetProvidersResult, last: bool) {
        let Some((token, found)) = self.searches.get_mut(&query) else { return };
        let (token, mut peers) = (*token, Vec::new());
        if let Ok(kad::GetProvidersOk::FoundProviders { providers, .. }) = answer {
            let room = PROVIDERS.saturating_sub(found.len());
            peers.extend(providers.into_iter().filter(|peer| !found.contains(peer)).take(room));
            found.extend(&peers);
        }
        if last {
            self.searches.remove(&query);
        }
        // Whoever asks does not wait for the slowest of those who are asked.
        if last || !peers.is_empty() {
            self.kept.outgoing.offer(Event::Providers { token, peers, ended: last });
        }
    }

    // ---- listening ----

    fn listen(&mut self, index: usize, configured: &Multiaddr) {
        let wanted = match self.kept.ports[index] {
            Some(port) => with_port(configured, port),
            None => configured.clone(),
        };
        let listened = transport::is_free(&wanted).map_err(TransportError::Other).and_then(|()| self.swarm.listen_on(wanted.clone()));
        let error = match listened {
            Ok(listener) => {
                self.listeners.insert(listener, index);
                return;
            }
            Err(error) => error,
        };
        tracing::debug!(address = %wanted, %error, "cannot listen there, trying any port");
        self.kept.outgoing.push(Event::ListenFailed { address: wanted.clone(), error: describe(&error) });
        match self.swarm.listen_on(with_port(configured, 0)) {
            Ok(listener) => {
                self.listeners.insert(listener, index);
            }
            Err(error) => tracing::warn!(address = %wanted, %error, "cannot listen on any port"),
        }
    }

    fn on_listening(&mut self, listener: ListenerId, address: Multiaddr) {
        if let Some(&index) = self.listeners.get(&listener) {
            self.kept.ports[index] = port_of(&address);
        }
        self.listening.insert(address.clone());
        self.kept.outgoing.push(Event::Listening { address });
        self.advertise();
    }

    fn on_unlisten(&mut self, address: Multiaddr) {
        if self.listening.remove(&address) {
            self.kept.outgoing.push(Event::Unlisten { address });
            self.advertise();
        }
    }

    fn only_loopback(&self) -> bool {
        !self.listening.is_empty() && self.listening.iter().all(dialing::is_loopback)
    }

    /// Keeps what we tell others about our addresses in step with where we listen.
    fn advertise(&mut self) {
        let loopback = self.only_loopback();
        let wanted: BTreeSet<Multiaddr> = (self.listening.iter()).filter(|address| dialing::usable(address, loopback)).cloned().collect();
        for address in wanted.difference(&self.external) {
            self.swarm.add_external_address(address.clone());
        }
        for address in self.external.difference(&wanted) {
            self.swarm.remove_external_address(address);
        }
        if wanted != self.external {
            self.external = wanted;
            let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            self.swarm.behaviour_mut().identify.push(peers);
        }
    }

    // ---- what libp2p reports ----

    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>, events: &mpsc::Sender<Event>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event, events),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint)
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "a connection closed");
                let mut steps = Vec::new();
                self.links.on_closed(peer_id, connection_id, &mut steps);
                self.perform(steps);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(flight) = self.flights.remove(&connection_id) {
                    self.on_flight_failed(flight, &error);
                }
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                tracing::debug!(%error, "a connection was not accepted");
                if let ListenError::Transport(TransportError::Other(error)) = &error
                    && is_handshake(error)
                {
                    self.counters.mismatches.add(1);
                    // Whoever only looks whether a port is open has said nothing.
                    if !is_end(error) {
                        self.kept.outgoing.offer(Event::NotOurs { address: send_back_addr, dialled: false });
                    }
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.on_listening(listener_id, address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_unlisten(address),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::warn!(?addresses, ?reason, "no longer listening there");
                addresses.into_iter().for_each(|address| self.on_unlisten(address));
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(%error, "a listener reported an error");
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let (address, dialled) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (address, Some(address)),
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr, None),
        };
        self.kept.dialing.on_connected(peer, dialled);
        if let Some(flight) = self.flights.remove(&connection) {
            self.kept.dialing.on_arrived(flight.target, peer);
            if let Target::Road(_) = flight.target {
                self.kept.outgoing.offer(Event::Reached { addresses: flight.addresses });
            }
        }
        self.links.on_established(peer, connection, address.clone());
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent, events: &mpsc::Sender<Event>) {
        match event {
            BehaviourEvent::Streams(event) => self.on_stream(event, events),
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) if info.protocol_version == self.identify_as => {
                self.on_identified(peer_id, info.listen_addrs);
            }
            BehaviourEvent::Identify(identify::Event::Received { info, .. }) => {
                if let Some(swarm) = behaviour::swarm_of(&info.protocol_version) {
                    self.counters.others.add(swarm);
                }
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(failure) })
                if !matches!(failure, ping::Failure::Unsupported) =>
            {
                tracing::debug!(%peer, %failure, "no answer to a ping: the connection is given up");
                let mut steps = Vec::new();
                self.links.cut(peer, connection, &mut steps);
                self.perform(steps);
            }
            BehaviourEvent::Kad(event) => self.on_kad(event),
            BehaviourEvent::Mdns(mdns::Event::Discovered(heard)) => self.on_heard(heard),
            _ => {}
        }
    }

    fn on_stream(&mut self, event: streams::Event, events: &mpsc::Sender<Event>) {
        let streams::Event { peer, connection, fact } = event;
        let mut steps = Vec::new();
        match fact {
            streams::Fact::Outbound { lane, stream } => {
                (self.links).on_outbound(peer, connection, lane, stream, &mut steps);
            }
            streams::Fact::Inbound { lane, stream } => match self.links.on_inbound(peer, connection, lane) {
                Some(reading) => self.read(peer, connection, lane, stream, reading, events),
                None => self.counters.refused_streams.add(1),
            },
            streams::Fact::Refused { lane, error } => {
                tracing::debug!(%peer, ?lane, error, "the peer does not open our streams");
                let stranger = !self.links.is_seen(&peer);
                self.links.cut(peer, connection, &mut steps);
                self.perform(std::mem::take(&mut steps));
                if stranger && !self.links.is_connected(&peer) {
                    self.counters.strangers.add(1);
                    self.kept.dialing.on_stranger(peer, Instant::now());
                }
            }
        }
        self.perform(steps);
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source: from, message_id, message } = event else {
            return;
        };
        self.counters.gossip_in.add(1);
        let token = GossipToken::new(message_id, from);
        let event = Event::Gossip { from, token: token.clone(), bytes: message.data.into() };
        if !self.kept.outgoing.offer(event) {
            self.counters.gossip_dropped.add(1);
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            gossip::judge(gossip, &token, Verdict::Ignore);
        }
    }

    fn on_identified(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        let loopback = self.only_loopback();
        addresses.retain(|address| dialing::usable(address, loopback));
        addresses.truncate(ADDRESSES_AT_ONCE);
        self.found(peer, addresses.clone());
        let former = self.identified.insert(peer, addresses.clone());
        let kad = &mut self.swarm.behaviour_mut().kad;
        for address in former.iter().flatten() {
            if !addresses.contains(address) {
                kad.remove_address(&peer, address);
            }
        }
        self.enter_into_kad(peer);
    }

    /// Only who speaks our protocol, and said where it is, is told about to others.
    fn enter_into_kad(&mut self, peer: PeerId) {
        if !self.links.is_seen(&peer) {
            return;
        }
        if let Some(addresses) = self.identified.get(&peer) {
            for address in addresses {
                (self.swarm.behaviour_mut().kad).add_address(&peer, address.clone());
            }
        }
    }

    fn on_kad(&mut self, event: kad::Event) {
        match event {
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => {
                self.look_up_soon();
                let many = self.kept.seen.len() >= MANY;
                if !self.kept.adverts.is_empty() {
                    self.telling.on_newcomer(many, Instant::now());
                }
                self.cards.on_newcomer(many);
            }
            kad::Event::InboundRequest { request: kad::InboundRequest::PutRecord { source, record: Some(record), .. } } => {
                Cards::keep(&self.swarm_name, &source, record, &mut self.swarm.behaviour_mut().kad);
            }
            // The library lets nobody add another than itself; the store bounds keys and providers of each.
            kad::Event::InboundRequest { request: kad::InboundRequest::AddProvider { record: Some(record) } } => {
                if let Err(error) = self.swarm.behaviour_mut().kad.store_mut().add_provider(record) {
                    tracing::debug!(%error, "an advert was not kept");
                }
            }
            kad::Event::OutboundQueryProgressed { id, result: kad::QueryResult::GetRecord(answer), step, .. } => {
                let event = self.cards.on_answer(id, answer, step.last, &mut self.swarm.behaviour_mut().kad);
                event.into_iter().for_each(|event| self.kept.outgoing.push(event));
            }
            kad::Event::OutboundQueryProgressed { result: kad::QueryResult::PutRecord(answer), .. } => self.cards.on_put(&answer),
            // Those who are to keep an advert do not answer; whether there are any is known from looking for them.
            kad::Event::OutboundQueryProgressed { result: kad::QueryResult::StartProviding(answer), stats, .. } => {
                match answer.is_ok() && stats.num_successes() > 0 {
                    true => self.telling.on_reached(),
                    false => self.telling.on_missed(Instant::now()),
                }
            }
            kad::Event::OutboundQueryProgressed { result: kad::QueryResult::GetClosestPeers(answer), .. } => {
                let peers = match answer {
                    Ok(kad::GetClosestPeersOk { peers, .. }) | Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                let mut news = false;
                for kad::PeerInfo { peer_id, addrs } in peers {
                    news |= self.found(peer_id, addrs);
                }
                if news {
                    self.look_up_soon();
                }
            }
            kad::Event::OutboundQueryProgressed { id, result: kad::QueryResult::GetProviders(answer), step, .. } => {
                self.on_providers(id, answer, step.last);
            }
            _ => {}
        }
    }

    fn on_heard(&mut self, heard: Vec<(PeerId, Multiaddr)>) {
        for (peer, address) in heard {
            if self.kept.heard.len() < HEARD_MAX {
                self.kept.heard.insert(peer);
            }
            if self.kept.heard.contains(&peer) {
                self.found(peer, vec![address]);
            }
        }
        self.counters.mdns_peers.set(self.kept.heard.len() as u64);
    }

    // ---- links and their tasks ----

    fn perform(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Seen { peer, address, gate } => {
                    self.kept.seen.insert(peer);
                    self.kept.dialing.on_seen(peer);
                    let event = Event::PeerSeen { peer, address };
                    self.kept.outgoing.push_gated(event, gate);
                    self.enter_into_kad(peer);
                }
                Step::Lost { peer } => {
                    self.kept.seen.remove(&peer);
                    self.kept.outgoing.push(Event::PeerLost { peer });
                }
                Step::SendFailed { peer, lane } => self.kept.outgoing.send_failed(peer, lane),
                Step::Write { peer, connection, lane, stream, drain, cut } => {
                    let write = wire::write(stream, drain, self.counters.clone());
                    self.writers.spawn(async move {
                        let how = cut.run_until_cancelled(write).await.unwrap_or(true);
                        Ended { peer, connection, lane, how }
                    });
                }
                Step::Close { connection } => {
                    // `false` says that it has gone by itself.
                    self.swarm.close_connection(connection);
                }
                Step::Gone { peer, seen } => {
                    self.identified.remove(&peer);
                    self.kept.dialing.on_lost(peer, seen, Instant::now());
                }
            }
        }
    }

    fn read(&mut self, peer: PeerId, connection: ConnectionId, lane: Lane, stream: Stream, reading: Reading, events: &mpsc::Sender<Event>) {
        let Reading { gate, cut } = reading;
        let events = events.clone();
        let counters = self.counters.clone();
        let (frame_max, stall) = (self.frame_max, self.frame_stall);
        let read = async move {
            gate.cancelled().await;
            wire::read(stream, frame_max, stall, counters, |frame| {
                let event = Event::Frame { from: peer, lane, frame };
                let events = &events;
                // Waiting here is the back-pressure: this stream is read no further, others are.
                async move { events.send(event).await.is_ok() }
            })
            .await
        };
        self.readers.spawn(async move {
            let how = cut.run_until_cancelled(read).await;
            Ended { peer, connection, lane, how: how.unwrap_or(ReadEnd::Closed) }
        });
    }

    fn on_reader_ended(&mut self, ended: Result<Ended<ReadEnd>, JoinError>) {
        let Ended { peer, connection, lane, how } = unless_panicked(ended);
        let mut steps = Vec::new();
        if how != ReadEnd::Closed {
            tracing::warn!(%peer, ?lane, ?how, "a frame was refused, the connection is closed");
            self.counters.refused_frames.add(1);
            self.links.cut(peer, connection, &mut steps);
        }
        (self.links).on_reader_ended(peer, connection, lane, &mut steps);
        self.perform(steps);
    }

    fn on_writer_ended(&mut self, ended: Result<Ended<bool>, JoinError>) {
        let ended = unless_panicked(ended);
        let mut steps = Vec::new();
        if !ended.how {
            (self.links).give_up(ended.peer, ended.connection, &mut steps);
        }
        self.perform(steps);
    }
}

/// A panic in a task of ours is a panic of the network.
fn unless_panicked<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Whether an address names no other peer than the one meant.
fn agrees(address: &Multiaddr, peer: Option<PeerId>) -> bool {
    match (dialing::peer_of(address), peer) {
        (Some(named), Some(meant)) => named == meant,
        _ => true,
    }
}

fn port_of(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

fn with_port(address: &Multiaddr, port: u16) -> Multiaddr {
    address
        .iter()
        .map(|part| match part {
            Protocol::Tcp(_) => Protocol::Tcp(port),
            other => other,
        })
        .collect()
}

/// Whether somebody answered, but not in our language, not with our key, or not as the one expected.
fn is_mismatch(error: &DialError) -> bool {
    match error {
        DialError::WrongPeerId { .. } => true,
        DialError::Transport(errors) => {
            errors.iter().any(|(_, error)| matches!(error, TransportError::Other(error) if is_handshake(error)))
        }
        _ => false,
    }
}

/// The first of the addresses dialled at which somebody answered, but not in our language or not with our key.
fn not_ours(error: &DialError) -> Option<Multiaddr> {
    let DialError::Transport(errors) = error else { return None };
    let answered = errors.iter().find(|(_, error)| matches!(error, TransportError::Other(error) if is_handshake(error)));
    answered.map(|(address, _)| address.clone())
}

/// Whether the other side ended it, and that is all.
fn is_end(error: &io::Error) -> bool {
    let causes = std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |error| error.source());
    causes.filter_map(|error| error.downcast_ref::<io::Error>()).any(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

/// The operating system's errors have a number or a kind of their own; those of the handshake have neither.
/// A wrong key may also show as a time-out, which cannot be told from a host that is not there.
fn is_handshake(error: &io::Error) -> bool {
    let system = [
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
        io::ErrorKind::AddrNotAvailable,
        io::ErrorKind::TimedOut,
    ];
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && (system.contains(&io.kind()) || io.raw_os_error().is_some())
        {
            return false;
        }
        cause = error.source();
    }
    !describe(error).contains("Timeout")
}

/// Why a dial failed: each address with its cause.
fn describe_dial(error: &DialError) -> String {
    let DialError::Transport(errors) = error else {
        return describe(error);
    };
    let causes: Vec<String> = (errors.iter()).map(|(address, error)| format!("{address}: {}", root_cause(error))).collect();
    causes.join("; ")
}

/// What lies at the bottom of an error, where the layers above say no more than that something failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts = causes.map(ToString::to_string);
    texts.filter(|text| !text.is_empty()).last().unwrap_or_default()
}

/// An error with its causes, in one line.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    // Some of libp2p's errors say nothing themselves.
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}
