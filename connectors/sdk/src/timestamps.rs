//! Times as text, without a clock and without a calendar crate: RFC 3339 for bodies, HTTP dates from headers.
//!
//! Only UTC and only the proleptic Gregorian calendar. The day arithmetic counts eras of 400 years that begin on 1 March,
//! so that the leap day is the last day of a year.

const SECONDS_PER_DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_EPOCH: u64 = 719_468;
const DAYS_PER_ERA: u64 = 146_097;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Milliseconds since 1970-01-01T00:00:00Z as RFC 3339 in UTC (`2026-01-31T09:30:00.000Z`).
pub fn rfc3339(milliseconds: u64) -> String {
    let mut text = String::with_capacity(24);
    push_rfc3339(&mut text, milliseconds);
    text
}

/// Appends [`rfc3339`] to a text. Digits are written one by one, since this runs once per event and the formatting
/// machinery costs more than the calendar.
pub fn push_rfc3339(text: &mut String, milliseconds: u64) {
    let seconds = milliseconds / 1000;
    let (year, month, day) = civil_from_days(seconds / SECONDS_PER_DAY);
    let of_day = seconds % SECONDS_PER_DAY;
    push_digits(text, year, 4);
    text.push('-');
    push_digits(text, month, 2);
    text.push('-');
    push_digits(text, day, 2);
    text.push('T');
    push_digits(text, of_day / 3600, 2);
    text.push(':');
    push_digits(text, of_day / 60 % 60, 2);
    text.push(':');
    push_digits(text, of_day % 60, 2);
    text.push('.');
    push_digits(text, milliseconds % 1000, 3);
    text.push('Z');
}

/// An HTTP date in the preferred form of RFC 9110, section 5.6.7 (`Sun, 06 Nov 1994 08:49:37 GMT`), as seconds since
/// 1970-01-01T00:00:00Z. The two obsolete forms are not read.
pub fn parse_http_date(text: &str) -> Option<u64> {
    let (_weekday, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day = number(words.next()?, 2)?;
    let name = words.next()?;
    let month = MONTHS.iter().zip(1_u64..).find_map(|(known, month)| (*known == name).then_some(month))?;
    let year = number(words.next()?, 4)?;
    let mut clock = words.next()?.split(':');
    let (hour, minute, second) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    // 60 is a leap second.
    let in_range = (1..=31).contains(&day) && year >= 1970 && hour < 24 && minute < 60 && second <= 60;
    if words.next()? != "GMT" || words.next().is_some() || clock.next().is_some() || !in_range {
        return None;
    }
    let days = days_from_civil(year, month, day);
    Some(days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second)
}

fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn push_digits(text: &mut String, value: u64, digits: u32) {
    // A year past 9999 keeps all its digits: it is no RFC 3339 any more, but a capture clock that is off by millennia
    // should be seen as it is.
    let digits = digits.max(value.checked_ilog10().unwrap_or(0) + 1);
    for place in (0..digits).rev() {
        let digit = value / 10_u64.pow(place) % 10;
        text.push(char::from_digit(u32::try_from(digit).unwrap_or(0), 10).unwrap_or('0'));
    }
}

/// Year, month (1–12) and day (1–31) of a day since 1970-01-01.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_EPOCH;
    let (era, of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months counted from March; 153 days are five months of 31, 30, 31, 30, 31 days.
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Days since 1970-01-01; the inverse of [`civil_from_days`] for dates from 1970 on.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * DAYS_PER_ERA + of_era - DAYS_BEFORE_EPOCH
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use super::*;

    #[test]
    fn known_times_are_told_as_rfc_3339() {
        let table = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_767_225_600_007, "2026-01-01T00:00:00.007Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (milliseconds, text) in table {
            assert_eq!(rfc3339(milliseconds), text);
        }
    }

    #[test]
    fn every_day_of_four_centuries_survives_the_round_trip() {
        for day in 0..DAYS_PER_ERA {
            let (year, month, of_month) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, of_month), day);
        }
    }

    #[test]
    fn a_time_beyond_all_calendars_does_not_fail() {
        assert!(rfc3339(u64::MAX).ends_with('Z'));
    }

    #[test]
    fn an_http_date_is_read() {
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    }

    #[test]
    fn what_is_no_http_date_is_not_read() {
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT and more",
            "Sun, 06 Nov 1969 08:49:37 GMT",
        ] {
            assert_eq!(parse_http_date(text), None, "{text:?}");
        }
    }
}
