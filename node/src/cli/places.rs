//! Where nodes keep their things, and which of them a command speaks to.
//! Knows nothing of what is in a node's directory but its socket. A choice is never guessed between two nodes that answer.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use protocol::name::PeerName;
use sha2::{Digest, Sha256};

use super::failure::{Failure, NO_NODE, USAGE};
use crate::control::client::Client;
use crate::control::socket;

/// What a killed node may take to end (guess: the system first ends what it was writing).
const ENDING: Duration = Duration::from_secs(1);
/// Between two tries (guess).
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// The environment, as far as places depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `SWARM_DATA_DIR`.
    pub data_dir: Option<PathBuf>,
    /// `SWARM_NODE`.
    pub node: Option<String>,
    /// The base directory; none if neither `HOME` nor `XDG_DATA_HOME` says where.
    pub base: Option<PathBuf>,
}

impl Environment {
    /// As it is.
    #[must_use]
    pub fn new() -> Environment {
        let dir = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = dir("HOME");
        // XDG: a relative path there is to be ignored.
        let data = dir("XDG_DATA_HOME").filter(|dir| dir.is_absolute()).or_else(|| {
            home.map(|home| if cfg!(target_os = "macos") { home.join("Library/Application Support") } else { home.join(".local/share") })
        });
        Environment {
            data_dir: dir("SWARM_DATA_DIR"),
            node: std::env::var("SWARM_NODE").ok().filter(|name| !name.is_empty()),
            base: data.map(|data| data.join("swarm")),
        }
    }

    fn base(&self) -> Result<&Path, Failure> {
        self.base
            .as_deref()
            .ok_or_else(|| Failure::usage("HOME is not set, so there is no place for a node's data").next("say where: --data-dir DIR"))
    }
}

/// The name of a node's directory: its first name, made safe for a file system, and still its own.
#[must_use]
pub fn slug(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let safe: String = name.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    if safe == name && !name.starts_with('.') && !name.is_empty() {
        return safe;
    }
    let hash: String = Sha256::digest(name).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hash}", safe.trim_matches(['-', '.']))
}

/// All directories of nodes under the base, by name.
#[must_use]
pub fn all(base: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

/// The node a command speaks to: the one that was named, else the only one that answers.
///
/// # Errors
/// None answers, or several do.
pub async fn find(data_dir: Option<&Path>, name: Option<&str>, environment: &Environment) -> Result<Client, Failure> {
    if let Some(dir) = named(data_dir, name, environment)? {
        return Ok(Client::new(&dir));
    }
    let base = environment.base()?;
    let mut answering = Vec::new();
    for dir in all(base) {
        let client = Client::new(&dir);
        if client.answers().await {
            answering.push(client);
        }
    }
    match answering.len() {
        1 => Ok(answering.remove(0)),
        0 => Err(Failure::new(NO_NODE, format!("no node is running in {}", base.display())).next("start one with: node run")),
        _ => {
            let mut failure = Failure::new(USAGE, format!("{} nodes are running here; which one?", answering.len()));
            for client in answering {
                failure = failure.next(format!("add {}", choice(client.data_dir())));
            }
            Err(failure)
        }
    }
}

/// How the user of this process has said which node is meant; none if it was not said.
static SAID: OnceLock<String> = OnceLock::new();

/// From now on commands that are suggested say which node is meant, as this one did.
pub(super) fn suggest_with(data_dir: Option<&Path>, name: Option<&str>) {
    let quoted = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@:+,=~".contains(c);
        if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
    };
    let said = match (data_dir, name) {
        (Some(dir), _) => format!(" --data-dir {}", quoted(&dir.to_string_lossy())),
        (None, Some(name)) => format!(" --name {}", quoted(name)),
        (None, None) => return,
    };
    // A process means one node.
    let _ = SAID.set(said);
}

/// A suggestion as it can be typed: after each `node COMMAND` in it stands which node is meant, if the user has said so.
#[must_use]
pub fn typed(suggestion: &str) -> String {
    SAID.get().map_or_else(|| suggestion.to_owned(), |said| with(suggestion, said))
}

fn with(suggestion: &str, said: &str) -> String {
    let (mut out, mut rest) = (String::new(), suggestion);
    while let Some(at) = rest.find("node ") {
        let (before, from) = rest.split_at(at);
        let word: &str = from["node ".len()..].split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        let end = "node ".len() + word.len();
        // Whoever starts a node, or asks for help, names the node otherwise, or none.
        let help = from[end..].starts_with(" --help");
        let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '-' || c == '_');
        let is = whole && !help && word != "run" && super::is_command(word);
        out += before;
        out += &from[..end];
        out += if is { said } else { "" };
        rest = &from[end..];
    }
    out + rest
}

/// How to start the node of a directory.
pub(super) fn start(dir: &Path, environment: &Environment) -> String {
    let near = environment.base().is_ok_and(|base| dir.parent() == Some(base));
    let which = if near { choice(dir) } else { format!("--data-dir {}", dir.display()) };
    format!("node run {which}")
}

/// How to say that this one is meant: by the name its directory has, if that is how it got it.
fn choice(dir: &Path) -> String {
    match dir.file_name().and_then(|name| name.to_str()).filter(|name| slug(name) == **name) {
        Some(name) => format!("--name {name}"),
        None => format!("--data-dir {}", dir.display()),
    }
}

fn named(data_dir: Option<&Path>, name: Option<&str>, environment: &Environment) -> Result<Option<PathBuf>, Failure> {
    let below = |name: &str| environment.base().map(|base| Some(base.join(slug(name))));
    match (data_dir, name, environment.data_dir.as_deref(), environment.node.as_deref()) {
        (Some(dir), ..) | (None, None, Some(dir), _) => Ok(Some(dir.to_owned())),
        (None, Some(name), ..) | (None, None, None, Some(name)) => below(name),
        (None, None, None, None) => Ok(None),
    }
}

/// Where a backup is put: the place that was named, else that of a node of this name.
///
/// # Errors
/// There is no base directory.
pub fn for_restore(data_dir: Option<&Path>, name: Option<&str>, environment: &Environment, called: &PeerName) -> Result<PathBuf, Failure> {
    match named(data_dir, name, environment)? {
        Some(dir) => Ok(dir),
        None => Ok(environment.base()?.join(slug(called.as_str()))),
    }
}

/// Where a node is started, and what it is called if it is a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its directory; perhaps not there yet.
    pub dir: PathBuf,
    /// Its name, if the directory remembers none.
    pub name: PeerName,
}

/// Where to start a node: the place that was named, else the only one there is, else a first one.
///
/// # Errors
/// Several are there, or the only one is running: a second needs a name.
pub fn for_run(data_dir: Option<&Path>, name: Option<&PeerName>, environment: &Environment) -> Result<Place, Failure> {
    let called = name.cloned().unwrap_or_else(default_name);
    if let Some(dir) = named(data_dir, name.map(PeerName::as_str), environment)? {
        return Ok(Place { dir, name: called });
    }
    let base = environment.base()?;
    // A name that no node here has yet, so that it can be typed as it is.
    let fresh = (2..).map(|n| format!("{called}-{n}")).find(|name| !base.join(slug(name)).exists()).unwrap_or_default();
    let second = |failure: Failure| failure.next(format!("for one more node: node run --name {fresh}"));
    match all(base).as_slice() {
        [] => Ok(Place { dir: base.join(slug(called.as_str())), name: called }),
        [only] if goes_on(only) => Err(second(Failure::usage(format!("a node is already running in {}", only.display())))),
        [only] => Ok(Place { dir: only.clone(), name: called }),
        many => {
            let mut failure = Failure::usage(format!("{} nodes live in {}; which one?", many.len(), base.display()));
            for dir in many {
                failure = failure.next(format!("node run {}", choice(dir)));
            }
            Err(second(failure))
        }
    }
}

/// Whether a node answers there, and does so still after a moment: one that was killed may take that long to end.
fn goes_on(dir: &Path) -> bool {
    let began = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket::path(dir)).is_ok() {
        if began.elapsed() >= ENDING {
            return true;
        }
        std::thread::sleep(BETWEEN_TRIES);
    }
    false
}

/// `LOGIN-HOST`, as far as it can be a name.
#[must_use]
pub fn default_name() -> PeerName {
    let login = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name_from(&login, &host)
}

fn name_from(login: &str, host: &str) -> PeerName {
    let host = host.split('.').next().unwrap_or_default();
    let clean = |text: &str| -> String { text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(30).collect() };
    let name = [clean(login), clean(host)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    let name = name.trim_start_matches('-');
    name.parse().or_else(|_| format!("{name}-node").trim_start_matches('-').parse()).expect("letters, digits and dashes, with a suffix")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_suggested_says_which_node_is_meant() {
        let check = |said: &str, expected: &str| assert_eq!(with(said, " --data-dir /x"), expected);
        check("see how far it is: node task 3 --follow", "see how far it is: node task --data-dir /x 3 --follow");
        check("use `node read ID`, or node sent", "use `node read --data-dir /x ID`, or node sent --data-dir /x");
        check("start one with: node run --data-dir /x", "start one with: node run --data-dir /x");
        check("see: node order --help", "see: node order --help");
        check("the node of nikki, a node that runs, no-node task", "the node of nikki, a node that runs, no-node task");
        check("node ", "node ");
    }

    fn environment(base: &Path) -> Environment {
        Environment { base: Some(base.to_owned()), ..Environment::default() }
    }

    #[test]
    fn a_directory_is_named_after_its_node_and_never_shared_with_another() {
        assert_eq!(slug("markus-thinkpad"), "markus-thinkpad");
        assert_eq!(slug("nikki.pi_2"), "nikki.pi_2");
        let odd = slug("Žofie");
        assert!(odd.is_ascii() && odd.starts_with("ofie-"), "{odd}");
        assert_ne!(slug("é"), slug("è"));
        assert!(!slug("../..").contains('/') && !slug("..").starts_with('.') && !slug("").is_empty());
    }

    #[test]
    fn a_flag_is_stronger_than_the_environment_and_a_directory_than_a_name() {
        let both = Environment { data_dir: Some("/e".into()), node: Some("en".to_owned()), base: Some("/b".into()) };
        let only_node = Environment { data_dir: None, ..both.clone() };
        let check = |dir: Option<&str>, name, env: &Environment, expected: Option<&str>| {
            assert_eq!(named(dir.map(Path::new), name, env).expect("there is a base"), expected.map(PathBuf::from));
        };
        check(Some("/d"), Some("n"), &both, Some("/d"));
        check(None, Some("n"), &both, Some("/b/n"));
        check(None, None, &both, Some("/e"));
        check(None, None, &only_node, Some("/b/en"));
        check(None, None, &environment(Path::new("/b")), None);
        assert!(named(None, Some("n"), &Environment::default()).is_err(), "no HOME, no place");
    }

    #[tokio::test]
    async fn a_command_speaks_to_the_only_node_that_answers() {
        let base = tempfile::tempdir().expect("a directory for the test");
        let environment = environment(base.path());
        let exit = |found: Result<Client, Failure>| found.map(|client| client.data_dir().to_owned()).map_err(|failure| failure.exit());
        assert_eq!(exit(find(None, None, &environment).await), Err(NO_NODE));
        let [a, b] = ["a", "b"].map(|name| base.path().join(name));
        std::fs::create_dir(&a).expect("it is ours");
        std::fs::create_dir(&b).expect("it is ours");
        assert_eq!(exit(find(None, None, &environment).await), Err(NO_NODE));
        let _door_a = socket::bind(&socket::path(&a)).expect("nothing is in the way");
        assert_eq!(exit(find(None, None, &environment).await), Ok(a));
        let _door_b = socket::bind(&socket::path(&b)).expect("nothing is in the way");
        let failure = find(None, None, &environment).await.expect_err("two answer");
        assert_eq!(failure.exit(), USAGE);
        assert!(failure.for_people().is_some_and(|text| text.contains("add --name a") && text.contains("add --name b")));
        assert_eq!(exit(find(None, Some("b"), &environment).await), Ok(b));
    }

    #[tokio::test]
    async fn a_second_node_needs_a_name_and_is_told_so() {
        let base = tempfile::tempdir().expect("a directory for the test");
        let environment = environment(base.path());
        let first = for_run(None, Some(&"a".parse().expect("a name")), &environment).expect("there is room");
        assert_eq!(first.dir, base.path().join("a"));
        std::fs::create_dir(&first.dir).expect("it is ours");
        assert_eq!(for_run(None, None, &environment).expect("only one").dir, first.dir);
        let _door = socket::bind(&socket::path(&first.dir)).expect("nothing is in the way");
        let failure = for_run(None, None, &environment).expect_err("it is running");
        assert!(
            failure.exit() == USAGE && failure.for_people().is_some_and(|text| text.contains("node run --name ") && text.ends_with("-2"))
        );
    }

    #[test]
    fn a_name_is_found_for_everyone() {
        for (login, host, expected) in [
            ("markus", "thinkpad.local", "markus-thinkpad"),
            ("", "pi", "pi"),
            ("", "", "node"),
            ("", "all", "all-node"),
            ("a b", "ž", "ab"),
            ("-", "-", "node"),
        ] {
            assert_eq!(name_from(login, host).as_str(), expected, "{login:?} {host:?}");
        }
    }
}
