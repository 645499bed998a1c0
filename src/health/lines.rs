//! What the log has about an ejection: one line when home is ejected, one when it begins to take its load back, and one when
//! it has all of it. What the minute keeps back has level debug.

use super::Health;
use crate::hostcalls::{self, Level};
use crate::notice::{self, Outcome, Text};
use policy::ejection::Line;
use policy::names::keys::{AWAY, EJECTED};
use policy::time::Millis;

impl Health {
    /// Says what a change has brought about; `why` is what the last error was.
    #[cold]
    #[inline(never)]
    pub(super) fn say(&self, line: Line, why: &str) {
        match line {
            Line::Ejected(time) => self.say_ejected(time, why),
            Line::ProbeFailed(time) => self.say_ejected(time, "the probe failed"),
            Line::Unanswered(time) => self.say_ejected(time, "the probe is not answered"),
            Line::Answered => self.say_answered(),
            Line::Back => self.say_back(),
        }
    }

    #[inline(never)]
    fn say_ejected(&self, time: Millis, why: &str) {
        hostcalls::add(self.ejections, 1);
        notice::begins(&self.notice(AWAY), 0, notice::SILENT);
        let ms = time.0.to_string();
        let text = if self.of_peer {
            "service %0: peer %2 is ejected for %1 ms; the last of its errors: %3"
        } else {
            "service %0: home is ejected for %1 ms and its requests go to %2; the last of its errors: %3"
        };
        let text: Text = (text, &[&self.host, &ms, &self.peer, why]);
        let told = notice::begins(&self.notice(EJECTED), 0, text);
        say(told, text);
    }

    fn say_answered(&self) {
        let ms = self.detection.interval.0.to_string();
        let text = "service %0: a probe was answered; %2 takes its load back within %1 ms";
        let text: Text = (text, &[&self.host, &ms, &self.noun()]);
        let told = notice::ends(&self.notice(EJECTED), 0, Millis(0), text);
        say(told, text);
    }

    fn say_back(&self) {
        let text = "service %0: %1 has all its load back";
        let text: Text = (text, &[&self.host, &self.noun()]);
        let told = notice::ends(&self.notice(AWAY), 0, Millis(0), text);
        say(told, text);
    }

    fn noun(&self) -> String {
        if self.of_peer {
            ["peer ", &self.peer].concat()
        } else {
            "home".to_owned()
        }
    }

    #[inline(never)]
    fn notice(&self, kind: &str) -> String {
        [&*self.key, kind].concat()
    }
}

fn say(told: Outcome, text: Text) {
    if !told.written {
        notice::write(Level::Debug, text);
    }
}

/// Ends the notices about the ejection of a destination without a line, since ejection is disabled.
pub(super) fn forget(key: &str) {
    for kind in [EJECTED, AWAY] {
        notice::forget(&[key, kind].concat());
    }
}
