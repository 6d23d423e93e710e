//! The network: owns `libp2p::Swarm` on a thread of its own and only translates, bytes in and bytes out.
//! Knows nothing of letters, orders, beacons or records; whom to believe is decided elsewhere.
//! Whoever is told `PeerSeen` is told `PeerLost` before the next `PeerSeen`, whatever happens here.

mod adverts;
mod behaviour;
mod cards;
mod counters;
mod dialing;
mod found;
mod gossip;
mod links;
mod network;
mod outgoing;
mod streams;
mod telling;
mod transport;
mod wire;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;

use self::counters::Counters;
pub use self::counters::Snapshot;
pub use self::found::found_at;
pub use self::gossip::GossipToken;
use self::network::{Kept, Network};
pub(crate) use self::transport::can_listen;

/// Commands not yet taken by the loop. Guess: some batches of the driver; beyond it `try_send` hands them back.
const COMMANDS_WAITING: usize = 4096;
/// The wait before the network is built anew doubles from the first to the last, in case it panics again. Guess.
const FIRST_RESTART: Duration = Duration::from_millis(50);
const LAST_RESTART: Duration = Duration::from_secs(10);

/// What the network is started with.
pub struct Config {
    /// Who we are.
    pub keypair: Keypair,
    /// Part of every protocol name: peers of another swarm are not spoken to. 1 to 64 bytes, no `/`.
    pub swarm_name: String,
    /// A pre-shared key: only who has it gets as far as a handshake. Never printed or logged.
    pub swarm_key: Option<[u8; 32]>,
    /// Where to listen. An address whose port is taken is replaced by any port of the same host.
    pub listen: Vec<Multiaddr>,
    /// Whether to look for peers by multicast.
    pub mdns: bool,
    /// Peers of former times, dialled at the start and for ever.
    pub remembered: Vec<(PeerId, Vec<Multiaddr>)>,
    /// How much of everything.
    pub limits: Limits,
}

/// How much of everything. Beyond a limit the newest is refused, and counted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections being accepted.
    pub pending_incoming: u32,
    /// Connections being dialled.
    pub pending_outgoing: u32,
    /// Connections accepted.
    pub established_incoming: u32,
    /// Connections dialled.
    pub established_outgoing: u32,
    /// Connections with one peer.
    pub established_per_peer: u32,
    /// No new connections while the process uses more memory than this.
    pub memory_bytes: usize,
    /// Longest frame, without its prefix, sent or received.
    pub frame_max: u32,
    /// Frames waiting in a lane to a peer.
    pub queue_frames: usize,
    /// Bytes waiting in the urgent lane to a peer.
    pub urgent_queue_bytes: usize,
    /// Bytes waiting in the bulk lane to a peer.
    pub bulk_queue_bytes: usize,
    /// A frame that began and of which nothing more comes for this long costs its peer the connection.
    pub frame_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // research/libp2p.md, table: limits. Three per peer so that two dials at once do not kill both links;
            // 256 each way carries the 100 nodes that v1 is tested with.
            pending_incoming: 64,
            pending_outgoing: 64,
            established_incoming: 256,
            established_outgoing: 256,
            established_per_peer: 3,
            // Guess: the last resort. Above what a node takes whose own orders and whose queue, as dispatcher, are as large as they
            // may be: three times their bytes (measured), or that node would be cut off for good.
            memory_bytes: 1 << 30,
            // DESIGN 3.3: a bundle is at most 320 KiB; room for what surrounds it.
            frame_max: 512 << 10,
            // Guess: a second of letters at 4,096 bundles a second.
            queue_frames: 4096,
            // Guess: urgent messages are small, a million bytes of them are a fault.
            urgent_queue_bytes: 1 << 20,
            // Guess: what a gigabit link carries in 70 ms, and one of the longest frames (6 MiB) beside it.
            bulk_queue_bytes: 14 << 20,
            // Guess: longer than a laptop takes to change its Wi-Fi.
            frame_stall: Duration::from_secs(10),
        }
    }
}

/// One of the two streams per direction. A backlog in one never delays the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Orders, cancels, probes, receipts: small and soon.
    Urgent,
    /// Letters, custody, record: much.
    Bulk,
}

impl Lane {
    fn index(self) -> usize {
        self as usize
    }
}

/// What becomes of a gossip message that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forward it.
    Accept,
    /// Do not forward it; nobody is to blame.
    Ignore,
    /// Do not forward it; it should not have been sent.
    Reject,
}

/// What the network is told to do.
#[derive(Debug)]
pub enum Command {
    /// Send one frame. Frames of one lane arrive in order while one connection lasts. An empty frame, or one longer
    /// than `frame_max`, is dropped with `SendFailed`.
    Send {
        /// To whom; must have been seen.
        to: PeerId,
        /// By which stream.
        lane: Lane,
        /// What.
        frame: Bytes,
    },
    /// Gossip to all. Nobody may hear it.
    Publish(Bytes),
    /// Says what becomes of a message heard. Each should be judged within three seconds, then it is forgotten.
    Judge {
        /// As it came with the message.
        token: GossipToken,
        /// What becomes of it.
        verdict: Verdict,
    },
    /// Tell the network that this node provides what these keys stand for, and go on telling it: replaces what was said before.
    /// Beyond 64 they are left out.
    Advertise(Vec<[u8; 32]>),
    /// Ask the network who provides what a key stands for; answered by [`Event::Providers`].
    FindProviders {
        /// Correlates the answers.
        token: u64,
        /// What.
        key: [u8; 32],
    },
    /// Put our signed card where those who do not know us look for it, and again whenever somebody came and every few minutes:
    /// replaces what was put there before.
    PutCard {
        /// Under this key.
        key: [u8; 32],
        /// The card.
        card: Bytes,
    },
    /// Look for the card of a peer; answered by [`Event::Cards`].
    FindCard {
        /// Whose.
        peer: PeerId,
        /// Under this key.
        key: [u8; 32],
    },
    /// Reach a peer, or whoever answers at the addresses.
    Dial {
        /// Whom, if known; an address may also end in `/p2p/ID`.
        peer: Option<PeerId>,
        /// Where, beside what is known already.
        addresses: Vec<Multiaddr>,
        /// Somebody asked: at once, whatever the rule of dialling says, and again for the life of the process
        /// while not connected. Else: a hint.
        urgent: bool,
    },
    /// The peer was declared gone: its connections are closed, and nobody is told its addresses by us any more. It is
    /// dialled again like any peer that was lost.
    Forget {
        /// Who.
        peer: PeerId,
    },
    /// Send what is queued, for half a second at most, and end. No event follows.
    Stop,
    /// For tests, and not in release builds: the network task panics.
    #[cfg(debug_assertions)]
    Panic,
}

/// What the network says.
#[derive(Debug)]
pub enum Event {
    /// We can be reached at this address.
    Listening {
        /// Without our id.
        address: Multiaddr,
    },
    /// This address could not be had; another port of the host is tried once, and follows as `Listening`.
    ListenFailed {
        /// As configured.
        address: Multiaddr,
        /// Why.
        error: String,
    },
    /// This address is no longer ours.
    Unlisten {
        /// As it was in `Listening`.
        address: Multiaddr,
    },
    /// A peer is here and both our streams to it are open. Comes before its first frame.
    PeerSeen {
        /// Who.
        peer: PeerId,
        /// The far end of the connection; of one accepted, its port means nothing.
        address: Multiaddr,
    },
    /// The last connection with the peer is gone, and what it had sent has been handed over.
    PeerLost {
        /// Who.
        peer: PeerId,
    },
    /// A peer sent a frame.
    Frame {
        /// Who; authenticated.
        from: PeerId,
        /// By which stream.
        lane: Lane,
        /// What.
        frame: Bytes,
    },
    /// A gossip message, to be judged.
    Gossip {
        /// Who forwarded it, which says nothing of who wrote it.
        from: PeerId,
        /// For [`Command::Judge`].
        token: GossipToken,
        /// What.
        bytes: Bytes,
    },
    /// Since the last such event for this peer and lane, at least one frame was dropped: the queue was full, there
    /// was no connection, or the connection changed and what was under way may be lost.
    SendFailed {
        /// To whom.
        to: PeerId,
        /// By which stream.
        lane: Lane,
    },
    /// A dial failed. It is made again later, unless it was only a hint.
    DialFailed {
        /// Whom, if known.
        peer: Option<PeerId>,
        /// Where.
        addresses: Vec<Multiaddr>,
        /// Why.
        error: String,
    },
    /// Somebody answers, or came, who has another swarm key than we, or one where we have none, or none where we have one; or no node at all.
    NotOurs {
        /// The far end.
        address: Multiaddr,
        /// We came to it.
        dialled: bool,
    },
    /// Somebody answers at addresses without an id that were asked for.
    Reached {
        /// Where.
        addresses: Vec<Multiaddr>,
    },
    /// To [`Command::FindProviders`], once or more: hearsay, to be checked with those it names.
    Providers {
        /// As asked.
        token: u64,
        /// Who else is said to provide it; may hold this node itself.
        peers: Vec<PeerId>,
        /// Nobody else will be named.
        ended: bool,
    },
    /// To [`Command::FindCard`], once or more: hearsay, to be checked.
    Cards {
        /// As asked.
        peer: PeerId,
        /// What was found so far.
        cards: Vec<Bytes>,
        /// Nothing more will be.
        ended: bool,
    },
    /// Somebody said where this peer, not connected, may be. It is being dialled already.
    Found {
        /// Who.
        peer: PeerId,
        /// Where.
        addresses: Vec<Multiaddr>,
    },
    /// The network task panicked and was built anew; `PeerLost` came before for everybody.
    Restarted {
        /// How often so far.
        panics: u32,
    },
}

/// The handle. Dropping it ends the network as [`Command::Stop`] does.
pub struct Net {
    commands: mpsc::Sender<Command>,
    counters: Arc<Counters>,
    thread: thread::JoinHandle<()>,
}

impl Net {
    /// Starts the network on a thread of its own. An error leaves nothing behind.
    ///
    /// # Errors
    /// The name of the swarm is not one, or the system refuses a thread or a runtime. A port that is taken is no
    /// error, see [`Event::ListenFailed`].
    pub fn start(config: Config, events: mpsc::Sender<Event>) -> io::Result<Net> {
        behaviour::Names::new(&config.swarm_name)?;
        let (commands, receiver) = mpsc::channel(COMMANDS_WAITING);
        let counters = Arc::new(Counters::default());
        let shared = counters.clone();
        let (started, starting) = std::sync::mpsc::sync_channel(1);
        let thread =
            thread::Builder::new().name("net".to_owned()).spawn(move || supervise(&config, &events, receiver, &shared, &started))?;
        starting.recv().map_err(|_| io::Error::other("the network thread ended at once"))??;
        Ok(Net { commands, counters, thread })
    }

    /// Gives a command; never waits.
    ///
    /// # Errors
    /// The command comes back if too many wait already, or the network has ended.
    pub fn try_send(&self, command: Command) -> Result<(), Command> {
        self.commands.try_send(command).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// The numbers of this moment.
    pub fn counters(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Names of swarms whose nodes were met and cannot be spoken to: others, or this one where they speak another version.
    #[must_use]
    pub fn others_met(&self) -> Vec<String> {
        self.counters.others.read()
    }

    /// Ends the network and waits until it has ended. Blocks: not for use on a runtime's thread.
    pub fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("the supervisor of the network panicked");
        }
    }
}

/// Runs the network, and after each panic a new one with the same book of addresses, until it is told to stop.
fn supervise(
    config: &Config,
    events: &mpsc::Sender<Event>,
    mut commands: mpsc::Receiver<Command>,
    counters: &Arc<Counters>,
    started: &std::sync::mpsc::SyncSender<io::Result<()>>,
) {
    let mut kept = Kept::new(config);
    let mut panics = 0;
    let mut pause = FIRST_RESTART;
    loop {
        let outcome = catch_unwind(AssertUnwindSafe(|| -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let ended = runtime.block_on(async {
                let mut network = Network::new(config, counters.clone(), &mut kept)?;
                // Nobody waits for this any more after the first time.
                let _ = started.try_send(Ok(()));
                network.run(&mut commands, events).await;
                Ok(())
            });
            // Names being looked up do not hold us up.
            runtime.shutdown_background();
            ended
        }));
        match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) if panics == 0 => {
                let _ = started.try_send(Err(error));
                return;
            }
            Ok(Err(error)) => tracing::error!(%error, "the network could not be built anew"),
            Err(_) => {
                panics += 1;
                tracing::error!(panics, "the network task panicked and is built anew");
                kept.on_panic(panics);
            }
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LAST_RESTART);
    }
}
