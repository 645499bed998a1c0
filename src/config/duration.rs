//! Durations as Istio writes them: Go's `time.ParseDuration`, without a sign.

use core::time::Duration;

/// The longest duration that any field takes: a year. Nothing here is meant to last longer, and sums stay far from
/// overflow.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads `1s`, `1m30s`, `1.5h`, `250ms`. Units: h, m, s, ms, us (or µs), ns; the largest need not come first, as in Go.
/// # Errors
/// One line that says what a duration looks like; also beyond [`LONGEST`].
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("must be a duration such as 1s, 1m30s or 250ms, not {text:.40}");
    if text.is_empty() || text.len() > 64 {
        return Err(wrong());
    }
    let mut rest = text;
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let unit = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit).ok_or_else(wrong)?;
        let scale = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return Err(wrong()),
        };
        let number = scaled(number, scale).ok_or_else(wrong)?;
        nanos = nanos.saturating_add(number);
        rest = tail;
    }
    let duration = Duration::from_nanos(nanos);
    if duration > LONGEST {
        return Err(format!("must be at most a year, not {text:.40}"));
    }
    Ok(duration)
}

/// `number`, decimal digits with at most one point, times `scale`; what is smaller than 1 is cut off, as in Go. Too large
/// is the largest. Integers only: the standard library's tables for doubles would add a tenth to the module.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let digit = |b: u8| u64::from(b.saturating_sub(b'0'));
    let whole = whole
        .bytes()
        .fold(0u64, |n, b| n.saturating_mul(10).saturating_add(digit(b)));
    let (mut sum, mut unit) = (whole.saturating_mul(scale), scale);
    for b in fraction.bytes() {
        unit /= 10;
        sum = sum.saturating_add(unit.saturating_mul(digit(b)));
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("1s", 1000),
            ("1m", 60_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("10µs"), Ok(Duration::from_micros(10)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_no_duration_is_refused_in_words() {
        for text in [
            "", "1", "s", "-1s", "1 s", "1d", "1..2s", ".s", "1s2", "9999999h", "1e9s", "∞",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
