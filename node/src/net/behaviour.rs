//! The protocols that run on every connection, and their settings.
//! Decides nothing while running: what the protocols report is judged in `net`.
//! Every protocol name that libp2p lets us choose carries the swarm's name.

use std::io;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, StreamProtocol, connection_limits, identify, kad, mdns, memory_connection_limits, ping};

use super::adverts::Adverts;
use super::{Config, Limits, gossip, streams, transport};

// All from the table at the end of research/libp2p.md and DESIGN section 8, where no other source is given.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const DIAL_CONCURRENCY: NonZeroU8 = NonZeroU8::new(4).expect("4 is not 0");
const HANDLER_BUFFER: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");
const CONNECTION_EVENTS: usize = 32;

/// One lost answer must not expire a healthy peer: six queries fit into one time to live.
const MDNS_TTL: Duration = Duration::from_secs(360);
const MDNS_QUERY_INTERVAL: Duration = Duration::from_secs(60);

const IDENTIFY_INTERVAL: Duration = Duration::from_secs(60);
const IDENTIFY_CACHE: usize = 256;

// Our own heartbeat is the first line; pings of 50 neighbours every 5 s cost 7 % of an idle node (measured).
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The library's own 20: v1 is tested with 100 nodes, more than the 50 up to which the table says 8.
const KAD_REPLICATION: NonZeroUsize = kad::K_VALUE;
const KAD_QUERY_TIMEOUT: Duration = Duration::from_secs(10);
const KAD_SUBSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
const KAD_PROVIDER_TTL: Duration = Duration::from_secs(10 * 60);
const KAD_PROVIDER_PUBLICATION: Duration = Duration::from_secs(3 * 60);
const KAD_BOOTSTRAP: Duration = Duration::from_secs(60);
const KAD_PACKET: usize = 16 * 1024;
const KAD_RECORDS: usize = 4096;
const KAD_VALUE: usize = 8 * 1024;
/// The library's own 20 are too few (DESIGN 6: more must be found); 128 is more than the nodes that v1 is tested with.
const KAD_PROVIDERS_PER_KEY: usize = 128;

/// Names that must fit a line of protocol negotiation beside our own words. Guess: as long as a peer's name.
const SWARM_NAME_MAX: usize = 64;

/// All protocols of one connection.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // The limits come first: what they refuse, nobody else hears of.
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(crate) streams: streams::Behaviour,
    pub(crate) identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossip: gossip::Behaviour,
    pub(crate) kad: kad::Behaviour<Adverts>,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// The names of our protocols in one swarm.
#[derive(Clone)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    /// Refuses names that would break out of a protocol name.
    pub(crate) fn new(swarm: &str) -> io::Result<Self> {
        let fits = (1..=SWARM_NAME_MAX).contains(&swarm.len());
        if !fits || swarm.contains(|c: char| c == '/' || c.is_control()) {
            let why = "a swarm's name has 1 to 64 bytes, no '/' and no control characters";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Ok(Self { prefix: format!("/swarm/{swarm}") })
    }

    /// What `identify` says to tell this swarm's nodes from others; its protocol name is the library's.
    pub(crate) fn identify(&self) -> String {
        format!("{}/id/1", self.prefix)
    }

    fn protocol(&self, what: &str) -> StreamProtocol {
        StreamProtocol::try_from_owned(format!("{}/{what}/1", self.prefix)).expect("the prefix begins with a slash")
    }
}

/// The swarm that a node is of which says this to tell its swarm's nodes from others; none if it is no node of ours.
pub(crate) fn swarm_of(identify: &str) -> Option<&str> {
    let (swarm, version) = identify.strip_prefix("/swarm/")?.split_once("/id/")?;
    (Names::new(swarm).is_ok() && version.bytes().all(|byte| byte.is_ascii_digit())).then_some(swarm)
}

/// A libp2p swarm for `config`, listening nowhere yet. Must be called on the runtime that will drive it.
pub(crate) fn swarm(config: &Config, executor: impl libp2p::swarm::Executor + Send + 'static) -> io::Result<libp2p::Swarm<Behaviour>> {
    let names = Names::new(&config.swarm_name)?;
    let settings = libp2p::swarm::Config::with_executor(executor)
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_dial_concurrency_factor(DIAL_CONCURRENCY)
        .with_notify_handler_buffer_size(HANDLER_BUFFER)
        .with_per_connection_event_buffer_size(CONNECTION_EVENTS);
    Ok(libp2p::Swarm::new(
        transport::transport(&config.keypair, config.swarm_key)?,
        behaviour(config, &names)?,
        config.keypair.public().to_peer_id(),
        settings,
    ))
}

fn behaviour(config: &Config, names: &Names) -> io::Result<Behaviour> {
    let me = config.keypair.public().to_peer_id();
    let lanes = [names.protocol("urgent"), names.protocol("bulk")];
    let identify = identify::Config::new(names.identify(), config.keypair.public())
        .with_agent_version(concat!("swarm/", env!("CARGO_PKG_VERSION")).to_owned())
        .with_interval(IDENTIFY_INTERVAL)
        .with_push_listen_addr_updates(true)
        .with_cache_size(IDENTIFY_CACHE)
        // Only what we chose as external addresses, so that no loopback address is sent to other machines.
        .with_hide_listen_addrs(true);
    let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(connection_limits(&config.limits)),
        memory: memory_connection_limits::Behaviour::with_max_bytes(config.limits.memory_bytes),
        streams: streams::Behaviour::new(lanes),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping),
        gossip: gossip::behaviour(format!("{}/gossip", names.prefix))?,
        kad: kademlia(me, names),
        mdns: mdns_if(config.mdns, me).into(),
    })
}

fn connection_limits(limits: &Limits) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits.pending_incoming))
        .with_max_pending_outgoing(Some(limits.pending_outgoing))
        .with_max_established_incoming(Some(limits.established_incoming))
        .with_max_established_outgoing(Some(limits.established_outgoing))
        .with_max_established_per_peer(Some(limits.established_per_peer))
}

fn kademlia(me: PeerId, names: &Names) -> kad::Behaviour<Adverts> {
    let mut settings = kad::Config::new(names.protocol("kad"));
    settings
        .set_replication_factor(KAD_REPLICATION)
        .set_query_timeout(KAD_QUERY_TIMEOUT)
        .set_substreams_timeout(KAD_SUBSTREAM_TIMEOUT)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_record_ttl(Some(KAD_PROVIDER_TTL))
        .set_provider_publication_interval(Some(KAD_PROVIDER_PUBLICATION))
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_periodic_bootstrap_interval(Some(KAD_BOOTSTRAP))
        .set_max_packet_size(KAD_PACKET);
    let store = MemoryStoreConfig {
        max_records: KAD_RECORDS,
        max_value_bytes: KAD_VALUE,
        max_providers_per_key: KAD_PROVIDERS_PER_KEY,
        max_provided_keys: KAD_RECORDS,
    };
    let store = Adverts::new(MemoryStore::with_config(me, store));
    let mut kad = kad::Behaviour::with_config(me, store, settings);
    // By itself it would stay a client for ever on a LAN (research/libp2p.md, trap 1).
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

/// A machine that cannot multicast has other ways to find peers: not fatal, but said.
fn mdns_if(wanted: bool, me: PeerId) -> Option<mdns::tokio::Behaviour> {
    let settings = mdns::Config { ttl: MDNS_TTL, query_interval: MDNS_QUERY_INTERVAL, enable_ipv6: false };
    wanted
        .then(|| mdns::tokio::Behaviour::new(settings, me))?
        .inspect_err(|error| tracing::warn!(%error, "no mDNS: peers are not found by multicast"))
        .ok()
}
