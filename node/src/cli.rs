//! The command line: what can be typed, and where each word is decided.
//! Knows nothing but the API; one file per word below. Every command is one call or a few, and a rendering of the answer.

pub(crate) mod alone;
mod backup;
mod bar;
mod batch;
mod block;
mod cancel;
mod chat;
mod completions;
mod config;
mod connect;
mod discard;
mod dispatcher;
mod drain;
pub mod failure;
mod inbox;
pub(crate) mod key;
mod log;
mod nodejs;
mod offer;
mod order;
mod outcome;
mod peers;
pub mod places;
mod presence;
mod prompt;
mod query;
mod read;
mod rename;
mod restore;
pub mod run;
mod send;
mod sent;
mod services;
mod status;
mod stop;
mod task;
mod tasks;
pub mod terminal;
mod wait;
mod watch;
mod who;
mod withdraw;
mod words;
mod workers;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::control::client::Client;
use failure::{DONE, Failure, INTERRUPTED, USAGE};
use terminal::Terminal;

/// Instant messaging for people and programs on a LAN, with no server.
///
/// Without a command a node is started here and runs until Ctrl-C. The other commands speak to a running node, from
/// another terminal.
#[derive(Debug, Parser)]
#[command(name = "swarm", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done; 1 refused, nothing accepted; 2 usage, unknown or ambiguous name; 3 no node is running;\n\
                        4 accepted, but the end is not known in time; 5 accepted, and ended badly; 74 disk; 130 interrupted.")]
struct Cli {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    run: run::RunArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Which node, and for whom the answer is.
#[derive(Debug, Args)]
struct Which {
    /// The node's directory [env: SWARM_DATA_DIR]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The node's (first) name [env: SWARM_NODE]
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<String>,
    /// Print the API's own answer
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node here; it runs until Ctrl-C, SIGTERM or `stop`
    Run(run::RunArgs),
    /// Send a letter; it waits for those who are away
    Send(send::SendArgs),
    /// Show letters to you
    Inbox(inbox::InboxArgs),
    /// Show letters in full and mark them read
    Read(read::ReadArgs),
    /// Show your letters and how far they got
    #[command(alias = "letters")]
    Sent(sent::SentArgs),
    /// Discard letters of yours that are not delivered
    Discard(discard::DiscardArgs),
    /// Write to and hear from somebody, line by line
    Chat(chat::ChatArgs),
    /// List who is here
    Peers(peers::PeersArgs),
    /// Take nothing from somebody, or list from whom
    Block(block::BlockArgs),
    /// Say whether letters and tasks are welcome
    Available(presence::PresenceArgs),
    /// Say whether letters may not be read soon
    Inactive(presence::PresenceArgs),
    /// Show what the node is and sees
    Status(status::StatusArgs),
    /// Offer a service: a program that others may order here
    Offer(offer::OfferArgs),
    /// Offer it no more
    Withdraw(withdraw::WithdrawArgs),
    /// Finish what runs here and take nothing new
    Drain(drain::DrainArgs),
    /// List what is offered, here and elsewhere
    Services(services::ServicesArgs),
    /// List who offers services, and how busy they are
    Workers(workers::WorkersArgs),
    /// Ask who could start a service now
    Who(who::WhoArgs),
    /// Order a service, or many units of it
    Order(order::OrderArgs),
    /// List orders and how far they are
    Tasks(tasks::TasksArgs),
    /// Show an order, its units, or what it wrote
    Task(task::TaskArgs),
    /// Wait until orders have ended
    Wait(wait::WaitArgs),
    /// Cancel orders
    Cancel(cancel::CancelArgs),
    /// Show who hands out the orders, or hand that over
    Dispatcher(dispatcher::DispatcherArgs),
    /// Ask a peer, or all that are here
    Query(query::QueryArgs),
    /// Show what happened, as everybody wrote it down
    Log(log::LogArgs),
    /// Reach a node that was not found by itself
    Connect(connect::ConnectArgs),
    /// Put all that the node is into one file, while it runs
    Backup(backup::BackupArgs),
    /// Make a node's directory of such a file
    Restore(restore::RestoreArgs),
    /// Change what this node is called
    Rename(rename::RenameArgs),
    /// Stop the node
    Stop(stop::StopArgs),
    /// Make the key of a closed swarm
    Key(key::KeyArgs),
    /// Print what a shell needs to complete these words
    Completions(completions::CompletionsArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Manual(completions::ManualArgs),
}

/// What a command works with.
struct Context {
    client: Client,
    terminal: Terminal,
    json: bool,
    farewell: Farewell,
}

/// What is said when the user ends the command by Ctrl-C: what goes on without it.
#[derive(Clone, Default)]
struct Farewell(Arc<Mutex<Option<String>>>);

impl Farewell {
    fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(places::typed(&text));
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Context {
    /// Prints the API's answer for programs.
    fn document(&self, answer: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(answer).expect("what the API said can be said again");
        terminal::print(&(text + "\n"))
    }
}

/// The whole program: `start` runs a node, everything else speaks to one.
pub fn main<F, R>(start: F) -> ExitCode
where
    F: FnOnce(run::Options) -> R,
    R: Future<Output = anyhow::Result<ExitCode>>,
{
    let words: Vec<OsString> = std::env::args_os().collect();
    if nodejs::meant(words.get(1..).unwrap_or_default()) {
        eprintln!("error: this is Swarm's node, not Node.js\n  what it can do: node --help");
        return ExitCode::from(USAGE);
    }
    let (cli, misplaced) = match parse(&words) {
        Ok(parsed) => parsed,
        Err(error) => {
            match Failure::from(&error).for_programs() {
                Some(document) if error.use_stderr() && wants_json(&words) => eprintln!("{document}"),
                // Help and version are no errors; a closed pipe is silent.
                _ => drop(error.print()),
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let json = cli.which.json;
    places::suggest_with(cli.which.data_dir.as_deref(), cli.which.name.as_deref());
    let outcome = match misplaced {
        Some(option) => Err(Failure::usage(format!("{option} is for starting a node")).next("put it after `run`, or leave it out")),
        None => execute(cli, start),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            if let Some(text) = if json { failure.for_programs() } else { failure.for_people() } {
                eprintln!("{text}");
            }
            ExitCode::from(failure.exit())
        }
    }
}

/// Whether a command is called so.
fn is_command(word: &str) -> bool {
    static WORDS: LazyLock<Vec<String>> =
        LazyLock::new(|| Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect());
    WORDS.iter().any(|known| known == word)
}

/// Whether a program asked, as far as that can be told of what is not understood.
fn wants_json(words: &[OsString]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

/// What was typed, and an option of `run` that stands before another command.
fn parse(words: &[OsString]) -> Result<(Cli, Option<String>), clap::Error> {
    let matches = Cli::command().try_get_matches_from(words)?;
    let own = run::RunArgs::augment_args(clap::Command::new("run"));
    let misplaced = own
        .get_arguments()
        .filter(|_| matches.subcommand_name().is_some())
        .find(|option| matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine))
        .map(|option| format!("--{}", option.get_long().unwrap_or_default()));
    Ok((Cli::from_arg_matches(&matches)?, misplaced))
}

fn execute<F, R>(cli: Cli, start: F) -> Result<ExitCode, Failure>
where
    F: FnOnce(run::Options) -> R,
    R: Future<Output = anyhow::Result<ExitCode>>,
{
    let environment = places::Environment::new();
    let command = match cli.command {
        None => return run::execute(cli.run, &cli.which, &environment, start),
        Some(Command::Restore(args)) => return restore::execute(&args, &cli.which, &environment).map(ExitCode::from),
        Some(Command::Run(args)) => return run::execute(args, &cli.which, &environment, start),
        Some(Command::Log(args)) if args.kinds().is_some() => {
            terminal::print(&args.kinds().unwrap_or_default())?;
            return Ok(ExitCode::from(DONE));
        }
        Some(Command::Key(args)) => return key::execute(&args, cli.which.json, &run::called()).map(ExitCode::from),
        Some(Command::Completions(args)) => return completions::execute(&args, Cli::command(), &run::called()).map(ExitCode::from),
        Some(Command::Manual(args)) => return completions::manual(&args, Cli::command(), &run::called()).map(ExitCode::from),
        Some(command) => command,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let farewell = Farewell::default();
    let code = runtime.block_on(async {
        let spoken = speak(command, &cli.which, &environment, farewell.clone());
        tokio::select! {
            biased;
            // Whatever was accepted before stays accepted; its id was printed first.
            _ = tokio::signal::ctrl_c() => {
                if let Some(text) = farewell.take() {
                    eprintln!("{text}");
                }
                Ok(INTERRUPTED)
            }
            code = spoken => code,
        }
    });
    // A thread may be reading a terminal that says nothing.
    runtime.shutdown_background();
    code.map(ExitCode::from)
}

async fn speak(command: Command, which: &Which, environment: &places::Environment, farewell: Farewell) -> Result<u8, Failure> {
    let client = places::find(which.data_dir.as_deref(), which.name.as_deref(), environment).await?;
    let context = Context { client, terminal: Terminal::stdout(), json: which.json, farewell };
    match command {
        Command::Run(_) | Command::Restore(_) | Command::Key(_) | Command::Completions(_) | Command::Manual(_) => {
            unreachable!("these need no node: execute() has done them")
        }
        Command::Send(args) => send::execute(args, &context).await,
        Command::Inbox(args) => inbox::execute(args, &context).await,
        Command::Read(args) => read::execute(args, &context).await,
        Command::Sent(args) => sent::execute(args, &context).await,
        Command::Discard(args) => discard::execute(args, &context).await,
        Command::Chat(args) => chat::execute(args, &context).await,
        Command::Peers(args) => peers::execute(args, &context).await,
        Command::Block(args) => block::execute(args, &context).await,
        Command::Available(args) => presence::available(args, &context).await,
        Command::Inactive(args) => presence::inactive(args, &context).await,
        Command::Status(args) => status::execute(args, &context).await,
        Command::Offer(args) => offer::execute(args, &context).await,
        Command::Withdraw(args) => withdraw::execute(args, &context).await,
        Command::Drain(args) => drain::execute(args, &context).await,
        Command::Services(args) => services::execute(args, &context).await,
        Command::Workers(args) => workers::execute(args, &context).await,
        Command::Who(args) => who::execute(args, &context).await,
        Command::Order(args) => order::execute(args, &context).await,
        Command::Tasks(args) => tasks::execute(args, &context).await,
        Command::Task(args) => task::execute(args, &context).await,
        Command::Wait(args) => wait::execute(args, &context).await,
        Command::Cancel(args) => cancel::execute(args, &context).await,
        Command::Dispatcher(args) => dispatcher::execute(args, &context).await,
        Command::Query(args) => query::execute(args, &context).await,
        Command::Log(args) => log::execute(args, &context).await,
        Command::Connect(args) => connect::execute(args, &context).await,
        Command::Backup(args) => backup::execute(args, &context).await,
        Command::Rename(args) => rename::execute(args, &context).await,
        Command::Stop(args) => stop::execute(args, &context).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(words: &str) -> Result<(Cli, Option<String>), clap::Error> {
        parse(&words.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_manual_shows_can_be_typed() {
        for words in [
            "node",
            "node --name a --no-mdns",
            "node run --name a --peer nikki --peer 10.0.0.1:7000 --listen /ip4/0.0.0.0/tcp/1",
            "node send markus nikki -m Hello",
            "node send markus -m -dash --until read --timeout 5m --key k --reply-to abcd",
            "node send --later markus -m x",
            "node send --batch",
            "node inbox --unread --from nikki --after 3 --follow --limit 5",
            "node read 4kq7 5d3w",
            "node sent",
            "node letters 4kq7",
            "node discard 4kq7 5d3w",
            "node block",
            "node block nikki --off",
            "node chat nikki",
            "node peers --all --json",
            "node available",
            "node available no",
            "node inactive yes",
            "node status --until-peers 2 --timeout 10s",
            "node --data-dir /x status",
            "node status --data-dir /x --name n",
            "node connect 10.0.0.1",
            "node stop",
            "node backup /srv/ann.swarm --replace --json",
            "node restore /srv/ann.swarm --data-dir /srv/ann",
            "node stop --drain --timeout 5m",
            "node rename markus-2",
            "node key new swarm.key",
            "node completions bash",
            "node run --detach --no-mdns",
            "node --detach",
            "node offer coffee --limit 2 --allow anyone -- brew --",
            "node offer coffee --about tasty --cores 2 --memory 512M --software milk --time-limit 5m --allow nikki ada -- brew -v",
            "node offer e --builtin echo --allow anyone",
            "node withdraw coffee",
            "node drain",
            "node drain --off",
            "node services",
            "node services nikki",
            "node workers --json",
            "node who coffee --cores 2 --memory 4G --software milk",
            "node order coffee latte --no-milk",
            "node order --priority 1 --cores 2 --memory 1G --software a --once --expires 2h --key k --wait --timeout 5m coffee -x --y=z",
            "node order --wait resize {} 800 ::: a.png b.png",
            "node order --each-line - resize {}",
            "node order coffee -- latte --wait",
            "node order coffee --help",
            "node tasks",
            "node tasks --running",
            "node tasks --mine",
            "node tasks --all",
            "node task",
            "node task 17 --follow",
            "node task nikki-pi/17",
            "node task 17.3 --stderr",
            "node task 17 --units",
            "node task 17 --stdout",
            "node wait 17 18 --timeout 5m",
            "node cancel 17 18",
            "node dispatcher",
            "node dispatcher --transfer ada",
            "node query nikki what=services",
            "node log",
            "node log --follow --since 5m --peer nikki --what letter,order --what elected --local",
            "node log --since 2026-11-23 --until 15:12 --order nikki/17.3 --json",
            "node log --letter 4kq7",
            "node log --verify",
            "node log --limit 20 --follow",
            "node log --limit all",
            "node log --what help",
            "node task 17 --history",
            "node sent 4kq7 --history",
            "node --record-size 512M --record-age 30d",
            "node query swarm what=statistics",
        ] {
            match typed(words) {
                Ok((_, misplaced)) => assert_eq!(misplaced, None, "{words}"),
                Err(error) => panic!("{words}: {error}"),
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_told_to_programs_as_a_problem() {
        let said = |words: &str| {
            let words: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
            assert!(wants_json(&words), "{words:?}");
            let text = Failure::from(&parse(&words).expect_err("it is not understood")).for_programs().expect("it is said");
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON")
        };
        let slip = said("node status --json --timeuot 3s");
        assert_eq!((slip["code"].as_str(), slip["detail"].as_str()), (Some("usage"), Some("unexpected argument '--timeuot' found")));
        assert!(slip["hint"].as_str().is_some_and(|hint| hint.contains("--timeout") && hint.contains("Usage: node status")), "{slip}");
        assert!(said("node --json fly")["detail"].as_str().is_some_and(|detail| detail.contains("'fly'")));
        let bare = said("node order --json --expires 30 coffee");
        assert!(
            bare["detail"].as_str().is_some_and(|detail| detail.ends_with("a duration is a number and a unit, like 30s, 5m, 2h or 1d")),
            "{bare}"
        );
        assert!(!wants_json(&["node", "order", "coffee", "--", "--json"].map(OsString::from)));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for words in [
            "node fly",
            "node send",
            "node send -m x",
            "node send a -m x --timeout 30",
            "node send a -m x --until later",
            "node send a --batch",
            "node send --batch -m x",
            "node inbox --limit 0",
            "node inbox --limit x",
            "node available maybe",
            "node read",
            "node discard",
            "node discard x",
            "node block --off",
            "node chat",
            "node connect",
            "node backup",
            "node restore",
            "node rename",
            "node rename two words",
            "node rename me",
            "node key",
            "node key new",
            "node completions cmd",
            "node status --until-peers x",
            "node status --timeout 10s",
            "node peers --nonsense",
            "node order",
            "node order --priority 4 coffee",
            "node order --cores 0 coffee",
            "node order --cores 99999999999 coffee",
            "node order --memory 4 coffee",
            "node order --expires 0s coffee",
            "node order --expires 30 coffee",
            "node order --timeout 5s coffee",
            "node offer",
            "node offer coffee --limit 0 --allow anyone -- brew",
            "node offer coffee --limit 5000 --allow anyone -- brew",
            "node offer coffee --memory 512 --allow anyone -- brew",
            "node offer coffee --builtin fly",
            "node offer coffee --builtin echo -- brew",
            "node withdraw",
            "node who",
            "node tasks --running --mine",
            "node task 1 --follow --units",
            "node wait",
            "node wait 1 --timeout 5",
            "node cancel",
            "node log --since yesterday",
            "node log --letter x",
            "node log --letter 4kq7 --order 3",
            "node log --follow --until 5m",
            "node log --verify --order 3",
            "node log --verify --limit 3",
            "node log --limit 0",
            "node query swarm",
            "node query swarm what=x",
            "node query swarm peers",
        ] {
            assert_eq!(typed(words).err().map(|error| error.exit_code()), Some(2), "{words}");
        }
    }

    #[test]
    fn the_name_of_a_service_is_not_taken_for_that_of_the_node() {
        for words in ["node offer coffee --allow anyone -- brew", "node withdraw coffee", "node who coffee", "node order coffee"] {
            assert_eq!(typed(words).expect("it parses").0.which.name, None, "{words}");
        }
        assert_eq!(typed("node --name nikki withdraw coffee").expect("it parses").0.which.name.as_deref(), Some("nikki"));
    }

    #[test]
    fn an_option_for_starting_is_not_taken_for_another_command() {
        assert_eq!(typed("node --no-mdns peers").expect("it parses").1.as_deref(), Some("--no-mdns"));
        assert_eq!(typed("swarm --peer x send a -m b").expect("it parses").1.as_deref(), Some("--peer"));
    }

    #[test]
    fn help_shows_the_name_it_was_called_by() {
        for name in ["node", "swarm"] {
            let help = typed(&format!("/usr/bin/{name} --help")).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(help.contains(&format!("Usage: {name} ")), "{help}");
        }
    }
}
