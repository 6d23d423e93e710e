//! `run`: a node in the foreground, from its options to its exit code.
//! Knows nothing of how a node works or what commands look like; joins the two, prints what happens, and obeys signals.

mod background;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use protocol::{Answer, Command, Notice, Timestamp};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::cli::alone::{self, ALONE};
use crate::cli::failure::{DISK, Failure, INTERRUPTED, REFUSED};
use crate::cli::key;
use crate::cli::run::{Banner, Bearers, Configured, IN_BACKGROUND, Options, line};
use crate::control::api::Search;
use crate::control::configured;
use crate::control::desk::{About, Ask, Desk, Unreached};
use crate::control::problem::{Code, Problem};
use crate::control::server::{Door, serve};
use crate::control::time;
use crate::driver::Fact;
use crate::net;
use crate::node::{self, Met, Node, Settings, StartError};
use crate::search::Searching;
use crate::store::{Anew, CommitError, DirectoryError, Fault, OpenError};
use background::Logbook;

/// The port that nodes listen on if nothing is said (DESIGN 8).
const PORT: u16 = 6174;
/// How long the banner waits for the first address (guess: listening takes milliseconds).
const LISTENING: Duration = Duration::from_secs(2);
/// How long the first measurement of the machine is waited for (guess: it takes milliseconds).
const MEASURED: Duration = Duration::from_secs(2);
/// How long `connect` waits for an answer (the network's own patience is 5 s).
const CONNECTING: Duration = Duration::from_secs(8);
/// How long `connect` waits for the greeting that tells the name (guess).
const GREETING: Duration = Duration::from_secs(2);
/// Questions that may wait before those who ask wait too (guess: a batch of letters).
const ASKS: usize = 2048;
/// Between two looks at how long the log is (guess).
const TURN: Duration = Duration::from_secs(60);
/// What is logged if nothing is said: what concerns this program. Its libraries' complaints about networks being as they are
/// would only frighten.
const TRACED: &str = "warn,libp2p_kad=error,libp2p_gossipsub=error,libp2p_mdns=off";

/// Runs a node until it is told to stop.
///
/// # Errors
/// It could not start; nothing was changed but what the error says.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    if options.detached {
        Logbook::leave_terminal();
    }
    trace(options.log.as_deref(), options.detached)?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let settings = settings(&options)?;
    let packets = Searching::packets_before();
    if !options.listen.is_empty() {
        can_listen(&settings.listen)?;
    }
    let mut node = node::start(settings).await.map_err(not_started)?;
    let warnings = match configure(&node, &options).await {
        Ok(warnings) => warnings,
        Err(failure) => {
            // Nothing was promised to anyone.
            let _ = node.stop().await;
            return Err(failure.into());
        }
    };
    let mut notices = node.first_notices().unwrap_or_else(|| node.notices.subscribe());
    let door = Door::open(&options.data_dir)?;
    let (asks, asked) = mpsc::channel(ASKS);
    let about = About {
        id: node.id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        swarm: node.swarm.clone(),
        open: options.swarm_key.is_none(),
        machine: node.machine,
        data_dir: options.data_dir.clone(),
        started: time::now(),
        record: options.record,
    };
    let (watch, unreached) = (node.entries.clone(), node.unreached.clone());
    let searching = Searching::new(Arc::downgrade(&node.net), options.mdns, packets);
    let search: Arc<dyn Fn() -> Search + Send + Sync> = Arc::new({
        let searching = searching.clone();
        move || searching.now()
    });
    let desk = Desk { search, asks, shelf: Arc::new(node.reader.clone()), watch, notices: node.notices.clone(), unreached, about };
    let closing = CancellationToken::new();
    let serving = tokio::spawn(serve(desk, door, closing.clone()));
    let (stop, mut stopped) = mpsc::channel(1);
    tokio::spawn(answer(asked, node.facts(), Arc::downgrade(&node.net), node.met.clone(), stop));

    let terminal = std::io::stdout().is_terminal();
    if let Some(anew) = node.anew() {
        say(&begun_anew(anew));
    }
    say(&banner(&node, &options).await);
    warnings.iter().for_each(|warning| say(warning));
    let logbook = match ready(&options) {
        Ok(logbook) => logbook,
        Err(error) => {
            // Nothing is left behind of what nobody was told to be ready.
            let _ = node.stop().await;
            return match error.kind() {
                // Whoever started it has gone.
                std::io::ErrorKind::BrokenPipe => Ok(ExitCode::from(INTERRUPTED)),
                _ => Err(Failure::new(DISK, format!("{}: {error}", Logbook::path(&options.data_dir).display())).into()),
            };
        }
    };
    let mut turn = tokio::time::interval(TURN);
    let mut alone = Some(Box::pin(tokio::time::sleep(ALONE)));
    let mut bearers = Bearers::default();
    if let Some(status) = node.status().await {
        bearers.note(&status.name, status.id);
        status.peers.iter().for_each(|peer| bearers.note(&peer.name, peer.id));
    }
    let disk_failed = loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Ok(notice) => {
                    if matches!(notice, Notice::PeerHere { .. }) {
                        alone = None;
                    }
                    tell(&notice, &mut bearers, terminal);
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => say(&format!("… {missed} more events, see: {} inbox\n", options.called)),
                Err(broadcast::error::RecvError::Closed) => break None,
            },
            ended = node.ended() => break ended.err(),
            _ = turn.tick() => if let Some(Err(error)) = logbook.as_ref().map(Logbook::turn_if_long) {
                tracing::warn!(%error, "what this node says cannot be put into a new file");
            },
            () = async { if let Some(alone) = &mut alone { alone.await } }, if alone.is_some() => {
                alone = None;
                if let Some(status) = node.status().await {
                    let (search, now) = (searching.now(), time::now());
                    let text = alone::told(&search, &status.addresses, &node.swarm, options.swarm_key.is_none());
                    say(&format!("{}  nobody is found so far\n{text}", time::for_people(now, now)));
                }
            }
            Some(()) = stopped.recv() => break None,
            _ = interrupts.recv() => break None,
            _ = terminations.recv() => break None,
        }
    };
    if let Some(error) = disk_failed {
        return Err(stopped_by(&error).into());
    }
    told_to_service_manager(&[NotifyState::Stopping]);
    say(&format!("{}  stopping (once more to force)\n", time::for_people(time::now(), time::now())));
    let leaving = async {
        closing.cancel();
        let result = node.stop().await;
        // The server goes on a moment for those who are being answered; the socket file goes with it.
        let _ = serving.await;
        result
    };
    tokio::select! {
        result = leaving => match result {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(stopped_by(&error).into()),
        },
        _ = interrupts.recv() => Ok(ExitCode::from(130)),
    }
}

/// Says that the node is ready to whoever waits for that: its user, whoever started it into the background, and systemd.
///
/// # Errors
/// Whoever started it into the background has gone, or its log cannot be written.
fn ready(options: &Options) -> std::io::Result<Option<Logbook>> {
    let now = time::for_people(time::now(), time::now());
    let logbook = if options.detached {
        let log = Logbook::path(&options.data_dir);
        let text = format!(
            "{now}  what it says from now on is in {}; end it with: {} stop\n{now}  {IN_BACKGROUND}\n",
            log.display(),
            options.called
        );
        std::io::stdout().lock().write_all(text.as_bytes())?;
        Some(Logbook::open(&options.data_dir)?)
    } else {
        say(&format!("{now}  ready; looking for others\n"));
        None
    };
    told_to_service_manager(&[NotifyState::Ready]);
    Ok(logbook)
}

/// If there is one that wants to know (`Type=notify` in the unit file); it is no reason to end if it does not hear.
fn told_to_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// What the configuration says of services is said anew at each start; what stood in it before and does not now is withdrawn.
/// Whom it names and nobody knows yet is no reason not to start, or the node would never meet them: that is returned as a warning.
async fn configure(node: &Node, options: &Options) -> Result<Vec<String>, Failure> {
    let stopped = || Failure::new(DISK, "the node has stopped before it was ready");
    let status = measured(node, options).await.ok_or_else(stopped)?;
    let (mut warnings, mut wanted) = (Vec::new(), Vec::new());
    for Configured { place, offer } in &options.services {
        match configured(offer.clone(), &status, node.machine, options.swarm_key.is_none()) {
            Ok(offering) => wanted.push((place, offering)),
            Err(problem) if matches!(problem.code, Code::UnknownPeer | Code::AmbiguousPeer) => warnings.push(format!(
                "warning: {} is not offered ({place}): {}; write the whole id of who may order it, or start again when it was met\n",
                offer.name, problem.detail
            )),
            Err(problem) => return Err(refused(place, &offer.name, &problem)),
        }
    }
    let offered: Vec<_> = status.worker.offers.iter().map(|(offering, ..)| offering).collect();
    let gone = offered.iter().filter(|old| old.configured && !wanted.iter().any(|(_, new)| new.card.name == old.card.name));
    for old in gone {
        ask(node, Command::Withdraw(old.card.name.clone())).await.ok_or_else(stopped)?;
    }
    for (place, new) in wanted.into_iter().filter(|(_, new)| !offered.contains(&new)) {
        let name = new.card.name.to_string();
        match ask(node, Command::Offer(Box::new(new))).await.ok_or_else(stopped)? {
            Answer::Refused(refusal) => return Err(refused(place, &name, &refusal.into())),
            _ => tracing::debug!(service = name, "offered as configured"),
        }
    }
    Ok(warnings)
}

/// What the node knows, with how large its machine is if that matters to what it should offer.
async fn measured(node: &Node, options: &Options) -> Option<protocol::Status> {
    let matters = options.services.iter().any(|service| service.offer.cores.is_some() || service.offer.memory_bytes.is_some());
    let begin = tokio::time::Instant::now();
    loop {
        let status = node.status().await?;
        if !matters || status.statistics.cores > 0 || begin.elapsed() > MEASURED {
            return Some(status);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn refused(place: &str, service: &str, problem: &Problem) -> Failure {
    Failure::usage(format!("{place}: {service} cannot be offered: {}", problem.detail))
        .next("nothing was started; correct the file, or take the service out of it; what may stand there: node run --help")
}

async fn ask(node: &Node, command: Command) -> Option<Answer> {
    let (reply, answer) = tokio::sync::oneshot::channel();
    node.facts().send(Fact::Asked { command, reply }).await.ok()?;
    answer.await.ok()
}

/// Whatever of the disk is lost, damaged or not to be had is the disk's fault; all else is a refusal.
fn not_started(error: StartError) -> Failure {
    let exit = match &error {
        StartError::Directory(
            DirectoryError::NoDatabase { .. } | DirectoryError::NoKey { .. } | DirectoryError::Key { .. } | DirectoryError::Io { .. },
        ) => DISK,
        StartError::Directory(_)
        | StartError::Database(OpenError::Busy { .. } | OpenError::Newer { .. })
        | StartError::Alive(_)
        | StartError::System(_) => REFUSED,
        StartError::Database(_) => DISK,
    };
    let failure = Failure::new(exit, error.to_string());
    match error {
        StartError::Alive(_) => failure.next("nothing was started; stop the other one first, then start this one again"),
        _ => failure,
    }
}

/// What was accepted is on the disk; to go on would be to pretend.
fn stopped_by(error: &CommitError) -> Failure {
    let next = match error {
        CommitError::Damaged(Fault::Gone(_)) => "put the file back where it was; if it is lost, begin anew with: node run --start-over",
        CommitError::Damaged(_) => "bring the whole directory back from a copy, or begin anew with: node run --start-over",
        _ => "make room on the disk, or replace it, and start the node again",
    };
    Failure::new(DISK, format!("{error}; the node has stopped")).next(next)
}

/// Another port is found where one is taken; an address that is not this machine's is never listened on. A user who named only
/// such ones is told before anything is begun.
fn can_listen(listen: &[Multiaddr]) -> Result<(), Failure> {
    let failed = listen.iter().map(|address| net::can_listen(address).map_err(|error| format!("{address} ({error})")));
    match failed.collect::<Vec<_>>() {
        tried if tried.iter().any(Result::is_ok) => Ok(()),
        tried => {
            let why: Vec<String> = tried.into_iter().filter_map(Result::err).collect();
            Err(Failure::new(REFUSED, format!("this node cannot listen at {}", why.join(", nor at ")))
                .next("nothing was started; on all addresses of this machine: node run --listen /ip4/0.0.0.0/tcp/6174"))
        }
    }
}

fn trace(filter: Option<&str>, detached: bool) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter.unwrap_or(TRACED))
        .map_err(|error| Failure::usage(format!("--log: {error}")).next("like this: --log node=debug"))?;
    // Set once; a second node in one process, as in tests, shares the first one's.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(!detached && std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}

fn settings(options: &Options) -> anyhow::Result<Settings> {
    let addresses = |texts: &[String]| -> anyhow::Result<Vec<Multiaddr>> {
        texts.iter().map(|text| text.parse().with_context(|| format!("{text:?} is not a multiaddr"))).collect()
    };
    let listen = addresses(&options.listen)?;
    let everywhere = Multiaddr::empty().with(Protocol::Ip4([0, 0, 0, 0].into())).with(Protocol::Tcp(PORT));
    Ok(Settings {
        directory: options.data_dir.clone(),
        name: options.name.clone(),
        swarm: options.swarm.clone(),
        swarm_key: options.swarm_key.as_deref().map(read_swarm_key).transpose()?,
        listen: if listen.is_empty() { vec![everywhere] } else { listen },
        peers: addresses(&options.peers)?,
        mdns: options.mdns,
        machine: options.machine.clone(),
        record: options.record,
        start_over: options.start_over,
    })
}

/// Reads a pre-shared key in the format that go-libp2p introduced: two lines of header, then 64 hexadecimal digits.
fn read_swarm_key(file: &Path) -> anyhow::Result<[u8; 32]> {
    let shown = file.display();
    let mode = std::fs::metadata(file).with_context(|| format!("the swarm key {shown} cannot be read"))?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!("the swarm key {shown} can be read by others; type: chmod 600 {shown}");
    }
    let text = std::fs::read_to_string(file).with_context(|| format!("the swarm key {shown} cannot be read"))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let malformed = || {
        anyhow!(
            "{shown} is not a swarm key, which has {}, {} and 64 hexadecimal digits on three lines; make one with: node key new FILE",
            key::HEADER[0],
            key::HEADER[1]
        )
    };
    let [first, second, digits] = lines.as_slice() else { return Err(malformed()) };
    if [*first, *second] != key::HEADER {
        return Err(malformed());
    }
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(malformed());
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| malformed())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| malformed())?;
    }
    Ok(key)
}

/// What is lost, said once: whoever begins anew may still have a copy of it somewhere.
fn begun_anew(anew: &Anew) -> String {
    let (database, kept) = match &anew.database {
        Some(old) => ("the old database", format!(" (it is kept as {})", old.display())),
        None => ("the database that is missing", String::new()),
    };
    let mut text = format!(
        "warning: this node begins anew. Lost with {database}{kept}: the inbox, letters that were not delivered yet, orders and how they ended, \
         services offered, who was blocked, the names of others, and what was held for them\n"
    );
    text += if anew.key {
        "  there was no key either: for others this is another node, with a new id, and what was sealed for the old one cannot be opened\n"
    } else {
        "  the key is kept: for others it is the same node, and letters that wait for it still come\n"
    };
    text
}

async fn banner(node: &Node, options: &Options) -> String {
    let begin = tokio::time::Instant::now();
    let status = loop {
        match node.status().await {
            Some(status) if status.addresses.is_empty() && begin.elapsed() < LISTENING => {
                tokio::time::sleep(Duration::from_millis(1)).await
            }
            other => break other,
        }
    };
    let Some(status) = status else { return String::new() };
    let mut banner = String::new();
    if options.named && status.name != options.name {
        let (name, called, wanted) = (&status.name, &options.called, &options.name);
        banner = format!(
            "warning: the node of this directory is called {name} and stays so; for another node, called {wanted}: {called} run --name {wanted} \
             --data-dir DIR\n"
        );
    }
    banner += &Banner {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: status.name,
        id: status.id,
        swarm: node.swarm.clone(),
        open: options.swarm_key.is_none(),
        addresses: status.addresses,
        data_dir: options.data_dir.clone(),
        available: status.available,
        inactive: status.inactive,
        called: options.called.clone(),
    }
    .to_string();
    banner
}

fn tell(notice: &Notice, bearers: &mut Bearers, terminal: bool) {
    let now: Timestamp = time::now();
    bearers.hear(notice);
    if let Some(line) = line(notice, bearers, now, terminal) {
        say(&format!("{line}\n"));
    }
}

/// Prints; a closed pipe is no reason to stop a node.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Passes what the doors ask on to the driver and the network.
async fn answer(
    mut asked: mpsc::Receiver<Ask>,
    facts: mpsc::Sender<Fact>,
    net: std::sync::Weak<net::Net>,
    met: broadcast::Sender<Met>,
    stop: mpsc::Sender<()>,
) {
    while let Some(ask) = asked.recv().await {
        let fact = match ask {
            Ask::Command { command, reply } => Fact::Asked { command, reply },
            Ask::Status(reply) => Fact::Status(reply),
            Ask::Order(number, reply) => Fact::Order(number, reply),
            Ask::Orders { after, most, reply } => Fact::Orders { after, most, reply },
            Ask::Connect { address, reply } => {
                let (met, facts, net) = (met.subscribe(), facts.clone(), net.clone());
                tokio::spawn(async move {
                    // Whoever asked may have gone away.
                    drop(reply.send(connect(&address, met, &facts, &net).await));
                });
                continue;
            }
            Ask::Stop => {
                // Told already, if it is full.
                let _ = stop.try_send(());
                continue;
            }
        };
        if facts.send(fact).await.is_err() {
            return;
        }
    }
}

/// Dials an address and says who answered.
async fn connect(
    address: &str,
    mut met: broadcast::Receiver<Met>,
    facts: &mpsc::Sender<Fact>,
    net: &std::sync::Weak<net::Net>,
) -> Result<String, Unreached> {
    let other = |text: &str| Unreached::Other(text.to_owned());
    let wanted: Multiaddr = address.parse().map_err(|error| other(&format!("{address:?} is not a multiaddr: {error}")))?;
    if let Some(name) = status_of(facts, |peer| peer.connected && peer.addresses.iter().any(|known| known == address)).await {
        return Ok(name);
    }
    {
        let net = net.upgrade().ok_or_else(|| other("this node is stopping"))?;
        let dial = net::Command::Dial { peer: None, addresses: vec![wanted.clone()], urgent: true };
        net.try_send(dial).map_err(|_| other("the network is busy; try again"))?;
    }
    let outcome = tokio::time::timeout(CONNECTING, async {
        loop {
            match met.recv().await {
                Ok(Met::Seen { peer, address }) if same_place(&wanted, &address) => return Ok(peer),
                Ok(Met::Failed { addresses, error }) if addresses.iter().any(|address| same_place(&wanted, address)) => {
                    return Err(unreached(&wanted, error));
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return Err(other("this node is stopping")),
            }
        }
    });
    let peer = outcome.await.map_err(|_| other(&format!("nobody answered at {address} within {} s", CONNECTING.as_secs())))??;
    let greeted = tokio::time::timeout(GREETING, async {
        loop {
            if let Some(name) = status_of(facts, |known| known.id == peer && known.reachable).await {
                return name;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    Ok(greeted.await.unwrap_or_else(|_| peer.to_string()))
}

/// What the network's words for a failed dial mean to whoever asked for it.
fn unreached(wanted: &Multiaddr, error: String) -> Unreached {
    let host = node::unresolved(std::slice::from_ref(wanted), &error);
    // libp2p leaves a node's own addresses out of a dial, and then has none left.
    if error.contains("no addresses for peer") || error.contains("local peer id") {
        return Unreached::Itself(wanted.to_string());
    }
    match host {
        Some(host) => Unreached::NoHost(host),
        _ if ["swarm key", "Handshake", "handshake", "Connection reset", "negotiat"].iter().any(|said| error.contains(said)) => {
            Unreached::NotOurs(wanted.to_string())
        }
        _ => Unreached::Other(error),
    }
}

async fn status_of(facts: &mpsc::Sender<Fact>, fits: impl Fn(&protocol::PeerStatus) -> bool) -> Option<String> {
    let (reply, status) = tokio::sync::oneshot::channel();
    facts.send(Fact::Status(reply)).await.ok()?;
    status.await.ok()?.peers.into_iter().find(|peer| fits(peer)).map(|peer| peer.name.to_string())
}

/// Whether a connection's far end is where somebody wanted to go: a name in the wish is whatever it resolved to.
fn same_place(wanted: &Multiaddr, met: &Multiaddr) -> bool {
    let place = |address: &Multiaddr| {
        let port = address.iter().find_map(|part| if let Protocol::Tcp(port) = part { Some(port) } else { None });
        let ip = address.iter().find_map(|part| match part {
            Protocol::Ip4(ip) => Some(std::net::IpAddr::from(ip)),
            Protocol::Ip6(ip) => Some(std::net::IpAddr::from(ip)),
            _ => None,
        });
        (ip, port)
    };
    let (wanted, met) = (place(wanted), place(met));
    wanted.1 == met.1 && (wanted.0.is_none() || met.0.is_none() || wanted.0 == met.0)
}
