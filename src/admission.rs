//! Asks for a place under a limit, as [`policy::Admit`] says.

use core::cell::Cell;

use crate::hostcalls;
use crate::recovery;
use policy::recovery::mark;
use policy::recovery::shared_count::{Change, SharedCount};
use policy::{Admission, Admit, Step};

/// Asks for a place among the requests in flight that this count has. `expect_room` says whether the last request of this worker
/// found one. `last` says whether the callback has nothing more to do that could fail.
#[inline(always)]
pub fn admit(
    in_flight: Option<&SharedCount>,
    limit: u32,
    expect_room: &Cell<bool>,
    last: bool,
) -> Admission {
    let Some(in_flight) = in_flight else {
        return Admission::Refused;
    };
    let mut admit = Admit::new(limit, expect_room.get());
    let mut seen = Some(0);
    loop {
        seen = match admit.step(seen) {
            Step::Add(n) => hostcalls::add(in_flight.total(), n).then_some(0),
            Step::Read => count_to_admit(in_flight),
            Step::Done(Admission::Refused) => return Admission::Refused,
            Step::Done(admission) => {
                let admitted = admission == Admission::Admitted;
                expect_room.set(admitted);
                if admitted {
                    recovery::change(in_flight, Change::hold(last));
                }
                return admission;
            }
        };
    }
}

/// The lower half of the gauge, as a signed number.
pub fn in_flight_of(count: &SharedCount) -> Option<i64> {
    hostcalls::read(count.total()).map(mark::low)
}

/// The count. If it is less than what this VM alone has in it, the VM may have been declared dead, which is checked first.
fn count_to_admit(count: &SharedCount) -> Option<i64> {
    let total = in_flight_of(count)?;
    if !count.is_missed(total) {
        return Some(total);
    }
    recovery::check_place();
    in_flight_of(count)
}
