//! Instants as the API writes them: RFC 3339, UTC, milliseconds.
//! Knows no clock. Whatever others claim as a time can be written; what has no year of four digits is written as the last one.

use jiff::tz::TimeZone;
use protocol::Timestamp;

/// 9999-12-30T22:00:00Z, the last that jiff can hold.
const LAST: u64 = 253_402_207_200_000;

fn instant(at: Timestamp) -> jiff::Timestamp {
    let millis = i64::try_from(at.0.min(LAST)).unwrap_or(0);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX)
}

/// `2026-11-23T15:12:48.266Z`.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    format!("{:.3}", instant(at))
}

/// Reads what [`rfc3339`] wrote.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let at: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

/// The wall clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}

/// As people read it, in this machine's zone: the time if it was today, else the day too.
#[must_use]
pub fn for_people(at: Timestamp, now: Timestamp) -> String {
    in_zone(at, now, &TimeZone::system())
}

fn in_zone(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (instant(at).to_zoned(zone.clone()), instant(now).to_zoned(zone.clone()));
    let form = if at.date() == now.date() {
        "%H:%M:%S"
    } else if at.year() == now.year() {
        "%b %d %H:%M"
    } else {
        "%Y-%m-%d"
    };
    at.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_milliseconds_and_read_back() {
        let at = Timestamp(1_795_446_768_266);
        assert_eq!(rfc3339(at), "2026-11-23T15:12:48.266Z");
        assert_eq!(parse("2026-11-23T15:12:48.266Z"), Some(at));
        assert_eq!(rfc3339(Timestamp(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(parse("yesterday"), None);
    }

    #[test]
    fn a_time_that_nobody_can_mean_is_still_written() {
        assert_eq!(rfc3339(Timestamp(u64::MAX)), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn people_see_the_day_only_when_it_is_not_today() {
        let at = Timestamp(1_795_446_768_266);
        let check = |days: u64, expected| assert_eq!(in_zone(at, Timestamp(at.0 + days * 86_400_000), &TimeZone::UTC), expected);
        check(0, "15:12:48");
        check(1, "Nov 23 15:12");
        check(60, "2026-11-23");
    }
}
