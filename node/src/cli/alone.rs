//! What a node that sees nobody has tried, and what to type: for `run` after ten seconds, and for `status`.
//! Tries nothing. Said only where nobody is there: whoever sees others does not need it.

use std::time::Duration;

use super::peers::host_port;
use super::terminal::line;
use crate::control::api::Search;

/// How long a node is alone before that is a question (DESIGN 8).
pub(crate) const ALONE: Duration = Duration::from_secs(10);

/// Lines of a label and a text each.
pub(crate) fn told(search: &Search, addresses: &[String], swarm: &str, open: bool) -> String {
    let mut lines = vec![("alone", multicast(search))];
    if search.dials > 0 {
        lines.push(("dialled", dialled(search)));
    }
    for other in &search.other_swarms {
        lines.push((
            "others",
            if other == swarm {
                "a node of this swarm speaks another version: let both run the same one (node --version)".to_owned()
            } else {
                format!("a node of the swarm \"{0}\" is here; to join that one: node run --swarm {0}", line(other))
            },
        ));
    }
    if search.strangers > 0 && search.other_swarms.is_empty() {
        lines.push((
            "others",
            format!("{} here that {} not of this swarm", nodes(search.strangers), if search.strangers == 1 { "is" } else { "are" }),
        ));
    }
    let ports: std::collections::BTreeSet<&str> = addresses.iter().filter_map(|address| address.split("/tcp/").nth(1)).collect();
    if !ports.is_empty() {
        let ports: Vec<&str> = ports.into_iter().collect();
        lines.push(("port", format!("{} (TCP): does a firewall let it in, here and at the others?", line(&ports.join(", ")))));
    }
    let here = addresses.first().map_or_else(|| "HOST".to_owned(), |address| line(&host_port(address)));
    let key = if open { "without a key" } else { "with the same key" };
    lines.push(("next", format!("at another node: node connect {here}   or here: node connect ADDRESS, as its banner shows it")));
    lines.push(("", format!("is the other one of the swarm \"{}\", {key}?", line(swarm))));
    lines.iter().map(|(label, text)| format!("  {label:<9}{text}\n")).collect()
}

fn multicast(search: &Search) -> String {
    if !search.multicast {
        return "nobody is seen; nobody is looked for by multicast (--no-mdns)".to_owned();
    }
    if search.interfaces.is_empty() {
        return "nobody is seen; this machine is in no network: no interface has an IPv4 address".to_owned();
    }
    let places: Vec<String> =
        search.interfaces.iter().map(|interface| format!("{} ({})", line(&interface.name), interface.addresses.join(", "))).collect();
    let sent = match search.multicast_sent {
        Some(0) => "no packet went out".to_owned(),
        Some(1) => "1 packet sent by this machine".to_owned(),
        Some(sent) => format!("{sent} packets sent by this machine"),
        None => "asked".to_owned(),
    };
    let heard = match search.multicast_heard {
        0 => "no node heard: many networks block it".to_owned(),
        heard => format!("{} heard, of this swarm or of others", nodes(heard)),
    };
    format!("nobody is seen; multicast on {}: {sent}, {heard}", places.join(", "))
}

fn dialled(search: &Search) -> String {
    let mut text = format!("{} tried, {} failed", times(search.dials), times(search.dials_failed));
    if search.mismatches > 0 {
        text += &format!("; {} somebody answered with another swarm key, another version or as somebody else", times(search.mismatches));
    }
    text
}

fn nodes(count: u64) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::Interface;

    #[test]
    fn whoever_is_alone_reads_what_was_tried_and_what_to_type() {
        let addresses = ["/ip4/192.168.1.17/tcp/6174".to_owned()];
        let mut search = Search { multicast: true, ..Search::default() };
        let text = told(&search, &addresses, "lan", true);
        assert!(text.contains("no interface has an IPv4 address"), "{text}");
        search.interfaces = vec![Interface { name: "eth0".to_owned(), addresses: vec!["192.168.1.17".to_owned()] }];
        search.multicast_sent = Some(12);
        assert_eq!(
            told(&search, &addresses, "lan", true),
            "  alone    nobody is seen; multicast on eth0 (192.168.1.17): 12 packets sent by this machine, no node heard: many networks block it\n  \
             port     6174 (TCP): does a firewall let it in, here and at the others?\n  \
             next     at another node: node connect 192.168.1.17:6174   or here: node connect ADDRESS, as its banner shows it\n           \
             is the other one of the swarm \"lan\", without a key?\n"
        );
        (search.multicast_heard, search.dials, search.dials_failed, search.mismatches) = (1, 3, 2, 1);
        search.other_swarms = vec!["lan".to_owned(), "off\u{1b}ice".to_owned()];
        let text = told(&search, &addresses, "lan", false);
        assert!(
            text.contains("1 node heard") && text.contains("3 times tried, 2 times failed; once somebody answered with another swarm key"),
            "{text}"
        );
        assert!(
            text.contains("speaks another version")
                && text.contains("node run --swarm off\\u{1b}ice")
                && text.contains("with the same key"),
            "{text}"
        );
        search = Search { strangers: 2, ..Search::default() };
        let text = told(&search, &[], "lan", true);
        assert!(
            text.contains("(--no-mdns)") && text.contains("2 nodes here that are not of this swarm") && text.contains("connect HOST"),
            "{text}"
        );
    }
}
