//! `send --batch`, `order --batch`: JSON lines from stdin go to the node as they come, ids or numbers come back in the same order.
//! Knows nothing of what is in a line. A line that is refused is reported with its number and harms no other.

use std::io::{BufWriter, Read, Write};

use bytes::Bytes;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::Context;
use super::failure::{DONE, Failure, REFUSED};
use super::terminal::line;
use crate::control::api::{BatchAccepted, BatchPlaced};
use crate::control::problem::Problem;

/// Read from stdin at once.
const PIECE: usize = 64 * 1024;

/// What was accepted, as it is printed for people and programs.
enum Accepted {
    Letter(String),
    Order(u64),
}

pub(super) async fn letters(context: &Context) -> Result<u8, Failure> {
    let accepted = |line: &[u8]| serde_json::from_slice::<BatchAccepted>(line).ok().map(|letter| Accepted::Letter(letter.id));
    execute(context, "/v1/letters/batch", accepted).await
}

pub(super) async fn orders(context: &Context) -> Result<u8, Failure> {
    let accepted = |line: &[u8]| serde_json::from_slice::<BatchPlaced>(line).ok().map(|placed| Accepted::Order(placed.order));
    execute(context, "/v1/orders/batch", accepted).await
}

async fn execute(context: &Context, path: &str, accepted: fn(&[u8]) -> Option<Accepted>) -> Result<u8, Failure> {
    let (pieces, input) = mpsc::channel(8);
    // A thread of its own: reading stdin cannot be given up, and must not hold up the end of this program.
    std::thread::spawn(move || read(&pieces));
    let input = stream::unfold(input, |mut input| async move { input.recv().await.map(|piece| (piece, input)) });
    let mut lines = context.client.batch(path, StreamBody::new(input)).await?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut refused = 0u64;
    while let Some(text) = lines.next().await? {
        match accepted(&text) {
            Some(Accepted::Letter(id)) if context.json => writeln!(out, "{{\"id\":\"{id}\"}}")?,
            Some(Accepted::Letter(id)) => writeln!(out, "{id}")?,
            Some(Accepted::Order(number)) if context.json => writeln!(out, "{{\"order\":{number}}}")?,
            Some(Accepted::Order(number)) => writeln!(out, "{number}")?,
            None => {
                refused += 1;
                out.flush()?;
                report(&text, context.json);
            }
        }
        if !lines.more_is_here() {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(if refused == 0 { DONE } else { REFUSED })
}

fn report(text: &[u8], json: bool) {
    let text = String::from_utf8_lossy(text);
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) if !json => {
            // One line of output for one of input; what to do next is the same for many.
            let number = problem.line.unwrap_or(0);
            let said = Failure::from(problem).in_line(number).for_people().unwrap_or_default();
            eprintln!("{}", said.lines().next().unwrap_or_default());
        }
        Ok(_) => eprintln!("{text}"),
        Err(_) => eprintln!("error: the node said something that is not understood: {}", line(&text)),
    }
}

fn read(pieces: &mpsc::Sender<Result<Frame<Bytes>, std::io::Error>>) {
    let mut input = std::io::stdin().lock();
    let mut buffer = vec![0; PIECE];
    loop {
        let piece = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => Ok(Frame::data(Bytes::copy_from_slice(&buffer[..read]))),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let over = piece.is_err();
        if pieces.blocking_send(piece).is_err() || over {
            return;
        }
    }
}
