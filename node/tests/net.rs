//! Whole networks on the loopback of this host: real sockets, real time, bounded waits, never multicast.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use node::net::{Command, Config, Event, Lane, Limits, Net, Verdict};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// Within this every condition of a test must come true; most do in a hundredth of it.
const BOUND: Duration = Duration::from_secs(20);

/// A network, what it said so far, and where it listens.
struct Peer {
    id: PeerId,
    address: Multiaddr,
    net: Net,
    events: mpsc::Receiver<Event>,
    unread: VecDeque<Event>,
}

fn config() -> Config {
    Config {
        keypair: Keypair::generate_ed25519(),
        swarm_name: "test".to_owned(),
        swarm_key: None,
        listen: vec![loopback(0)],
        mdns: false,
        remembered: Vec::new(),
        limits: Limits::default(),
    }
}

fn loopback(port: u16) -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address")
}

impl Peer {
    async fn start() -> Peer {
        Peer::start_with(config()).await
    }

    async fn start_with(config: Config) -> Peer {
        let id = config.keypair.public().to_peer_id();
        let (sender, events) = mpsc::channel(64);
        let net = Net::start(config, sender).expect("the network starts");
        let mut peer = Peer { id, address: loopback(0), net, events, unread: VecDeque::new() };
        peer.address = peer
            .hear(|event| match event {
                Event::Listening { address } => Some(address.clone()),
                _ => None,
            })
            .await;
        peer
    }

    /// The first event, heard already or yet to come, of which `what` makes something; what came before stays.
    async fn hear<T>(&mut self, what: impl Fn(&Event) -> Option<T>) -> T {
        let found = self.unread.iter().position(|event| what(event).is_some());
        if let Some(place) = found {
            let event = self.unread.remove(place).expect("it is there");
            return what(&event).expect("it was found");
        }
        let deadline = Instant::now() + BOUND;
        loop {
            let event = tokio::time::timeout_at(deadline, self.events.recv())
                .await
                .unwrap_or_else(|_| panic!("not within {BOUND:?}; heard {:?}", self.unread))
                .expect("the network lives");
            match what(&event) {
                Some(made) => return made,
                None => self.unread.push_back(event),
            }
        }
    }

    async fn sees(&mut self, other: PeerId) {
        self.hear(|event| matches!(event, Event::PeerSeen { peer, .. } if *peer == other).then_some(())).await;
    }

    async fn loses(&mut self, other: PeerId) {
        self.hear(|event| matches!(event, Event::PeerLost { peer } if *peer == other).then_some(())).await;
    }

    async fn frame_from(&mut self, other: PeerId) -> (Lane, Bytes) {
        self.hear(|event| match event {
            Event::Frame { from, lane, frame } if *from == other => Some((*lane, frame.clone())),
            _ => None,
        })
        .await
    }

    fn dial(&self, other: &Peer) {
        let dial = Command::Dial { peer: Some(other.id), addresses: vec![other.address.clone()], urgent: true };
        self.net.try_send(dial).expect("room for a command");
    }

    fn dial_address(&self, address: &Multiaddr) {
        let dial = Command::Dial { peer: None, addresses: vec![address.clone()], urgent: true };
        self.net.try_send(dial).expect("room for a command");
    }

    /// Sends, waiting for room among the commands.
    async fn send(&self, to: PeerId, lane: Lane, frame: impl Into<Bytes>) {
        let mut command = Command::Send { to, lane, frame: frame.into() };
        while let Err(back) = self.net.try_send(command) {
            command = back;
            tokio::task::yield_now().await;
        }
    }

    /// Both hear what the other says.
    async fn talks_with(&mut self, other: &mut Peer) {
        self.send(other.id, Lane::Urgent, "ping").await;
        assert_eq!(other.frame_from(self.id).await, (Lane::Urgent, "ping".into()));
        other.send(self.id, Lane::Bulk, "pong").await;
        assert_eq!(self.frame_from(other.id).await, (Lane::Bulk, "pong".into()));
    }
}

async fn pair() -> (Peer, Peer) {
    let (mut ann, mut bea) = (Peer::start().await, Peer::start().await);
    ann.dial(&bea);
    ann.sees(bea.id).await;
    bea.sees(ann.id).await;
    (ann, bea)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_frames_arrive_in_order_in_both_lanes_and_directions() {
    const FRAMES: u32 = 10_000;
    // As many as the queue holds, less those under way: the sender below does not wait for the receiver.
    let roomy = || Config { limits: Limits { queue_frames: 2 * FRAMES as usize, ..Limits::default() }, ..config() };
    let mut ann = Peer::start_with(roomy()).await;
    let mut bea = Peer::start_with(roomy()).await;
    ann.dial_address(&bea.address);
    ann.sees(bea.id).await;
    bea.sees(ann.id).await;

    async fn send_all(from: &Net, to: PeerId) {
        for n in 0..FRAMES {
            for lane in [Lane::Urgent, Lane::Bulk] {
                let mut frame = vec![0; 4 + n as usize % 60];
                frame[..4].copy_from_slice(&n.to_be_bytes());
                let mut command = Command::Send { to, lane, frame: frame.into() };
                while let Err(back) = from.try_send(command) {
                    command = back;
                    tokio::task::yield_now().await;
                }
            }
        }
    }
    async fn receive_all(events: &mut mpsc::Receiver<Event>) {
        let mut next = [0u32; 2];
        while next != [FRAMES; 2] {
            let event = timeout(BOUND, events.recv()).await.expect("in time");
            match event.expect("the network lives") {
                Event::Frame { lane, frame, .. } => {
                    let n = u32::from_be_bytes(*frame.first_chunk().expect("four bytes"));
                    let next = &mut next[lane as usize];
                    assert_eq!((n, frame.len()), (*next, 4 + n as usize % 60), "{lane:?}");
                    *next += 1;
                }
                Event::SendFailed { .. } | Event::PeerLost { .. } => panic!("a frame was dropped"),
                _ => {}
            }
        }
    }
    tokio::join!(send_all(&ann.net, bea.id), send_all(&bea.net, ann.id), receive_all(&mut ann.events), receive_all(&mut bea.events),);
    assert_eq!(ann.net.counters().frames_in, 2 * u64::from(FRAMES));
    assert_eq!(bea.net.counters().frames_out, 2 * u64::from(FRAMES));
}

#[tokio::test]
async fn long_frames_pass_and_over_long_ones_are_dropped_by_the_sender() {
    let (mut ann, mut bea) = pair().await;
    let longest = Bytes::from(vec![7; Limits::default().frame_max as usize]);
    ann.send(bea.id, Lane::Bulk, longest.clone()).await;
    assert_eq!(bea.frame_from(ann.id).await, (Lane::Bulk, longest.clone()));
    ann.send(bea.id, Lane::Bulk, [longest, Bytes::from_static(b"!")].concat()).await;
    ann.hear(|event| matches!(event, Event::SendFailed { lane: Lane::Bulk, .. }).then_some(())).await;
    ann.talks_with(&mut bea).await;
}

#[tokio::test]
async fn a_receiver_that_does_not_read_makes_the_sender_drop_and_say_so() {
    let (mut ann, mut bea) = pair().await;
    let frame = Bytes::from(vec![1; 256 << 10]);
    let full = async {
        loop {
            ann.send(bea.id, Lane::Bulk, frame.clone()).await;
            while let Ok(event) = ann.events.try_recv() {
                if matches!(event, Event::SendFailed { lane: Lane::Bulk, .. }) {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(BOUND, full).await.expect("the queue is bounded");
    // The other lane goes on where the bulk lane waits, up to what the receiver's channel holds.
    let heard = bea.frame_from(ann.id).await;
    assert_eq!(heard, (Lane::Bulk, frame));
    ann.send(bea.id, Lane::Urgent, "cancel").await;
    let cancel = bea
        .hear(|event| match event {
            Event::Frame { lane: Lane::Urgent, frame, .. } => Some(frame.clone()),
            _ => None,
        })
        .await;
    assert_eq!(cancel, "cancel");
}

#[tokio::test]
async fn frames_to_nobody_are_reported() {
    let mut ann = Peer::start().await;
    let nobody = PeerId::random();
    ann.send(nobody, Lane::Urgent, "hello?").await;
    ann.hear(|event| matches!(event, Event::SendFailed { to, .. } if *to == nobody).then_some(())).await;
}

#[tokio::test]
async fn two_dials_at_once_leave_a_working_link() {
    for _ in 0..10 {
        let (mut ann, mut bea) = (Peer::start().await, Peer::start().await);
        ann.dial(&bea);
        bea.dial(&ann);
        ann.sees(bea.id).await;
        bea.sees(ann.id).await;
        ann.talks_with(&mut bea).await;
        ann.talks_with(&mut bea).await;
        let lost = |event: &Event| matches!(event, Event::PeerLost { .. });
        assert!(!ann.unread.iter().chain(&bea.unread).any(lost));
    }
}

#[tokio::test]
async fn gossip_goes_on_only_when_it_was_accepted() {
    // A line: whatever Carl hears has gone through Bea. Without listening Ann and Carl cannot find each other.
    let silent = || Config { listen: Vec::new(), ..config() };
    let start = |config: Config| {
        let id = config.keypair.public().to_peer_id();
        let (sender, events) = mpsc::channel(64);
        let net = Net::start(config, sender).expect("the network starts");
        Peer { id, address: loopback(0), net, events, unread: VecDeque::new() }
    };
    let mut bea = Peer::start().await;
    let (mut ann, mut carl) = (start(silent()), start(silent()));
    ann.dial(&bea);
    carl.dial(&bea);
    ann.sees(bea.id).await;
    carl.sees(bea.id).await;

    let gossip = |event: &Event| match event {
        Event::Gossip { token, bytes, .. } => Some((token.clone(), bytes.clone())),
        _ => None,
    };
    // Until the subscriptions are known a message may be lost: each is said again, as a new one.
    let deadline = Instant::now() + BOUND;
    let mut n = 0;
    let carl_heard = loop {
        assert!(Instant::now() < deadline, "gossip never arrived");
        n += 1;
        for verdict in ["ignore", "reject", "accept"] {
            let message = format!("{verdict} {n}");
            (ann.net.try_send(Command::Publish(message.into()))).expect("room for a command");
        }
        while let Ok(Some(event)) = timeout(Duration::from_millis(300), bea.events.recv()).await {
            let Some((token, bytes)) = gossip(&event) else {
                continue;
            };
            let verdict = match &bytes[..6] {
                b"ignore" => Verdict::Ignore,
                b"reject" => Verdict::Reject,
                _ => Verdict::Accept,
            };
            let judge = Command::Judge { token, verdict };
            bea.net.try_send(judge).expect("room for a command");
        }
        let heard = timeout(Duration::from_millis(300), carl.hear(gossip)).await;
        if let Ok((_, bytes)) = heard {
            break bytes;
        }
    };
    assert!(carl_heard.starts_with(b"accept"), "{carl_heard:?}");
    let refused = |event: &Event| gossip(event).is_some_and(|(_, bytes)| !bytes.starts_with(b"accept"));
    assert!(!carl.unread.iter().any(refused));
    assert!(bea.net.counters().gossip_in >= 3);
}

#[tokio::test]
async fn a_peer_that_dies_is_lost_at_once() {
    let (mut ann, bea) = pair().await;
    let died = Instant::now();
    let id = bea.id;
    drop(bea);
    ann.loses(id).await;
    assert!(died.elapsed() < Duration::from_secs(2), "{:?}", died.elapsed());
}

#[tokio::test]
async fn what_was_queued_before_stop_still_arrives() {
    let (ann, mut bea) = pair().await;
    for n in 0..100u8 {
        ann.send(bea.id, Lane::Bulk, vec![n; 1000]).await;
    }
    ann.net.try_send(Command::Stop).expect("room for a command");
    for n in 0..100u8 {
        assert_eq!(bea.frame_from(ann.id).await.1, vec![n; 1000]);
    }
    bea.loses(ann.id).await;
}

#[tokio::test]
async fn a_peer_that_returns_to_its_address_is_found_again() {
    let mut ann = Peer::start().await;
    let keypair = Keypair::generate_ed25519();
    let as_bea = |listen: Multiaddr| Config { keypair: keypair.clone(), listen: vec![listen], ..config() };
    let bea = Peer::start_with(as_bea(loopback(0))).await;
    let (id, address) = (bea.id, bea.address.clone());
    ann.dial(&bea);
    ann.sees(id).await;
    tokio::task::spawn_blocking(move || bea.net.join()).await.expect("it ends");
    ann.loses(id).await;
    let mut bea = Peer::start_with(as_bea(address)).await;
    ann.sees(id).await;
    bea.sees(ann.id).await;
    ann.talks_with(&mut bea).await;
}

#[tokio::test]
async fn a_frame_over_the_receivers_limit_costs_the_connection_and_nothing_else() {
    let mut ann = Peer::start().await;
    let modest = Config { limits: Limits { frame_max: 1000, ..Limits::default() }, ..config() };
    let mut bea = Peer::start_with(modest).await;
    let mut carl = Peer::start().await;
    ann.dial(&bea);
    carl.dial(&bea);
    ann.sees(bea.id).await;
    carl.sees(bea.id).await;
    ann.send(bea.id, Lane::Bulk, vec![0; 1001]).await;
    ann.loses(bea.id).await;
    assert_eq!(bea.net.counters().refused_frames, 1);
    carl.talks_with(&mut bea).await;
    ann.sees(bea.id).await;
    ann.talks_with(&mut bea).await;
}

#[tokio::test]
async fn a_taken_port_is_replaced_by_another_and_said() {
    let ann = Peer::start().await;
    let second = Config { listen: vec![ann.address.clone()], ..config() };
    let mut bea = Peer::start_with(second).await;
    assert_ne!(bea.address, ann.address);
    let failed = bea
        .hear(|event| match event {
            Event::ListenFailed { address, .. } => Some(address.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failed, ann.address);
    bea.dial(&ann);
    bea.sees(ann.id).await;
}

#[tokio::test]
async fn a_panic_costs_all_peers_but_they_come_back() {
    let (mut ann, mut bea) = pair().await;
    ann.net.try_send(Command::Panic).expect("room for a command");
    ann.loses(bea.id).await;
    ann.hear(|event| matches!(event, Event::Restarted { panics: 1 }).then_some(())).await;
    bea.loses(ann.id).await;
    ann.sees(bea.id).await;
    bea.sees(ann.id).await;
    ann.talks_with(&mut bea).await;
    let again = ann
        .hear(|event| match event {
            Event::Listening { address } => Some(address.clone()),
            _ => None,
        })
        .await;
    assert_eq!(again, ann.address, "the same port as before");
}

#[tokio::test]
async fn who_knows_one_soon_knows_all() {
    let (mut ann, mut bea, mut carl) = (Peer::start().await, Peer::start().await, Peer::start().await);
    ann.dial_address(&bea.address);
    bea.dial_address(&carl.address);
    let began = Instant::now();
    ann.sees(carl.id).await;
    carl.sees(ann.id).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    ann.talks_with(&mut carl).await;
    ann.talks_with(&mut bea).await;
}

#[tokio::test]
async fn a_remembered_peer_is_dialled_at_the_start() {
    let mut bea = Peer::start().await;
    let remembering = Config { remembered: vec![(bea.id, vec![bea.address.clone()])], ..config() };
    let mut ann = Peer::start_with(remembering).await;
    ann.sees(bea.id).await;
    bea.sees(ann.id).await;
}

#[tokio::test]
async fn another_swarm_is_not_spoken_to() {
    let mut ann = Peer::start().await;
    let other = Config { swarm_name: "other".to_owned(), ..config() };
    let bea = Peer::start_with(other).await;
    ann.dial(&bea);
    let deadline = Instant::now() + BOUND;
    while ann.net.counters().strangers == 0 {
        assert!(Instant::now() < deadline, "the stranger was not noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Whatever was said before is in the channel by now, but for what is under way.
    ann.send(ann.id, Lane::Urgent, "to hear the last event").await;
    ann.hear(|event| matches!(event, Event::SendFailed { .. }).then_some(())).await;
    assert!(!ann.unread.iter().any(|event| matches!(event, Event::PeerSeen { .. })));
}

#[tokio::test]
async fn only_who_has_the_key_gets_in() {
    let with = |key: u8| Config { swarm_key: Some([key; 32]), ..config() };
    let mut ann = Peer::start_with(with(1)).await;
    let mut bea = Peer::start_with(with(1)).await;
    let mut eve = Peer::start_with(with(2)).await;
    ann.dial(&bea);
    ann.sees(bea.id).await;
    bea.sees(ann.id).await;
    ann.talks_with(&mut bea).await;
    eve.dial(&bea);
    let error = eve
        .hear(|event| match event {
            Event::DialFailed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(error.contains("another swarm key"), "{error}");
    assert_eq!(eve.net.counters().mismatches, 1);
    ann.talks_with(&mut bea).await;
}

#[tokio::test]
async fn a_failed_dial_says_why_and_is_made_again() {
    let mut ann = Peer::start().await;
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = probe.local_addr().expect("its address").port();
    drop(probe);
    ann.dial_address(&loopback(port));
    let refused = ann
        .hear(|event| match event {
            Event::DialFailed { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await;
    assert!(refused.to_lowercase().contains("refused"), "{refused}");
    let late = Config { listen: vec![loopback(port)], ..config() };
    let bea = Peer::start_with(late).await;
    ann.sees(bea.id).await;
}

#[tokio::test]
async fn a_forgotten_peer_is_lost_and_met_again_and_oneself_never() {
    let (mut ann, mut bea) = pair().await;
    let bea_id = bea.id;
    (ann.net.try_send(Command::Forget { peer: bea_id })).expect("room for a command");
    ann.loses(bea_id).await;
    bea.loses(ann.id).await;
    ann.sees(bea_id).await;
    ann.dial_address(&ann.address.clone().with(Protocol::P2p(ann.id)));
    ann.dial_address(&ann.address.clone());
    ann.hear(|event| matches!(event, Event::DialFailed { .. }).then_some(())).await;
    let id = ann.id;
    let met = |event: &Event| matches!(event, Event::PeerSeen { peer, .. } if *peer == id);
    assert!(!ann.unread.iter().any(met));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_is_found_by_who_never_met_its_owner_and_false_ones_are_not_kept() {
    use protocol::bundle::Secrets;
    use protocol::contact::Contact;
    use protocol::edge::Edge;

    let secrets = |n: u8| Secrets::from_seeds(&[n; 32], &[n + 100; 32]);
    let edge = |n: u8| Edge::new(secrets(n), "test".to_owned());
    let contact = |n: u8, sequence: u64| Contact {
        id: secrets(n).id(),
        name: "carl".parse().expect("a name"),
        machine: protocol::id::MachineId::new([n; 16]),
        suite: protocol::bundle::SUITE,
        encryption_key: secrets(n).encryption_key().into(),
        key: secrets(n).key_id(),
        addresses: Vec::new(),
        sequence,
    };
    let carl_id = secrets(1).id();
    let with_key = |n: u8| Config { keypair: secrets(n).signing.clone(), ..config() };
    let (mut bea, mut carl, mut mallory) = (Peer::start().await, Peer::start_with(with_key(1)).await, Peer::start_with(with_key(2)).await);
    for other in [&mut carl, &mut mallory] {
        other.dial(&bea);
        other.sees(bea.id).await;
        bea.sees(other.id).await;
    }
    // Before they have met anybody, and again when they have.
    let (key, card) = edge(1).card(&contact(1, 5));
    carl.net.try_send(Command::PutCard { key, card: card.clone().into() }).expect("room");
    // In carl's place, as carl might have said it once.
    let (_, older) = edge(1).card(&contact(1, 4));
    mallory.net.try_send(Command::PutCard { key, card: older.into() }).expect("room");

    let ask = async |asker: &mut Peer, peer: PeerId, key: [u8; 32]| {
        let deadline = Instant::now() + BOUND;
        loop {
            asker.net.try_send(Command::FindCard { peer, key }).expect("room");
            let cards = asker
                .hear(|event| match event {
                    Event::Cards { peer: of, cards, ended: true } if *of == peer => Some(cards.clone()),
                    _ => None,
                })
                .await;
            match edge(9).sought(peer, &cards, true) {
                protocol::Input::ContactSought { found: Some(card), .. } => return (card.value.sequence, cards),
                _ => assert!(Instant::now() < deadline, "not found within {BOUND:?}"),
            }
        }
    };
    let began = Instant::now();
    loop {
        let (sequence, cards) = ask(&mut bea, carl_id, key).await;
        assert_eq!(sequence, 5);
        // Carl's own, and the one that bea keeps; mallory may keep another.
        if cards.iter().filter(|found| ***found == *card).count() >= 2 {
            break;
        }
        assert!(began.elapsed() < BOUND, "bea does not keep it");
    }
    // Both are gone, and ann comes: only bea can tell her.
    for gone in [carl, mallory] {
        gone.net.try_send(Command::Stop).expect("room");
        bea.loses(gone.id).await;
        tokio::task::spawn_blocking(move || gone.net.join()).await.expect("its thread ends");
    }
    let mut ann = Peer::start().await;
    ann.dial(&bea);
    ann.sees(bea.id).await;
    let (sequence, cards) = ask(&mut ann, carl_id, key).await;
    assert_eq!(sequence, 5);
    assert!(!cards.is_empty() && ann.unread.iter().all(|event| !matches!(event, Event::PeerSeen { peer, .. } if *peer == carl_id)));

    // Nobody has a card of one who is not there, and that is said.
    let nobody = secrets(7).id();
    ann.net.try_send(Command::FindCard { peer: nobody, key: edge(9).card_key(&nobody) }).expect("room");
    let found = ann.hear(|event| match event {
        Event::Cards { peer, cards, ended: true } if *peer == nobody => Some(cards.len()),
        _ => None,
    });
    assert_eq!(found.await, 0);
}

#[tokio::test]
async fn all_providers_of_a_service_are_found_also_by_who_comes_later() {
    const PROVIDERS: usize = 25;
    let key = [7; 32];
    let mut hub = Peer::start().await;
    let mut providers = Vec::new();
    for _ in 0..PROVIDERS {
        let provider = Peer::start().await;
        // Told while nobody is there to hear it.
        provider.net.try_send(Command::Advertise(vec![key])).expect("room for a command");
        provider.dial(&hub);
        hub.sees(provider.id).await;
        providers.push(provider);
    }
    let mut late = Peer::start().await;
    late.dial(&hub);
    hub.sees(late.id).await;
    let wanted: std::collections::BTreeSet<PeerId> = providers.iter().map(|provider| provider.id).collect();
    let (begin, mut token) = (Instant::now(), 0);
    loop {
        token += 1;
        late.net.try_send(Command::FindProviders { token, key }).expect("room for a command");
        let mut found = std::collections::BTreeSet::new();
        while !{
            let named = late.hear(|event| match event {
                Event::Providers { token: of, peers, ended } if *of == token => Some((peers.clone(), *ended)),
                _ => None,
            });
            let (peers, ended) = named.await;
            assert!(peers.iter().all(|peer| found.insert(*peer)), "each is named once");
            ended
        } {}
        if found == wanted {
            break;
        }
        assert!(found.is_subset(&wanted) && begin.elapsed() < 2 * BOUND, "{} of {PROVIDERS} found", found.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
