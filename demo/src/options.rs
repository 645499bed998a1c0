//! The command line of `cargo demo`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};

/// Run the origin's experiment on a real Envoy: two clusters, home and peer, and a load that outgrows home and shrinks again.
///
/// Runs it twice, with peer-spillover and as it was set up in 2020 without a filter, and writes
/// target/demo/result.json and the figure target/demo/spillover.svg and .png.
///
/// With --overflow eject, the filter does what the set-up of 2020 was meant to do: a home that is full gets nothing for a
/// while, the whole service moves to the peer, and then it comes back. Writes target/demo/eject.json, .svg and .png.
///
/// With --errors, it runs one steady load instead, on a home that is well, answers 500, and is well again: home is
/// ejected, probed, and takes its load back. Writes target/demo/errors.json, .svg and .png.
///
/// With --peers 3, home has three peers: two of priority 0 that share the surplus by their weights, and one of priority 1 for
/// what these have no room for. One peer is killed and comes back. Writes target/demo/peers.json, .svg and .png.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo", version)]
pub struct Options {
    /// How a spilled request finds the peer: its :authority is rewritten, or a header is set that a route matches
    #[arg(long, value_enum, default_value_t = Routing::Authority)]
    pub routing: Routing,

    /// What leaves a home that is full
    #[arg(long, value_enum, default_value_t = Overflow::Surplus)]
    pub overflow: Overflow,

    /// Home answers 500 for a while, instead of being full
    #[arg(long, conflicts_with_all = ["overflow", "limit"])]
    pub errors: bool,

    /// How many peers home has
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with_all = ["errors", "overflow", "clients"], value_parser = clap::value_parser!(u32).range(1..=5))]
    pub peers: u32,

    /// How long home is ejected the first time, or a peer with --peers (baseEjectionTime), like 10s or 1m30s; the origin's was 1m, and makes a
    /// long demo [default: 10s with --overflow eject, 2s with --errors, 1s with --peers]
    #[arg(long, value_name = "TIME")]
    pub ejection: Option<Ejection>,

    /// How many requests may be in flight at home
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,

    /// Parallel connections in each phase; with --errors one number for all [default: 1,3,1, or 3 with --errors]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000))]
    clients: Option<Vec<u32>>,

    /// Length of each phase; with --errors, how long home is well and then fails [default: 7, more where a long
    /// --ejection wants it, or 8 with --errors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: Option<u32>,

    /// Worker threads of home's Envoy; the limit holds across them
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,

    /// Leave it running afterwards, and print the curl lines to play with
    #[arg(long)]
    pub keep: bool,
}

/// The origin's `interval` with `--overflow eject`: how long its ramp is.
pub const EJECT_INTERVAL: u32 = 1;

impl Options {
    /// Parallel connections in each phase.
    pub fn clients(&self) -> Vec<u32> {
        let default = if self.errors { vec![3] } else { vec![1, 3, 1] };
        self.clients.clone().unwrap_or(default)
    }

    /// Length of each phase.
    pub fn seconds(&self) -> u32 {
        // Room to see home at work again, not only that it is back.
        let to_see = 2;
        let default = match self.errors {
            true => 8,
            false => self.least_seconds(to_see).map_or(7, |least| least.max(7)),
        };
        self.seconds.unwrap_or(default)
    }

    /// How long home is ejected the first time.
    pub fn ejection(&self) -> Ejection {
        let default = match self.peers {
            _ if self.errors => 2,
            1 => 10,
            _ => 1,
        };
        self.ejection.unwrap_or(Ejection { seconds: default })
    }

    /// Whether home is ejected where it is full.
    pub fn ejects(&self) -> bool {
        self.overflow == Overflow::Eject
    }

    /// The shortest phases in which an ejection at the first overflow ends, and `more` seconds after the ramp; nothing
    /// where there is no ejection.
    fn least_seconds(&self, more: u32) -> Option<u32> {
        let clients = self.clients();
        let calm = clients.iter().take_while(|&&n| n <= self.limit).count();
        let phases = u32::try_from(clients.len().checked_sub(calm)?).ok()?;
        let needed = self.ejection().seconds + EJECT_INTERVAL + more;
        (self.ejects() && phases > 0).then(|| needed.div_ceil(phases))
    }

    /// What clap cannot see: options that are each right, and together are not.
    /// # Errors
    /// One of clap's own, to be shown as such.
    pub fn check(self) -> Result<Self, clap::Error> {
        let wrong = |kind, text: String| Err(Options::command().error(kind, text));
        if self.ejection.is_some() && !self.errors && !self.ejects() && self.peers == 1 {
            let text = "--ejection says how long home is ejected, and nothing ejects it; add --overflow eject, --errors or --peers";
            return wrong(ErrorKind::MissingRequiredArgument, text.to_owned());
        }
        if self.errors && self.clients().len() != 1 {
            let text = "with --errors the load is the same all the time; give --clients one number";
            return wrong(ErrorKind::ValueValidation, text.to_owned());
        }
        // A moment for the probe's answer.
        if let Some(least) = self.least_seconds(1)
            && self.seconds() < least
        {
            let (ejection, seconds) = (self.ejection(), self.seconds());
            let text = format!(
                "home, full and ejected for {ejection}, is not back before the run's end with --seconds {seconds}; it wants --seconds {least} or a shorter --ejection"
            );
            return wrong(ErrorKind::ValueValidation, text);
        }
        Ok(self)
    }
}

/// The filter's `routing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Routing {
    /// Rewrite :authority to the peer's host
    Authority,
    /// Set x-peer-spillover-to and keep the Host
    Header,
}

impl Routing {
    /// The word as the filter's configuration has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Header => "header",
        }
    }
}

/// The filter's `overflow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Overflow {
    /// What exceeds the limit
    Surplus,
    /// Everything, for a while: a request that finds home full counts as an error of home's
    Eject,
}

/// A time in whole seconds, written as Go writes it: `10s`, `1m`, `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// At least 1
    pub seconds: u32,
}

impl Ejection {
    /// The longest. A demo of more than three hours is a slip.
    const LONGEST: u32 = 3_600;

    /// As the clocks have it.
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

impl FromStr for Ejection {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "must be whole minutes and seconds, like 10s, 1m or 1m30s, from 1s to {}",
                Ejection {
                    seconds: Self::LONGEST
                }
            )
        };
        let (minutes, rest) = match text.split_once('m') {
            Some((minutes, rest)) => (Some(minutes), rest),
            None => (None, text),
        };
        let number = |digits: &str| -> Result<u32, String> {
            let digits =
                Some(digits).filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
            digits.and_then(|d| d.parse().ok()).ok_or_else(wrong)
        };
        let seconds = match (minutes, rest) {
            (Some(_), "") => 0,
            (_, rest) => number(rest.strip_suffix('s').ok_or_else(wrong)?)?,
        };
        let minutes = minutes.map_or(Ok(0), number)?;
        let seconds = minutes.saturating_mul(60).saturating_add(seconds);
        match seconds {
            1..=Self::LONGEST => Ok(Ejection { seconds }),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Ejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seconds / 60, self.seconds % 60) {
            (0, seconds) => write!(f, "{seconds}s"),
            (minutes, 0) => write!(f, "{minutes}m"),
            (minutes, seconds) => write!(f, "{minutes}m{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &[&str]) -> Result<Options, clap::Error> {
        Options::try_parse_from([&["demo"], arguments].concat())?.check()
    }

    #[test]
    fn the_defaults_are_the_origins_experiment() {
        let options = checked(&[]).unwrap();
        assert_eq!(options.clients(), [1, 3, 1]);
        assert_eq!((options.limit, options.seconds()), (1, 7));
        assert_eq!(options.routing, Routing::Authority);
        assert_eq!(options.overflow, Overflow::Surplus);
        assert!(!options.keep && !options.errors);
    }

    #[test]
    fn clients_are_a_list_of_positive_numbers() {
        let options = checked(&["--clients", "2,8,2,1"]).unwrap();
        assert_eq!(options.clients(), [2, 8, 2, 1]);
        for wrong in ["0", "1,0", "", "1,,2", "x", "-1"] {
            assert!(
                checked(&[&format!("--clients={wrong}")]).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn a_run_is_long_enough_to_see_home_come_back() {
        let seconds = |arguments: &[&str]| checked(arguments).unwrap().seconds();
        let eject = ["--overflow", "eject"];
        assert_eq!(seconds(&eject), 7);
        // The origin's minute: the overflow is a third into the run.
        assert_eq!(seconds(&[&eject[..], &["--ejection", "1m"]].concat()), 32);
        assert_eq!(seconds(&["--errors"]), 8);
        let short = [&eject[..], &["--seconds", "5"]].concat();
        let error = checked(&short).unwrap_err().to_string();
        assert!(error.contains("ejected for 10s"), "{error}");
        assert!(error.contains("wants --seconds 6"), "{error}");
        // Nothing overflows.
        let calm = [&short[..], &["--limit", "3"]].concat();
        assert_eq!(seconds(&calm), 5);
    }

    #[test]
    fn options_that_do_not_go_together_are_one_error() {
        for (arguments, said) in [
            (
                &["--errors", "--overflow", "eject"][..],
                "cannot be used with '--overflow",
            ),
            (
                &["--errors", "--limit", "2"],
                "cannot be used with '--limit",
            ),
            (
                &["--errors", "--clients", "1,3"],
                "give --clients one number",
            ),
            (
                &["--ejection", "5s"],
                "add --overflow eject, --errors or --peers",
            ),
            (
                &["--peers", "3", "--errors"],
                "cannot be used with '--errors",
            ),
            (&["--peers", "6"], "6 is not in 1..=5"),
            (&["--errors", "--ejection", "0s"], "like 10s, 1m or 1m30s"),
            (&["--overflow", "all"], "[possible values: surplus, eject]"),
        ] {
            let error = checked(arguments).unwrap_err().to_string();
            assert!(error.contains(said), "{arguments:?}: {error}");
            assert_eq!(error.matches("error:").count(), 1, "{error}");
        }
        assert!(checked(&["--errors", "--clients", "5"]).is_ok());
    }

    #[test]
    fn a_time_is_read_and_written_as_go_does() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("1m", 60),
            ("1m30s", 90),
            ("60m", 3_600),
        ] {
            assert_eq!(text.parse(), Ok(Ejection { seconds }), "{text}");
        }
        assert_eq!(Ejection { seconds: 90 }.to_string(), "1m30s");
        assert_eq!(Ejection { seconds: 60 }.to_string(), "1m");
        assert_eq!(Ejection { seconds: 10 }.to_string(), "10s");
        for wrong in [
            "",
            "s",
            "m",
            "10",
            "1h",
            "0s",
            "1.5s",
            "+1s",
            "61m",
            "1ms",
            "5s1m",
            "99999999999s",
        ] {
            assert!(wrong.parse::<Ejection>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
