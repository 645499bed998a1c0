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
    let mut seconds = 0.0;
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
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        seconds += number * scale;
        rest = tail;
    }
    if seconds > LONGEST.as_secs_f64() {
        return Err(format!("must be at most a year, not {text:.40}"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    use wasm_bindgen_test::wasm_bindgen_test as test;

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
