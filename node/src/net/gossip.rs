//! The gossip topic `presence`: settings, and the token by which a message is judged later.
//! Refuses to know what a message says, or whose it is.
//! Nothing that came in is forwarded before it has been judged.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::gossipsub::{
    self, IdentTopic, IdentityTransform, MessageAcceptance, MessageAuthenticity, MessageId, ValidationMode, WhitelistSubscriptionFilter,
};
use sha2::{Digest, Sha256};

use super::Verdict;

/// The one topic of the swarm (DESIGN section 5).
const TOPIC: &str = "presence";

// All from the table at the end of research/libp2p.md, for a LAN of up to 50 nodes.
const MESH: usize = 4;
const MESH_LOW: usize = 2;
const MESH_HIGH: usize = 6;
const MESH_OUTBOUND_MIN: usize = 1;
// Who publishes sends to all its neighbours; telling them again what they could ask for helps hardly anybody.
const GOSSIP_LAZY: usize = 1;
const HEARTBEAT: Duration = Duration::from_secs(1);
const FIRST_HEARTBEAT: Duration = Duration::from_millis(500);
const HISTORY: usize = 10;
const HISTORY_GOSSIP: usize = 5;
const DUPLICATE_CACHE: Duration = Duration::from_secs(120);
const MAX_MESSAGE: usize = 64 * 1024;
const QUEUE: usize = 1000;
const PUBLISH_QUEUE_DURATION: Duration = Duration::from_secs(5);
const FORWARD_QUEUE_DURATION: Duration = Duration::from_secs(2);

/// Which gossip message a verdict is about. Worth nothing after a restart of the network task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GossipToken {
    id: MessageId,
    from: PeerId,
}

impl GossipToken {
    pub(crate) fn new(id: MessageId, from: PeerId) -> Self {
        Self { id, from }
    }
}

pub(crate) type Behaviour = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

/// Gossip under the protocol name `name`, subscribed to the topic.
pub(crate) fn behaviour(name: String) -> io::Result<Behaviour> {
    let settings = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(name)
        // Ours is the signature inside; libp2p's would not stop replay either.
        .validation_mode(ValidationMode::Anonymous)
        .message_id_fn(|message| MessageId::from(Sha256::digest(&message.data).to_vec()))
        .validate_messages()
        .mesh_n(MESH)
        .mesh_n_low(MESH_LOW)
        .mesh_n_high(MESH_HIGH)
        .mesh_outbound_min(MESH_OUTBOUND_MIN)
        .gossip_lazy(GOSSIP_LAZY)
        .gossip_factor(0.0)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(FIRST_HEARTBEAT)
        .history_length(HISTORY)
        .history_gossip(HISTORY_GOSSIP)
        .duplicate_cache_time(DUPLICATE_CACHE)
        .max_transmit_size(MAX_MESSAGE)
        .connection_handler_queue_len(QUEUE)
        .publish_queue_duration(PUBLISH_QUEUE_DURATION)
        .forward_queue_duration(FORWARD_QUEUE_DURATION)
        .flood_publish(true)
        .build()
        .map_err(io::Error::other)?;
    let topic = IdentTopic::new(TOPIC);
    let only_ours = WhitelistSubscriptionFilter(HashSet::from([topic.hash()]));
    let mut gossip =
        Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, settings, only_ours).map_err(io::Error::other)?;
    gossip.subscribe(&topic).map_err(io::Error::other)?;
    Ok(gossip)
}

/// Publishes to the topic. An error means that some or all peers will not get it from us; never fatal.
pub(crate) fn publish(gossip: &mut Behaviour, bytes: Vec<u8>) -> Result<(), gossipsub::PublishError> {
    gossip.publish(IdentTopic::new(TOPIC).hash(), bytes).map(|_| ())
}

/// Lets a message go on, or not. A verdict that comes too late changes nothing.
pub(crate) fn judge(gossip: &mut Behaviour, token: &GossipToken, verdict: Verdict) {
    let acceptance = match verdict {
        Verdict::Accept => MessageAcceptance::Accept,
        Verdict::Ignore => MessageAcceptance::Ignore,
        Verdict::Reject => MessageAcceptance::Reject,
    };
    gossip.report_message_validation_result(&token.id, &token.from, acceptance);
}
