//! Moments for people: UTC with milliseconds, from CLOCK_REALTIME or from a stamp of CLOCK_MONOTONIC.

use crate::rt::clock;

const NS_PER_S: u64 = 1_000_000_000;
const S_PER_DAY: u64 = 86_400;

/// The present, as `2026-01-31T12:00:00.123Z`.
pub fn utc_now() -> String {
    utc(clock::wall_ns())
}

/// The time of day at a stamp of CLOCK_MONOTONIC of this boot, as `12:00:00.123456`.
pub fn time_of_day(t_ns: u64) -> String {
    let (wall, now) = (clock::wall_ns(), clock::now().0);
    let then = if t_ns <= now { wall.saturating_sub(now - t_ns) } else { wall.saturating_add(t_ns - now) };
    let (hour, minute, second) = of_day(then);
    format!("{hour:02}:{minute:02}:{second:02}.{:06}", then % NS_PER_S / 1_000)
}

fn utc(wall_ns: u64) -> String {
    let (year, month, day) = civil(wall_ns / NS_PER_S / S_PER_DAY);
    let (hour, minute, second) = of_day(wall_ns);
    let ms = wall_ns % NS_PER_S / 1_000_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

fn of_day(wall_ns: u64) -> (u64, u64, u64) {
    let second = wall_ns / NS_PER_S % S_PER_DAY;
    (second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day of a number of days since 1970, in the proleptic Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last of its year; an era is 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_827_696_789_000_000), "2000-02-29T12:34:56.789Z");
        assert_eq!(utc(1_772_323_199_999_999_999), "2026-02-28T23:59:59.999Z");
        assert_eq!(utc(1_772_323_200_000_000_000), "2026-03-01T00:00:00.000Z");
        assert_eq!(utc(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_stamp_of_now_is_now() {
        let shown = time_of_day(clock::now().0);
        assert_eq!(shown.len(), "12:00:00.123456".len(), "{shown}");
    }
}
