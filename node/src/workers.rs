//! Threads for everything that costs public-key operations: sealing, opening, checking.
//! Know nothing of what follows: facts go to the driver. Urgent work never waits behind a backlog of letters.

use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, unbounded};
use libp2p::PeerId;
use protocol::Input;
use protocol::bundle::{Bundle, Draft};
use protocol::edge::Edge;
use protocol::message::Message;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::driver::Fact;
use crate::net::GossipToken;

/// One piece of work.
#[derive(Debug)]
pub enum Job {
    /// A frame came by stream.
    Admit {
        /// From whom.
        from: PeerId,
        /// Its bytes.
        frame: Bytes,
        /// Held until the facts are handed over: this is how a flood pushes back on the network.
        permit: OwnedSemaphorePermit,
    },
    /// A gossip came.
    Hear {
        /// By whom it was passed on.
        from: PeerId,
        /// Names it for the verdict.
        token: GossipToken,
        /// Its bytes.
        bytes: Bytes,
        /// Held until the fact is handed over.
        permit: OwnedSemaphorePermit,
    },
    /// Cards were found that were looked for.
    Sought {
        /// Whose.
        peer: PeerId,
        /// What others gave out as such.
        cards: Vec<Bytes>,
        /// Nothing more will be found.
        ended: bool,
    },
    /// A bundle is to be sealed.
    Seal(Box<Draft>),
    /// Bundles of this node are to be held by another: each needs a slip.
    Deposit {
        /// With whom.
        to: PeerId,
        /// In this order.
        bundles: Vec<Bundle>,
    },
}

/// The threads. Dropping the last handle ends them.
#[derive(Clone, Debug)]
pub struct Workers {
    urgent: Sender<Job>,
    bulk: Sender<Job>,
}

/// One thread a core, two at least: one may be opening a long bundle while a hello waits.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8))
}

impl Workers {
    /// Starts the threads; what they find goes to `driver`.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(edge: &Arc<Edge>, driver: &mpsc::Sender<Fact>) -> std::io::Result<Workers> {
        let (urgent, urgent_jobs) = unbounded();
        let (bulk, bulk_jobs) = unbounded();
        for number in 0..threads() {
            let (edge, driver) = (Arc::clone(edge), driver.clone());
            let (urgent, bulk) = (urgent_jobs.clone(), bulk_jobs.clone());
            let _detached: JoinHandle<()> =
                std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || work(&edge, &driver, &urgent, &bulk))?;
        }
        Ok(Workers { urgent, bulk })
    }

    /// Work that nobody should wait for long: greetings, receipts, beacons.
    pub fn urgent(&self, job: Job) {
        // The threads live as long as this handle, so the channel is open.
        let _ = self.urgent.send(job);
    }

    /// Letters: sealing, opening, depositing.
    pub fn bulk(&self, job: Job) {
        let _ = self.bulk.send(job);
    }
}

fn work(edge: &Edge, driver: &mpsc::Sender<Fact>, urgent: &Receiver<Job>, bulk: &Receiver<Job>) {
    loop {
        let job = match urgent.try_recv() {
            Ok(job) => job,
            Err(_) => crossbeam_channel::select! {
                recv(urgent) -> job => match job { Ok(job) => job, Err(_) => return },
                recv(bulk) -> job => match job { Ok(job) => job, Err(_) => return },
            },
        };
        let (fact, permit) = match job {
            Job::Admit { from, frame, permit } => {
                let inputs = edge.admit(from, &frame);
                (Fact::Inputs { inputs, bytes: frame.len() }, Some(permit))
            }
            Job::Hear { from, token, bytes, permit } => match edge.hear(&bytes) {
                Ok(gossip) => (Fact::Heard { from, token, gossip }, Some(permit)),
                Err(cause) => (Fact::FalseGossip { from, token, cause }, Some(permit)),
            },
            Job::Sought { peer, cards, ended } => (Fact::Inputs { inputs: vec![edge.sought(peer, &cards, ended)], bytes: 0 }, None),
            Job::Seal(draft) => {
                let bundle = edge.seal(&draft);
                let bytes = bundle.as_ref().map_or(0, Bundle::size);
                (Fact::Inputs { inputs: vec![Input::Sealed { draft: draft.number, bundle }], bytes }, None)
            }
            Job::Deposit { to, bundles } => {
                let parcels = bundles.into_iter().map(|bundle| edge.parcel(bundle)).collect();
                (Fact::Parcels { to, frame: Message::Deposit(parcels).to_frame().into() }, None)
            }
        };
        let sent = driver.blocking_send(fact);
        drop(permit);
        if sent.is_err() {
            return;
        }
    }
}
