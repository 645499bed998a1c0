//! The same things counted by those who saw them: the clients, the services, and Envoy's statistics.

use anyhow::Result;
use envoy_test::world::{HOST, World, decisions, service_metric};
use serde::Serialize;

use crate::course::Course;
use crate::sample::{Answer, Reason, Sample};

/// One thing that was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Witnesses {
    /// What it is
    pub what: String,
    /// By the answers that the clients got, and what the filter said on them
    pub clients: u64,
    /// By the requests that the services received, where they can tell
    pub services: Option<u64>,
    /// By the filter's metrics and Envoy's own
    pub envoy: u64,
}

impl Witnesses {
    /// What is wrong where they do not agree.
    pub fn disagree(&self) -> Option<String> {
        let agree = self.clients == self.envoy && self.services.is_none_or(|n| n == self.clients);
        (!agree).then(|| {
            let services = self
                .services
                .map_or(String::new(), |n| format!(", the services {n}"));
            format!(
                "{}: the clients saw {}{services}, Envoy's statistics say {}, and all should be the same",
                self.what, self.clients, self.envoy
            )
        })
    }
}

/// Collects them after a run, when nothing is open any more.
/// # Errors
/// Envoy's admin interface does not answer.
pub async fn collect(world: &World, samples: &[Sample], course: &Course) -> Result<Vec<Witnesses>> {
    // Envoy counts an answer a moment after the client has it.
    world.wait_idle().await?;
    let decided = decisions(&world.envoy, HOST).await?;
    let decided = |destination: &str, reason: &str| -> u64 {
        let of_these = |(to, why): &(String, String)| {
            to == destination && (reason.is_empty() || why == reason)
        };
        let counts = decided.iter().filter(|(key, _)| of_these(key));
        counts.map(|(_, &n)| n.unsigned_abs()).sum()
    };
    let stats = world.envoy.stats().await?;
    let stat = |name: &str| stats.get(name).map_or(0, |value| value.unsigned_abs());
    let saw = |what: &dyn Fn(&Sample) -> bool| samples.iter().filter(|s| what(s)).count() as u64;
    let (home, peer) = (world.home.name(), world.peer.name());
    let row = |what: String, clients, services: Option<usize>, envoy| Witnesses {
        what,
        clients,
        services: services.map(|n| n as u64),
        envoy,
    };
    Ok(vec![
        row(
            format!("requests at {home} (home)"),
            saw(&|s| matches!(s.reason, Reason::Room | Reason::Probe)),
            Some(world.home.count()),
            decided("home", ""),
        ),
        row(
            "of them answered 500".to_owned(),
            saw(&|s| s.answer == Answer::Failed(500)),
            None,
            stat(&format!("cluster.outbound|80||{HOST}.upstream_rq_500")),
        ),
        row(
            format!("requests at {peer} (peer)"),
            saw(&|s| matches!(s.reason, Reason::Limit | Reason::Ejected | Reason::Ramp)),
            Some(world.peer.count()),
            decided(peer, ""),
        ),
        row(
            "ejections of home".to_owned(),
            course.ejections.len() as u64,
            None,
            stat(&service_metric(HOST, "ejections")),
        ),
        row(
            "probes of home".to_owned(),
            course.probes() as u64,
            None,
            decided("home", "probe"),
        ),
    ])
}

/// Them as a table.
pub fn table(all: &[Witnesses]) -> String {
    let mut text = format!(
        "{:<30}  {:>7}  {:>8}  {:>18}\n",
        "counted by", "clients", "services", "Envoy's statistics"
    );
    for Witnesses {
        what,
        clients,
        services,
        envoy,
    } in all
    {
        let services = services.map_or("-".to_owned(), |n| n.to_string());
        text.push_str(&format!(
            "{what:<30}  {clients:>7}  {services:>8}  {envoy:>18}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_agree_is_named() {
        let mut row = Witnesses {
            what: "probes".to_owned(),
            clients: 3,
            services: None,
            envoy: 3,
        };
        assert_eq!(row.disagree(), None);
        row.services = Some(3);
        assert_eq!(row.disagree(), None);
        row.envoy = 2;
        let said = row.disagree().unwrap();
        assert!(
            said.starts_with("probes: the clients saw 3, the services 3, Envoy's statistics say 2"),
            "{said}"
        );
    }
}
