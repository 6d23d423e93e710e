//! A peer that obeys no rule: noise and yamux as libp2p has them, and on the streams whatever bytes a test wants.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox};
use libp2p::core::transport::{DialOpts, PortUse};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Transport};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};

type Substream = <StreamMuxerBox as StreamMuxer>::Substream;

const HEADER: &str = "/multistream/1.0.0";

/// A connection to a node that takes this for a peer of its swarm. Ends with the handle.
pub(crate) struct Raw {
    open: mpsc::UnboundedSender<oneshot::Sender<Option<Substream>>>,
    /// Completes when the connection has ended.
    pub(crate) ended: oneshot::Receiver<()>,
    swarm: String,
}

impl Raw {
    pub(crate) async fn dial(address: Multiaddr, swarm: &str) -> Raw {
        let key = Keypair::generate_ed25519();
        let mut transport = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(&key).expect("noise"))
            .multiplex(yamux::Config::default())
            .boxed();
        let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
        let (_, mut muxer) = transport.dial(address, options).expect("an address").await.expect("the node listens");
        let (open, mut wanted) = mpsc::unbounded_channel::<oneshot::Sender<Option<Substream>>>();
        let (end, ended) = oneshot::channel();
        let name = swarm.to_owned();
        tokio::spawn(async move {
            let mut opening: Option<oneshot::Sender<Option<Substream>>> = None;
            poll_fn(|cx| {
                loop {
                    if opening.is_none() {
                        match wanted.poll_recv(cx) {
                            Poll::Ready(Some(reply)) => opening = Some(reply),
                            Poll::Ready(None) => return Poll::Ready(()),
                            Poll::Pending => {}
                        }
                    }
                    if opening.is_some() {
                        match Pin::new(&mut muxer).poll_outbound(cx) {
                            Poll::Ready(Ok(stream)) => {
                                drop(opening.take().map(|reply| reply.send(Some(stream))));
                                continue;
                            }
                            Poll::Ready(Err(_)) => return Poll::Ready(()),
                            Poll::Pending => {}
                        }
                    }
                    match Pin::new(&mut muxer).poll_inbound(cx) {
                        Poll::Ready(Ok(stream)) => {
                            tokio::spawn(agree(stream, name.clone()));
                            continue;
                        }
                        Poll::Ready(Err(_)) => return Poll::Ready(()),
                        Poll::Pending => {}
                    }
                    return match Pin::new(&mut muxer).poll(cx) {
                        Poll::Ready(Ok(_)) => continue,
                        Poll::Ready(Err(_)) => Poll::Ready(()),
                        Poll::Pending => Poll::Pending,
                    };
                }
            })
            .await;
            let _ = end.send(());
        });
        Raw { open, ended, swarm: swarm.to_owned() }
    }

    /// A stream of one of the node's lanes; none if the node wants no more of this peer.
    pub(crate) async fn stream(&self, lane: &str) -> Option<Substream> {
        let (reply, answer) = oneshot::channel();
        self.open.send(reply).ok()?;
        let mut stream = answer.await.ok()??;
        let both = [line(HEADER), line(&format!("/swarm/{}/{lane}/1", self.swarm))].concat();
        stream.write_all(&both).await.ok()?;
        stream.flush().await.ok()?;
        Some(stream)
    }

    /// Whether the connection ended within this time.
    pub(crate) async fn ends_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, &mut self.ended).await.is_ok()
    }
}

fn line(text: &str) -> Vec<u8> {
    // All our lines are shorter than the 128 bytes from which a length takes two.
    [&[u8::try_from(text.len() + 1).expect("a short line")], text.as_bytes(), b"\n"].concat()
}

async fn heard(stream: &mut Substream) -> Option<String> {
    let mut length = [0];
    stream.read_exact(&mut length).await.ok()?;
    let mut text = vec![0; length[0].into()];
    stream.read_exact(&mut text).await.ok()?;
    String::from_utf8(text).ok().map(|text| text.trim_end().to_owned())
}

/// Agrees to the node's lanes and to nothing else, and swallows what comes.
async fn agree(mut stream: Substream, swarm: String) {
    let ours = |name: &str| ["urgent", "bulk"].iter().any(|lane| name == format!("/swarm/{swarm}/{lane}/1"));
    while let Some(name) = heard(&mut stream).await {
        let answer = if name == HEADER || ours(&name) { name.clone() } else { "na".to_owned() };
        if stream.write_all(&line(&answer)).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if ours(&name) {
            let mut sink = vec![0; 65_536];
            while matches!(stream.read(&mut sink).await, Ok(1..)) {}
            return;
        }
    }
}
