//! Durations and yes-or-no as people type them.
//! Knows nothing of options. A number without a unit is refused: nobody agrees on what it would mean.

use std::time::Duration;

/// The text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a duration is a number and a unit, like 30s, 5m, 2h or 1d")]
pub(super) struct DurationError;

/// `30s 5m 2h 1d`.
///
/// # Errors
/// It is none of these.
pub(super) fn duration(text: &str) -> Result<Duration, DurationError> {
    let unit = text.chars().last().ok_or(DurationError)?;
    let number = text.strip_suffix(unit).filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())).ok_or(DurationError)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(DurationError),
    };
    let number: u64 = number.parse().map_err(|_| DurationError)?;
    // A hundred years is as good as for ever, and no clock overflows.
    number.checked_mul(seconds).filter(|all| *all <= 100 * 366 * 86_400).map(Duration::from_secs).ok_or(DurationError)
}

/// The beginning of a letter's id.
///
/// # Errors
/// It cannot be one.
pub(super) fn letter(text: &str) -> Result<String, &'static str> {
    let digit = |c: char| c.is_ascii_alphanumeric() && !"ilouILOU".contains(c);
    if (4..=26).contains(&text.len()) && text.chars().all(digit) {
        return Ok(text.to_owned());
    }
    Err("a letter's id has 26 characters of 0-9 and a-z without i, l, o and u; its first four may be enough: see node inbox, node sent")
}

/// `yes` or `no`.
///
/// # Errors
/// It is neither.
pub(super) fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no is expected"),
    }
}

/// A duration, briefly: `3 ms`, `4.2 s`, `5 min`.
#[must_use]
pub(super) fn brief(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        ms @ 1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        ms => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("2h", 7_200), ("1d", 86_400), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "30", "s", "-1s", "1.5s", "1 s", "+1s", "10ms", "1w", "1S", "99999999999d", "99999999999999999999s", "é", "1é"] {
            assert_eq!(duration(text), Err(DurationError), "{text:?}");
        }
    }

    #[test]
    fn an_id_has_at_least_four_of_its_characters() {
        for good in ["4kq7", "4KQ7T2MX", "4kq7t2mx000000000000000000"] {
            assert_eq!(letter(good).as_deref(), Ok(good));
        }
        for bad in ["", "4kq", "ilou", "4kq7/", "..", "4kq7t2mx0000000000000000000", "ééé"] {
            assert!(letter(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_told_briefly() {
        for (ms, expected) in [(3, "3 ms"), (1_234, "1.2 s"), (300_000, "5 min")] {
            assert_eq!(brief(Duration::from_millis(ms)), expected);
        }
    }
}
