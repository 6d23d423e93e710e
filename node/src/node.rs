//! A node: opens its directory, starts its loops and joins them by channels; ends them in order.
//! Knows nothing of letters. A loop that ends ends the node: nothing goes on half.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use protocol::beacon::Statistics;
use protocol::edge::Edge;
use protocol::id::MachineId;
use protocol::name::PeerName;
use protocol::{Command, Config, Identity, Input, Notice, Peer, Status};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};

use crate::driver::{Clock, Driver, FACTS, Fact};
use crate::net::{self, Net};
use crate::runner::Runner;
use crate::store::{Anew, CommitError, Directory, DirectoryError, OpenError, Reader, RecordLimits, Store};
use crate::workers::{Job, Workers};

/// Events of the network that wait for their turn (guess: some frames of each of 50 peers).
const NET_EVENTS: usize = 256;
/// Bytes of frames being opened or waiting for it, at most (guess: ten of the longest, or a thousand of those there are most of).
const OPENING_BYTES: usize = 64 * 1024 * 1024;
/// What they are counted in; a shorter frame counts as much, for what is around it and what is made of it (guess).
const OPENING_UNIT: usize = 64 * 1024;
/// Bytes of the longest frame: what the protocol allows.
const FRAME_MAX: u32 = protocol::config::limits::FRAME_BYTES as u32;
/// Gossips being checked or waiting for it, at most (guess: one of each of 100 peers, twice over).
const GOSSIPS_HEARD: usize = 256;
/// The swarm of a node that was told nothing else (DESIGN 10.1).
pub const SWARM: &str = "lan";
/// Outcomes of dials that a slow watcher may be behind (guess).
const MET: usize = 256;
/// Hosts that are not of this swarm and that are told of, each once (guess: whoever sees so many lines knows).
const OUTSIDERS: usize = 8;
/// Notices a slow watcher may be behind (guess: a screenful of letters many times over).
const NOTICES: usize = 4096;
/// Time between two measurements of CPU, memory and disk (guess: what people call "now").
const MEASURE: Duration = Duration::from_secs(5);
/// How long a node that leaves waits for its goodbyes to be sent (guess).
const GOODBYE: Duration = Duration::from_millis(500);
/// How long it waits for others to take over what it holds, and for its tasks to end: longer than the core does (`stop_tasks_most`).
const HAND_OVER: Duration = Duration::from_secs(7);

/// What a node is started with.
#[derive(Debug)]
pub struct Settings {
    /// Where it keeps everything.
    pub directory: PathBuf,
    /// Its name, if its disk remembers none.
    pub name: PeerName,
    /// Its swarm; none for the one its directory remembers, or [`SWARM`].
    pub swarm: Option<String>,
    /// The swarm's pre-shared key.
    pub swarm_key: Option<[u8; 32]>,
    /// Where to listen.
    pub listen: Vec<Multiaddr>,
    /// Whom to reach, whatever multicast says.
    pub peers: Vec<Multiaddr>,
    /// Whether to look for peers by multicast.
    pub mdns: bool,
    /// What counts as its machine; none for the machine it runs on.
    pub machine: Option<String>,
    /// How much of the record is kept.
    pub record: RecordLimits,
    /// Set a lost or damaged database aside and begin a new memory under the same key.
    pub start_over: bool,
}

/// What became of a dial.
#[derive(Clone, Debug)]
pub enum Met {
    /// A peer is connected.
    Seen {
        /// Who.
        peer: PeerId,
        /// The far end.
        address: Multiaddr,
    },
    /// Nobody was reached.
    Failed {
        /// Where.
        addresses: Vec<Multiaddr>,
        /// Why.
        error: String,
    },
}

/// Why a node did not start. Nothing runs; what is on disk is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory or the keys in it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The database.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// It was put back to a backup, and the one that the backup is of still runs.
    #[error("this node was put back to a backup, and the node that the backup is of is running, at {0}: there would be two of it")]
    Alive(Multiaddr),
    /// A thread, a socket or randomness.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A node that runs.
pub struct Node {
    /// Who it is.
    pub id: PeerId,
    /// Its swarm.
    pub swarm: String,
    /// Its machine, as others know it.
    pub machine: MachineId,
    /// What became of dials; subscribe for it.
    pub met: broadcast::Sender<Met>,
    /// Reads its disk.
    pub reader: Reader,
    /// Told the sequence of the next record entry after each commit.
    pub entries: watch::Receiver<u64>,
    /// News; subscribe for them.
    pub notices: broadcast::Sender<Notice>,
    /// Those since the very beginning, for the first who asks: what is wrong with the start is said at once.
    heard: Option<broadcast::Receiver<Notice>>,
    /// Where nobody is reached of those whom the settings name, and why.
    pub unreached: watch::Receiver<BTreeMap<Multiaddr, String>>,
    /// The network's numbers.
    pub net: Arc<Net>,
    facts: mpsc::Sender<Fact>,
    ended: oneshot::Receiver<Result<(), CommitError>>,
    /// Locked as long as the node runs.
    directory: Directory,
}

/// Starts a node; it is ready to be steered when this returns.
///
/// # Errors
/// [`StartError`].
pub async fn start(settings: Settings) -> Result<Node, StartError> {
    let clock = Clock::start();
    let directory = Directory::open(&settings.directory, settings.start_over)?;
    let swarm = match settings.swarm {
        Some(swarm) => swarm,
        None => directory.swarm()?.unwrap_or_else(|| SWARM.to_owned()),
    };
    directory.remember_swarm(&swarm)?;
    let secrets = directory.secrets().clone();
    let (store, kept) = Store::open(directory.path())?;
    let reader = store.reader();

    let id = secrets.id();
    let private = settings.swarm_key.is_some();
    if let Some(me) = kept.me.as_ref().filter(|me| me.restored) {
        let addresses = me.addresses.iter().filter_map(|address| address.parse().ok()).collect();
        if let Some(address) = net::found_at(id, addresses, settings.swarm_key).await {
            return Err(StartError::Alive(address));
        }
    }
    let machine = machine(&swarm, settings.machine);
    let identity = Identity { id, name: settings.name.clone(), machine, encryption_key: secrets.encryption_key(), key: secrets.key_id() };
    let record = settings.record;
    let mut config = Config { swarm: swarm.clone(), ..Config::default() };
    if !record.others {
        config.record_pulls = 0;
    }
    let remembered = kept.known.iter().filter_map(|known| known.contact.trusted().ok()).map(|contact| {
        let addresses = contact.addresses.iter().filter_map(|address| address.parse().ok()).collect();
        (contact.id, addresses)
    });
    let (events, from_net) = mpsc::channel(NET_EVENTS);
    let net = Net::start(
        net::Config {
            keypair: secrets.signing.clone(),
            swarm_name: swarm.clone(),
            swarm_key: settings.swarm_key,
            listen: settings.listen,
            mdns: settings.mdns,
            remembered: remembered.collect(),
            limits: net::Limits { frame_max: FRAME_MAX, ..net::Limits::default() },
        },
        events,
    )?;
    let net = Arc::new(net);
    for address in &settings.peers {
        // Commands right after the start find room. Each is one to reach: they need not know each other.
        let _ = net.try_send(net::Command::Dial { peer: None, addresses: vec![address.clone()], urgent: true });
    }

    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let peer = Peer::new(identity, config, ChaCha8Rng::from_seed(seed), kept, clock.now());

    let (facts, driver_facts) = mpsc::channel(FACTS);
    let (entries, watch) = watch::channel(peer.next_entry());
    let (notices, heard) = broadcast::channel(NOTICES);
    let edge = Arc::new(Edge::new(secrets, swarm.clone()));
    let workers = Workers::start(&edge, &facts)?;
    let runner = Runner::start(directory.path(), facts.clone())?;
    let (met, _) = broadcast::channel(MET);
    let (missing, unreached) = watch::channel(BTreeMap::new());
    let named = Named { peers: settings.peers.into_iter().collect(), missing, private, outsiders: BTreeSet::new() };
    tokio::spawn(intake(from_net, facts.clone(), workers.clone(), notices.clone(), met.clone(), named));
    tokio::spawn(measure(facts.clone()));
    let to_itself = facts.downgrade();
    let driver = Driver {
        peer,
        edge,
        store,
        net: Arc::clone(&net),
        workers,
        runner,
        clock,
        facts: to_itself,
        record,
        entries,
        notices: notices.clone(),
    };
    let (end, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("driver".to_owned()).spawn(move || {
        let result = runtime.block_on(driver.run(driver_facts));
        // The node may have been dropped without waiting.
        drop(end.send(result));
    })?;
    Ok(Node { id, swarm, machine, met, reader, entries: watch, notices, heard: Some(heard), unreached, net, facts, ended, directory })
}

impl Node {
    /// The way to the driver.
    #[must_use]
    pub fn facts(&self) -> mpsc::Sender<Fact> {
        self.facts.clone()
    }

    /// News since the node was begun, for one reader.
    pub fn first_notices(&mut self) -> Option<broadcast::Receiver<Notice>> {
        self.heard.take()
    }

    /// What was given up to begin anew, if that was asked for.
    #[must_use]
    pub fn anew(&self) -> Option<&Anew> {
        self.directory.anew()
    }

    /// What the peer knows; none if the driver has ended.
    pub async fn status(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.facts.send(Fact::Status(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Completes when the driver has ended, which it only does when told to or when the disk fails.
    ///
    /// # Errors
    /// The disk failed.
    pub async fn ended(&mut self) -> Result<(), CommitError> {
        (&mut self.ended).await.unwrap_or(Err(CommitError::Closed))
    }

    /// Says goodbye, makes everything durable and ends.
    ///
    /// # Errors
    /// The disk failed; what was accepted before is on it.
    pub async fn stop(mut self) -> Result<(), CommitError> {
        let (reply, answer) = oneshot::channel();
        if self.facts.send(Fact::Asked { command: Command::Leave, reply }).await.is_ok() {
            // The mail is handed over and the goodbyes are queued when the answer comes.
            let _ = tokio::time::timeout(HAND_OVER, answer).await;
        }
        let _ = self.facts.send(Fact::Stop).await;
        let result = self.ended().await;
        let _ = self.net.try_send(net::Command::Stop);
        let net = self.net;
        if let Ok(net) = Arc::try_unwrap(net) {
            let _ = tokio::time::timeout(GOODBYE * 2, tokio::task::spawn_blocking(move || net.join())).await;
        }
        result
    }
}

/// Those whom the settings name, and which of them are not reached.
struct Named {
    peers: BTreeSet<Multiaddr>,
    missing: watch::Sender<BTreeMap<Multiaddr, String>>,
    /// This swarm has a key.
    private: bool,
    /// Hosts of others that were told of.
    outsiders: BTreeSet<String>,
}

impl Named {
    fn missed(&self, addresses: &[Multiaddr], why: &str) {
        for address in addresses.iter().filter(|address| self.peers.contains(address)) {
            // The address is shown beside it.
            let why = why.strip_prefix(&format!("{address}: ")).unwrap_or(why).to_owned();
            self.missing.send_modify(|missing| drop(missing.insert(address.clone(), why)));
        }
    }

    /// What to say of who is not of this swarm, once for each host.
    fn outsider(&mut self, address: &Multiaddr, dialled: bool) -> Option<String> {
        let host = address.iter().find_map(|part| match part {
            Protocol::Ip4(ip) => Some(ip.to_string()),
            Protocol::Ip6(ip) => Some(ip.to_string()),
            _ => None,
        });
        let host = host.filter(|host| self.outsiders.len() < OUTSIDERS && !self.outsiders.contains(host))?;
        self.outsiders.insert(host.clone());
        Some(match (dialled, self.private) {
            (true, true) => {
                format!("{address} answers, but not under the key of this swarm: it has another one, or none, or it is no node")
            }
            (true, false) => format!(
                "{address} answers, but not as a node of an open swarm: if its swarm has a key, start this one with it (run --swarm-key FILE)"
            ),
            (false, true) => format!("somebody at {host} tried to join without the key of this swarm, and was not let in"),
            (false, false) => {
                format!("somebody at {host} did not come as a node of an open swarm: it may have a swarm key, and this swarm has none")
            }
        })
    }

    fn reached(&self, addresses: &[Multiaddr]) {
        self.missing.send_if_modified(|missing| addresses.iter().filter(|address| missing.remove(address).is_some()).count() > 0);
    }
}

/// Turns what the network says into facts, in order; waits while the driver or the workers have enough to do.
async fn intake(
    mut events: mpsc::Receiver<net::Event>,
    facts: mpsc::Sender<Fact>,
    workers: Workers,
    notices: broadcast::Sender<Notice>,
    met: broadcast::Sender<Met>,
    mut named: Named,
) {
    let opening = Arc::new(Semaphore::new(OPENING_BYTES / OPENING_UNIT));
    let hearing = Arc::new(Semaphore::new(GOSSIPS_HEARD));
    let mut listening: BTreeSet<Multiaddr> = BTreeSet::new();
    let mut missed: BTreeMap<Vec<Multiaddr>, u32> = BTreeMap::new();
    while let Some(event) = events.recv().await {
        let input = match event {
            net::Event::Frame { from, lane, frame } => {
                let Ok(permit) = Arc::clone(&opening).acquire_many_owned(weight(frame.len())).await else { return };
                let job = Job::Admit { from, frame, permit };
                match lane {
                    net::Lane::Urgent => workers.urgent(job),
                    net::Lane::Bulk => workers.bulk(job),
                }
                continue;
            }
            net::Event::Gossip { from, token, bytes } => {
                // Too much of it is not heard, and not passed on: the next beacon says the same.
                if let Ok(permit) = Arc::clone(&hearing).try_acquire_owned() {
                    workers.urgent(Job::Hear { from, token, bytes, permit });
                }
                continue;
            }
            net::Event::PeerSeen { peer, address } => {
                // Nobody may be waiting for it.
                drop(met.send(Met::Seen { peer, address: address.clone() }));
                Input::PeerSeen { peer, address: address.to_string() }
            }
            net::Event::Cards { peer, cards, ended } => {
                workers.urgent(Job::Sought { peer, cards, ended });
                continue;
            }
            net::Event::PeerLost { peer } => Input::PeerLost { peer },
            net::Event::SendFailed { to, lane } => {
                let lane = match lane {
                    net::Lane::Urgent => protocol::message::Lane::Urgent,
                    net::Lane::Bulk => protocol::message::Lane::Bulk,
                };
                Input::SendFailed { to, lane }
            }
            net::Event::Listening { address } => {
                listening.insert(address);
                Input::Listening { addresses: announced(&listening) }
            }
            net::Event::Unlisten { address } => {
                listening.remove(&address);
                Input::Listening { addresses: announced(&listening) }
            }
            net::Event::ListenFailed { address, error } => {
                warn(&notices, format!("cannot listen at {address} ({error}); trying another port"));
                continue;
            }
            net::Event::Restarted { panics } => {
                warn(&notices, format!("the network failed and was started again ({panics} times so far)"));
                continue;
            }
            net::Event::DialFailed { peer, addresses, error } => {
                tracing::debug!(?peer, ?addresses, error, "dial failed");
                let host = unresolved(&addresses, &error);
                let why = host.as_ref().map(|host| format!("the name {host} cannot be resolved"));
                named.missed(&addresses, why.as_deref().unwrap_or(&error));
                // Only what the user named has no id; it is tried on and on, and said once.
                if peer.is_none() {
                    let times = missed.entry(addresses.clone()).or_default();
                    *times += 1;
                    match why {
                        Some(why) if *times == 1 => warn(
                            &notices,
                            format!(
                                "nobody is reached there yet, trying again now and then: {why}; is it right? \
                                 its address will do too, like --peer 192.168.1.23"
                            ),
                        ),
                        // Nodes that are started together are not there at once.
                        None if *times == 2 => warn(&notices, format!("nobody is reached there yet, trying again now and then: {error}")),
                        _ => {}
                    }
                }
                drop(met.send(Met::Failed { addresses, error }));
                continue;
            }
            net::Event::NotOurs { address, dialled } => {
                if let Some(text) = named.outsider(&address, dialled) {
                    warn(&notices, text);
                }
                continue;
            }
            net::Event::Reached { addresses } => {
                named.reached(&addresses);
                continue;
            }
            net::Event::Providers { token, peers, ended } => Input::ProvidersNamed { token, peers, ended },
            net::Event::Found { peer, addresses } => {
                tracing::debug!(%peer, ?addresses, "found");
                continue;
            }
        };
        if facts.send(Fact::Inputs { inputs: vec![input], bytes: 0 }).await.is_err() {
            return;
        }
    }
}

/// The name among these addresses that no address was found for. What the resolver says of it is for those who know resolvers.
pub(crate) fn unresolved(addresses: &[Multiaddr], error: &str) -> Option<String> {
    // The last is what it says when it reaches no name server at all.
    let says = ["no records found", "resolve", "NXDomain", "no record", "no connections available"];
    let host = addresses.iter().flat_map(Multiaddr::iter).find_map(|part| match part {
        Protocol::Dns(host) | Protocol::Dns4(host) | Protocol::Dns6(host) => Some(host.into_owned()),
        _ => None,
    });
    host.filter(|_| says.iter().any(|said| error.contains(said)))
}

/// How much of [`OPENING_BYTES`] a frame of so many bytes takes: never more than there is, so that it is opened some time.
fn weight(bytes: usize) -> u32 {
    bytes.div_ceil(OPENING_UNIT).clamp(1, OPENING_BYTES / OPENING_UNIT) as u32
}

fn warn(notices: &broadcast::Sender<Notice>, text: String) {
    tracing::debug!("{text}");
    // Nobody may be watching yet.
    drop(notices.send(Notice::Warning(text)));
}

/// The addresses that others can use: loopback ones only if there are no others.
fn announced(listening: &BTreeSet<Multiaddr>) -> Vec<String> {
    let loopback = |address: &&Multiaddr| {
        address.iter().any(|part| match part {
            Protocol::Ip4(ip) => ip.is_loopback(),
            Protocol::Ip6(ip) => ip.is_loopback(),
            _ => false,
        })
    };
    let outside: Vec<String> = listening.iter().filter(|address| !loopback(address)).map(Multiaddr::to_string).collect();
    if outside.is_empty() { listening.iter().map(Multiaddr::to_string).collect() } else { outside }
}

/// Measures the machine now and then; the driver has the disk measured with it.
async fn measure(facts: mpsc::Sender<Fact>) {
    let mut system = sysinfo::System::new();
    let mut due = tokio::time::interval(MEASURE);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        system.refresh_memory();
        system.refresh_cpu_usage();
        let cores = system.cpus().len();
        // Whole percents of one CPU; fractions do not matter to anyone.
        let busy = system.cpus().iter().map(|cpu| cpu.cpu_usage().clamp(0.0, 100.0)).sum::<f32>().round() as u32;
        let cores = u32::try_from(cores).unwrap_or(u32::MAX);
        let statistics = Statistics {
            cores,
            cores_free_percent: (cores * 100).saturating_sub(busy),
            memory_bytes: system.total_memory(),
            memory_free_bytes: system.available_memory(),
        };
        if facts.send(Fact::Measured(statistics)).await.is_err() {
            return;
        }
    }
}

/// Names this machine to the swarm without giving its machine id away. Where one machine is many, or many share an id (images
/// of one disk), its user names it.
fn machine(swarm: &str, named: Option<String>) -> MachineId {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok().map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    let id = named
        .or_else(|| read("/etc/machine-id"))
        .or_else(|| read("/var/lib/dbus/machine-id"))
        .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    let mut hash = Sha256::new();
    hash.update(b"swarm/1 machine ");
    hash.update(swarm.as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    MachineId::new(half)
}
