//! `status`: what the node is and sees, and a way to wait until it sees enough.
//! Changes nothing. With `--until-peers` it answers when so many are available, or when patience ends.

use std::time::Duration;

use clap::Args;
use protocol::Timestamp;

use super::Context;
use super::alone::{ALONE, told};
use super::failure::{DONE, Failure, PENDING};
use super::peers::host_port;
use super::places::typed;
use super::sent::time;
use super::terminal::{line, print};
use super::words::duration;
use crate::control::api::Status;

/// Between two looks (guess: less than anyone notices, and nothing to the node).
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Wait until so many others are available
    #[arg(long, value_name = "N")]
    until_peers: Option<usize>,
    /// How long to wait: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "D", value_parser = duration, requires = "until_peers")]
    timeout: Option<Duration>,
}

pub(super) async fn execute(args: StatusArgs, context: &Context) -> Result<u8, Failure> {
    let began = tokio::time::Instant::now();
    let (status, enough) = loop {
        let status: Status = context.client.get("/v1/status").await?;
        let enough = args.until_peers.is_none_or(|wanted| status.peers.available >= wanted);
        if enough || args.timeout.is_some_and(|patience| began.elapsed() >= patience) {
            break (status, enough);
        }
        tokio::time::sleep(LOOK).await;
    };
    if context.json {
        context.document(&status)?;
    } else {
        print(&typed(&shown(&status, crate::control::time::now())))?;
    }
    if enough {
        return Ok(DONE);
    }
    let wanted = args.until_peers.unwrap_or_default();
    Err(Failure::new(PENDING, format!("{} of {wanted} peers are available", status.peers.available))
        .next("to reach a node that is not found by itself: node connect HOST"))
}

fn shown(status: &Status, now: Timestamp) -> String {
    let tail = status.peer.id.get(status.peer.id.len().saturating_sub(8)..).unwrap_or_default();
    let open = if status.open { "open: anyone on this LAN may join" } else { "closed: only with its key" };
    let mut text = format!("{}@{tail}  swarm \"{}\" ({open})\n", line(&status.peer.name), line(&status.swarm));
    for address in &status.addresses {
        text += &format!("  address  {}\n", line(&host_port(address)));
    }
    for missing in &status.unreached {
        text += &format!("  tried    {}: nobody is reached yet: {}\n", line(&host_port(&missing.address)), line(&missing.why));
    }
    let began = crate::control::time::parse(&status.started_at).unwrap_or(now);
    if status.peers.available == 0 && now.0.saturating_sub(began.0) >= ALONE.as_millis() as u64 {
        text += &told(&status.search, &status.addresses, &status.swarm, status.open);
    }
    let unread = if status.letters.unread > 0 { format!(" ({} not read)", status.letters.unread) } else { String::new() };
    let waiting = if status.letters.waiting > 0 { format!(" ({} not delivered yet)", status.letters.waiting) } else { String::new() };
    text += &format!("  peers    {} available, {} known\n", status.peers.available, status.peers.known);
    text += &format!("  letters  {} in the inbox{unread}, {} sent{waiting}\n", status.letters.inbox, status.letters.sent);
    let open = if status.orders.open > 0 { format!("{} open", status.orders.open) } else { "none open".to_owned() };
    let dispatcher = match &status.dispatcher {
        Some(dispatcher) => format!("{} is dispatcher (term {})", line(&dispatcher.name), dispatcher.term),
        None => "nobody is dispatcher now".to_owned(),
    };
    let queued = if status.orders.queued > 0 { format!(", {} in its queue here", status.orders.queued) } else { String::new() };
    text += &format!("  orders   {open}; {dispatcher}{queued}\n");
    if status.orders.offers > 0 {
        let plural = if status.orders.offers == 1 { "" } else { "s" };
        let draining = if status.orders.draining { "; nothing new is taken, end that with: node drain --off" } else { "" };
        text += &format!("  offers   {} service{plural}{draining}\n", status.orders.offers);
    }
    if status.letters.held_bundles > 0 {
        let plural = if status.letters.held_bundles == 1 { "" } else { "s" };
        text += &format!(
            "  holds    {} bundle{plural} ({}) of letters for others who are away; nobody here can read them\n",
            status.letters.held_bundles,
            size(status.letters.held_bytes)
        );
    }
    if status.cloned {
        text += "  warning  runs twice: another copy of this node is running with the same key, and neither takes or sends letters;\n           \
                 stop one of the two, give it a directory of its own, then restart the other\n";
    }
    if !status.available {
        text += "  signals  not available: letters wait elsewhere; end it with: node available yes\n";
    }
    if status.inactive {
        text += "  signals  inactive: letters may not be read soon; end it with: node inactive no\n";
    }
    if !status.refused.is_empty() {
        let causes: Vec<String> = status.refused.iter().map(|(cause, count)| format!("{} {count}", line(cause))).collect();
        text += &format!("  refused  {} (from others, since the start; nothing changed by it)\n", causes.join(", "));
    }
    let low = if status.disk.low { ": too little, nothing new is accepted" } else { "" };
    text += &format!("  disk     {} used, {} free{low}\n", size(status.disk.database_bytes), size(status.disk.free_bytes));
    let record = &status.record;
    if record.segments > 0 {
        let whose = record.oldest_of.as_deref().filter(|of| *of != status.peer.name);
        let whose = whose.map(|of| format!(" (entries of {})", line(of))).unwrap_or_default();
        let since = record.oldest_at.as_deref().map(|oldest| format!(" since {}{whose}", time(oldest))).unwrap_or_default();
        let (days, most) = (record.limit_seconds / 86_400, size(record.limit_bytes));
        text += &format!("  record   {}{since}; beyond {most} or {days} days the oldest goes\n", size(record.bytes));
    }
    text += &format!("  data     {}\n", line(&status.data_dir));
    text + &format!("  running  {} since {}\n", status.version, time(&status.started_at))
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes / 1_048_576),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{Disk, Dispatcher, LetterCounts, Me, Missing, OrderCounts, PeerCounts, RecordRoom};

    #[test]
    fn a_status_says_what_is_out_of_the_ordinary() {
        let mut status = Status {
            peer: Me { id: "12D3KooWKx9Ta7f3".to_owned(), name: "markus".to_owned() },
            swarm: "lan".to_owned(),
            open: true,
            addresses: vec!["/ip4/192.168.1.17/tcp/6174".to_owned()],
            peers: PeerCounts { available: 1, known: 2 },
            dispatcher: None,
            epoch: "1".to_owned(),
            version: "0.1.0".to_owned(),
            available: true,
            inactive: false,
            letters: LetterCounts { inbox: 3, unread: 0, sent: 4, waiting: 0, waiting_bytes: 0, held_bundles: 0, held_bytes: 0 },
            orders: OrderCounts::default(),
            cloned: false,
            record: RecordRoom::default(),
            disk: Disk { low: false, database_bytes: 2 << 20, free_bytes: 3 << 30 },
            refused: std::collections::BTreeMap::new(),
            unreached: Vec::new(),
            search: crate::control::api::Search::default(),
            data_dir: "/d".to_owned(),
            started_at: "1970-01-01T00:00:00.000Z".to_owned(),
            boot: 1,
        };
        assert_eq!(
            shown(&status, Timestamp(0)),
            "markus@Kx9Ta7f3  swarm \"lan\" (open: anyone on this LAN may join)\n  \
             address  192.168.1.17:6174\n  \
             peers    1 available, 2 known\n  \
             letters  3 in the inbox, 4 sent\n  \
             orders   none open; nobody is dispatcher now\n  \
             disk     2 MiB used, 3.0 GiB free\n  \
             data     /d\n  \
             running  0.1.0 since 1970-01-01\n"
        );
        assert!(!shown(&status, Timestamp(9_000)).contains("alone"), "somebody is here");
        status.peers.available = 0;
        assert!(!shown(&status, Timestamp(9_000)).contains("alone"), "it has not looked for long");
        assert!(shown(&status, Timestamp(10_000)).contains("  alone    nobody is seen"));
        status.unreached = vec![Missing { address: "/dns/nikki/tcp/6174".to_owned(), why: "the name nikki cannot be resolved".to_owned() }];
        assert!(shown(&status, Timestamp(0)).contains("  tried    nikki:6174: nobody is reached yet: the name nikki cannot be resolved\n"));
        status.available = false;
        status.disk.low = true;
        status.cloned = true;
        status.letters.waiting = 2;
        (status.letters.held_bundles, status.letters.held_bytes) = (12, 3 << 20);
        status.refused.insert("sealed".to_owned(), 3);
        status.orders = OrderCounts { open: 2, queued: 5, offers: 1, draining: true };
        let since_at = "1970-01-01T00:00:00.000Z".to_owned();
        status.dispatcher = Some(Dispatcher { id: "x".to_owned(), name: "nikki-pi".to_owned(), term: 3, since_at, standbys: Vec::new() });
        let (oldest_at, oldest_of) = (Some("1970-01-01T00:00:00.000Z".to_owned()), Some("nikki-pi".to_owned()));
        status.record = RecordRoom { segments: 3, bytes: 5 << 20, limit_bytes: 1 << 30, limit_seconds: 86_400, oldest_at, oldest_of };
        let text = shown(&status, Timestamp(0));
        assert!(text.contains("record   5 MiB since 1970-01-01 (entries of nikki-pi); beyond 1.0 GiB or 1 days"), "{text}");
        assert!(text.contains("warning  runs twice: another copy"), "{text}");
        assert!(text.contains("not available:") && text.contains("too little") && text.contains("(2 not delivered yet)"), "{text}");
        assert!(text.contains("holds    12 bundles (3 MiB) of letters for others"), "{text}");
        assert!(text.contains("orders   2 open; nikki-pi is dispatcher (term 3), 5 in its queue here\n"), "{text}");
        assert!(text.contains("offers   1 service; nothing new is taken"), "{text}");
        assert!(text.contains("refused  sealed 3 (from others"), "{text}");
    }
}
