//! `DATA_DIR/node.toml`: what `run` is told by neither option nor environment, and services to offer.
//! Knows nothing of what comes of it. A word that is not known, or a value that cannot be, is refused with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use protocol::name::PeerName;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use toml::Spanned;

use super::failure::Failure;
use super::words::{cores, size, some_time};
use crate::control::address::multiaddr;
use crate::control::api::{Builtin, NewOffer};

/// Its name in the node's directory.
const FILE: &str = "node.toml";
/// Words that are more alike than this are taken for one another's slips (guess).
const NEAR: f64 = 0.8;
/// What to do about a file that is not understood.
const NEXT: &str = "nothing was started; correct the file, or move it away; what may stand in it: node run --help";

/// What the file says; nothing, if there is none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    #[serde(default, deserialize_with = "name")]
    pub(super) name: Option<PeerName>,
    #[serde(default, deserialize_with = "swarm")]
    pub(super) swarm: Option<String>,
    pub(super) swarm_key: Option<PathBuf>,
    #[serde(default, deserialize_with = "listen")]
    pub(super) listen: Words,
    #[serde(default, deserialize_with = "peer")]
    pub(super) peer: Words,
    pub(super) no_mdns: Option<bool>,
    pub(super) machine: Option<String>,
    pub(super) record_size: Option<String>,
    pub(super) record_age: Option<String>,
    pub(super) log: Option<String>,
    #[serde(default)]
    services: BTreeMap<String, Spanned<Service>>,
    /// Where it is.
    #[serde(skip)]
    file: PathBuf,
    #[serde(skip)]
    text: String,
}

/// One text, or a list of them.
#[derive(Debug, Default)]
pub(super) struct Words(pub(super) Vec<String>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    about: Option<String>,
    limit: Option<u32>,
    #[serde(default, deserialize_with = "number_of_cores")]
    cores: Option<u32>,
    #[serde(default, deserialize_with = "memory")]
    memory: Option<u64>,
    #[serde(default)]
    software: Words,
    #[serde(default, deserialize_with = "time")]
    time_limit: Option<u64>,
    allow: Option<Words>,
    command: Option<Vec<String>>,
    builtin: Option<Builtin>,
}

/// A service that stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configured {
    /// Where: file and line.
    pub place: String,
    /// What is to be offered.
    pub offer: NewOffer,
}

impl Config {
    /// Reads the file of this directory, if it has one.
    pub(super) fn load(directory: &Path) -> Result<Config, Failure> {
        let file = directory.join(FILE);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
            Err(error) => return Err(Failure::usage(format!("{} cannot be read: {error}", file.display())).next(NEXT)),
        };
        Config::read(file, text)
    }

    fn read(file: PathBuf, text: String) -> Result<Config, Failure> {
        match toml::from_str::<Config>(&text) {
            Ok(mut config) => {
                // As whoever wrote the file sees it.
                let directory = file.parent().unwrap_or(Path::new("")).to_path_buf();
                config.swarm_key = config.swarm_key.map(|key| directory.join(key));
                (config.file, config.text) = (file, text);
                Ok(config)
            }
            Err(error) => {
                let line = error.span().map_or_else(String::new, |span| format!(", line {}", line_of(&text, span.start)));
                let why = error.message().lines().collect::<Vec<_>>().join("; ");
                let meant = meant(&why).map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                Err(Failure::usage(format!("{}{line}: {}{meant}", file.display(), plainly(&why))).next(NEXT))
            }
        }
    }

    /// The services in it.
    pub(super) fn services(&self) -> Vec<Configured> {
        let offer = |(name, service): (&String, &Spanned<Service>)| {
            let place = format!("{}, line {}", self.file.display(), line_of(&self.text, service.span().start));
            let service = service.get_ref();
            let offer = NewOffer {
                name: name.clone(),
                about: service.about.clone(),
                limit: service.limit,
                cores: service.cores,
                memory_bytes: service.memory,
                software: service.software.0.clone(),
                time_limit_seconds: service.time_limit,
                allow: service.allow.as_ref().map(|allow| allow.0.clone()),
                command: service.command.clone(),
                builtin: service.builtin,
            };
            Configured { place, offer }
        };
        self.services.iter().map(offer).collect()
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Of the words that serde expected instead of one that it does not know, the nearest, if it is near enough for a slip.
fn meant(why: &str) -> Option<&str> {
    let mut words = why.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let typed = words.next()?;
    words
        .max_by(|a, b| strsim::jaro_winkler(a, typed).total_cmp(&strsim::jaro_winkler(b, typed)))
        .filter(|near| strsim::jaro_winkler(near, typed) > NEAR)
}

/// serde says `invalid type: WHAT, expected WHAT`.
fn plainly(why: &str) -> String {
    let words = [("invalid type: ", ""), ("invalid value: ", ""), ("a sequence", "a list"), ("sequence", "list"), ("a map", "a table")];
    let words = words.into_iter().chain([("u32", "a whole number"), ("a string", "a text"), ("string \"", "the text \"")]);
    words.chain([("integer `", "the number `"), ("boolean `", "`")]).fold(why.to_owned(), |why, (theirs, ours)| why.replace(theirs, ours))
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PeerName>, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(Some).map_err(|error| D::Error::custom(format!("{text:?} cannot be a name: {error}")))
}

fn swarm<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    match text.parse::<PeerName>() {
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(D::Error::custom(format!("{text:?} cannot be the name of a swarm: {error}"))),
    }
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> Result<Words, D::Error> {
    let words = Words::deserialize(from)?;
    match words.0.iter().find(|address| !address.starts_with('/') || multiaddr(address).is_err()) {
        None => Ok(words),
        Some(bad) => Err(D::Error::custom(format!("{bad:?} is not a multiaddr; like this: \"/ip4/0.0.0.0/tcp/6174\""))),
    }
}

fn peer<'de, D: Deserializer<'de>>(from: D) -> Result<Words, D::Error> {
    let words = Words::deserialize(from)?;
    match words.0.iter().find_map(|peer| multiaddr(peer).err()) {
        None => Ok(words),
        Some(error) => Err(D::Error::custom(error)),
    }
}

fn memory<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    size(&String::deserialize(from)?).map(Some).map_err(D::Error::custom)
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    some_time(&String::deserialize(from)?).map(|time| Some(time.as_secs())).map_err(D::Error::custom)
}

fn number_of_cores<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    cores(&i64::deserialize(from)?.to_string()).map(Some).map_err(D::Error::custom)
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Words, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Words, E> {
                Ok(Words(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                }
                Ok(Words(words))
            }
        }
        from.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        Config::read("/x/node.toml".into(), text.to_owned()).map_err(|failure| {
            assert_eq!(failure.exit(), 2);
            failure.for_people().unwrap_or_default()
        })
    }

    #[test]
    fn options_and_services_are_read_as_they_are_typed() {
        let config = read(
            r#"
name = "nikki-pi"
swarm_key = "swarm.key"
peer = "192.168.1.17"
listen = ["/ip4/0.0.0.0/tcp/6174"]
no_mdns = true

[services.coffee]
limit = 2
cores = 1
memory = "512M"
time_limit = "5m"
software = ["milk"]
allow = "anyone"
command = ["/home/nikki/brew", "--hot"]

[services.e]
builtin = "echo"
"#,
        )
        .expect("good");
        assert_eq!((config.name.as_ref().map(PeerName::as_str), config.no_mdns), (Some("nikki-pi"), Some(true)));
        assert_eq!(config.swarm_key.as_deref(), Some(Path::new("/x/swarm.key")));
        assert_eq!((config.peer.0.len(), config.listen.0.len()), (1, 1));
        let services = config.services();
        assert_eq!(services[0].place, "/x/node.toml, line 8");
        let coffee = &services[0].offer;
        assert_eq!((coffee.name.as_str(), coffee.limit, coffee.cores), ("coffee", Some(2), Some(1)));
        assert_eq!((coffee.memory_bytes, coffee.time_limit_seconds), (Some(512 << 20), Some(300)));
        assert_eq!((coffee.allow.as_deref(), coffee.command.as_ref().map(Vec::len)), (Some(&["anyone".to_owned()][..]), Some(2)));
        assert_eq!((services[1].offer.builtin, &services[1].offer.allow), (Some(Builtin::Echo), &None));
        assert!(read("").expect("nothing is good").services().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line_and_what_may_stand_there() {
        for (text, says) in [
            ("swarm = \"lan\"\nlisten_on = []\n", "/x/node.toml, line 2: unknown field `listen_on`, expected one of `name`, `swarm`"),
            ("[services.coffee]\nlimt = 2\n", "line 2: unknown field `limt`, expected one of `about`, `limit`"),
            ("[services.coffee]\nlimt = 2\n", "; did you mean `limit`?"),
            ("no-mdns = true\n", "; did you mean `no_mdns`?"),
            ("peers = [\"nikki\"]\n", "; did you mean `peer`?"),
            ("[service.coffee]\nlimit = 2\n", "; did you mean `services`?"),
            ("[services.coffee]\nlimit = \"two\"\n", "line 2: the text \"two\", expected a whole number"),
            ("[services.coffee]\n\nmemory = \"512\"\n", "line 3: a size is a number and a unit, like 512M or 4G"),
            ("[services.coffee]\nmemory = 512\n", "line 2: the number `512`, expected a text"),
            ("[services.coffee]\ntime_limit = \"0s\"\n", "line 2: that is no time at all"),
            ("[services.coffee]\ncores = 0\n", "line 2: cores are a whole number from 1"),
            ("[services.coffee]\nbuiltin = \"tea\"\n", "line 2: unknown variant `tea`, expected `echo`"),
            ("[services.coffee]\ncommand = \"brew\"\n", "line 2: the text \"brew\", expected a list"),
            ("services = 3\n", "line 1: the number `3`, expected a table"),
            ("swarm = \"a/b\"\n", "line 1: \"a/b\" cannot be the name of a swarm"),
            ("\nlisten = [\"10.0.0.1\"]\n", "line 2: \"10.0.0.1\" is not a multiaddr"),
            ("peer = \"a b\"\n", "line 1: "),
            ("name = \"a b\"\n", "line 1: \"a b\" cannot be a name"),
            ("peer = [\n  3,\n]\n", "line 2: the number `3`, expected a text"),
            ("swarm = \"lan\nname = 3\n", "line 1: "),
            ("swarm = \"a\"\nswarm = \"b\"\n", "line 2: duplicate key"),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.contains(says), "{text:?}: {said}");
            assert!(said.contains("node run --help"), "{said}");
        }
    }
}
