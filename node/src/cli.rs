//! The command line: what can be typed, and where each word is decided.
//! Knows nothing but the API; one file per word below. Every command is one call or a few, and a rendering of the answer.

mod batch;
mod block;
mod chat;
mod connect;
mod discard;
pub mod failure;
mod inbox;
mod nodejs;
mod peers;
pub mod places;
mod presence;
mod prompt;
mod read;
pub mod run;
mod send;
mod sent;
mod status;
mod stop;
pub mod terminal;
mod words;

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::control::client::Client;
use failure::{DISK, Failure, INTERRUPTED, USAGE};
use terminal::Terminal;

/// Instant messaging for people and programs on a LAN, with no server.
///
/// Without a command a node is started here and runs until Ctrl-C. The other commands speak to a running node, from
/// another terminal.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
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
    /// Reach a node that was not found by itself
    Connect(connect::ConnectArgs),
    /// Stop the node
    Stop(stop::StopArgs),
}

/// What a command works with.
struct Context {
    client: Client,
    terminal: Terminal,
    json: bool,
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
            // Help and version are no errors; a closed pipe is silent.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let json = cli.which.json;
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
        Some(Command::Run(args)) => return run::execute(args, &cli.which, &environment, start),
        Some(command) => command,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let spoken = speak(command, &cli.which, &environment);
        tokio::select! {
            biased;
            // Whatever was accepted before stays accepted; its id was printed first.
            _ = tokio::signal::ctrl_c() => Ok(INTERRUPTED),
            code = spoken => code,
        }
    });
    // A thread may be reading a terminal that says nothing.
    runtime.shutdown_background();
    code.map(ExitCode::from)
}

async fn speak(command: Command, which: &Which, environment: &places::Environment) -> Result<u8, Failure> {
    let client = places::find(which.data_dir.as_deref(), which.name.as_deref(), environment).await?;
    let context = Context { client, terminal: Terminal::stdout(), json: which.json };
    match command {
        Command::Run(_) => Err(Failure::new(DISK, "a node is started elsewhere")),
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
        Command::Connect(args) => connect::execute(args, &context).await,
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
        ] {
            match typed(words) {
                Ok((_, misplaced)) => assert_eq!(misplaced, None, "{words}"),
                Err(error) => panic!("{words}: {error}"),
            }
        }
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
            "node status --until-peers x",
            "node status --timeout 10s",
            "node peers --nonsense",
        ] {
            assert_eq!(typed(words).err().map(|error| error.exit_code()), Some(2), "{words}");
        }
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
