//! `send --batch`, `order --batch`: JSON lines from stdin go to the node as they come, ids or numbers come back in the same order.
//! Knows nothing of what is in a line but which service it orders. A line that is refused is reported with its number and harms no
//! other. With `--json` the answer to each is one line of the same output, whatever it is.

use std::collections::BTreeSet;
use std::io::{BufWriter, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::failure::{DONE, Failure, REFUSED};
use super::terminal::line;
use super::{Context, order};
use crate::control::api::{BatchAccepted, BatchPlaced};
use crate::control::problem::Problem;

/// Read from stdin at once.
const PIECE: usize = 64 * 1024;

/// Services that are remembered, so that it can be said which of them nobody offers (guess: more would not be read).
const SERVICES: usize = 100;

/// What the lines are.
#[derive(Clone, Copy)]
enum Kind {
    Letters,
    Orders,
}

/// What was accepted.
enum Accepted {
    Letter(String),
    Order(u64),
}

pub(super) async fn letters(context: &Context) -> Result<u8, Failure> {
    execute(context, Kind::Letters).await
}

pub(super) async fn orders(context: &Context) -> Result<u8, Failure> {
    execute(context, Kind::Orders).await
}

impl Kind {
    fn path(self) -> &'static str {
        match self {
            Kind::Letters => "/v1/letters/batch",
            Kind::Orders => "/v1/orders/batch",
        }
    }

    fn accepted(self, line: &[u8]) -> Option<Accepted> {
        match self {
            Kind::Letters => serde_json::from_slice::<BatchAccepted>(line).ok().map(|letter| Accepted::Letter(letter.id)),
            Kind::Orders => serde_json::from_slice::<BatchPlaced>(line).ok().map(|placed| Accepted::Order(placed.order)),
        }
    }

    /// No line came. Whoever pipes something in expects that something comes of it.
    fn nothing(self) -> Failure {
        match self {
            Kind::Letters => Failure::usage("no letters stand on standard input")
                .next("a letter a line, like this: {\"to\":[\"nikki-pi\"],\"payload\":\"Hello\"}"),
            Kind::Orders => Failure::usage("no orders stand on standard input")
                .next("an order a line, like this: {\"service\":\"coffee\",\"args\":[\"latte\"]}"),
        }
    }
}

async fn execute(context: &Context, kind: Kind) -> Result<u8, Failure> {
    let (pieces, input) = mpsc::channel(8);
    // A thread of its own: reading stdin cannot be given up, and must not hold up the end of this program.
    let services = Arc::new(Mutex::new(Services::default()));
    let seen = Arc::clone(&services);
    std::thread::spawn(move || {
        read(&pieces, |piece| {
            if matches!(kind, Kind::Orders) {
                lock(&seen).note(piece)
            }
        })
    });
    let input = stream::unfold(input, |mut input| async move { input.recv().await.map(|piece| (piece, input)) });
    let mut lines = context.client.batch(kind.path(), StreamBody::new(input)).await?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let (mut answered, mut refused) = (0u64, 0u64);
    while let Some(text) = lines.next().await? {
        answered += 1;
        let accepted = kind.accepted(&text);
        refused += u64::from(accepted.is_none());
        match accepted {
            _ if context.json => {
                out.write_all(&text)?;
                out.write_all(b"\n")?;
            }
            Some(Accepted::Letter(id)) => writeln!(out, "{id}")?,
            Some(Accepted::Order(number)) => writeln!(out, "{number}")?,
            None => {
                out.flush()?;
                report(&text);
            }
        }
        if !lines.more_is_here() {
            out.flush()?;
        }
    }
    out.flush()?;
    if answered == 0 {
        return Err(kind.nothing());
    }
    let named = std::mem::take(&mut lock(&services).named);
    for service in named {
        if let Some(said) = order::unheard_of(&service, "what was ordered of it", context).await {
            order::warn(&said, context);
        }
    }
    Ok(if refused == 0 { DONE } else { REFUSED })
}

fn report(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => {
            // One line of output for one of input; what to do next is the same for many.
            let number = problem.line.unwrap_or(0);
            let said = Failure::from(problem).in_line(number).for_people().unwrap_or_default();
            eprintln!("{}", said.lines().next().unwrap_or_default());
        }
        Err(_) => eprintln!("error: the node said something that is not understood: {}", line(&text)),
    }
}

/// The services that lines name: of those that nobody offers it is said.
#[derive(Default)]
struct Services {
    named: BTreeSet<String>,
    /// The line that is not complete yet.
    rest: Vec<u8>,
}

impl Services {
    fn note(&mut self, mut piece: &[u8]) {
        #[derive(serde::Deserialize)]
        struct Named<'a> {
            #[serde(borrow)]
            service: std::borrow::Cow<'a, str>,
        }
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, more) = piece.split_at(end + 1);
            self.rest.extend_from_slice(line);
            // What is no order is refused by the node, in better words.
            if let Ok(Named { service }) = serde_json::from_slice(&self.rest)
                && self.named.len() < SERVICES
                && !self.named.contains(service.as_ref())
            {
                self.named.insert(service.into_owned());
            }
            self.rest.clear();
            piece = more;
        }
        self.rest.extend_from_slice(piece);
    }
}

fn lock(services: &Mutex<Services>) -> MutexGuard<'_, Services> {
    services.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(pieces: &mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>, seen: impl Fn(&[u8])) {
    let mut input = std::io::stdin().lock();
    let mut buffer = vec![0; PIECE];
    loop {
        let piece = match input.read(&mut buffer) {
            // The last line may have no end.
            Ok(0) => return seen(b"\n"),
            Ok(read) => Ok(Frame::data(Bytes::copy_from_slice(&buffer[..read]))),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let over = piece.is_err();
        if let Ok(Some(bytes)) = piece.as_ref().map(Frame::data_ref) {
            seen(bytes);
        }
        if pieces.blocking_send(piece).is_err() || over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_of_a_batch_are_known_however_its_lines_come() {
        let text = br#"{"service":"tea","args":["hot"]}
nonsense

{"args":[],"service":"coff\u0065e"}
{"service":"tea"}
"#;
        for size in [1, 7, 1_000] {
            let mut services = Services::default();
            text.chunks(size).for_each(|piece| services.note(piece));
            assert!(services.named.iter().eq(["coffee", "tea"]), "{:?}", services.named);
        }
    }
}
