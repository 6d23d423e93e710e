//! `log`: what happened, as everybody wrote it down.
//! Knows nothing of chains but what the API says of them. `--verify` ends badly if anything is wrong, and names the place.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, civil};
use protocol::segment::What;

use super::failure::{DONE, Failure, NO_NODE, REFUSED};
use super::places::typed;
use super::sent::time;
use super::terminal::{closed, line, print};
use super::{Context, words};
use crate::control::api::{LogChain, LogEntry, LogFlaw, LogFlawKind, Verification};
use crate::control::client::{Error, Page, quoted};
use crate::control::problem::Code;
use crate::control::time::rfc3339;

/// Between two looks for what is new (guess: a person does not see it, and a node does not feel it).
const LOOK: Duration = Duration::from_millis(250);
/// Entries shown to a person who asks for no number (as `inbox` and `sent`).
const SCREEN: usize = 50;
/// The most that are asked for from the end, since they are put into order here (guess: 100 MB).
const NEWEST: usize = 100_000;
/// Entries that a follower remembers as told (guess: a busy minute; a hundred bytes each).
const REMEMBERED: usize = 50_000;
/// Milliseconds back that whoever keeps the record next is asked for what the one before had not told (guess: entries are a third of a second
/// behind, those of who was cut off as long as the cut).
const LATELY: u64 = 300_000;

#[derive(Debug, Args)]
#[command(
    after_help = "On a terminal the newest 50 entries are shown, unless --since, --order, --letter or --limit says how many; in a pipe, and with\n\
                        --json, all are.\n\
                        Times are like 2026-11-23, 15:12, 2026-11-23T15:12:48, as the column TIME has them, or a duration: --since 5m is what\n\
                        happened in the last five minutes. --until 15:12 is with all of that minute.\n\
                        A kind is what the column WHAT says, or its beginning: --what letter, --what order,unit. All kinds: --what help.\n\
                        Without --local the dispatcher is asked, who keeps everybody's record. --verify looks at every row on this node's disk and\n\
                        exits with 1 if anything is wrong with them."
)]
pub(super) struct LogArgs {
    /// Go on showing what is written down
    #[arg(long, conflicts_with = "until")]
    follow: bool,
    /// Not what was before
    #[arg(long, value_name = "T", value_parser = instant)]
    since: Option<String>,
    /// Not what was later
    #[arg(long, value_name = "T", value_parser = last_instant)]
    until: Option<String>,
    /// Only what this peer wrote down
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,
    /// Only what concerns this order
    #[arg(long, value_name = "ID", conflicts_with = "letter")]
    order: Option<String>,
    /// Only what concerns this letter
    #[arg(long, value_name = "ID", value_parser = words::letter)]
    letter: Option<String>,
    /// Only this kind; may be repeated. `help` lists all
    #[arg(long, value_name = "W", value_delimiter = ',')]
    what: Vec<String>,
    /// The newest N of them; with --follow, before what comes
    #[arg(long, value_name = "N|all", value_parser = limit)]
    limit: Option<Limit>,
    /// Only what this node itself has on its disk
    #[arg(long)]
    local: bool,
    /// Look whether what this node has is whole
    #[arg(long, conflicts_with_all = ["follow", "since", "until", "peer", "order", "letter", "what", "limit"])]
    verify: bool,
}

/// What everybody wrote down of an order or a letter; what this node itself did, where nobody keeps everybody's record now.
pub(super) async fn history(order: Option<String>, letter: Option<String>, context: &Context) -> Result<u8, Failure> {
    let args = |local| LogArgs {
        follow: false,
        since: None,
        until: None,
        peer: None,
        order: order.clone(),
        letter: letter.clone(),
        what: Vec::new(),
        limit: None,
        local,
        verify: false,
    };
    let probe: Result<Page<Vec<LogEntry>>, _> = context.client.page(&path(&args(false), "limit=1")).await;
    let local = matches!(&probe, Err(Error::Refused(problem)) if problem.code == Code::NoAnswer);
    if local {
        eprintln!("nobody answers for everybody's record now; this is what this node itself has");
    }
    listed(&args(local), context).await?;
    Ok(DONE)
}

/// How many entries, from the newest back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    All,
    Newest(usize),
}

fn limit(text: &str) -> Result<Limit, String> {
    let number = || text.parse().ok().filter(|number| (1..=NEWEST).contains(number)).map(Limit::Newest);
    if text == "all" { Some(Limit::All) } else { number() }.ok_or_else(|| format!("how many is a number from 1 to {NEWEST}, or all"))
}

impl LogArgs {
    /// How many are shown at first. Whoever looks at a terminal and has not said from where on wants to know what happened last.
    fn newest(&self, terminal: bool) -> Option<usize> {
        match self.limit {
            Some(Limit::All) => None,
            Some(Limit::Newest(limit)) => Some(limit),
            None => (terminal && self.since.is_none() && self.order.is_none() && self.letter.is_none()).then_some(SCREEN),
        }
    }

    /// All kinds, if it is they that are asked for: no node knows more of them.
    pub(super) fn kinds(&self) -> Option<String> {
        self.what.iter().any(|word| word == "help").then(|| What::WORDS.iter().map(|word| format!("{word}\n")).collect())
    }
}

/// A point in time as the API takes it: the beginning of what was written.
fn instant(text: &str) -> Result<String, String> {
    Ok(written(instants(text)?.0))
}

/// The end of what was written: `15:12` is with all of that minute.
fn last_instant(text: &str) -> Result<String, String> {
    Ok(written(instants(text)?.1))
}

fn written(at: Timestamp) -> String {
    rfc3339(protocol::Timestamp(u64::try_from(at.as_millisecond()).unwrap_or(0)))
}

/// The first and the last millisecond of the day, minute or second that was written.
fn instants(text: &str) -> Result<(Timestamp, Timestamp), String> {
    let now = Timestamp::now();
    if let Ok(ago) = words::duration(text) {
        let at = now.checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH);
        return Ok((at, at));
    }
    let within = match text.bytes().filter(|byte| *byte == b':').count() {
        _ if text.contains('.') => 1.milliseconds(),
        0 => 1.days(),
        // An offset from UTC has a colon, too.
        1 => 1.minutes(),
        _ if is_to_the_minute(text) => 1.minutes(),
        _ => 1.seconds(),
    };
    let zone = TimeZone::system();
    let zoned = match text.parse::<Timestamp>() {
        Ok(at) => Some(at.to_zoned(zone)),
        Err(_) => in_words(text, now.to_zoned(zone.clone()).date()).and_then(|civil| civil.to_zoned(zone).ok()),
    };
    let read = || {
        let first = zoned?;
        let last = first.checked_add(within).ok()?.timestamp().checked_sub(1.milliseconds()).ok()?;
        Some((first.timestamp(), last))
    };
    read().ok_or_else(|| "a time is like 2026-11-23, 15:12, 2026-11-23T15:12:48, or a duration like 5m".to_owned())
}

/// `2026-11-23T15:12+01:00`.
fn is_to_the_minute(text: &str) -> bool {
    let time = text.split_once(['T', ' ']).map_or(text, |(_, time)| time);
    time.split(['+', '-', 'Z']).next().is_some_and(|time| time.matches(':').count() == 1)
}

/// Without a zone: a date, a time, both, or as the column TIME writes what was on another day of this year.
fn in_words(text: &str, today: civil::Date) -> Option<civil::DateTime> {
    let shown = || civil::DateTime::strptime("%Y %b %d %H:%M", format!("{} {text}", today.year()));
    let civil = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Time>().map(|time| today.to_datetime(time)));
    civil.or_else(|_| text.parse::<civil::Date>().map(|date| date.to_datetime(civil::Time::midnight()))).or_else(|_| shown()).ok()
}

pub(super) async fn execute(args: LogArgs, context: &Context) -> Result<u8, Failure> {
    if args.verify {
        return verify(context).await;
    }
    // First the place, then the look: what is written between the two is told, once.
    let follow = if args.follow { now_on(&args, context).await? } else { None };
    let told = listed(&args, context).await?;
    if args.follow { followed(args, follow, told, context).await } else { Ok(DONE) }
}

fn path(args: &LogArgs, which: &str) -> String {
    let mut path = format!("/v1/log?{which}");
    let what = (!args.what.is_empty()).then(|| args.what.join(","));
    let texts = [
        ("since", &args.since),
        ("until", &args.until),
        ("peer", &args.peer),
        ("order", &args.order),
        ("letter", &args.letter),
        ("what", &what),
    ];
    for (name, text) in texts {
        path += &text.as_ref().map(|text| format!("&{name}={}", quoted(text))).unwrap_or_default();
    }
    if args.local { path + "&local=true" } else { path }
}

/// Shows what there is, page by page: it may be more than fits in memory. What was shown is remembered only by who follows.
async fn listed(args: &LogArgs, context: &Context) -> Result<Told, Failure> {
    let newest = args.newest(context.terminal.is && !context.json);
    let (mut told, mut any, mut document) = (Told::default(), false, String::from("["));
    let (mut told_in_all, mut doubtful) = (0, 0);
    let mut page = match newest {
        Some(limit) => from_the_end(args, limit, context).await?,
        None => context.client.page(&path(args, "limit=1000")).await?,
    };
    loop {
        let mut entries = page.body;
        tell_what_is_cut(page.whole_since.as_deref());
        if args.follow {
            entries.retain(|entry| told.add(entry));
        }
        if context.json && !args.follow {
            for entry in &entries {
                if any {
                    document.push(',');
                }
                any = true;
                document += &serde_json::to_string(entry).expect("what the API said can be said again");
            }
            print(&document)?;
            document.clear();
        } else {
            show(&entries, !any, context)?;
            any |= !entries.is_empty();
        }
        told_in_all += entries.len();
        doubtful += entries.iter().filter(|entry| entry.doubtful).count();
        let Some(path) = page.next else { break };
        page = context.client.page(&path).await?;
    }
    if context.json && !args.follow {
        print(&(document + "]\n"))?;
    } else if !any && !args.follow && context.terminal.is {
        print("nothing like that is written down\n")?;
    }
    if let (false, Some((whose, number))) = (any, args.order.as_deref().and_then(|order| order.split_once('/'))) {
        let (whose, number) = (line(whose), line(number));
        eprintln!("nothing is written down of order {whose}/{number}; whether there is one, only the node of {whose} knows");
    }
    if doubtful > 0 {
        let place = if args.local { "here" } else { "at the dispatcher, which told of them" };
        eprintln!("warning: {doubtful} of these entries do not fit those beside them: something was changed on a disk");
        eprintln!("{}", typed(&format!("  what, and where: node log --verify, {place}")));
    }
    if newest == Some(SCREEN) && args.limit.is_none() && !args.follow && told_in_all == SCREEN {
        print(&format!("the newest {SCREEN}; more: --limit N, all of them: --limit all\n"))?;
    }
    Ok(told)
}

/// The newest so many, ascending.
async fn from_the_end(args: &LogArgs, limit: usize, context: &Context) -> Result<Page<Vec<LogEntry>>, Failure> {
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut next = Some(path(args, &format!("newest=true&limit={}", limit.min(1_000))));
    let mut whole_since = None;
    while let Some(path) = next.filter(|_| entries.len() < limit) {
        let page: Page<Vec<LogEntry>> = context.client.page(&path).await?;
        entries.extend(page.body);
        whole_since = whole_since.or(page.whole_since);
        next = page.next;
    }
    // Whoever has got as many as he wanted misses nothing.
    let whole_since = whole_since.filter(|_| entries.len() < limit);
    entries.truncate(limit);
    entries.reverse();
    Ok(Page { body: entries, next: None, whole_since })
}

/// Entries that are missing because they were old must not look like nothing having happened.
fn tell_what_is_cut(whole_since: Option<&str>) {
    if let Some(since) = whole_since {
        eprintln!(
            "not everything from before {} is kept any more: old entries go first (node run --help: --record-size, --record-age)",
            time(since)
        );
    }
}

/// What was shown last. Who follows is told some things twice: by time and by arrival, and by whoever keeps the record next.
#[derive(Debug, Default)]
struct Told {
    places: HashSet<Place>,
    order: VecDeque<(Place, String)>,
}

/// Author, chain, sequence, and what: of a memory that was put back there are two entries of one number.
type Place = (String, String, u64, String);

impl Told {
    /// False if it was told.
    fn add(&mut self, entry: &LogEntry) -> bool {
        let place = (entry.peer_id.clone(), entry.chain.clone(), entry.seq, format!("{} {}", entry.time, entry.what));
        let new = self.places.insert(place.clone());
        if new {
            self.order.push_back((place, entry.time.clone()));
        }
        if self.order.len() > REMEMBERED
            && let Some((place, _)) = self.order.pop_front()
        {
            self.places.remove(&place);
        }
        new
    }

    /// When the first that was told was written; if there was none, now.
    fn oldest(&self) -> String {
        self.order.front().map_or_else(|| written(Timestamp::now()), |(_, time)| time.clone())
    }

    /// From when on all that was told is remembered, as far as whoever keeps the record next may have something else.
    fn since(&self, now: Timestamp) -> String {
        let lately = rfc3339(protocol::Timestamp(u64::try_from(now.as_millisecond()).unwrap_or(0).saturating_sub(LATELY)));
        let oldest = self.order.front().filter(|_| self.order.len() == REMEMBERED).map(|(_, time)| time.clone());
        oldest.into_iter().chain([lately]).max().unwrap_or_default()
    }
}

/// Where this follower goes on: from now on, by arrival.
async fn now_on(args: &LogArgs, context: &Context) -> Result<Option<String>, Error> {
    let found: Page<Vec<LogEntry>> = context.client.page(&path(args, "by=arrival&after=now&limit=1000")).await?;
    Ok(found.next)
}

/// Whether there is nobody to ask for a moment, or somebody else: a dispatcher is replaced within a second when it dies.
fn is_replaced(error: &Error) -> bool {
    matches!(error, Error::Refused(problem) if matches!(problem.code, Code::NoAnswer | Code::OtherKeeper))
}

async fn followed(mut args: LogArgs, mut next: Option<String>, mut told: Told, context: &Context) -> Result<u8, Failure> {
    let mut closed = std::pin::pin!(closed());
    // What was left out at the beginning is not told later.
    let shown_since = args.newest(context.terminal.is && !context.json).map(|_| told.oldest());
    let asked_since = args.since.iter().cloned().chain(shown_since).max();
    let mut lost = false;
    loop {
        let found: Result<(Vec<LogEntry>, Option<String>), Error> = match &next {
            Some(path) => context.client.page(path).await.map(|page| (page.body, page.next)),
            // First the place, then what it may have that was not told.
            None => match now_on(&args, context).await {
                Ok(link) => {
                    args.since = asked_since.clone().into_iter().chain([told.since(Timestamp::now())]).max();
                    let missed = missed(&args, context).await;
                    args.since.clone_from(&asked_since);
                    missed.map(|entries| (entries, link))
                }
                Err(error) => Err(error),
            },
        };
        let none = match found {
            Ok((mut entries, link)) => {
                if std::mem::take(&mut lost) {
                    eprintln!("the record goes on");
                }
                let none = entries.is_empty();
                entries.retain(|entry| told.add(entry));
                show(&entries, false, context)?;
                next = link;
                none
            }
            Err(error) if is_replaced(&error) => {
                if next.take().is_some() {
                    lost = true;
                    eprintln!("whoever kept everybody's record does not answer, or has handed it over; waiting for the next");
                }
                true
            }
            Err(Error::NoNode(_)) => return Err(Failure::new(NO_NODE, "the node stopped")),
            Err(error) => return Err(error.into()),
        };
        if none {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = &mut closed => return Err(Failure::ClosedPipe),
            }
        }
    }
}

/// All of it, by time.
async fn missed(args: &LogArgs, context: &Context) -> Result<Vec<LogEntry>, Error> {
    let (mut all, mut next) = (Vec::new(), Some(path(args, "limit=1000")));
    while let Some(path) = next {
        let page: Page<Vec<LogEntry>> = context.client.page(&path).await?;
        all.extend(page.body);
        next = page.next;
    }
    Ok(all)
}

fn show(entries: &[LogEntry], head: bool, context: &Context) -> Result<(), Failure> {
    if context.json {
        return entries.iter().try_for_each(|entry| context.document(entry));
    }
    if entries.is_empty() {
        return Ok(());
    }
    let rows: Vec<[String; 4]> = entries.iter().map(row).collect();
    let table = context.terminal.table(["TIME", "PEER", "WHAT", "OF"], &rows);
    print(if head { &table } else { table.split_once('\n').map_or("", |(_, rows)| rows) })
}

fn row(entry: &LogEntry) -> [String; 4] {
    let mut of = entry.subject.clone().unwrap_or_default();
    // Keys are told apart by names; whoever needs them asks for --json.
    let told = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
        _ if name.ends_with("_id") || name == "epoch" => None,
        serde_json::Value::String(text) if entry.subject.as_ref() == Some(text) => None,
        serde_json::Value::String(text) => Some(format!("{name} {text}")),
        other => Some(format!("{name} {other}")),
    };
    let details: Vec<String> = entry.detail.as_object().into_iter().flatten().filter_map(told).collect();
    let details = if entry.doubtful { [vec!["CHANGED? see --verify".to_owned()], details].concat() } else { details };
    if !details.is_empty() {
        let apart = if of.is_empty() { "" } else { "  " };
        of = format!("{of}{apart}{}", details.join(", "));
    }
    [time(&entry.time), line(&entry.peer), line(&entry.what), line(&of)]
}

async fn verify(context: &Context) -> Result<u8, Failure> {
    let found: Verification = context.client.get("/v1/log/verification").await?;
    if context.json {
        context.document(&found)?;
    } else {
        print(&verdict(&found, context))?;
    }
    Ok(if found.good { DONE } else { REFUSED })
}

fn verdict(found: &Verification, context: &Context) -> String {
    let rows: Vec<[String; 5]> = found.chains.iter().map(chain_row).collect();
    let mut text = context.terminal.table(["PEER", "CHAIN", "ENTRIES", "LAST", "STATE"], &rows);
    for flaw in &found.flaws {
        text += &format!("{}\n", line(&flawed(flaw)));
    }
    let told = found.flaws.len() as u64;
    if found.flaws_in_all > told {
        text += &format!("and {} more\n", found.flaws_in_all - told);
    }
    if found.good {
        text += "all of it is whole: numbers, hashes and signatures\n";
    }
    text
}

fn chain_row(chain: &LogChain) -> [String; 5] {
    let mut state = if chain.good { "whole".to_owned() } else { "not whole".to_owned() };
    if chain.branch > 0 && chain.good {
        state += ", a second line under the same numbers: what it wrote before it knew that its memory had jumped back";
    }
    if chain.first_segment > 1 && chain.good {
        state += &format!(", without its first {} segments, which were let go of", chain.first_segment - 1);
    }
    match (&chain.follows, chain.follows_segment) {
        (Some(_), Some(segment)) if chain.jumped_back => {
            state += &format!(", begins anew after segment {segment} of a chain that goes on: its memory had jumped back");
        }
        (Some(_), Some(segment)) => state += &format!(", goes on after segment {segment} of the chain before"),
        _ => {}
    }
    let whose = if chain.copy { "" } else { " (own)" };
    let chain_end = chain.chain.get(chain.chain.len().saturating_sub(6)..).unwrap_or(&chain.chain);
    [
        format!("{}{whose}", line(&chain.peer)),
        line(chain_end),
        format!("{}-{}", chain.first_seq, chain.last_seq),
        time(&chain.last_at),
        state,
    ]
}

/// One sentence about what is wrong, and where.
fn flawed(flaw: &LogFlaw) -> String {
    let segments = if flaw.first_segment == flaw.last_segment {
        format!("segment {}", flaw.first_segment)
    } else {
        format!("segments {} to {}", flaw.first_segment, flaw.last_segment)
    };
    let entries = match (flaw.first_seq, flaw.last_seq) {
        (Some(first), Some(last)) if first == last => format!(" (entry {first})"),
        (Some(first), Some(last)) => format!(" (entries {first} to {last})"),
        _ => String::new(),
    };
    let kept = if flaw.copy { "the copy of the record" } else { "the record" };
    let wrong = match flaw.kind {
        LogFlawKind::Damaged => "cannot be read",
        LogFlawKind::Signature => "its signature does not fit its bytes",
        LogFlawKind::Misplaced => "stands where another belongs",
        LogFlawKind::Hash => "the later does not cite the earlier: one of the two was changed",
        LogFlawKind::Missing => "missing",
        LogFlawKind::Sequence => "its entries are not numbered on from those before",
        LogFlawKind::Index => "what orders and letters are looked up by does not name all of it: --order and --letter may miss some",
        LogFlawKind::Forked => "its author has signed others under the same numbers",
    };
    format!("{kept} of {}, chain {}: {segments}{entries}: {wrong}", flaw.peer, flaw.chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_is_with_all_of_the_second_minute_or_day_that_was_written() {
        let ms = |text: &str| crate::control::time::parse(text).expect("as written").0;
        let check = |typed: &str, within: u64| {
            let (first, last) = (instant(typed).expect(typed), last_instant(typed).expect(typed));
            assert_eq!(ms(&last) + 1 - ms(&first), within, "{typed}");
        };
        check("15:12", 60_000);
        check("15:12:48", 1_000);
        check("2026-11-23T15:12:48Z", 1_000);
        check("2026-11-23T15:12:48+02:00", 1_000);
        check("2026-11-23T15:12+02:00", 60_000);
        check("2026-11-23 15:12", 60_000);
        check("2026-11-23T15:12:48.266Z", 1);
        check("Nov 23 15:12", 60_000);
        check("5m", 1);
        let day = ms(&last_instant("2026-11-24").expect("a day")) + 1 - ms(&instant("2026-11-24").expect("a day"));
        assert!((23 * 3_600_000..=25 * 3_600_000).contains(&day), "{day}");
        assert!(["Nov 31 15:12", "15:12 Nov 23", "Nov 23"].iter().all(|bad| instant(bad).is_err()));
    }

    #[test]
    fn a_person_who_does_not_say_from_where_is_shown_the_newest() {
        #[derive(clap::Parser)]
        struct Typed {
            #[command(flatten)]
            args: LogArgs,
        }
        let check = |words: &str, terminal: bool, expected: Option<usize>| {
            let typed = <Typed as clap::Parser>::try_parse_from(words.split(' ')).expect(words);
            assert_eq!(typed.args.newest(terminal), expected, "{words}");
        };
        check("log", true, Some(SCREEN));
        check("log", false, None);
        check("log --what letter --peer ada --until 5m", true, Some(SCREEN));
        for whole in ["log --since 1h", "log --order 3", "log --letter 4kq7", "log --limit all"] {
            check(whole, true, None);
        }
        check("log --limit 7 --since 1h", false, Some(7));
        for bad in ["0", "-1", "100001", "some", ""] {
            assert!(limit(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_what_people_type() {
        for good in
            ["5m", "2026-11-23", "15:12", "15:12:48", "2026-11-23T15:12:48", "2026-11-23T15:12:48.266Z", "2026-11-23T15:12:48+02:00"]
        {
            assert!(instant(good).is_ok_and(|text| text.ends_with('Z')), "{good}");
        }
        assert_eq!(instant("2026-11-23T15:12:48.266Z").as_deref(), Ok("2026-11-23T15:12:48.266Z"));
        for bad in ["", "5", "yesterday", "25:00", "2026-13-01", "1"] {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entry_is_one_line_whatever_is_in_it() {
        let entry = LogEntry {
            peer: "markus".to_owned(),
            peer_id: "12D3KooW".to_owned(),
            chain: "1".to_owned(),
            branch: 0,
            seq: 7,
            time: "1970-01-01T00:00:00.000Z".to_owned(),
            what: "unit_ended".to_owned(),
            subject: Some("markus/3.1".to_owned()),
            doubtful: false,
            detail: serde_json::json!({"order": 3, "why": "no such\nfile", "worker_id": "12D3", "exit_code": null}),
        };
        assert_eq!(row(&entry)[1..], ["markus", "unit_ended", "markus/3.1  order 3, why no such⏎file"]);
    }

    #[test]
    fn a_flaw_names_node_and_entry() {
        let flaw = LogFlaw {
            peer: "nikki-pi".to_owned(),
            peer_id: String::new(),
            chain: "77".to_owned(),
            copy: true,
            first_segment: 5,
            last_segment: 5,
            first_seq: Some(9),
            last_seq: Some(11),
            kind: LogFlawKind::Signature,
        };
        assert_eq!(
            flawed(&flaw),
            "the copy of the record of nikki-pi, chain 77: segment 5 (entries 9 to 11): its signature does not fit its bytes"
        );
    }
}
