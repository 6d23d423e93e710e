//! SERVICE and all that stands after it.
//! Knows nothing of what the words mean to the service. What could be meant for `order` itself is asked about, not guessed.

use protocol::service::ServiceName;

use super::super::failure::Failure;

/// What separates arguments from items.
const ITEMS: &str = ":::";
/// What says that all after it is for the service.
const PLAIN: &str = "--";
/// Characters of a suggestion (guess: a line).
const SHOWN: usize = 80;

/// What was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// What to order.
    pub(super) service: String,
    /// What it is told.
    pub(super) args: Vec<String>,
    /// What stood after `:::`.
    pub(super) items: Option<Vec<String>>,
}

/// Splits what stands after the options of `order`; `own` are these, as they are typed.
pub(super) fn split(words: &[String], own: &[String]) -> Result<Words, Failure> {
    let Some((service, rest)) = words.split_first() else { return Err(Failure::usage("what should be ordered?")) };
    if service.starts_with('-') {
        let known = "options stand before SERVICE: see node order --help";
        return Err(Failure::usage(format!("order has no option {service}")).next(known));
    }
    if service == ITEMS {
        return Err(Failure::usage("what should be ordered? nothing stands before :::").next("like this: node order SERVICE {} ::: ITEM…"));
    }
    if let Err(error) = service.parse::<ServiceName>() {
        return Err(Failure::usage(format!("{service:?} cannot be a service: {error}")).next("what can be ordered: node services"));
    }
    let (plain, rest) = match rest.split_first() {
        Some((first, rest)) if first == PLAIN => (true, rest),
        _ => (false, rest),
    };
    // After a `--` of the service's own, what follows is not ours.
    let checked = rest.iter().take_while(|word| *word != PLAIN);
    if let Some(meant) = checked.filter(|_| !plain).find(|word| own.contains(&option(word).to_owned())) {
        let option = option(meant);
        return Err(Failure::usage(format!("{option} is an option of order, and stands among what {service} is told"))
            .next(format!("put `{option}` before `{service}`, or write `order {service} -- {}`", joined(rest))));
    }
    let (args, items) = match rest.iter().position(|word| word == ITEMS) {
        None => (rest, None),
        Some(at) => (&rest[..at], Some(rest[at + 1..].to_vec())),
    };
    if items.as_ref().is_some_and(Vec::is_empty) {
        return Err(Failure::usage("no item stands after :::").next("nothing was ordered; did a pattern like *.png find nothing?"));
    }
    if items.iter().flatten().any(|item| item == ITEMS) {
        return Err(Failure::usage("::: stands twice: all after the first are items, and units of two items each are not made")
            .next("nothing was ordered; items that are called so: --each-line FILE"));
    }
    Ok(Words { service: service.clone(), args: args.to_vec(), items })
}

/// `--timeout=5s` is `--timeout`.
fn option(word: &str) -> &str {
    word.split_once('=').map_or(word, |(option, _)| option)
}

/// As it could be typed again; what is long is not shown whole.
fn joined(words: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+%@{}".contains(c);
    let quoted = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let text = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Result<Words, String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let own = ["--wait", "--timeout", "--json"].map(str::to_owned);
        split(&words, &own).map_err(|failure| {
            assert_eq!(failure.exit(), 2, "{text}");
            failure.for_people().unwrap_or_default()
        })
    }

    #[test]
    fn all_after_the_service_is_for_the_service() {
        for (text, args, items) in [
            ("coffee", "", None),
            ("coffee latte --no-milk", "latte --no-milk", None),
            ("coffee -x --help -- y", "-x --help -- y", None),
            ("coffee -- latte --wait", "latte --wait", None),
            ("coffee -- -- --wait", "-- --wait", None),
            ("coffee run -- --wait", "run -- --wait", None),
            ("coffee --waiting", "--waiting", None),
            ("coffee a:::b", "a:::b", None),
            ("resize {} 800 ::: a.png b.png", "{} 800", Some("a.png b.png")),
            ("resize ::: a", "", Some("a")),
            ("resize -- --wait ::: a --json", "--wait", Some("a --json")),
        ] {
            let words = typed(text).expect(text);
            let all = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!((words.args, words.items), (all(args), items.map(all)), "{text}");
        }
    }

    #[test]
    fn an_option_of_order_among_the_arguments_is_asked_about() {
        assert_eq!(
            typed("coffee latte --wait").expect_err("ambiguous"),
            "error: --wait is an option of order, and stands among what coffee is told\n  \
             put `--wait` before `coffee`, or write `order coffee -- latte --wait`"
        );
        for text in ["coffee --timeout 5s", "coffee --timeout=5s", "coffee a --json", "resize {} ::: a --wait"] {
            assert!(typed(text).expect_err(text).contains("is an option of order"), "{text}");
        }
        let quoted = split(&["coffee", "two words", "it's", "--wait"].map(str::to_owned), &["--wait".to_owned()]);
        assert!(quoted.expect_err("ambiguous").for_people().is_some_and(|text| text.contains("-- 'two words' 'it'\\''s' --wait`")));
    }

    #[test]
    fn what_cannot_be_ordered_is_said_before_anything_is_sent() {
        for (text, says) in [
            ("--wiat coffee", "order has no option --wiat"),
            ("-x", "order has no option -x"),
            ("::: a", "nothing stands before :::"),
            ("a@b", "cannot be a service"),
            ("a/b", "cannot be a service"),
            ("a:b", "cannot be a service"),
            (".a", "cannot be a service"),
            ("swarm", "has a meaning of its own"),
            ("\u{202e}x", "cannot be a service"),
            (&"x".repeat(65), "at most 64 bytes"),
            ("coffee :::", "no item stands after :::"),
            ("resize {} ::: a ::: b", "::: stands twice"),
            ("resize {} ::: :::", "::: stands twice"),
        ] {
            let said = typed(text).expect_err(text);
            assert!(said.contains(says), "{text}: {said}");
        }
        assert!(split(&[String::new()], &[]).is_err() && split(&["a b".to_owned()], &[]).is_err());
    }
}
