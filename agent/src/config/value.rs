//! Values that TOML has no type for: intervals, names, interface names, addresses with a prefix length.
//! Each says what is wrong with a text in words that fit into "KEY ... ".

use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

/// Longest interval that can be written.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(86_400);
/// Longest name of a cluster, node or group.
pub(super) const NAME_MAX: usize = 63;
/// Longest name of a network interface (IFNAMSIZ - 1).
pub(super) const INTERFACE_MAX: usize = 15;

/// Why a text is not an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum DurationError {
    /// No number in front.
    #[error("does not begin with a number")]
    NoNumber,
    /// Something else than a known unit behind.
    #[error("has a unit that is not us, ms, s or min")]
    Unit,
    /// More than a day.
    #[error("is longer than a day")]
    TooLong,
}

/// Reads `10ms`, `1.5s`, `500us`, `2min`; a bare number is seconds, as in ha.cf.
///
/// # Errors
/// When it is none of these.
pub(super) fn duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or(DurationError::NoNumber)?;
    let number: f64 = number.parse().map_err(|_| DurationError::NoNumber)?;
    let seconds = match unit.trim() {
        "us" | "\u{b5}s" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "min" => number * 60.0,
        _ => return Err(DurationError::Unit),
    };
    if seconds > DURATION_MAX.as_secs_f64() {
        return Err(DurationError::TooLong);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| DurationError::NoNumber)
}

/// Writes an interval as a person would, so that `duration` reads it back.
pub fn show_duration(span: Duration) -> String {
    let us = span.as_micros();
    if us >= 1_000_000 {
        decimal(span.as_secs_f64(), "s")
    } else if us >= 1_000 {
        decimal(span.as_secs_f64() * 1e3, "ms")
    } else {
        decimal(span.as_secs_f64() * 1e6, "us")
    }
}

fn decimal(value: f64, unit: &str) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum NameError {
    /// Nothing.
    #[error("is empty")]
    Empty,
    /// Too long.
    #[error("has more than {NAME_MAX} characters")]
    TooLong,
    /// A character that would have to be quoted somewhere.
    #[error("has a character that is not a letter, a digit, '.', '_' or '-'")]
    Character,
}

/// Checks the name of a cluster, node or group.
///
/// # Errors
/// When it is empty, too long, or would have to be quoted in a shell.
pub(super) fn name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        Err(NameError::Empty)
    } else if text.chars().count() > NAME_MAX {
        Err(NameError::TooLong)
    } else if text.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        Ok(())
    } else {
        Err(NameError::Character)
    }
}

/// Why a text cannot name a network interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum InterfaceError {
    /// Nothing.
    #[error("is empty")]
    Empty,
    /// Longer than the kernel allows.
    #[error("has more than {INTERFACE_MAX} characters, which no interface has")]
    TooLong,
    /// A character that the kernel refuses.
    #[error("has a character that no interface name has")]
    Character,
}

/// Checks an interface's name by the kernel's rules.
///
/// # Errors
/// When no interface can be called so.
pub(super) fn interface(text: &str) -> Result<(), InterfaceError> {
    if text.is_empty() {
        Err(InterfaceError::Empty)
    } else if text.len() > INTERFACE_MAX {
        Err(InterfaceError::TooLong)
    } else if text == "."
        || text == ".."
        || text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '"' | '\\'))
    {
        Err(InterfaceError::Character)
    } else {
        Ok(())
    }
}

/// Why a text is not an address with a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum PrefixError {
    /// No address in front.
    #[error("is not an IP address")]
    Address,
    /// Not a number behind the slash.
    #[error("has no number behind the '/'")]
    Number,
    /// Zero, or more bits than the address has.
    #[error("has a prefix length that is not between 1 and {0}")]
    Length(u8),
}

/// Reads `10.0.0.1/24` or `10.0.0.1`, which is `/32` (`/128` for IPv6).
///
/// # Errors
/// When it is neither.
pub(super) fn prefixed(text: &str) -> Result<(IpAddr, u8), PrefixError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| PrefixError::Address)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(bits), |length| length.parse::<u8>().map_err(|_| PrefixError::Number))?;
    if (1..=bits).contains(&length) { Ok((address, length)) } else { Err(PrefixError::Length(bits)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let us = Duration::from_micros;
        for (text, expected) in [
            ("10ms", Ok(us(10_000))),
            ("1.5s", Ok(us(1_500_000))),
            ("500us", Ok(us(500))),
            (" 2 s ", Ok(us(2_000_000))),
            (".5", Ok(us(500_000))),
            ("2min", Ok(us(120_000_000))),
            ("", Err(DurationError::NoNumber)),
            ("fast", Err(DurationError::NoNumber)),
            ("-1s", Err(DurationError::NoNumber)),
            ("1.2.3s", Err(DurationError::NoNumber)),
            ("1m", Err(DurationError::Unit)),
            ("1 fortnight", Err(DurationError::Unit)),
            ("86401", Err(DurationError::TooLong)),
        ] {
            assert_eq!(duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefixed("10.0.0.1/24"), Ok(("10.0.0.1".parse().unwrap(), 24)));
        assert_eq!(prefixed("10.0.0.1").map(|(_, length)| length), Ok(32));
        assert_eq!(prefixed("fd00::1").map(|(_, length)| length), Ok(128));
        assert_eq!(prefixed("10.0.0.1/33"), Err(PrefixError::Length(32)));
        assert_eq!(prefixed("10.0.0.1/0"), Err(PrefixError::Length(32)));
        assert_eq!(prefixed("10.0.0.1/"), Err(PrefixError::Number));
        assert_eq!(prefixed("10.0.0/24"), Err(PrefixError::Address));
    }

    #[test]
    fn names() {
        assert_eq!(name("alpha-1.example"), Ok(()));
        assert_eq!(name(""), Err(NameError::Empty));
        assert_eq!(name("a b"), Err(NameError::Character));
        assert_eq!(interface("eth0.100"), Ok(()));
        assert_eq!(interface("a-very-long-interface"), Err(InterfaceError::TooLong));
        assert_eq!(interface("eth0:1"), Err(InterfaceError::Character));
    }

    proptest! {
        #[test]
        fn shown_durations_read_back(us in 1u64..3_600_000_000) {
            let span = Duration::from_micros(us);
            let back = duration(&show_duration(span)).unwrap();
            let error = back.abs_diff(span);
            prop_assert!(error <= span / 1_000, "{} gave {back:?}", show_duration(span));
        }

        #[test]
        fn arbitrary_text_is_no_panic(text in "\\PC{0,20}") {
            let _ = (duration(&text), name(&text), interface(&text), prefixed(&text));
        }
    }
}
