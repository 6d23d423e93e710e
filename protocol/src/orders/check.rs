//! What an order may hold, as sentences for its user.
//! Knows nothing of other orders. What passes here keeps the limits that every peer checks.

use std::time::Duration;

use crate::config::limits;
use crate::effect::Refusal;
use crate::input::NewOrder;
use crate::order::filled_bytes;

/// Whether an order can be placed at all.
///
/// # Errors
/// The first limit that it breaks; nothing was kept.
pub(super) fn check(order: &NewOrder) -> Result<(), Refusal> {
    let NewOrder { service: _, args, items, stdin, priority: _, needs, once, expires, key: _ } = order;
    if *once {
        return Err(Refusal::Once);
    }
    if *expires == Some(Duration::ZERO) {
        return Err(Refusal::Expires);
    }
    if expires.is_some_and(|expires| expires > limits::ORDER_EXPIRES) {
        return Err(Refusal::ExpiresLate { days: limits::ORDER_EXPIRES.as_secs() / 86_400 });
    }
    if args.iter().chain(items).any(|text| text.contains('\0')) {
        return Err(Refusal::Nul);
    }
    let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    let longest = |texts: &[String]| texts.iter().map(String::len).max().unwrap_or(0);
    at_most(args.len(), limits::ORDER_ARGS, |n| format!("{n} arguments"))?;
    at_most(bytes(args), limits::ORDER_ARGS_BYTES, |n| format!("{n} bytes of arguments"))?;
    at_most(longest(args), limits::ORDER_ARG_BYTES - 1, |n| format!("an argument of {n} bytes"))?;
    at_most(items.len(), limits::ORDER_UNITS, |n| format!("{n} items"))?;
    at_most(bytes(items), limits::ORDER_ITEMS_BYTES, |n| format!("{n} bytes of items"))?;
    at_most(longest(items), limits::ORDER_ARG_BYTES - 1, |n| format!("an item of {n} bytes"))?;
    at_most(filled_bytes(args, items), limits::ORDER_ARGS_BYTES, |n| format!("{n} bytes of arguments once its longest item is filled in"))?;
    at_most(stdin.as_ref().map_or(0, Vec::len), limits::ORDER_STDIN_BYTES, |n| format!("{n} bytes of standard input"))?;
    at_most(needs.software.len(), limits::SOFTWARE, |n| format!("{n} words of software"))?;
    let word = needs.software.iter().map(String::len).max().unwrap_or(0);
    at_most(word, limits::SOFTWARE_BYTES, |n| format!("a word of software of {n} bytes"))
}

/// Bytes of all that its user wrote into it, as [`Order::bytes`](crate::order::Order::bytes) counts them.
pub(super) fn bytes(order: &NewOrder) -> usize {
    let texts = order.args.iter().chain(&order.items).chain(&order.needs.software);
    texts.map(String::len).sum::<usize>() + order.stdin.as_ref().map_or(0, Vec::len)
}

fn at_most(count: usize, limit: usize, what: impl Fn(usize) -> String) -> Result<(), Refusal> {
    if count <= limit { Ok(()) } else { Err(Refusal::OrderTooLarge { what: what(count), limit }) }
}
