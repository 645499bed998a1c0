//! What is read of a request that would leave home: whether it may, and which session it belongs to.

use crate::hostcalls;
use crate::plugin::Plugin;
use policy::Spill;
use policy::dispatch::Fact;

/// Whether the request may be spilled. Nothing is read if every request may be.
#[cold]
#[inline(never)]
pub(super) fn may_spill(spill: Option<&Spill>) -> Fact {
    let may = |spill: &Spill| spill.may(&mut hostcalls::request_header);
    spill.is_none_or(may).into()
}

/// The session of the request, or a random number if it has none.
#[cold]
#[inline(never)]
pub(super) fn draw(spill: Option<&Spill>, plugin: &Plugin) -> Fact {
    let session = spill.and_then(|spill| {
        let session = spill.session.as_ref()?;
        session.of(&hostcalls::request_header(session.header())?)
    });
    session.map_or_else(|| Fact::Drawn(plugin.draw()), Fact::Session)
}
