//! `offer NAME -- CMD ARG…`: a service of this node, kept over restarts.
//! Runs nothing. A program is named by its whole path from here on: the node runs elsewhere than whoever typed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Context;
use super::failure::{DONE, Failure};
use super::terminal::{line, print};
use super::words::{brief, cores, size, some_time};
use crate::control::api::{Builtin, NewOffer, Offer};

#[derive(Debug, Args)]
#[command(
    after_help = "Of what a run writes, 1 MiB of standard output and 1 MiB of standard error are kept: the beginning and the end, with a\n\
                        line between them that says how much is missing. What is larger belongs into files."
)]
pub(super) struct OfferArgs {
    /// By what name it is ordered
    #[arg(value_name = "NAME", required_unless_present = "allow")]
    service: Option<String>,
    /// What it does, in a line
    #[arg(long, value_name = "T")]
    about: Option<String>,
    /// How many run at once [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    limit: Option<u32>,
    /// Logical CPUs that each run takes
    #[arg(long, value_name = "N", value_parser = cores)]
    cores: Option<u32>,
    /// Memory that each run takes: 512M, 4G
    #[arg(long, value_name = "S", value_parser = size)]
    memory: Option<u64>,
    /// Software that is here and that orders may ask for; may be repeated
    #[arg(long, value_name = "X", value_delimiter = ',')]
    software: Vec<String>,
    /// End a run after this: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "D", value_parser = some_time)]
    time_limit: Option<Duration>,
    /// Who may order it: peers, or anyone; must be said where the swarm is open
    #[arg(long, value_name = "PEER|anyone", num_args = 1..)]
    allow: Vec<String>,
    /// Answer without a program
    #[arg(long, value_name = "WHAT", conflicts_with = "command")]
    builtin: Option<Answer>,
    /// What stands before `--` and should not
    #[arg(hide = true, value_name = "WORD")]
    stray: Vec<String>,
    /// The program and its first arguments; those of the order follow. No shell
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// What can be done without a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Answer {
    /// The arguments of the order
    Echo,
}

pub(super) async fn execute(args: OfferArgs, context: &Context) -> Result<u8, Failure> {
    let wanted = wanted(args, &here()?, std::env::var_os("PATH").as_deref())?;
    let offer: Offer = context.client.post("/v1/offers", &wanted).await?;
    if context.json {
        context.document(&offer)?;
    } else {
        print(&format!("offered {}\n", told(&offer)))?;
    }
    Ok(DONE)
}

fn here() -> Result<PathBuf, Failure> {
    std::env::current_dir().map_err(|error| Failure::usage(format!("the directory you are in cannot be told: {error}")))
}

fn wanted(mut args: OfferArgs, here: &Path, path: Option<&std::ffi::OsStr>) -> Result<NewOffer, Failure> {
    // What comes last before `--` is the name, though it looks like one more peer that may order.
    let last = args.service.take().or_else(|| args.allow.pop().filter(|_| !args.allow.is_empty()));
    let Some(name) = &last else {
        return Err(Failure::usage("what is the service called?").next("like this: node offer NAME --allow anyone -- CMD ARG…"));
    };
    if let Some(stray) = args.stray.first() {
        let words = args.stray.join(" ");
        return Err(Failure::usage(format!("{stray:?} is no option: the command comes after --"))
            .next(format!("like this: node offer {name} --allow anyone -- {words}")));
    }
    let command = match (args.command.is_empty(), args.builtin) {
        (true, None) => {
            return Err(Failure::usage(format!("what should {name} run? nothing stands after --"))
                .next(format!("like this: node offer {name} --allow anyone -- CMD ARG…"))
                .next(format!("or, to try things out: node offer {name} --allow anyone --builtin echo")));
        }
        (true, Some(_)) => None,
        (false, _) => Some(whole(args.command, here, path)?),
    };
    Ok(NewOffer {
        name: name.clone(),
        about: args.about,
        limit: args.limit,
        cores: args.cores,
        memory_bytes: args.memory,
        software: args.software,
        time_limit_seconds: args.time_limit.map(|limit| limit.as_secs()),
        allow: if args.allow.is_empty() { None } else { Some(args.allow) },
        command,
        builtin: args.builtin.map(|_| Builtin::Echo),
    })
}

/// The program by its whole path.
fn whole(mut command: Vec<String>, here: &Path, path: Option<&std::ffi::OsStr>) -> Result<Vec<String>, Failure> {
    let Some(program) = command.first_mut() else { return Ok(command) };
    let found = if program.contains('/') {
        Some(here.join(&*program))
    } else {
        let runs = |file: &PathBuf| std::fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        path.and_then(|path| std::env::split_paths(path).map(|dir| here.join(dir).join(&*program)).find(runs))
    };
    let Some(found) = found else {
        return Err(Failure::usage(format!("no program called {program} is in your PATH")).next("give its path, like ./brew"));
    };
    *program = found
        .into_os_string()
        .into_string()
        .map_err(|path| Failure::usage(format!("{} is not UTF-8", path.display())).next("nothing was changed; rename it"))?;
    Ok(command)
}

/// `coffee: runs "/home/nikki/brew -- ARG…", 2 at once, for anyone here`.
pub(super) fn told(offer: &Offer) -> String {
    let what = match &offer.command {
        Some(command) => format!("runs \"{} ARG…\"", line(&command.join(" "))),
        None => "answers with its arguments".to_owned(),
    };
    let mut text = format!("{}: {what}, {} at once", line(&offer.name), offer.limit);
    if let Some(seconds) = offer.time_limit_seconds {
        text += &format!(", {} at most", brief(Duration::from_secs(seconds)));
    }
    let whom = if offer.allow == ["anyone"] { "anyone here".to_owned() } else { line(&offer.allow.join(", ")) };
    text + &format!(", for {whom}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: OfferArgs,
    }

    fn check(words: &[&str]) -> Result<NewOffer, String> {
        let typed = Typed::try_parse_from(std::iter::once(&"offer").chain(words)).map_err(|error| error.to_string())?;
        wanted(typed.args, Path::new("/home/nikki"), Some("/bin".as_ref())).map_err(|failure| failure.for_people().unwrap_or_default())
    }

    #[test]
    fn all_after_two_dashes_is_the_command_and_dashes_in_it_stay() {
        let offer = check(&["coffee", "--limit", "2", "--allow", "anyone", "--", "./brew", "--", "-v"]).expect("good");
        assert_eq!(offer.command.as_deref(), Some(["/home/nikki/./brew", "--", "-v"].map(str::to_owned).as_slice()));
        assert_eq!((offer.limit, offer.allow), (Some(2), Some(vec!["anyone".to_owned()])));
        let offer = check(&["--allow", "nikki", "anyone", "tea", "--", "./brew"]).expect("good");
        assert_eq!((offer.name.as_str(), offer.allow.map(|allow| allow.len())), ("tea", Some(2)), "the name comes last");
        assert!(check(&["--allow", "anyone", "--", "./brew"]).is_err());
        let offer = check(&["e", "--builtin", "echo", "--allow", "nikki", "ada"]).expect("good");
        assert_eq!((offer.builtin, offer.allow.map(|allow| allow.len()), offer.command), (Some(Builtin::Echo), Some(2), None));
    }

    #[test]
    fn a_program_is_looked_for_where_its_offerer_would_find_it() {
        let offer = check(&["s", "--", "sh", "-c", "true"]).expect("there is a shell");
        assert_eq!(offer.command.and_then(|command| command.first().cloned()).as_deref(), Some("/bin/sh"));
        assert!(check(&["s", "--", "no-such-program"]).expect_err("it is not there").contains("no program called no-such-program"));
    }

    #[test]
    fn a_command_without_dashes_before_it_is_told_how_it_is_typed() {
        let said = check(&["coffee", "brew", "hot"]).expect_err("the dashes are missing");
        assert!(said.contains("comes after --") && said.contains("node offer coffee --allow anyone -- brew hot"), "{said}");
        assert!(check(&["coffee"]).expect_err("nothing to run").contains("what should coffee run?"));
    }

    #[test]
    fn an_offer_is_told_in_a_sentence() {
        let offer = Offer {
            name: "coffee".to_owned(),
            about: String::new(),
            limit: 2,
            running: 0,
            queued: 0,
            cores: 0,
            memory_bytes: 0,
            software: Vec::new(),
            time_limit_seconds: None,
            allow: vec!["anyone".to_owned()],
            command: Some(vec!["/home/nikki/brew".to_owned(), "--".to_owned()]),
            builtin: None,
            configured: false,
        };
        assert_eq!(told(&offer), "coffee: runs \"/home/nikki/brew -- ARG…\", 2 at once, for anyone here");
        let other = Offer { allow: vec!["ada".to_owned(), "bob".to_owned()], command: None, time_limit_seconds: Some(300), ..offer };
        assert_eq!(told(&other), "coffee: answers with its arguments, 2 at once, 5 min at most, for ada, bob");
    }
}
