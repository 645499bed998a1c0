//! Reads an answer, as [`policy::response::Assess`] asks, and reports to the error detection what it says of the destination.

use super::Request;
use crate::health::{Health, owner};
use crate::hostcalls::{self, Map};
use crate::recovery;
use policy::ejection::Ended;
use policy::names;
use policy::response::{Assess, In, Step, What};

impl Request {
    /// The answer begins.
    pub(super) fn judge(&mut self, health: &Health, complete: bool) {
        if health.sampled(|sampling, every| self.assess.begins(sampling, every, complete)) {
            assess(&mut self.assess, health, self.id);
        }
    }

    /// Goes on with the answer, if errors are detected.
    #[inline(never)]
    pub(super) fn judge_on(&mut self) {
        let at = self.sent_to();
        let plugin = self.plugin.clone();
        let of = |(index, _)| plugin.as_ref()?.service(index)?.health_at(at);
        if let Some(health) = self.said.and_then(of) {
            assess(&mut self.assess, health, self.id);
        }
    }
}

/// Carries out the steps of `of`, up to the next part of the answer to `stream`.
#[inline(never)]
pub(super) fn assess(of: &mut Assess, health: &Health, stream: u32) {
    let (mut text, mut seen) = (None, 0);
    loop {
        match of.next(text.as_deref(), seen, &health.detection) {
            Step::Header(which) => {
                let (place, name) = which.place();
                let map = match place {
                    In::Request => Map::Request,
                    In::Answer => Map::Response,
                    In::Trailers => Map::ResponseTrailers,
                };
                text = hostcalls::header(map, name);
            }
            Step::Details => text = hostcalls::property(hostcalls::CODE_DETAILS),
            Step::Flags => seen = hostcalls::number(hostcalls::RESPONSE_FLAGS),
            Step::Clock => seen = hostcalls::monotonic().0,
            Step::Enter => recovery::begins(),
            Step::Succeeded => health.succeeded(),
            Step::Failed(_) if went_elsewhere(health) => {}
            Step::Failed(failure) => {
                health.failed(failure, &error(of.what(), text.as_deref()));
            }
            Step::Doubted => health.doubted(),
            Step::ProbeBegun => health.probe_begun(owner(stream)),
            Step::ProbeEnded(how) => {
                let nothing = went_elsewhere(health);
                health.probe_ended(owner(stream), if nothing { Ended::Nothing } else { how });
            }
            Step::Done => return,
        }
    }
}

/// Whether another plugin of this proxy has sent a request elsewhere that was left at home here, so that its answer says nothing of
/// home.
#[inline(never)]
fn went_elsewhere(health: &Health) -> bool {
    let said = || hostcalls::property(hostcalls::DECIDED);
    !health.of_peer && said().is_some_and(|said| names::is_elsewhere(&said))
}

/// The description of an error for the log.
#[cold]
#[inline(never)]
fn error(what: What, details: Option<&str>) -> String {
    let (kind, status) = match what {
        What::BrokenOff => return "broken off".to_owned(),
        What::CameHome => return "home answered instead of the peer".to_owned(),
        What::Status(status) => ("status", status),
        What::Grpc(status) | What::Trailers(status) => ("gRPC, as status", status),
    };
    let (open, details, close) = match (what, details) {
        (What::Trailers(_), _) | (_, None) => ("", "", ""),
        (_, Some(details)) => (" (", details, ")"),
    };
    format!("{kind} {status}{open}{details}{close}")
}
