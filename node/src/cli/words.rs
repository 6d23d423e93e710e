//! Durations and yes-or-no as people type them.
//! Knows nothing of options. A number without a unit is refused: nobody agrees on what it would mean.

use std::time::Duration;

use protocol::config::limits;

/// The text is no duration of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DurationError {
    #[error("a duration is a number and a unit, like 30s, 5m, 2h or 1d")]
    Malformed,
    #[error("that is longer than the longest, {}d (a hundred years)", limits::ORDER_EXPIRES.as_secs() / DAY)]
    TooLong,
}

/// Seconds.
const DAY: u64 = 86_400;

/// `30s 5m 2h 1d`.
///
/// # Errors
/// It is none of these, or too long for any clock.
pub(super) fn duration(text: &str) -> Result<Duration, DurationError> {
    let (number, unit) = number_and_unit(text).ok_or(DurationError::Malformed)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => DAY,
        _ => return Err(DurationError::Malformed),
    };
    let time = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds)).map(Duration::from_secs);
    // As good as for ever: what an order may be given is enough for whoever waits for it.
    time.filter(|time| *time <= limits::ORDER_EXPIRES).ok_or(DurationError::TooLong)
}

/// Digits and the letter behind them.
fn number_and_unit(text: &str) -> Option<(&str, char)> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?;
    (!number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())).then_some((number, unit))
}

/// A name that a service can have.
///
/// # Errors
/// It is none, and why.
pub(super) fn service(text: &str) -> Result<String, String> {
    text.parse::<protocol::service::ServiceName>().map(|_| text.to_owned()).map_err(|error| format!("cannot be a service: {error}"))
}

/// The text is no size of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SizeError {
    #[error("a size is a number and a unit, like 512M or 4G")]
    Malformed,
    #[error("that is more than the most, {}T", limits::MEMORY_BYTES >> 40)]
    TooLarge,
}

/// `512K 512M 4G 1T`, in bytes.
///
/// # Errors
/// It is none of these, or more than any machine has.
pub(super) fn size(text: &str) -> Result<u64, SizeError> {
    let (number, unit) = number_and_unit(text).ok_or(SizeError::Malformed)?;
    let shift = match unit {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return Err(SizeError::Malformed),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    match bytes.filter(|bytes| *bytes <= limits::MEMORY_BYTES) {
        None => Err(SizeError::TooLarge),
        Some(0) => Err(SizeError::Malformed),
        Some(bytes) => Ok(bytes),
    }
}

/// A number of cores.
///
/// # Errors
/// No machine has so many, or so few.
pub(super) fn cores(text: &str) -> Result<u32, String> {
    let cores = text.parse().ok().filter(|cores| (1..=limits::CORES).contains(cores));
    cores.ok_or_else(|| format!("cores are a whole number from 1 to {}", limits::CORES))
}

/// Where in the queue an order goes.
///
/// # Errors
/// It is none of the three.
pub(super) fn priority(text: &str) -> Result<u8, &'static str> {
    text.parse().ok().filter(|priority| (1..=3).contains(priority)).ok_or("a priority is 1 (front), 2 (middle) or 3 (end of the queue)")
}

/// A duration in which something can happen.
///
/// # Errors
/// It is none, or nothing.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text) {
        Ok(time) if time.is_zero() => Err("that is no time at all: give it some, like 30s, 5m, 2h or 1d".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}

/// `about 8 s`: seconds that are reckoned, not measured.
#[must_use]
pub(super) fn about(seconds: f64) -> String {
    // Rounded up: whoever waits is not told that it is now.
    match seconds.ceil().clamp(0.0, 1e9) as u64 {
        0 => "about 1 s".to_owned(),
        s @ 1..120 => format!("about {s} s"),
        s @ 120..7_200 => format!("about {} min", s.div_ceil(60)),
        s => format!("about {} h", s.div_ceil(3_600)),
    }
}

/// The beginning of a letter's id.
///
/// # Errors
/// It cannot be one.
pub(super) fn letter(text: &str) -> Result<String, &'static str> {
    if protocol::log::is_prefix(&text.to_ascii_lowercase()) {
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
        for text in ["", "30", "s", "-1s", "1.5s", "1 s", "+1s", "10ms", "1w", "1S", "é", "1é"] {
            assert_eq!(duration(text), Err(DurationError::Malformed), "{text:?}");
        }
        assert_eq!(duration("36600d"), Ok(limits::ORDER_EXPIRES));
        for text in ["36601d", "99999999999d", "99999999999999999999s"] {
            let said = duration(text).expect_err(text).to_string();
            assert_eq!(said, "that is longer than the longest, 36600d (a hundred years)", "{text}");
        }
    }

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [("1K", 1 << 10), ("512M", 512 << 20), ("4G", 4 << 30), ("1T", 1 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "512", "M", "0M", "-1G", "1.5G", "1 G", "4g", "4GB", "é"] {
            assert_eq!(size(text), Err(SizeError::Malformed), "{text:?}");
        }
        for text in ["9999999T", "99999999999999999999G"] {
            assert_eq!(size(text).expect_err(text).to_string(), "that is more than the most, 1048576T", "{text}");
        }
    }

    #[test]
    fn numbers_that_nobody_can_mean_are_refused() {
        assert_eq!((cores("16"), priority("1")), (Ok(16), Ok(1)));
        for text in ["0", "-1", "4294967296", "65537", "x", ""] {
            assert!(cores(text).is_err(), "{text:?}");
        }
        for text in ["0", "4", "front", ""] {
            assert!(priority(text).is_err(), "{text:?}");
        }
        assert_eq!(some_time("1s"), Ok(Duration::from_secs(1)));
        assert!(some_time("0s").is_err() && some_time("30").is_err());
    }

    #[test]
    fn what_is_reckoned_is_told_roughly() {
        for (seconds, expected) in
            [(0.0, "about 1 s"), (7.2, "about 8 s"), (119.5, "about 2 min"), (3_601.0, "about 61 min"), (1e5, "about 28 h")]
        {
            assert_eq!(about(seconds), expected);
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
