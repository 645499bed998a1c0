//! What is read of a request that would leave home: whether it may, and which session it belongs to.

use crate::draws;
use crate::hostcalls;
use policy::Spill;
use policy::dispatch::Fact;
use policy::spill::Headers;

/// Whether the request may be spilled. Nothing is read if every request may be.
#[cold]
#[inline(never)]
pub(super) fn may_spill(spill: Option<&Spill>) -> Fact {
    let spill = spill.filter(|spill| spill.entries > 0);
    let may = |spill: &Spill| spill.may(Headers(&hostcalls::request_headers()));
    spill.is_none_or(may).into()
}

/// The session of the request, or a random number if it has none.
#[cold]
#[inline(never)]
pub(super) fn draw(spill: Option<&Spill>) -> Fact {
    let session = spill.and_then(|spill| {
        let session = spill.session.as_ref()?;
        session.of(Headers(&hostcalls::request_headers()))
    });
    session.map_or_else(|| Fact::Drawn(draws::number()), Fact::Session)
}
