//! How a VM shows to the others whether it is inside a callback.
//!
//! A VM can only die inside a callback, since nothing else runs in it. A VM that does not beat but is outside of a callback is
//! not dead: its worker is busy with other work of Envoy, such as accepting a hundred thousand streams. To tell both cases
//! apart, a VM adds [`INSIDE`] to one of its gauges when a callback begins, and subtracts it when the callback ends.
//!
//! **Invariant: a VM that died is marked as inside**, since the callback in which it died has never ended.
//! **Invariant: no change of a count waits for a mark, and no mark waits for a change of a count.** A share changes right after
//! its total, so a VM that dies later in the same callback leaves both equal. If the change of a share is the last one of a
//! callback, the same addition takes the mark off. A few hostcalls may follow it in which a VM hardly ever dies. A VM that does
//! die there is found after [`crate::recovery::roster::SILENT`].

/// A gauge of this VM: the number that the host has given to it.
pub type Gauge = u32;

/// The value that is added to a gauge while the VM is inside a callback. A count has the 32 bits below, and the test whether
/// Envoy keeps a gauge has bit 32.
pub const INSIDE: i64 = 1 << 40;

/// The number of marks in the value of a gauge. It is 0 if this gauge says that its VM is outside.
pub fn marks(value: u64) -> i64 {
    value.cast_signed().wrapping_sub(low(value)) >> 40
}

/// The count in the value of a gauge, without marks: its lower 32 bits, signed.
pub fn low(value: u64) -> i64 {
    i64::from(value as u32 as i32)
}

/// Which gauge of this VM has its mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The gauge with the mark.
    on: Option<Gauge>,
    /// The gauge that changed last. The next callback will probably change it too.
    next: Option<Gauge>,
}

/// An addition to a gauge, which the caller has to make now.
pub type Add = (Gauge, i64);

impl Mark {
    /// The mark of a VM that is outside of all callbacks.
    pub const OUTSIDE: Mark = Mark {
        on: None,
        next: None,
    };

    /// A callback begins. The mark goes to the gauge that will probably change, or else to `otherwise`. `None` if the VM is
    /// marked already or has no gauge.
    pub fn enter(&mut self, otherwise: Option<Gauge>) -> Option<Add> {
        if self.on.is_some() {
            return None;
        }
        let gauge = self.next.or(otherwise)?;
        self.on = Some(gauge);
        Some((gauge, INSIDE))
    }

    /// Like [`Mark::enter`], with the mark on this gauge.
    pub fn enter_on(&mut self, gauge: Gauge) -> Option<Add> {
        self.next = Some(gauge);
        self.enter(None)
    }

    /// The addition of [`Mark::enter`] failed.
    pub fn not_entered(&mut self) {
        self.on = None;
    }

    /// This gauge changes. The next callback will probably change it too, so it will get the mark.
    pub fn moves(&mut self, gauge: Gauge) {
        self.next = Some(gauge);
    }

    /// A callback ends with this change of a gauge. The returned addition also takes the mark off if this gauge has it.
    pub fn leave_with(&mut self, (gauge, n): Add) -> Add {
        self.next = Some(gauge);
        let marked = self.on.take_if(|on| *on == gauge);
        let off = marked.map_or(0, |_| INSIDE);
        (gauge, n.saturating_sub(off))
    }

    /// A callback ends. `None` if the VM is not marked.
    pub fn leave(&mut self) -> Option<Add> {
        Some((self.on.take()?, INSIDE.saturating_neg()))
    }

    /// The mark could not be taken off this gauge. The end of the next callback tries it again.
    pub fn not_left(&mut self, gauge: Gauge) {
        self.on = Some(gauge);
    }

    /// The VM has other gauges from now on.
    pub fn forget(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gauges 0 to 3 of a host.
    fn carry_out(gauges: &mut [u64; 4], add: Option<Add>) {
        if let Some((gauge, n)) = add {
            gauges[gauge as usize] = gauges[gauge as usize].wrapping_add_signed(n);
        }
    }

    #[test]
    fn a_vm_is_marked_from_the_beginning_of_a_callback_to_its_end() {
        let (mut gauges, mut mark) = ([0; 4], Mark::default());
        carry_out(&mut gauges, mark.enter(Some(3)));
        assert_eq!(gauges.map(marks), [0, 0, 0, 1]);
        carry_out(&mut gauges, mark.enter(Some(2)));
        assert_eq!(gauges.map(marks), [0, 0, 0, 1], "once");
        carry_out(&mut gauges, mark.leave());
        carry_out(&mut gauges, mark.leave());
        assert_eq!(gauges, [0; 4]);
    }

    #[test]
    fn the_last_move_of_a_callback_takes_its_mark_off() {
        let mut mark = Mark::default();
        mark.moves(1);
        assert_eq!(mark.enter(Some(3)), Some((1, INSIDE)), "it moved last");
        assert_eq!(mark.leave_with((2, 1)), (2, 1), "another gauge");
        assert_eq!(mark.leave(), Some((1, -INSIDE)));
        mark.moves(1);
        mark.enter(Some(3));
        assert_eq!(mark.leave_with((1, -1)), (1, -1 - INSIDE));
        assert_eq!(mark.leave(), None);
        assert_eq!(mark.enter_on(3), Some((3, INSIDE)));
    }

    #[test]
    fn a_vm_without_gauges_is_not_marked_and_a_refused_addition_is_made_up_for() {
        let mut mark = Mark::default();
        assert_eq!(mark.enter(None), None);
        assert_eq!(mark.leave(), None);
        mark.enter(Some(3));
        mark.not_entered();
        assert_eq!(mark.leave(), None);
        mark.enter(Some(3));
        assert_eq!(mark.leave(), Some((3, -INSIDE)));
        mark.not_left(3);
        assert_eq!(mark.enter(Some(3)), None, "it still is");
        assert_eq!(mark.leave(), Some((3, -INSIDE)));
    }

    #[test]
    fn a_negative_count_is_no_mark_and_a_mark_is_no_count() {
        for n in [0, 1, -1, i64::from(i32::MIN), i64::from(i32::MAX)] {
            for at in [-1, 0, 1, 2] {
                let value = n.wrapping_add(at * INSIDE).cast_unsigned();
                assert_eq!((low(value), marks(value)), (n, at), "{n} {at}");
            }
        }
        assert_eq!(marks(1 << 32), 0, "a test whether the gauge is kept");
    }
}
