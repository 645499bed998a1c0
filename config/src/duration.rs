//! Durations as Istio writes them: Go's `time.ParseDuration`.

use super::declaration::Least;

/// The longest that a duration lasts here, in milliseconds: a year. What is longer is accepted and lasts no longer, which
/// nobody will see, and sums stay far from overflow.
pub const LONGEST: u64 = 365 * 24 * 3_600_000;

/// Nanoseconds that Go's durations can hold.
const MOST: u64 = i64::MAX as u64;

/// Whether `text` is a duration that is not too short.
/// # Errors
/// One line that says what is wrong.
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

/// The whole milliseconds of a duration, at most [`LONGEST`].
pub fn millis(text: &str) -> Option<u64> {
    nanos(text).map(|nanos| (nanos / 1_000_000).min(LONGEST))
}

/// Nanoseconds of `1s`, `1m30s`, `.5h`, `+250ms`. Units: h, m, s, ms, us (µs, μs), ns; the largest need not come first, as in
/// Go.
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
            // With the micro sign, and with the Greek letter.
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        nanos = nanos.saturating_add(scaled(number, scale)?);
        rest = tail;
    }
    Some(nanos)
}

/// `number`, decimal digits with at most one point, times `scale`; what is smaller than 1 is cut off, as in Go. Too large
/// is the largest. Integers only: the standard library's tables for doubles would add a tenth to the module.
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
    fn durations_are_gos() {
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
    fn what_is_no_duration_is_refused_in_words() {
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
    fn what_go_cannot_hold_is_refused() {
        for text in ["2562047h47m16.854775808s", "99999999999999999999h"] {
            let problem = check(text, Least::Any).expect_err(text);
            assert_eq!(problem, format!("must be at most 2562047h, not {text}"));
        }
    }

    #[test]
    fn the_least_is_istios() {
        let least = |text| {
            [Least::Millisecond, Least::Zero, Least::Any].map(|least| check(text, least).is_ok())
        };
        assert_eq!(least("1ms"), [true; 3]);
        assert_eq!(least("0s"), [false, true, true]);
        assert_eq!(least("999us"), [false, true, true]);
        assert_eq!(least("1.5ms"), [false, false, true]);
    }
}
