//! `order SERVICE [ARG…] [::: ITEM…]`: one order, of one unit or many.
//! Knows nothing of who does it. The number is printed before anything is waited for; Ctrl-C ends the watching, not the order.

mod grammar;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use clap::Args;
use protocol::config::limits;

use self::grammar::{Words, split};
use super::bar::Bar;
use super::failure::{DONE, Failure, PENDING, REFUSED};
use super::places::typed;
use super::terminal::{Spout, line, print};
use super::watch::{ended, exit, look, pending, until_ended};
use super::words::{about, cores, priority, size, some_time};
use super::{Context, batch, outcome, wait};
use crate::control::api::{Encoding, InboxEntry, Lack, MarkRead, NewOrder, Order, Service, Task, TaskState, Worker};
use crate::control::problem::Code;

/// How long `order` looks whether it will run when somebody watches (guess: a dispatcher asks all workers in less).
const GLANCE: Duration = Duration::from_millis(400);
/// Between two of these looks.
const LOOK: Duration = Duration::from_millis(40);
/// Units that failed that are named at the end (guess: what fits a screen).
const NAMED: usize = 10;
/// Newest outcomes among which the one that has just been seen is looked for (guess: few end within a moment).
const OUTCOMES: usize = 100;

#[derive(Debug, Args)]
#[command(after_help = "SERVICE and all after it belong together: options of `order` stand before SERVICE.\n\
                        After ::: each ITEM makes one unit, in which {} is replaced by it; without any {}, the item is the last ARG.\n\n\
                        order coffee latte --no-milk\n\
                        order --wait resize {} 800 ::: *.png")]
pub(super) struct OrderArgs {
    /// 1 to the front, 2 to the middle, 3 to the end of the queue [default: 3]
    #[arg(long, value_name = "1|2|3", value_parser = priority)]
    priority: Option<u8>,
    /// Logical CPUs that each unit takes
    #[arg(long, value_name = "N", value_parser = cores)]
    cores: Option<u32>,
    /// Memory that each unit takes: 512M, 4G
    #[arg(long, value_name = "S", value_parser = size)]
    memory: Option<u64>,
    /// Software that the worker must have declared; may be repeated
    #[arg(long, value_name = "X", value_delimiter = ',')]
    software: Vec<String>,
    /// Never start a unit twice, whatever happens. Not in help: no node of this version can promise it
    #[arg(long, hide = true)]
    once: bool,
    /// Do not want it any more after this: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "D", value_parser = some_time)]
    expires: Option<Duration>,
    /// Give the service what stands on standard input
    #[arg(long)]
    stdin: bool,
    /// Order only once, however often this is repeated with the same key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// One unit for each line of this file, or of standard input (-); empty ones are left out
    #[arg(long, value_name = "FILE|-")]
    each_line: Option<String>,
    /// Wait until it has ended, and print what the service wrote: of more than 1 MiB a unit the beginning and the end
    #[arg(long)]
    wait: bool,
    /// How long to wait: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "D", value_parser = some_time, requires = "wait")]
    timeout: Option<Duration>,
    /// Many orders from standard input, a JSON object a line: {"service":"coffee","args":["latte"]}; a number comes back for each
    /// that is accepted, in their order, and those refused are named by their line on standard error
    #[arg(long, conflicts_with_all = ["priority", "cores", "memory", "software", "once", "expires", "stdin", "key", "each_line", "wait", "words"])]
    batch: bool,
    /// What to order, and what it is told: SERVICE [ARG…] [::: ITEM…]
    #[arg(
        required_unless_present = "batch",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "SERVICE [ARG…] [::: ITEM…]"
    )]
    words: Vec<String>,
}

pub(super) async fn execute(args: OrderArgs, context: &Context) -> Result<u8, Failure> {
    if args.batch {
        return batch::orders(context).await;
    }
    let (watching, patience) = (args.wait, args.timeout);
    let new = wanted(args)?;
    let began = std::time::Instant::now();
    let order: Order = context.client.post("/v1/orders", &new).await?;
    let number = order.order;
    // With --json and --wait the one document is the task at its end.
    let first = match (context.json, watching, context.terminal.is) {
        (true, true, _) => Ok(()),
        (true, false, _) => context.document(&order),
        // Stdout is for what the service writes.
        (false, true, _) => {
            eprintln!("order {number} accepted");
            Ok(())
        }
        (false, false, true) => print(&format!("order {number} accepted")),
        (false, false, false) => print(&format!("{number}\n")),
    };
    first.map_err(|failure| after_accepting(failure, number))?;
    if watching {
        let patience = patience.map(|all| all.saturating_sub(began.elapsed()));
        return wait_for(number, patience, context).await.map_err(|failure| after_accepting(failure, number));
    }
    if !context.terminal.is || context.json {
        let unheard = unheard_of(&new.service, &format!("order {number}"), context).await;
        let warning = if unheard.is_some() { unheard } else { beyond_all(&new, number, context).await };
        let slip = typed(&format!("; if it was a slip: node cancel {number}"));
        if let Some(said) = warning {
            warn(&format!("{said}{slip}"), context);
        }
    } else {
        // Whoever does not want to wait for this has seen the number.
        let told = glance(number, context).await.unwrap_or_else(|_| follow(number));
        print(&told).map_err(|failure| after_accepting(failure, number))?;
    }
    Ok(DONE)
}

fn wanted(args: OrderArgs) -> Result<NewOrder<'static>, Failure> {
    let Words { service, args: words, items } = split(&args.words, &own())?;
    if args.stdin && args.each_line.as_deref() == Some("-") {
        return Err(Failure::usage("standard input cannot be both what the service reads and the items")
            .next("give the items in a file: --each-line FILE"));
    }
    let items = match (items, &args.each_line) {
        (Some(_), Some(_)) => return Err(Failure::usage("items come after ::: or from --each-line, not from both")),
        (Some(items), None) => Some(items),
        (None, Some(file)) => Some(lines(file)?),
        (None, None) => None,
    };
    let stdin = if args.stdin { Some(piped(std::io::stdin().lock())?) } else { None };
    let (stdin, stdin_encoding) = match stdin.map(String::from_utf8) {
        None => (None, Encoding::Utf8),
        Some(Ok(text)) => (Some(text), Encoding::Utf8),
        Some(Err(error)) => (Some(base64::engine::general_purpose::STANDARD.encode(error.as_bytes())), Encoding::Base64),
    };
    Ok(NewOrder {
        service: service.into(),
        args: words,
        items: items.unwrap_or_default(),
        stdin: stdin.map(Into::into),
        stdin_encoding,
        priority: args.priority.unwrap_or(3),
        cores: args.cores.unwrap_or(0),
        memory_bytes: args.memory.unwrap_or(0),
        software: args.software,
        once: args.once,
        expires_seconds: args.expires.map(|expires| expires.as_secs()),
        key: args.key.map(Into::into),
    })
}

/// The options of `order`, as they are typed, `--help` among them. Those of a service that are called so need `--` before them.
fn own() -> Vec<String> {
    let own = OrderArgs::augment_args(clap::Command::new("order"));
    let mut all = super::Which::augment_args(own);
    all.build();
    let long = all.get_arguments().filter_map(|option| option.get_long()).map(|long| format!("--{long}"));
    let short = all.get_arguments().filter_map(|option| option.get_short()).map(|short| format!("-{short}"));
    long.chain(short).collect()
}

/// One item for each line that is not empty.
fn lines(file: &str) -> Result<Vec<String>, Failure> {
    let too_large = || {
        Failure::new(REFUSED, format!("the items have more than {} bytes", limits::ORDER_ITEMS_BYTES))
            .next("nothing was ordered; place several orders")
    };
    let most = limits::ORDER_ITEMS_BYTES as u64 * 2;
    let mut bytes = Vec::new();
    let read = if file == "-" {
        std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(Path::new(file)).and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::usage(format!("{file} cannot be read: {error}")).next("nothing was ordered"))?;
    if bytes.len() as u64 > most {
        return Err(too_large());
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{file} is not UTF-8")).next("nothing was ordered"))?;
    let items: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if items.is_empty() {
        return Err(Failure::usage(format!("{file} has no line that is not empty")).next("nothing was ordered"));
    }
    Ok(items)
}

/// What a service may read.
fn piped(input: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    input.take(limits::ORDER_STDIN_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limits::ORDER_STDIN_BYTES {
        return Err(Failure::new(REFUSED, format!("what the service should read has more than {} bytes", limits::ORDER_STDIN_BYTES))
            .next("nothing was ordered; put it where workers can read it, and order its place"));
    }
    Ok(bytes)
}

/// What could not be shown was ordered all the same: whoever orders it again would double it.
fn after_accepting(failure: Failure, number: u64) -> Failure {
    let failure = match failure {
        Failure::Said { exit: REFUSED | super::failure::NO_NODE, what, .. } => {
            Failure::new(PENDING, format!("order {number} is accepted, but how it goes on could not be told: {what}"))
                .next(format!("see how far it is: node task {number}"))
        }
        other => other,
    };
    failure.of_order(number, &number.to_string())
}

fn follow(number: u64) -> String {
    typed(&format!("; follow it with: node task {number} --follow\n"))
}

/// Tells of something that is odd, and no error: what was ordered stays ordered.
pub(super) fn warn(said: &str, context: &Context) {
    if context.json {
        eprintln!("{}", serde_json::json!({ "warning": said.lines().map(str::trim).collect::<Vec<_>>().join("; ") }));
    } else {
        eprintln!("warning: {said}");
    }
}

/// Scripts wait for nothing but may misspell a name: what this node knows by itself is said at once.
pub(super) async fn unheard_of(service: &str, what: &str, context: &Context) -> Option<String> {
    let path = format!("/v1/services?limit=1000&service={}", crate::control::client::quoted(service));
    // The order is accepted, whatever comes of this.
    let offered: Vec<Service> = context.client.get(&path).await.ok()?;
    unheard(service, what, &offered)
}

/// What is wrong with ordering it, if these are all who offer it.
fn unheard(service: &str, what: &str, offered: &[Service]) -> Option<String> {
    let service = line(service);
    if offered.iter().any(|offer| offer.allowed) {
        return None;
    }
    let workers: Vec<String> = offered.iter().map(|offer| line(&offer.worker)).collect();
    Some(typed(&match workers.as_slice() {
        [] => format!("nobody here is known to offer {service}; {what} starts when somebody does\n  what is offered: node services"),
        [one] => format!(
            "{one}, the only one who offers {service}, does not allow this node to order it; {what} starts when somebody does\n  who may order what: node services {one}"
        ),
        [one, ..] => {
            format!(
                "none of the {} who offer {service} allows this node to order it; {what} starts when somebody does\n  who may order what: node services {one}",
                workers.len()
            )
        }
    }))
}

/// Likewise where it asks for more than anybody has who offers it. Workers are asked only if it asks for something.
async fn beyond_all(new: &NewOrder<'_>, number: u64, context: &Context) -> Option<String> {
    if new.cores == 0 && new.memory_bytes == 0 && new.software.is_empty() {
        return None;
    }
    let workers: Vec<Worker> = context.client.get("/v1/workers").await.ok()?;
    let why = beyond(new, &workers)?;
    Some(typed(&format!("order {number} can run nowhere here: {why}; it starts when somebody has that\n  what each has: node workers")))
}

/// What nobody has who offers the service; none if somebody may have all of it.
fn beyond(new: &NewOrder, workers: &[Worker]) -> Option<String> {
    let offering: Vec<&Worker> = workers.iter().filter(|worker| worker.services.iter().any(|service| *service == new.service)).collect();
    // What nothing is known of may be enough.
    let cores = |worker: &&Worker| worker.cores.total == 0 || worker.cores.total >= new.cores;
    let memory = |worker: &&Worker| worker.memory.total_bytes == 0 || worker.memory.total_bytes >= new.memory_bytes;
    let has = |worker: &&Worker, word: &String| worker.software.contains(word);
    let all = |worker: &&Worker| cores(worker) && memory(worker) && new.software.iter().all(|word| has(worker, word));
    let largest = offering.iter().max_by_key(|worker| worker.cores.total)?;
    let roomiest = offering.iter().max_by_key(|worker| worker.memory.total_bytes)?;
    if offering.iter().any(all) {
        return None;
    }
    let mut lacks = Vec::new();
    if !offering.iter().any(cores) {
        lacks.push(format!("needs {} cores, largest worker ({}) has {}", new.cores, line(&largest.name), largest.cores.total));
    }
    if !offering.iter().any(memory) {
        let (wanted, there) = (super::status::size(new.memory_bytes), super::status::size(roomiest.memory.total_bytes));
        lacks.push(format!("needs {wanted} of memory, largest worker ({}) has {there}", line(&roomiest.name)));
    }
    for word in new.software.iter().filter(|word| !offering.iter().any(|worker| has(worker, word))) {
        lacks.push(format!("needs the software {}, which no worker has declared", line(word)));
    }
    Some(if lacks.is_empty() { "no worker has all that it needs".to_owned() } else { lacks.join("; ") })
}

/// What follows `order 1 accepted`.
async fn glance(number: u64, context: &Context) -> Result<String, Failure> {
    let began = tokio::time::Instant::now();
    loop {
        let task = look(context, &number.to_string()).await?;
        if let Some(told) = told(&task, began.elapsed() >= GLANCE) {
            return Ok(told);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Nobody runs it, and nobody is about to.
fn is_stuck(task: &Task) -> bool {
    let soon = task.lacks.iter().any(|one| matches!(one.lack, Lack::Full | Lack::Busy | Lack::NoOrder));
    matches!(task.state, TaskState::Accepted | TaskState::Queued) && !task.lacks.is_empty() && !soon
}

/// None while it is too early to tell.
fn told(task: &Task, late: bool) -> Option<String> {
    let waits = matches!(task.state, TaskState::Accepted | TaskState::Queued);
    if !waits {
        return Some(follow(task.order));
    }
    let why = task.why.as_deref().map(line).filter(|why| !why.is_empty());
    let decided = !task.lacks.is_empty();
    let soon = task.lacks.iter().any(|one| matches!(one.lack, Lack::Full | Lack::Busy | Lack::NoOrder));
    match (decided || late, why) {
        (false, _) => None,
        (true, None) => Some(follow(task.order)),
        (true, Some(why)) if decided && soon => {
            let place = task.position.map(|position| format!(" at {position}")).unwrap_or_default();
            let eta = task.eta_seconds.map(|eta| format!(", {}", about(eta))).unwrap_or_default();
            Some(typed(&format!("; queued{place}{eta}: {why}\n  follow it with: node task {} --follow\n", task.order)))
        }
        (true, Some(why)) => Some(format!("; not running: {why}\n")),
    }
}

async fn wait_for(number: u64, patience: Option<Duration>, context: &Context) -> Result<u8, Failure> {
    context.farewell.set(format!("order {number} goes on; follow it with: node task {number} --follow"));
    let mut bar = Bar::new(!context.json);
    let mut said = context.json || bar.is_seen();
    let say = |task: &Task, _: &mut Bar| {
        // Whoever has no bar to look at is told once why nothing happens.
        if let Some(why) = task.why.as_deref().filter(|_| !said && is_stuck(task)) {
            eprintln!("order {number} is not running: {}", line(why));
            said = true;
        }
        Ok(())
    };
    let task = until_ended(context, &number.to_string(), patience, &mut bar, say).await?;
    if !task.done {
        return Err(pending(&task));
    }
    if context.json {
        context.document(&task)?;
        return Ok(exit(&task));
    }
    copy(&task.id, "stdout", Spout::stdout(), context).await?;
    copy(&task.id, "stderr", Spout::stderr(), context).await?;
    let mut text = ended(&task) + "\n";
    if task.state != TaskState::Done {
        text += &complaints(&task, context).await?;
    }
    let seen = super::terminal::Terminal::stderr().is;
    if task.state != TaskState::Done || seen {
        eprint!("{text}");
    }
    if seen {
        // The inbox would tell it once more. If it cannot be marked, it does.
        let _ = mark_read(number, context).await;
    }
    Ok(exit(&task))
}

/// A person has seen how the order ended.
async fn mark_read(number: u64, context: &Context) -> Result<(), Failure> {
    let path = format!("/v1/inbox?only=outcomes&unread=true&newest=true&limit={OUTCOMES}");
    let newest: Vec<InboxEntry> = context.client.get(&path).await?;
    let told = newest.iter().find(|entry| outcome::of(&entry.envelope).is_some_and(|task| task.order == number));
    if let Some(entry) = told {
        let _: Vec<InboxEntry> = context.client.post("/v1/inbox/read", &MarkRead { ids: Vec::new(), n: vec![entry.n] }).await?;
    }
    Ok(())
}

/// Which units failed, of several.
async fn complaints(task: &Task, context: &Context) -> Result<String, Failure> {
    if task.units.total == 1 {
        return Ok(String::new());
    }
    if task.units.failed == 0 {
        return Ok(String::new());
    }
    let units: Vec<Task> = context.client.get(&format!("/v1/tasks/{}/units?failed=true&limit={NAMED}", task.id)).await?;
    let mut text: String = units.iter().map(|unit| wait::failed_unit(unit) + "\n").collect();
    let more = u64::from(task.units.failed).saturating_sub(units.len() as u64);
    if more > 0 {
        text += &typed(&format!("  and {more} more: node task {} --units\n", task.id));
    }
    Ok(text)
}

/// Puts out what a task wrote, and says on stderr what of it nobody has.
pub(super) async fn copy(id: &str, which: &str, to: Spout, context: &Context) -> Result<(), Failure> {
    let bytes = copy_kept(id, which, to, context).await?;
    if bytes < limits::OUTPUT_BYTES as u64 / 2 {
        // Less than the beginning of what was too much.
        return Ok(());
    }
    let task = look(context, id).await?;
    let tasks: Vec<Task> = if task.units.total > 1 {
        context.client.all(&format!("/v1/tasks/{}/units?limit=1000", crate::control::client::quoted(id))).await?
    } else {
        vec![task]
    };
    tasks.iter().filter_map(|task| lost(task, which)).for_each(|text| eprint!("{text}"));
    Ok(())
}

/// What a worker did not keep of an output.
fn lost(task: &Task, which: &str) -> Option<String> {
    let lost = if which == "stdout" { task.stdout_lost_bytes } else { task.stderr_lost_bytes };
    (lost > 0).then(|| {
        let (id, most) = (line(&task.id), limits::OUTPUT_BYTES / 1024 / 1024);
        format!("warning: {lost} bytes in the middle of the {which} of order {id} were not kept: a worker keeps {most} MiB of each output, its beginning and its end\n")
    })
}

/// Puts out what there is of it, and says how much that was.
async fn copy_kept(id: &str, which: &str, mut to: Spout, context: &Context) -> Result<u64, Failure> {
    let mut bytes = 0;
    let path = format!("/v1/tasks/{}/{which}", crate::control::client::quoted(id));
    let mut pieces = match context.client.bytes(&path).await {
        Ok(pieces) => pieces,
        Err(crate::control::client::Error::Refused(problem)) if problem.code == Code::NoOutput => return Ok(0),
        Err(crate::control::client::Error::Refused(problem)) if problem.code == Code::NotReached => {
            // What is here is better than nothing, if it is said that it is not all.
            let mut pieces = context.client.bytes(&format!("{path}?here=true")).await?;
            while let Some(piece) = pieces.next().await? {
                to.write(&piece)?;
            }
            return Err(Failure::from(*problem));
        }
        Err(error) => return Err(error.into()),
    };
    while let Some(piece) = pieces.next().await? {
        bytes += piece.len() as u64;
        to.write(&piece)?;
    }
    to.end()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::task::tests::task;
    use crate::control::api::{Cores, Lacking, Memory};

    #[test]
    fn its_own_options_are_those_that_help_shows() {
        let own = own();
        for option in ["--priority", "--wait", "--each-line", "--json", "--data-dir", "--name", "--help", "-h"] {
            assert!(own.iter().any(|known| known == option), "{option}: {own:?}");
        }
        assert!(!own.iter().any(|known| known == "--version" || known == "-x"));
    }

    #[test]
    fn what_was_not_kept_of_an_output_is_said() {
        let cut = Task { stdout_lost_bytes: 7, ..task() };
        let said = lost(&cut, "stdout").expect("it is said");
        assert!(said.starts_with("warning: 7 bytes in the middle of the stdout of order 1 were not kept: a worker keeps 1 MiB"), "{said}");
        assert!(lost(&cut, "stderr").is_none() && lost(&task(), "stdout").is_none());
    }

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        args: OrderArgs,
    }

    fn typed(words: &[&str]) -> Result<NewOrder<'static>, Failure> {
        let typed = <Typed as clap::Parser>::try_parse_from(std::iter::once(&"order").chain(words)).expect("it parses");
        wanted(typed.args)
    }

    #[test]
    fn options_stand_before_the_service_and_all_else_is_its_own() {
        let order =
            typed(&["--cores", "2", "--priority", "1", "--expires", "2h", "coffee", "latte", "--no-milk", "--", "-x"]).expect("good");
        assert_eq!((order.service.as_ref(), order.args.join(" ").as_str()), ("coffee", "latte --no-milk -- -x"));
        assert_eq!((order.cores, order.priority, order.expires_seconds, order.items.len()), (2, 1, Some(7_200), 0));
        assert_eq!(typed(&["coffee", "--", "--wait", "--"]).expect("good").args, ["--wait", "--"]);
        for option in ["--wait", "--help", "-h", "--json", "--data-dir=/x", "--name"] {
            assert_eq!(typed(&["coffee", "latte", option]).expect_err("ambiguous").exit(), 2, "{option}");
            assert_eq!(typed(&["coffee", "--", option]).expect("the service's own").args, [option]);
        }
        assert_eq!(typed(&["--wiat", "coffee"]).expect_err("a slip").exit(), 2);
    }

    #[test]
    fn items_come_from_one_place() {
        let order = typed(&["resize", "{}", "800", ":::", "a", "b"]).expect("good");
        assert_eq!((order.args.join(" ").as_str(), order.items.join(" ").as_str()), ("{} 800", "a b"));
        assert_eq!(typed(&["resize", "{}"]).expect("no item, no unit").args, ["{}"]);
        for both in
            [&["--stdin", "--each-line", "-", "s"][..], &["--each-line", "/dev/null", "s", ":::", "a"], &["--each-line", "/dev/null", "s"]]
        {
            assert_eq!(typed(both).expect_err("it cannot be").exit(), 2, "{both:?}");
        }
    }

    #[test]
    fn what_no_worker_has_is_said_and_what_one_may_have_is_not() {
        let worker = |name: &str, cores, gib: u64, software: &[&str]| Worker {
            name: name.to_owned(),
            cores: Cores { total: cores, free: 0.0 },
            memory: Memory { total_bytes: gib << 30, free_bytes: 0 },
            software: software.iter().map(|word| (*word).to_owned()).collect(),
            ..some_worker()
        };
        let some = [worker("ada", 4, 16, &["gpu"]), worker("nikki-pi", 8, 4, &["milk"])];
        let check = |words: &[&str], workers: &[Worker], expected: Option<&str>| {
            assert_eq!(beyond(&typed(words).expect("good"), workers).as_deref(), expected, "{words:?}");
        };
        check(&["--cores", "8", "coffee"], &some, None);
        check(&["--cores", "16", "coffee"], &some, Some("needs 16 cores, largest worker (nikki-pi) has 8"));
        check(&["--memory", "64G", "coffee"], &some, Some("needs 64.0 GiB of memory, largest worker (ada) has 16.0 GiB"));
        check(&["--software", "gpu,tea", "coffee"], &some, Some("needs the software tea, which no worker has declared"));
        check(&["--cores", "8", "--memory", "8G", "coffee"], &some, Some("no worker has all that it needs"));
        // Who has measured nothing yet may have it, and who does not offer it is not meant.
        check(&["--cores", "16", "coffee"], &[worker("new", 0, 0, &[])], None);
        let other = Worker { services: vec!["tea".to_owned()], ..worker("big", 64, 64, &[]) };
        check(&["--cores", "16", "coffee"], &[some[0].clone(), other], Some("needs 16 cores, largest worker (ada) has 4"));
        check(&["--cores", "16", "coffee"], &[], None);
    }

    fn some_worker() -> Worker {
        Worker {
            id: "12D3".to_owned(),
            name: String::new(),
            available: true,
            inactive: false,
            draining: false,
            answered: true,
            last_seen_at: None,
            services: vec!["coffee".to_owned()],
            running: None,
            limit: 1,
            queued: None,
            cores: Cores { total: 0, free: 0.0 },
            memory: Memory { total_bytes: 0, free_bytes: 0 },
            software: Vec::new(),
        }
    }

    #[test]
    fn what_follows_the_number_says_whether_it_will_run() {
        let queued = Task { state: TaskState::Queued, worker: None, position: Some(4), ..task() };
        assert_eq!(told(&Task { state: TaskState::Running, ..task() }, false).as_deref(), Some("; follow it with: node task 1 --follow\n"));
        assert_eq!(told(&queued, false), None);
        let lack = |lack| Lacking { worker: "nikki-pi".to_owned(), worker_id: "x".to_owned(), lack, detail: None };
        let big = Task {
            lacks: vec![lack(Lack::Cores)],
            why: Some("needs 16 cores, largest worker (nikki-pi) has 4".to_owned()),
            ..queued.clone()
        };
        assert_eq!(told(&big, false).as_deref(), Some("; not running: needs 16 cores, largest worker (nikki-pi) has 4\n"));
        let full =
            Task { lacks: vec![lack(Lack::Full)], why: Some("nikki-pi is busy".to_owned()), eta_seconds: Some(8.0), ..queued.clone() };
        assert_eq!(
            told(&full, false).as_deref(),
            Some("; queued at 4, about 8 s: nikki-pi is busy\n  follow it with: node task 1 --follow\n")
        );
        let alone = Task { state: TaskState::Accepted, why: Some("nobody is dispatcher now".to_owned()), ..queued };
        assert_eq!(told(&alone, true).as_deref(), Some("; not running: nobody is dispatcher now\n"));
    }

    #[test]
    fn a_service_that_this_node_may_not_order_is_warned_of() {
        let offer = |worker: &str, allowed| Service {
            service: "tea".to_owned(),
            about: String::new(),
            worker: worker.to_owned(),
            worker_id: String::new(),
            available: true,
            draining: false,
            limit: 1,
            cores: 0,
            memory_bytes: 0,
            software: Vec::new(),
            allow: Vec::new(),
            allowed,
        };
        let said = |offered: &[Service]| unheard("tea", "order 1", offered).unwrap_or_default();
        assert!(said(&[]).starts_with("nobody here is known to offer tea; order 1 starts when somebody does"));
        assert!(said(&[offer("ada", false)]).starts_with("ada, the only one who offers tea, does not allow this node to order it"));
        assert!(said(&[offer("ada", false), offer("bob", false)]).starts_with("none of the 2 who offer tea allows this node"));
        assert_eq!(said(&[offer("ada", false), offer("bob", true)]), "");
    }

    #[test]
    fn each_line_that_is_not_empty_is_an_item() {
        let file = tempfile::NamedTempFile::new().expect("a file for the test");
        let path = file.path().to_str().expect("UTF-8");
        std::fs::write(path, "one\r\n\ntwo words\nthree").expect("it is ours");
        assert_eq!(lines(path).expect("three"), ["one", "two words", "three"]);
        std::fs::write(path, "\n\n").expect("it is ours");
        assert_eq!(lines(path).expect_err("nothing").exit(), 2);
        std::fs::write(path, b"\xff").expect("it is ours");
        assert_eq!(lines(path).expect_err("binary").exit(), 2);
        std::fs::write(path, vec![b'x'; limits::ORDER_ITEMS_BYTES * 2 + 1]).expect("it is ours");
        assert_eq!(lines(path).expect_err("too much").exit(), 1);
        assert_eq!(lines("/no/such/file").expect_err("nothing is there").exit(), 2);
    }

    #[test]
    fn a_service_reads_at_most_what_an_order_may_hold() {
        assert_eq!(piped(&vec![7; limits::ORDER_STDIN_BYTES][..]).expect("just so").len(), limits::ORDER_STDIN_BYTES);
        assert_eq!(piped(std::io::repeat(7)).expect_err("it does not end").exit(), 1);
    }
}
