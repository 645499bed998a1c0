//! Durations in the format of Istio, which is that of Go's `time.ParseDuration`, without negative ones.

use super::declaration::Least;

/// The longest duration, in milliseconds: a year. A longer one is accepted and taken as a year, so that sums of durations
/// cannot overflow.
pub const LONGEST: u64 = 365 * 24 * 3_600_000;

/// The longest duration that Go can express, in nanoseconds.
const MOST: u64 = i64::MAX as u64;

/// Checks that `text` is a duration of the range `least`, and not longer than Go can express.
/// # Errors
/// A line that says what is wrong.
#[inline(never)]
pub fn check(text: &str, least: Least) -> Result<(), String> {
    let wrong = || format!("must be a duration such as 1s, 1m30s or 250ms, not {text:.40}");
    let nanos = nanos(text).ok_or_else(wrong)?;
    if nanos > MOST {
        return Err(format!("must be at most 2562047h, not {text:.40}"));
    }
    match least {
        Least::Any => Ok(()),
        Least::Zero if nanos < 1_000_000 => Ok(()),
        _ if nanos < 1_000_000 => Err("must be at least 1ms".to_owned()),
        _ if !nanos.is_multiple_of(1_000_000) => {
            Err(format!("must be whole milliseconds, not {text:.40}"))
        }
        _ => Ok(()),
    }
}

/// The whole milliseconds of the duration `text`, from 0 to [`LONGEST`]. `None` if it is not a duration.
pub fn millis(text: &str) -> Option<u64> {
    nanos(text).map(|nanos| (nanos / 1_000_000).min(LONGEST))
}

/// The nanoseconds of a duration such as `1s`, `1m30s`, `.5h` or `+250ms`, at most `u64::MAX`. The units are h, m, s, ms,
/// us (µs, μs) and ns, in any order, as in Go.
#[inline(never)]
fn nanos(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let digit = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at_checked(rest.find(|c| !digit(c))?)?;
        let (unit, tail) = tail.split_at_checked(tail.find(digit).unwrap_or(tail.len()))?;
        let scale = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            // Go accepts the micro sign and the Greek letter.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        nanos = nanos.saturating_add(scaled(number, scale)?);
        rest = tail;
    }
    Some(nanos)
}

/// `number` (decimal digits with at most one point) times `scale`, rounded down as in Go, and at most `u64::MAX`. `None` if
/// `number` has another form. It uses integers only, because the standard library's tables for doubles would make the
/// module a tenth larger.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
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
    fn durations_have_the_format_of_go() {
        for (text, expected) in [
            ("1s", 1000),
            ("1m", 60_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("250ms", 250),
            (".5s", 500),
            ("5.s", 5000),
            ("+1s", 1000),
            ("10000\u{b5}s", 10),
            ("10000\u{3bc}s", 10),
            ("2000us", 2),
            ("0", 0),
            ("0s", 0),
            ("9000h", LONGEST),
            ("2562047h47m16.854775807s", LONGEST),
        ] {
            assert_eq!(millis(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_duration_is_refused_with_an_example() {
        for text in [
            "", "1", "s", "-1s", "1 s", "1d", "1..2s", ".s", "1s2", "1e9s", "∞", "+", "+-1s",
        ] {
            let problem = check(text, Least::Any).expect_err(text);
            assert!(
                problem.starts_with("must be a duration such as 1s"),
                "{text}: {problem}"
            );
        }
    }

    #[test]
    fn a_duration_longer_than_go_can_express_is_refused() {
        for text in ["2562047h47m16.854775808s", "99999999999999999999h"] {
            let problem = check(text, Least::Any).expect_err(text);
            assert_eq!(problem, format!("must be at most 2562047h, not {text}"));
        }
    }

    #[test]
    fn each_range_has_the_smallest_duration_and_the_precision_of_istio() {
        let least = |text| {
            [Least::Millisecond, Least::Zero, Least::Any].map(|least| check(text, least).is_ok())
        };
        assert_eq!(least("1ms"), [true; 3]);
        assert_eq!(least("0s"), [false, true, true]);
        assert_eq!(least("999us"), [false, true, true]);
        assert_eq!(least("1.5ms"), [false, false, true]);
    }
}
