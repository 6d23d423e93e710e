//! How bytes travel below the protocols: TCP, a pre-shared key if there is one, noise, yamux.
//! Knows nothing of what is said over it. The key of the swarm is neither printed nor logged, here or anywhere.
//! No dial leaves from the port we listen on.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse, TransportError, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::pnet::{PnetConfig, PnetOutput, PreSharedKey};
use libp2p::{Multiaddr, PeerId, Transport, dns, noise, tcp, yamux};

/// From TCP's first packet to a usable connection (research/libp2p.md, table: swarm).
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams of one connection; ours are four, Kademlia's come and go (research/libp2p.md, table: yamux).
const YAMUX_STREAMS: usize = 256;
/// How long the other side may take to say it. An open node waits in its turn, for something that it understands: to wait as long as
/// a whole connection may take would tell nothing from a host that is switched off (guess: a round trip takes milliseconds).
const KEY_CHECK_WITHIN: Duration = Duration::from_secs(3);
/// Said first under a swarm key, by both.
const KEY_CHECK: &[u8; 16] = b"swarm key check\n";

/// TCP with names resolved, under the pre-shared key if there is one, then noise and yamux.
pub(crate) fn transport(keypair: &Keypair, swarm_key: Option<[u8; 32]>) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>> {
    let tcp = || FreshPort(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)));
    match dns::tokio::Transport::system(tcp()) {
        Ok(resolving) => secured(resolving, keypair, swarm_key),
        Err(error) => {
            tracing::warn!(%error, "no name resolution: only numeric addresses can be dialled");
            secured(tcp(), keypair, swarm_key)
        }
    }
}

fn secured<T>(base: T, keypair: &Keypair, swarm_key: Option<[u8; 32]>) -> io::Result<Boxed<(PeerId, StreamMuxerBox)>>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    let noise = noise::Config::new(keypair).map_err(io::Error::other)?;
    let mut muxer = yamux::Config::default();
    muxer.set_max_num_streams(YAMUX_STREAMS);
    let secured = match swarm_key {
        Some(key) => base
            .and_then(move |socket, _| under_key(key, socket))
            .upgrade(Version::V1Lazy)
            .authenticate(noise)
            .multiplex(muxer)
            .timeout(CONNECTION_TIMEOUT)
            .boxed(),
        None => base.upgrade(Version::V1Lazy).authenticate(noise).multiplex(muxer).timeout(CONNECTION_TIMEOUT).boxed(),
    };
    Ok(secured)
}

/// The pre-shared-key transport, and a known word each way over it: with another key the library would only see
/// noise and wait until it times out, which cannot be told from a host that is switched off.
async fn under_key<S>(key: [u8; 32], socket: S) -> io::Result<PnetOutput<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let checked = tokio::time::timeout(KEY_CHECK_WITHIN, check_key(key, socket)).await;
    checked.unwrap_or_else(|_| Err(io::Error::other("the peer says nothing under a swarm key: it may be of an open swarm")))
}

async fn check_key<S>(key: [u8; 32], socket: S) -> io::Result<PnetOutput<S>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = PnetConfig::new(PreSharedKey::new(key)).handshake(socket);
    let mut socket = handshake.await.map_err(io::Error::other)?;
    socket.write_all(KEY_CHECK).await?;
    socket.flush().await?;
    let mut theirs = [0; KEY_CHECK.len()];
    socket.read_exact(&mut theirs).await?;
    if theirs != *KEY_CHECK {
        return Err(io::Error::other("the peer has another swarm key, or none"));
    }
    Ok(socket)
}

/// Whether an address to listen on is free. libp2p listens with SO_REUSEPORT, so that two nodes of one user
/// would both get the port and each half of the connections; this asks without. Only a hint: another may be quicker.
pub(crate) fn is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(ip)) => IpAddr::V4(ip),
        Some(Protocol::Ip6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// Whether an address is one that this machine can listen on, whatever its port.
pub(crate) fn can_listen(address: &Multiaddr) -> io::Result<()> {
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    let ip = match parts.as_slice() {
        [Protocol::Ip4(ip), Protocol::Tcp(_)] => IpAddr::V4(*ip),
        [Protocol::Ip6(ip), Protocol::Tcp(_)] => IpAddr::V6(*ip),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not like /ip4/0.0.0.0/tcp/6174")),
    };
    TcpListener::bind(SocketAddr::new(ip, 0)).map(drop)
}

/// Dials from a new port, where libp2p would dial from the listening one: two nodes that dial each other at once
/// from their listening ports make one TCP connection with two dialers, which both then give up.
struct FreshPort<T>(T);

impl<T: Transport + Unpin> Transport for FreshPort<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.0.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.0.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Self::Dial, TransportError<Self::Error>> {
        let fresh = DialOpts { port_use: PortUse::New, ..options };
        self.0.dial(address, fresh)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}
