//! `run`: where a node is started from, and what it says while it runs.
//! Knows nothing of how a node runs: that is handed in. Flags are stronger than the environment, that than `DATA_DIR/node.toml`, and
//! that than defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, ExitCode, Stdio};

use clap::Args;
use protocol::name::PeerName;
use protocol::order::End;
use protocol::{Notice, PeerId, Timestamp};

use super::Which;
pub use super::config::Configured;
use super::config::{self, Config};
use super::failure::{DONE, Failure, REFUSED};
use super::peers::host_port;
use super::places::{self, Environment, typed};
use super::terminal::{line as escaped, print};
use super::words;
use crate::control::address::multiaddr;
use crate::control::time::for_people;
use crate::store::RecordLimits;

/// What may stand in the file.
const FILE: &str = "All of these may also stand in DATA_DIR/node.toml: name, swarm, swarm_key, listen, peer, no_mdns, machine, record_size, record_age and log. An option is\n\
    stronger than the environment, and that than the file. Services in it are offered at each start, with the words of `node offer`:\n\n  \
    peer = [\"192.168.1.23\"]\n\n  \
    [services.coffee]\n  \
    command = [\"/home/nikki/brew\", \"--hot\"]     # or: builtin = \"echo\"\n  \
    allow = \"anyone\"                            # or: [\"markus\", \"ada\"]\n  \
    limit = 2                                   # and: about, cores, memory, software, time_limit\n\n\
    What is taken out of the file is withdrawn at the next start; what `node withdraw` or `node offer` changed of it counts until then.";

/// Options of `run`, as typed.
#[derive(Debug, Default, Args)]
#[command(after_help = FILE)]
pub(super) struct RunArgs {
    /// The swarm's name; `lan` if nothing is said [env: SWARM_SWARM]
    #[arg(long, value_name = "NAME")]
    swarm: Option<String>,
    /// Only those who have this file may join; make it with `key new FILE` [env: SWARM_SWARM_KEY]
    #[arg(long, value_name = "FILE")]
    swarm_key: Option<PathBuf>,
    /// Where to listen; port 6174 of all interfaces if nothing is said [env: SWARM_LISTEN]
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// A node to reach at the start: HOST, HOST:PORT or a multiaddr [env: SWARM_PEER]
    #[arg(long, value_name = "ADDR")]
    peer: Vec<String>,
    /// Do not look for others by multicast [env: SWARM_NO_MDNS]
    #[arg(long)]
    no_mdns: bool,
    /// What counts as the machine of this node, where the system's own name for it does not tell machines apart [env: SWARM_MACHINE]
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,
    /// How much of the record is kept, like 512M; the oldest goes first; 1G if nothing is said [env: SWARM_RECORD_SIZE]
    #[arg(long, value_name = "S")]
    record_size: Option<String>,
    /// For how long it is kept at most, like 30d; 365d if nothing is said [env: SWARM_RECORD_AGE]
    #[arg(long, value_name = "D")]
    record_age: Option<String>,
    /// Keep nobody else's record: for measuring what keeping it costs
    #[arg(long, hide = true)]
    no_others: bool,
    /// What to log, like `info` or `node=debug` [env: SWARM_LOG]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Return when the node is ready; it goes on in the background, and what it says is in DATA_DIR/node.log
    #[arg(long)]
    detach: bool,
    /// How `--detach` starts what goes on
    #[arg(long, hide = true, conflicts_with = "detach")]
    detached: bool,
    /// Begin anew where database or key are lost; says what is lost with them
    #[arg(long)]
    start_over: bool,
}

/// What a node is started with. Everything is decided; nothing of it was checked against the disk or the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The node's directory; perhaps not there yet.
    pub data_dir: PathBuf,
    /// Its name, if the directory remembers none.
    pub name: PeerName,
    /// The name was asked for; if the directory remembers another, its user should know.
    pub named: bool,
    /// The swarm, if one was named: a directory remembers its own, and a new one is for `lan`.
    pub swarm: Option<String>,
    /// The file that makes the swarm closed.
    pub swarm_key: Option<PathBuf>,
    /// Multiaddrs to listen on; the default if empty.
    pub listen: Vec<String>,
    /// Multiaddrs to reach at the start.
    pub peers: Vec<String>,
    /// Look for others by multicast.
    pub mdns: bool,
    /// What counts as its machine, if somebody said so.
    pub machine: Option<String>,
    /// How much of the record is kept.
    pub record: RecordLimits,
    /// What to log.
    pub log: Option<String>,
    /// Begin anew where database or key are lost.
    pub start_over: bool,
    /// Nobody looks at it once it is ready.
    pub detached: bool,
    /// Services that stand in the node's configuration.
    pub services: Vec<Configured>,
    /// The name this program was called by, for what to type next.
    pub called: String,
}

pub(super) fn execute<F, R>(args: RunArgs, which: &Which, environment: &Environment, start: F) -> Result<ExitCode, Failure>
where
    F: FnOnce(Options) -> R,
    R: Future<Output = anyhow::Result<ExitCode>>,
{
    let detach = args.detach;
    let options = options(args, which, environment, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
    if detach {
        return in_background();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(start(options));
    runtime.shutdown_background();
    ended.map_err(|error| match error.downcast::<Failure>() {
        Ok(failure) => failure,
        Err(error) => Failure::new(REFUSED, format!("{error:#}")),
    })
}

/// The last that a node in the background says to whoever started it.
pub const IN_BACKGROUND: &str = "ready; goes on in the background";

/// Starts this program once more, and returns when that is ready or has ended. What it says until then is said here, its errors too.
fn in_background() -> Result<ExitCode, Failure> {
    let words = std::env::args_os().skip(1).map(|word| if word == "--detach" { "--detached".into() } else { word });
    let mut program = process::Command::new(std::env::current_exe()?);
    program.arg0(std::env::args_os().next().unwrap_or_else(|| "node".into()));
    let mut node = program.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut ready = false;
    for line in BufReader::new(node.stdout.take().expect("it was asked for")).lines() {
        let line = line?;
        print(&format!("{line}\n"))?;
        ready = line.ends_with(IN_BACKGROUND);
    }
    if ready {
        return Ok(ExitCode::SUCCESS);
    }
    let ended = node.wait()?;
    match ended.code().and_then(|code| u8::try_from(code).ok()) {
        // It has said why.
        Some(code) if code != DONE => Ok(ExitCode::from(code)),
        _ => Err(Failure::new(REFUSED, format!("the node ended before it was ready ({ended})"))),
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.for_people().unwrap_or_default())
    }
}

/// So that a node that cannot start says with what exit code, and what to type next.
impl std::error::Error for Failure {}

fn options(args: RunArgs, which: &Which, environment: &Environment, variable: impl Fn(&str) -> Option<String>) -> Result<Options, Failure> {
    let typed = which.name.clone().or_else(|| variable("SWARM_NAME")).or_else(|| environment.node.clone());
    let name = match &typed {
        Some(name) => Some(name.parse::<PeerName>().map_err(|error| Failure::usage(format!("{name:?} cannot be a name: {error}")))?),
        None => None,
    };
    let place = places::for_run(which.data_dir.as_deref(), name.as_ref(), environment)?;
    let mut config = Config::load(&place.dir)?;
    let named = name.is_some();
    let name = name.or(config.name.take()).unwrap_or(place.name);
    let several = |typed: Vec<String>, name, configured: &mut config::Words| {
        let listed = |all: String| all.split([',', ' ']).filter(|one| !one.is_empty()).map(str::to_owned).collect();
        if typed.is_empty() { variable(name).map(listed).unwrap_or_else(|| std::mem::take(&mut configured.0)) } else { typed }
    };
    let listen: Vec<String> = several(args.listen, "SWARM_LISTEN", &mut config.listen);
    if let Some(bad) = listen.iter().find(|address| !address.starts_with('/') || multiaddr(address).is_err()) {
        return Err(Failure::usage(format!("{bad:?} is not a multiaddr")).next("like this: --listen /ip4/0.0.0.0/tcp/6174"));
    }
    let peers: Vec<String> = several(args.peer, "SWARM_PEER", &mut config.peer);
    let peers =
        peers.iter().map(|peer| multiaddr(peer)).collect::<Result<_, _>>().map_err(|error| Failure::usage(format!("--peer: {error}")))?;
    let no_mdns = args.no_mdns
        || match variable("SWARM_NO_MDNS").as_deref() {
            None => config.no_mdns == Some(true),
            Some("0" | "no" | "false") => false,
            Some("1" | "yes" | "true") => true,
            Some(other) => return Err(Failure::usage(format!("SWARM_NO_MDNS is {other:?}")).next("it is yes or no")),
        };
    let swarm = args.swarm.or_else(|| variable("SWARM_SWARM")).or(config.swarm.take());
    if let Some(bad) = swarm.as_deref().filter(|swarm| swarm.parse::<PeerName>().is_err()) {
        return Err(Failure::usage(format!("{bad:?} cannot be the name of a swarm")).next("it is made like the name of a peer"));
    }
    let mut record = record(
        args.record_size.or_else(|| variable("SWARM_RECORD_SIZE")).or(config.record_size.take()),
        args.record_age.or_else(|| variable("SWARM_RECORD_AGE")).or(config.record_age.take()),
    )?;
    record.others = !args.no_others;
    Ok(Options {
        data_dir: place.dir,
        record,
        name,
        named,
        swarm,
        swarm_key: args.swarm_key.or_else(|| variable("SWARM_SWARM_KEY").map(PathBuf::from)).or(config.swarm_key.take()),
        listen,
        peers,
        mdns: !no_mdns,
        machine: args.machine.or_else(|| variable("SWARM_MACHINE")).or(config.machine.take()),
        log: args.log.or_else(|| variable("SWARM_LOG")).or(config.log.take()),
        start_over: args.start_over,
        detached: args.detached,
        services: config.services(),
        called: called(),
    })
}

/// Less than this would go while it is looked at.
const RECORD_LEAST: u64 = 1 << 20;

fn record(size: Option<String>, age: Option<String>) -> Result<RecordLimits, Failure> {
    let default = RecordLimits::default();
    let wrong = |what: &str, text: &str, why: String| {
        Failure::usage(format!("{what} {text:?}: {why}")).next("like this: --record-size 512M --record-age 30d")
    };
    let bytes = match size {
        None => default.bytes,
        Some(text) => match words::size(&text) {
            Ok(bytes) if bytes >= RECORD_LEAST => bytes,
            Ok(_) => return Err(wrong("--record-size", &text, "at least 1M of the record is kept".to_owned())),
            Err(error) => return Err(wrong("--record-size", &text, error.to_string())),
        },
    };
    let age = match age {
        None => default.age,
        Some(text) => words::some_time(&text).map_err(|error| wrong("--record-age", &text, error.to_string()))?,
    };
    Ok(RecordLimits { bytes, age, others: true })
}

/// The name this program was called by.
pub(super) fn called() -> String {
    let first = std::env::args_os().next().map(PathBuf::from);
    first.and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned())).unwrap_or_else(|| "node".to_owned())
}

/// What a node says when it has started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banner {
    /// Of the program.
    pub version: String,
    /// The node's name.
    pub name: PeerName,
    /// The node's key.
    pub id: PeerId,
    /// The swarm's name.
    pub swarm: String,
    /// Anyone on this network may join.
    pub open: bool,
    /// Multiaddrs it listens on.
    pub addresses: Vec<String>,
    /// Where it keeps its things.
    pub data_dir: PathBuf,
    /// It signals that letters are welcome.
    pub available: bool,
    /// It signals that letters may not be read soon.
    pub inactive: bool,
    /// The name this program was called by.
    pub called: String,
}

impl std::fmt::Display for Banner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = if self.open { "open: anyone on this LAN may join" } else { "closed: only with its key" };
        let name = escaped(&protocol::name::distinct(&self.name, &self.id));
        writeln!(f, "swarm {}  {name}  swarm \"{}\" ({open})", self.version, escaped(&self.swarm))?;
        let addresses: Vec<String> = self.addresses.iter().map(|address| escaped(&host_port(address))).collect();
        let none = "none: others cannot reach this node, only the other way round";
        writeln!(f, "  address  {}", if addresses.is_empty() { none.to_owned() } else { addresses.join("  ") })?;
        writeln!(f, "  data     {}", escaped(&self.data_dir.display().to_string()))?;
        let called = escaped(&self.called);
        if !self.available {
            writeln!(f, "  signals  not available: letters wait; end it with: {called} available yes")?;
        }
        if self.inactive {
            writeln!(f, "  signals  inactive: letters may not be read soon; end it with: {called} inactive no")?;
        }
        writeln!(f, "  next     {called} peers | {called} send NAME -m Hello | {called} chat NAME   (other terminal)")
    }
}

/// Who bears which name, as far as this run has heard: where several bear one, lines tell them apart.
#[derive(Clone, Debug, Default)]
pub struct Bearers(BTreeMap<PeerName, BTreeSet<PeerId>>);

impl Bearers {
    /// This peer is called so.
    pub fn note(&mut self, name: &PeerName, peer: PeerId) {
        self.0.entry(name.clone()).or_default().insert(peer);
    }

    /// Whoever is named there is called so.
    pub fn hear(&mut self, notice: &Notice) {
        match notice {
            Notice::PeerHere { peer, name, .. } | Notice::LetterShown { author: peer, name, .. } => self.note(name, *peer),
            _ => {}
        }
    }

    fn shown(&self, name: &PeerName, peer: &PeerId) -> String {
        let several = self.0.get(name).is_some_and(|all| all.len() > 1);
        escaped(&if several { protocol::name::distinct(name, peer) } else { name.to_string() })
    }
}

/// One line for what happened, without its end; none if nobody needs to know. What letters say is for terminals only: a
/// log is kept by others.
#[must_use]
pub fn line(notice: &Notice, bearers: &Bearers, now: Timestamp, terminal: bool) -> Option<String> {
    let what = match notice {
        Notice::PeerHere { peer, name, address } => {
            let place = host_port(address);
            let host = place.rsplit_once(':').map_or(place.as_str(), |(host, _)| host).trim_matches(['[', ']']);
            format!("{} is here ({})", bearers.shown(name, peer), escaped(host))
        }
        Notice::PeerGone { peer, name, in_order: true } => format!("{} has left", bearers.shown(name, peer)),
        Notice::PeerGone { peer, name, in_order: false } => format!("{} is away: nothing is heard of it", bearers.shown(name, peer)),
        Notice::LetterShown { n, author, name, letter, preview, missing_before, .. } => {
            let missing = if *missing_before > 0 { format!(", {missing_before} before it missing") } else { String::new() };
            let id: String = letter.to_string().chars().take(8).collect();
            let preview = if terminal && !preview.is_empty() { format!(": {}", escaped(preview)) } else { String::new() };
            format!("letter {n} from {} ({id}{missing}){preview}", bearers.shown(name, author))
        }
        Notice::Leader { leader: Some((peer, name, term)) } => {
            let name = name.as_ref().map_or_else(|| peer.to_string(), |name| bearers.shown(name, peer));
            format!("{name} is dispatcher (term {term})")
        }
        Notice::Leader { leader: None } => "nobody is dispatcher: orders wait at their nodes until one is elected".to_owned(),
        Notice::OrderEnded { number, end: End::Done } => format!("order {number} done"),
        Notice::OrderEnded { number, end } => typed(&format!("order {number} {}: node task {number}", end.as_str())),
        Notice::Receipted { .. } => return None,
        Notice::Warning(text) => format!("warning: {}", escaped(text)),
    };
    Some(format!("{}  {what}", for_people(now, now)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::LetterId;

    fn id() -> PeerId {
        "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X".parse().expect("an id")
    }

    fn name(text: &str) -> PeerName {
        text.parse().expect("a name")
    }

    fn which(name: Option<&str>) -> Which {
        Which { data_dir: Some("/d".into()), name: name.map(str::to_owned), json: false }
    }

    #[test]
    fn flags_are_stronger_than_the_environment() {
        let variable = |name: &str| match name {
            "SWARM_SWARM" => Some("office".to_owned()),
            "SWARM_PEER" => Some("nikki, 10.0.0.1:7".to_owned()),
            "SWARM_NO_MDNS" => Some("yes".to_owned()),
            _ => None,
        };
        let from_environment = options(RunArgs::default(), &which(None), &Environment::default(), variable).expect("good");
        assert_eq!(from_environment.swarm.as_deref(), Some("office"));
        assert_eq!(from_environment.peers, ["/dns/nikki/tcp/6174", "/ip4/10.0.0.1/tcp/7"]);
        assert!(!from_environment.mdns && !from_environment.named);
        let args = RunArgs { swarm: Some("lab".to_owned()), peer: vec!["ada".to_owned()], ..RunArgs::default() };
        let typed = options(args, &which(Some("a")), &Environment::default(), variable).expect("good");
        assert_eq!((typed.swarm.as_deref(), typed.name.as_str(), typed.named), (Some("lab"), "a", true));
        assert_eq!(typed.peers, ["/dns/ada/tcp/6174"]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_anything_starts() {
        let none = |_: &str| None;
        let check = |args: RunArgs, name: Option<&str>| {
            let failure = options(args, &which(name), &Environment::default(), none).expect_err("it cannot be meant");
            assert_eq!(failure.exit(), 2);
        };
        check(RunArgs::default(), Some("a b"));
        check(RunArgs::default(), Some("me"));
        check(RunArgs { listen: vec!["10.0.0.1".to_owned()], ..RunArgs::default() }, None);
        check(RunArgs { peer: vec!["a b".to_owned()], ..RunArgs::default() }, None);
        check(RunArgs { swarm: Some("a/b".to_owned()), ..RunArgs::default() }, None);
        assert!(
            options(RunArgs::default(), &which(None), &Environment::default(), |name| {
                (name == "SWARM_NO_MDNS").then(|| "perhaps".to_owned())
            })
            .is_err()
        );
    }

    #[test]
    fn the_file_is_weaker_than_the_environment_and_that_than_what_is_typed() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let file = "name = \"filed\"\nswarm = \"filed\"\nmachine = \"filed\"\nlog = \"filed\"\npeer = \"10.0.0.3\"\nno_mdns = true\n\
                    [services.e]\nbuiltin = \"echo\"\n";
        std::fs::write(dir.path().join("node.toml"), file).expect("it is ours");
        let which = |name: Option<&str>| Which { data_dir: Some(dir.path().to_owned()), name: name.map(str::to_owned), ..which(None) };
        let variable = |name: &str| match name {
            "SWARM_MACHINE" | "SWARM_LOG" => Some("set".to_owned()),
            "SWARM_NO_MDNS" => Some("no".to_owned()),
            _ => None,
        };
        let args = RunArgs { log: Some("typed".to_owned()), ..RunArgs::default() };
        let decided = options(args, &which(None), &Environment::default(), variable).expect("good");
        assert_eq!((decided.name.as_str(), decided.named, decided.swarm.as_deref()), ("filed", false, Some("filed")));
        assert_eq!((decided.machine.as_deref(), decided.log.as_deref()), (Some("set"), Some("typed")));
        assert_eq!((decided.mdns, decided.peers.as_slice()), (true, &["/ip4/10.0.0.3/tcp/6174".to_owned()][..]));
        assert_eq!(decided.services.len(), 1);
        let decided = options(RunArgs::default(), &which(Some("typed")), &Environment::default(), |_| None).expect("good");
        assert_eq!((decided.name.as_str(), decided.named, decided.mdns), ("typed", true, false));
        std::fs::write(dir.path().join("node.toml"), "swarm = \"a/b\"\n").expect("it is ours");
        assert!(options(RunArgs::default(), &which(None), &Environment::default(), |_| None).is_err());
    }

    #[test]
    fn the_banner_says_who_and_where_and_what_next() {
        let banner = Banner {
            version: "0.1.0".to_owned(),
            name: name("markus"),
            id: id(),
            swarm: "lan".to_owned(),
            open: true,
            addresses: vec!["/ip4/192.168.1.17/tcp/6174".to_owned()],
            data_dir: "/d".into(),
            available: true,
            inactive: false,
            called: "node".to_owned(),
        };
        assert_eq!(
            banner.to_string(),
            "swarm 0.1.0  markus@Nft9HyQ6X  swarm \"lan\" (open: anyone on this LAN may join)\n  \
             address  192.168.1.17:6174\n  \
             data     /d\n  \
             next     node peers | node send NAME -m Hello | node chat NAME   (other terminal)\n"
                .replace("@Nft9HyQ6X", "@ft9HyQ6X")
        );
        assert!(Banner { available: false, ..banner }.to_string().contains("available yes"));
    }

    #[test]
    fn two_of_one_name_are_told_apart() {
        let other = protocol::bundle::Secrets::from_seeds(&[1; 32], &[2; 32]).id();
        let gone = |peer| Notice::PeerGone { peer, name: name("nikki"), in_order: true };
        let said = |notice: &Notice, bearers: &Bearers| line(notice, bearers, Timestamp(0), false).unwrap_or_default();
        let mut bearers = Bearers::default();
        bearers.note(&name("nikki"), id());
        assert!(said(&gone(id()), &bearers).ends_with("  nikki has left"));
        bearers.hear(&Notice::PeerHere { peer: other, name: name("nikki"), address: String::new() });
        assert!(said(&gone(id()), &bearers).ends_with("  nikki@ft9HyQ6X has left"));
    }

    #[test]
    fn events_are_told_in_a_line_and_letters_are_private_in_a_log() {
        let now = Timestamp(0);
        let check = |notice: Notice, terminal, expected: &str| {
            let line = line(&notice, &Bearers::default(), now, terminal).unwrap_or_default();
            assert_eq!(line.split_once("  ").map_or("", |(_, what)| what), expected);
        };
        let here = Notice::PeerHere { peer: id(), name: name("nikki-pi"), address: "/ip4/192.168.1.23/tcp/6174".to_owned() };
        check(here, true, "nikki-pi is here (192.168.1.23)");
        check(Notice::PeerGone { peer: id(), name: name("nikki-pi"), in_order: true }, true, "nikki-pi has left");
        let letter = |preview: &str| Notice::LetterShown {
            n: 7,
            author: id(),
            name: name("nikki-pi"),
            letter: LetterId::new([0; 16]),
            preview: preview.to_owned(),
            missing_before: 0,
        };
        check(letter("Hello\n\u{1b}[31m"), true, "letter 7 from nikki-pi (00000000): Hello⏎\\u{1b}[31m");
        check(letter("Hello"), false, "letter 7 from nikki-pi (00000000)");
        check(letter(""), true, "letter 7 from nikki-pi (00000000)");
        check(Notice::Warning("a\u{202e}b".to_owned()), false, "warning: a\\u{202e}b");
        let leader = |name: Option<PeerName>| Notice::Leader { leader: Some((id(), name, 3)) };
        check(leader(Some(name("nikki-pi"))), true, "nikki-pi is dispatcher (term 3)");
        check(leader(None), true, &format!("{} is dispatcher (term 3)", id()));
        check(Notice::Leader { leader: None }, true, "nobody is dispatcher: orders wait at their nodes until one is elected");
        check(Notice::OrderEnded { number: 3, end: End::Done }, true, "order 3 done");
        check(Notice::OrderEnded { number: 3, end: End::Failed }, false, "order 3 failed: node task 3");
        assert_eq!(line(&Notice::Receipted { by: id() }, &Bearers::default(), now, true), None);
    }
}
