//! Log lines about VMs that die and join.

use crate::hostcalls::Level;
use crate::notice::{self, Text};
use policy::names::keys;
use policy::notice::{Line, deaths};
use policy::recovery::News;
use policy::recovery::roster::Vm;
use policy::time::Millis;

#[cold]
#[inline(never)]
pub(super) fn tell(news: News) {
    match news {
        News::Joined(joined) => all_joined(joined),
        News::Died { count, before } => died(count, before),
        News::CountedAgain => log::warn!(
            "peer-spillover: this worker stood still for so long that others took what it counts off the counts; it is counted again",
        ),
    }
}

/// The key of the condition that a VM is dead and no other has joined in its place.
fn key() -> String {
    notice::key(&[], keys::DEAD)
}

/// This many VMs have joined. The condition ends if each dead VM has another one in its place.
fn all_joined(joined: Vm) {
    let text = "as many VMs of this proxy live again as before one died";
    notice::change(&key(), (text, &[]), &|notice, now| {
        notice.ends(deaths::all_replaced(notice.of, joined)?, Millis(0), now)
    });
}

/// A dead VM was found, which had `count` requests in the counts. `before` VMs had joined before it died.
fn died(count: i64, before: Vm) {
    let text = "a VM of this proxy is dead; what it counted is taken off the counts: %0 in all. Report the line before it that names the function that failed; with FAIL_OPEN, restart the pod";
    let text: Text = (text, &[&count.to_string()]);
    let told = notice::change(&key(), text, &|notice, at| {
        let of = deaths::another(notice.of, notice.stands, before);
        // Each death counts, however soon it follows another.
        let known = || Some((notice.with(of), Line::Nothing));
        notice.begins(of, at).or_else(known)
    });
    if !told.written {
        notice::write(Level::Debug, text);
    }
}
