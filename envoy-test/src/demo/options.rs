//! The command line of `cargo demo`.

use clap::{Parser, ValueEnum};

/// Run the origin's experiment on a real Envoy: two clusters, home and peer, and a load that outgrows home and shrinks again.
///
/// Runs it twice, with peer-spillover and as it was set up in 2020 without a filter, and writes
/// target/demo/result.json and the figure target/demo/spillover.svg and .png.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo", version)]
pub struct Options {
    /// How a spilled request finds the peer: its :authority is rewritten, or a header is set that a route matches
    #[arg(long, value_enum, default_value_t = Routing::Authority)]
    pub routing: Routing,

    /// How many requests may be in flight at home
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,

    /// Parallel connections in each phase
    #[arg(long, default_value = "1,3,1", value_name = "N,N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub clients: Vec<u32>,

    /// Length of each phase
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,

    /// Worker threads of home's Envoy; the limit holds across them
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub workers: u32,

    /// Leave it running afterwards, and print the curl lines to play with
    #[arg(long)]
    pub keep: bool,
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_defaults_are_the_origins_experiment() {
        let options = Options::parse_from(["demo"]);
        assert_eq!(options.clients, [1, 3, 1]);
        assert_eq!(options.limit, 1);
        assert_eq!(options.routing, Routing::Authority);
        assert!(!options.keep);
    }

    #[test]
    fn clients_are_a_list_of_positive_numbers() {
        let options = Options::parse_from(["demo", "--clients", "2,8,2,1"]);
        assert_eq!(options.clients, [2, 8, 2, 1]);
        for wrong in ["0", "1,0", "", "1,,2", "x", "-1"] {
            assert!(
                Options::try_parse_from(["demo", &format!("--clients={wrong}")]).is_err(),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
